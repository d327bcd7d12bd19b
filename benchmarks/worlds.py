"""The first worlds of the Helmholtz machine, in which the truth is known: how far from it does it end?

    python benchmarks/worlds.py [kirby-classical] [kirby] [bars] [--seeds N] [--first 100] [--quick]

- `kirby-classical`: wake-sleep as it was (net 1-4-9, every weight zero, one example a round, rates 0.15 at the bottom
  and 0.01 elsewhere), 80,000 rounds.
- `kirby`, `bars`: reweighted wake-sleep with many draws and large steps, from several random starts; the start that is
  kept is the one whose free energy of the training examples is least.

What is told is the exact KL divergence of the machine from the world, by enumeration. Finished machines are kept under benchmarks/.work.
Settings were found with seeds 100 and up.
"""

import math
import statistics
from dataclasses import dataclass, replace
from functools import partial

import torch
from learn import CHOOSING, hasty, learned, seeds_parser, starts
from table import middle_of, say, write

from reverie.core.recipe import TrainingConfig
from reverie.data import Data, open_data
from reverie.models.helmholtz import Helmholtz, HelmholtzConfig


@dataclass(frozen=True)
class Case:
    world: str
    unit: str
    model: HelmholtzConfig
    recipe: TrainingConfig
    starts: int
    seeds: int
    known: str


CLASSICAL = HelmholtzConfig(layers=(4, 1), rule="wake-sleep", draws=1, start=0.0, rates=(1.0, 1 / 15, 1 / 15))
DELTA = TrainingConfig(steps=80_000, batch=1, optimiser="sgd", rate=0.15, warmup=0.0, final=1.0, average=0.0)
BOLD = TrainingConfig(steps=6000, batch=100, rate=0.2, beta2=0.99, average=0.02)
BARS = HelmholtzConfig(layers=(8, 1), draws=30, start=3.0, busy=0.2, positive="shown")
CASES = {
    "kirby-classical": Case(
        "kirby", "nats", CLASSICAL, DELTA, 1, 20, "plain C: median 0.176, 0.105 to 0.335; after 800,000 rounds 0.080"
    ),
    "kirby": Case(
        "kirby", "nats", HelmholtzConfig(layers=(4, 1), draws=20, start=1.7), replace(BOLD, steps=1000), 24, 20,
        "0.080, as above",
    ),
    "bars": Case(
        "bars", "bits", BARS, replace(BOLD, steps=1500, rate=0.1), 24, 12,
        "1995: 0.10; reproductions 0.45 to 0.51; exact maximum likelihood 0.37 to 0.76",
    ),
}  # fmt: skip


def divergence(model: Helmholtz, data: Data) -> float:
    """KL(world || machine), nats."""
    truth = data.probability.double()
    nats = model.surprise(data.support.float()).value.double()
    return float((truth * (truth.log() + nats)).sum())


def one(case: Case, data: Data, recipe: TrainingConfig, seed: int) -> dict[str, float]:
    """From one start: its divergence in nats, its free energy of the training examples, its seconds."""
    machine, seconds = learned(lambda: Helmholtz(case.model, data.space), data, recipe, seed)
    seen, counts = data.train.x().flatten(1).unique(dim=0, return_counts=True)
    nats = machine.surprise(seen.view(-1, *data.space.shape)).value
    return {"kl": divergence(machine, data), "free": float((nats * counts).sum() / counts.sum()), "seconds": seconds}


def shown(values: list[float], scale: float) -> str:
    return middle_of([value * scale for value in values], ".3f")


def main() -> None:
    parser = seeds_parser(__doc__, None)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CASES)}; none: all of them")
    asked = parser.parse_args()
    if unknown := sorted(set(asked.names) - set(CASES)):
        parser.error(f"nothing called {unknown[0]}; there are {', '.join(CASES)}")
    torch.set_num_threads(1)
    rows = []
    for name in asked.names or CASES:
        case = CASES[name]
        data = open_data(case.world, count=50_000)
        recipe = hasty(case.recipe, 200, asked.quick)
        kept, single, seconds, untrained = [], [], [], []
        for seed in range(asked.first, asked.first + (asked.seeds or case.seeds)):
            seeds = range(1000 * seed, 1000 * seed + case.starts)
            tries = starts(f"worlds-{name}-{seed}", (case.model, recipe), seeds, partial(one, case, data, recipe))
            chosen = min(tries, key=lambda made: made["free"])
            kept.append(chosen["kl"])
            single.append(tries[0]["kl"])
            seconds.append(sum(made["seconds"] for made in tries))
            torch.manual_seed(seed)
            untrained.append(divergence(Helmholtz(case.model, data.space), data))
            say(
                f"{name}, seed {seed}: "
                + " ".join(f"{made['kl']:.3f}" for made in tries)
                + f" -> {chosen['kl']:.3f} nats"
            )
        scale = 1.0 if case.unit == "nats" else 1 / math.log(2)
        rows.append([
            name, case.unit, shown(untrained, scale), shown(single, scale), shown(kept, scale), str(len(kept)), str(case.starts),
            f"{recipe.steps:,} x {recipe.batch}", f"{statistics.median(seconds):.0f}", case.known,
        ])  # fmt: skip
    if asked.first >= CHOOSING:
        return
    header = ["world", "unit", "at the start", "one start", "the start kept", "seeds", "starts", "rounds x examples", "seconds a seed", "known"]  # fmt: skip
    notes = [
        "Exact KL divergence of the machine (its averaged weights, where they are averaged) from the world: median over seeds (range).",
        "One thread. Seconds are of all the starts of a seed, whatever else the machine did.",
        *(f"{name}: {CASES[name].model}; {CASES[name].recipe}" for name in asked.names or CASES),
    ]
    write("worlds", "Known worlds", header, rows, notes)


if __name__ == "__main__":
    main()
