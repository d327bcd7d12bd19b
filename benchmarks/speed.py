"""Rounds per second: our loop, a bare PyTorch loop and pythae 0.1.2, in turns, on the same net and data.

    python benchmarks/speed.py [--quick] [--threads N]

A VAE 784-500-500-50 with Bernoulli pixels on statically binarised clothes, batch 128, Adam at 1e-3.
All of them run in short blocks by turns, so that whatever else the machine does falls on all of them;
a ratio is the median over turns of the ratio of two blocks of one turn.
"""

import argparse
import itertools
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

# As the command line does, and for every contestant alike.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import numpy as np
import torch
import torch.nn.functional as F
from table import HERE, WORK, say, write
from torch import Tensor, nn

from reverie.core.errors import BadInput
from reverie.core.recipe import TrainingConfig
from reverie.data import Data, open_data
from reverie.models.vae import VAE, VAEConfig
from reverie.training import State, fabric_for, training

BATCH, WIDTH, LATENT, RATE = 128, 500, 50, 1e-3
Block = Callable[[int], tuple[float, float]]  # rounds -> their seconds, their mean loss


def ours(data: Data) -> Iterator[float]:
    """The losses of `training`, with nothing that the bare loop lacks."""
    torch.manual_seed(0)
    model = VAE(VAEConfig(net="mlp", latent=LATENT, width=WIDTH, depth=2, prior="normal"), data.space)
    config = TrainingConfig(
        steps=10**9, batch=BATCH, rate=RATE, warmup=0, final=1, beta2=0.999, average=0, clip=0, mirror=False
    )
    for report in training(State(model, config), data, 0, fabric_for("cpu")):
        yield report.losses["all"]


