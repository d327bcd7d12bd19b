"""Rounds of wake-sleep per second: ours, autograd, and pyro, in turns, on the same net and pictures.

    python benchmarks/machines.py [--quick]

A sigmoid belief network 784-200-200 and a recogniser of the same sizes, batch 128, one draw, Adam at 1e-3, one thread. All run in short blocks by
turns, so that whatever else the machine does falls on all of them; a ratio is the median over turns of that of two blocks of one turn.
"""

import argparse
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from speed import Block, block_of, measure, open_clothes, rival, spread
from table import WORK, write
from torch import Tensor, nn
from torch.distributions import Bernoulli

from reverie.core.recipe import TrainingConfig
from reverie.data import Data
from reverie.models.helmholtz import Helmholtz, HelmholtzConfig
from reverie.training import State, fabric_for, training

BATCH, RATE = 128, 1e-3
SIZES = (784, 200, 200)
PRODUCTS = 12 * (
    784 * 200 + 200 * 200
)  # floating-point operations of a picture: up, down and two gradients, awake and asleep


def ours(data: Data) -> Iterator[float]:
    torch.manual_seed(0)
    model = Helmholtz(HelmholtzConfig(layers=SIZES[1:], rule="wake-sleep", draws=1), data.space)
    config = TrainingConfig(
        steps=10**9, batch=BATCH, rate=RATE, warmup=0, final=1, beta2=0.999, average=0, clip=0, mirror=False
    )
    for report in training(State(model, config), data, 0, fabric_for("cpu")):
        yield report.losses["dreamer"]


class Machine(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.top = nn.Parameter(torch.zeros(200))
        self.down = nn.ModuleList([nn.Linear(200, 200), nn.Linear(200, 784)])
        self.up = nn.ModuleList([nn.Linear(784, 200), nn.Linear(200, 200)])


def by_hand(x: Tensor, distributions: bool) -> Iterator[float]:
    """The same rule as one would write it with autograd: with torch.distributions, or with no more than a loss."""
    torch.manual_seed(0)
    net = Machine()
    optimiser = torch.optim.Adam(net.parameters(), RATE, fused=True)

    def draw(logits: Tensor) -> Tensor:
        return Bernoulli(logits=logits).sample() if distributions else torch.bernoulli(torch.sigmoid(logits))

    def nats(logits: Tensor, bits: Tensor) -> Tensor:
        if distributions:
            return -Bernoulli(logits=logits).log_prob(bits).sum(-1).mean()
        return F.binary_cross_entropy_with_logits(logits, bits, reduction="sum") / len(bits)

    while True:
        for rows in torch.randperm(len(x)).split(BATCH)[: len(x) // BATCH]:
            batch = x[rows]
            with torch.no_grad():
                low_logits = net.up[0](batch)
                low = draw(low_logits)
                high_logits = net.up[1](low)
                high = draw(high_logits)
                entropy = nats(low_logits, low) + nats(high_logits, high)
            awake = (
                nats(net.top.expand(len(high), -1), high) + nats(net.down[0](high), low) + nats(net.down[1](low), batch)
            )
            with torch.no_grad():
                dreamt_high = draw(net.top.expand(len(batch), -1))
                dreamt_low = draw(net.down[0](dreamt_high))
                dreamt = draw(net.down[1](dreamt_low))
            asleep = nats(net.up[0](dreamt), dreamt_low) + nats(net.up[1](dreamt_low), dreamt_high)
            optimiser.zero_grad()
            (awake + asleep).backward()
            optimiser.step()
            yield (awake - entropy).item()


def products() -> Iterator[float]:
    """Only the matrix products of a round: nobody who learns this net in float32 is faster."""
    layers = [(torch.randn(BATCH, a), torch.randn(b, a), torch.randn(BATCH, b)) for a, b in ((784, 200), (200, 200))]
    while True:
        for x, weight, gradient in layers * 2:  # awake, asleep
            x @ weight.T
            gradient @ weight
            gradient.T @ x
        yield 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few short blocks, for development")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    data = open_clothes()
    raw = data.train.raw()
    WORK.mkdir(exist_ok=True)
    np.save(WORK / "bits.npy", raw.numpy())
    x = raw.float().flatten(1)
    contestants: dict[str, Block | None] = {
        "reverie": block_of(ours(data)),
        "autograd, torch.distributions": block_of(by_hand(x, True)),
        "autograd, losses alone": block_of(by_hand(x, False)),
        "pyro 1.9.2, ReweightedWakeSleep": rival("pyro_worker.py", str(WORK / "bits.npy")),
        "the matrix products alone": block_of(products()),
    }
    rounds, turns = (20, 6) if asked.quick else (50, 60)
    results = measure({name: block for name, block in contestants.items() if block}, rounds, turns)
    own = [seconds for seconds, _ in results["reverie"]]
    goals = {"autograd, torch.distributions": "3", "pyro 1.9.2, ReweightedWakeSleep": "3"}
    rows = []
    for name, blocks in results.items():
        times = [seconds for seconds, _ in blocks]
        ratio = "" if name == "reverie" else spread([t / o for t, o in zip(times, own, strict=True)], 3)
        loss = f"{blocks[-1][1]:.1f}" if blocks[-1][1] else ""
        rows.append([name, spread([rounds / t for t in times], 1), ratio, goals.get(name, ""), loss])
    speeds = sorted(rounds * BATCH * PRODUCTS / seconds / 1e9 for seconds, _ in results["the matrix products alone"])
    peak = speeds[len(speeds) // 2]
    share = sorted(p / o for (p, _), o in zip(results["the matrix products alone"], own, strict=True))[turns // 2]
    notes = [
        f"{data.name}, {len(data.train):,} training pictures, binarised once; 784-200-200, batch {BATCH}, one draw; CPU, one thread.",
        f"{turns} turns of {rounds} rounds each; medians, and quartiles in brackets.",
        f"The matrix products of a round, {BATCH * PRODUCTS / 1e9:.2f} Gflop, run at {peak:.0f} Gflop/s alone; reverie spends {share:.0%} of its time on as many.",
        "pyro takes two draws at least, so it makes two awake where the others make one; its weights are of whole batches.",
    ]
    if "pyro 1.9.2, ReweightedWakeSleep" not in results:
        notes.append("pyro was not measured: `make -C benchmarks .venv/.made` makes its environment.")
    header = ["", "rounds per second", "reverie is faster by", "goal", "free energy at the end, nats"]
    write("machines", "Speed of wake-sleep", header, rows, notes)


if __name__ == "__main__":
    main()