def bare(x: Tensor) -> Iterator[float]:
    """What one would write by hand. x (N, 784) float."""
    torch.manual_seed(0)
    encoder = nn.Sequential(
        nn.Linear(784, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 2 * LATENT)
    )
    decoder = nn.Sequential(
        nn.Linear(LATENT, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 784)
    )
    optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], RATE, fused=True)
    while True:
        for rows in torch.randperm(len(x)).split(BATCH)[: len(x) // BATCH]:
            batch = x[rows]
            mean, log_scale = encoder(batch).chunk(2, -1)
            z = mean + log_scale.exp() * torch.randn_like(mean)
            miss = F.binary_cross_entropy_with_logits(decoder(z), batch, reduction="sum")
            kl = (0.5 * (mean.square() + torch.exp(2 * log_scale) - 1) - log_scale).sum()
            loss = (miss + kl) / len(batch)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            yield loss.item()


def products() -> Iterator[float]:
    """Only the matrix products of a step, forwards and backwards: nobody who learns this net in float32 is faster."""
    sizes = [(784, WIDTH), (WIDTH, WIDTH), (WIDTH, 2 * LATENT), (LATENT, WIDTH), (WIDTH, WIDTH), (WIDTH, 784)]
    layers = [(torch.randn(BATCH, a), torch.randn(b, a), torch.randn(BATCH, b)) for a, b in sizes]
    while True:
        for i, (x, weight, gradient) in enumerate(layers):
            x @ weight.T
            gradient.T @ x
            if i:
                gradient @ weight
        yield 0.0


def block_of(losses: Iterator[float]) -> Block:
    def block(rounds: int) -> tuple[float, float]:
        start = time.perf_counter()
        values = list(itertools.islice(losses, rounds))
        return time.perf_counter() - start, statistics.fmean(values)

    return block


class Worker:
    """A script that is told how many rounds to make, by lines of standard input, and answers with their seconds, their mean
    loss, and perhaps more numbers."""

    def __init__(self, python: Path | str, script: str, *arguments: str):
        self.log = WORK / f"{'-'.join([script.removesuffix('.py'), *(Path(a).stem for a in arguments)])}.txt"
        threads = str(torch.get_num_threads())
        self.process = subprocess.Popen(
            [python, HERE / script, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            stderr=self.log.open("w"), env=os.environ | {"OMP_NUM_THREADS": threads},
        )  # fmt: skip
        self.more: list[float] = []  # of the last answer

    def __call__(self, rounds: int) -> tuple[float, float]:
        assert self.process.stdin
        assert self.process.stdout
        print(rounds, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline().split()
        if not answer:
            sys.exit(f"{self.log.stem} ended early; see benchmarks/.work/{self.log.name}")
        seconds, loss, *self.more = map(float, answer)
        return seconds, loss


def rival(script: str, *arguments: str) -> Worker | None:
    """A worker in the benchmarks' own environment; None where that has not been made."""
    python = HERE / ".venv" / "bin" / "python"
    return Worker(python, script, *arguments) if python.exists() else None


def measure(contestants: dict[str, Block], rounds: int, turns: int) -> dict[str, list[tuple[float, float]]]:
    """(seconds, loss) of every block. The order within a turn is drawn, so that nobody always follows the same one."""
    names, rng = list(contestants), random.Random(0)
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for name in names:
        contestants[name](rounds)  # the first block pays for allocations
    for turn in range(turns):
        for name in rng.sample(names, len(names)):
            results[name].append(contestants[name](rounds))
        say(f"turn {turn + 1} of {turns}: " + ", ".join(f"{n} {rounds / r[-1][0]:.0f}/s" for n, r in results.items()))
    return results


def spread(values: list[float], digits: int) -> str:
    """Median (lower quartile to upper quartile)."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def open_clothes() -> Data:
    try:
        return open_data("fashion", binarise="static")
    except BadInput as error:
        say(f"{error}\nmeasuring on mnist5k instead")
        return open_data("mnist5k", binarise="static")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few short blocks, for development")
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0: as many as torch takes by itself")
    asked = parser.parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    data = open_clothes()
    raw = data.train.raw()
    WORK.mkdir(exist_ok=True)
    np.save(WORK / "bits.npy", raw.numpy())
    contestants: dict[str, Block | None] = {
        "reverie": block_of(ours(data)),
        "bare PyTorch loop": block_of(bare(raw.float().flatten(1))),
        "pythae 0.1.2": rival("pythae_worker.py", str(WORK / "bits.npy"), "trainer"),
        "the matrix products alone": block_of(products()),
        "pythae's step alone": rival("pythae_worker.py", str(WORK / "bits.npy"), "step"),
    }
    rounds, turns = (20, 10) if asked.quick else (20, 120)
    results = measure({name: block for name, block in contestants.items() if block}, rounds, turns)
    report(data, results, rounds, turns)


def report(data: Data, results: dict[str, list[tuple[float, float]]], rounds: int, turns: int) -> None:
    own = [seconds for seconds, _ in results["reverie"]]
    goals = {"bare PyTorch loop": "0.95", "pythae 0.1.2": "2"}
    rows = []
    for name, blocks in results.items():
        times = [seconds for seconds, _ in blocks]
        ratio = "" if name == "reverie" else spread([t / o for t, o in zip(times, own, strict=True)], 3)
        loss = blocks[-1][1]
        rows.append([
            name, spread([rounds / t for t in times], 1), ratio, goals.get(name, ""),
            "" if loss != loss or not loss else f"{loss:.1f}",
        ])  # fmt: skip
    notes = [
        f"{data.name}, {len(data.train):,} training pictures, binarised once; VAE 784-500-500-50, batch {BATCH}; CPU.",
        f"{turns} turns of {rounds} rounds each; medians, and quartiles in brackets.",
        "pythae: `BaseTrainer.train` with its defaults, in its own process, paused between its blocks by a callback; "
        "its step alone: the same without `DataLoader` and callbacks, on batches that lie ready.",
        "the matrix products alone: those of one step on data that lie ready, without pictures, losses or an optimiser.",
        f"OMP_WAIT_POLICY={os.environ['OMP_WAIT_POLICY']}, GOMP_SPINCOUNT={os.environ['GOMP_SPINCOUNT']} for all.",
    ]
    if "pythae 0.1.2" not in results:
        notes.append("pythae was not measured: `make -C benchmarks .venv/.made` makes its environment.")
    header = ["", "rounds per second", "reverie is faster by", "goal", "loss at the end, nats"]
    write("speed", "Speed of training", header, rows, notes)


if __name__ == "__main__":
    main()
