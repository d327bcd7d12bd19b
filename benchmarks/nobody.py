"""Faces of nobody: what 5, 30 and 120 minutes of one core give a GAN, beside the VAE of the house.

    python benchmarks/nobody.py [NAME@MINUTES[xSEEDS] …] [--train-only] [--table NAME]

as gan@5x3 (five minutes, for each of three seeds) and "slow gan@120" (one seed); what is measured where nothing is asked for is in LINES. Every machine is
a run under benchmarks/.work that goes on where it stopped, of as many rounds as the minutes of one core's own time hold, learned at its recipe. At the
end 500 dreams of each are held beside the portraits of test people. No weights were chosen by these; of early trials, by which recipes were, see
docs/recipe.md. The first 16 dreams of the first seed of each, not chosen, are in results/nobody.png, a row for each line of the table. What is measured
in another session than the rest has a table of its own.
"""

import argparse
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from learn import dreamt, recorded_within
from PIL import Image
from table import WORK, keep, median_of, write
from torch import Tensor

from reverie.core.model import Estimate
from reverie.data import Data, open_data
from reverie.evaluation import pictures
from reverie.evaluation.features import PixelPCA, RandomConv
from reverie.run import Run

MACHINES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {  # beside the recipe of the family
    "gan": ("gan", {}, {}),
    "slow gan": ("gan", {}, {"rate": 2e-4}),  # as far in two hours as the recipe goes in half of one
    "steep gan": ("gan", {"gamma_real": 27.0, "gamma_fake": 27.0}, {"rate": 5e-4}),  # three times the recipe's penalty
    "styled gan": ("gan", {"style": True}, {"rate": 5e-4}),
    "vae": ("vae", {}, {}),
}
LINES = ("gan@5x3", "gan@30x3", "slow gan@120", "styled gan@10x3", "vae@5x3")
DREAMS = 500
SHOWN = 16
QUICK = 0.1  # minutes


class Dreams(NamedTuple):
    """A line of the table."""

    name: str
    minutes: float
    rounds: list[int]  # of each seed, after which these weights were kept
    x: list[Tensor]  # (DREAMS, C, H, W)


def run_of(name: str, minutes: float, data: Data, seed: int = 0) -> Run:
    """The finished run."""
    return recorded_within(minutes, f"nobody-{name}", data, *MACHINES[name], seed)


def both(runs: list[Run]) -> list[tuple[list[Run], str]]:
    """The last weights; and of machines that judge their own dreams the best, which were chosen by validation people."""
    if not runs[0].model.judged_by_dreams:
        return [(runs, "")]
    return [(runs, ""), ([Run.load(run.folder, best=True) for run in runs], ", best")]


def learned_for(run: Run) -> int:
    """Rounds."""
    return run.best.step if run.at_best and run.best is not None else run.training.steps


def measures(x: Tensor, data: Data, seen: dict[str, Any]) -> list[Estimate]:
    """The cells of the table."""
    held, train, groups = data.test.x().numpy(), data.train.x().numpy(), data.test.groups
    coarse, texture = (pictures.kernel_distance(e(data.test.x()), e(x), groups) for e in seen.values())
    shares = pictures.precision_recall_density_coverage(seen["coarse"](data.test.x()), seen["coarse"](x), 5, groups)
    others = pictures.sharpness(held, x.numpy(), groups), pictures.memorisation(train, held, x.numpy(), groups, True)
    return [coarse, texture, *others, shares["precision"], shares["recall"]]


def of_people_known(train: np.ndarray, held: np.ndarray) -> float:
    """The memorisation of a model that dreams new portraits of the training people, and perfectly: of every training portrait beside the others."""
    each = (
        pictures.memorisation(np.delete(train, i, 0), held, train[i : i + 1], None, True) for i in range(len(train))
    )
    return float(np.median([found.value for found in each]))


def asked_for(line: str) -> tuple[str, float, int]:
    """NAME@MINUTES[xSEEDS]."""
    name, _, rest = line.partition("@")
    minutes, _, seeds = rest.partition("x")
    return name, float(minutes or 5), int(seeds or 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lines", nargs="*", metavar="NAME@MINUTES[xSEEDS]", help=f"NAME of {'; '.join(MACHINES)}")
    parser.add_argument("--train-only", action="store_true", help="measure nothing")
    parser.add_argument("--first", type=int, default=0, help="the first of the seeds")
    parser.add_argument("--table", default="nobody", help="the name of the table and of its picture")
    parser.add_argument("--quick", action="store_true", help="seconds of learning, for development")
    asked = parser.parse_args()
    try:
        lines = list(map(asked_for, asked.lines or LINES))
    except ValueError as error:
        parser.error(f"a line is NAME@MINUTES or NAME@MINUTESxSEEDS, as gan@5x3: {error}")
    if unknown := sorted({name for name, *_ in lines} - set(MACHINES)):
        parser.error(f"no machine called {unknown[0]}; there are {'; '.join(MACHINES)}")
    torch.set_num_threads(1)
    WORK.mkdir(exist_ok=True)
    data, made = open_data("faces"), []
    if asked.quick:  # test people are for the table
        data = replace(data, test=data.valid)
        lines = list(dict.fromkeys((name, QUICK, min(seeds, 2)) for name, _, seeds in lines))
    for name, minutes, seeds in lines:
        runs = [run_of(name, minutes, data, asked.first + seed) for seed in range(seeds)]
        for used, of in () if asked.train_only else both(runs):
            drawn, rounds = [dreamt(name + of, run, DREAMS) for run in used], [learned_for(run) for run in used]
            made += [Dreams(way, minutes, rounds, [x[way] for x in drawn]) for way in drawn[0]]
    if asked.train_only:
        return
    seen = {"coarse": PixelPCA(data.train.x()), "texture": RandomConv(data.train.x())}
    rows = [
        [d.name, f"{d.minutes:g}", ", ".join(f"{n:,}" for n in d.rounds), *_cells([measures(x, data, seen) for x in d.x])]
        for d in made
    ]  # fmt: skip
    rows.append(["training people", "", "", *_cells([measures(data.train.x(), data, seen)])])
    strips = [np.concatenate(list(np.asarray(data.codec.to_world(d.x[0][:SHOWN]))[:, 0]), 1) for d in made]
    keep(asked.table, Image.fromarray(np.concatenate(strips).astype(np.uint8)))
    differences = [
        [d.name, f"{d.minutes:g}", f"{other.name}, {other.minutes:g}", *_cells([
            [pictures.kernel_difference(*map(e, (data.test.x(), one, two)), data.test.groups) for e in seen.values()]
            for one, two in zip(d.x, other.x, strict=False)
        ])]
        for d in made for other in made if "gan" in d.name and "vae" in other.name
    ]  # fmt: skip
    header = ["machine", "minutes", "rounds", "kernel distance", "in texture", "sharpness", "memorisation", "precision", "recall"]  # fmt: skip
    more = [("Kernel distance of the GAN less that of the VAE (below 0: the GAN is nearer to test people)",
             ["machine", "minutes", "against, minutes", "in coarse shape", "in texture"], differences)]  # fmt: skip
    notes = [
        f"{DREAMS} dreams beside {len(data.test)} portraits of test people; averaged weights: the last and, of a machine that keeps them, the best by the kernel distance to validation people; ± over people and dreams. Seeds from {asked.first} on, one for each number of "
        "rounds: the median of several, and the range; of a pair of lines those that both have.",
        "Minutes of one core's own time, settled by the time of 40 rounds before the first. Sharpness: power between a quarter and half a cycle "
        "per pixel, as a share of the test people's. Memorisation: below 1 dreams are nearer to training portraits (or their mirror images) than test people are; it would be "
        f"{of_people_known(data.train.x().numpy(), data.test.x().numpy()):.2f} of other portraits of the training people.",
        f"results/{asked.table}.png: the first 16 dreams of every line; portraits of people are not published.",
        *(f"{name}: {' '.join(f'{k}={v}' for k, v in (MACHINES[name][1] | MACHINES[name][2]).items()) or 'the recipe of its family'}" for name in MACHINES),
    ]  # fmt: skip
    write(asked.table, "Faces of nobody", header, rows, notes, more)


def _cells(found: list[list[Estimate]]) -> list[str]:
    """Of a row for each seed."""
    return [median_of(column) for column in zip(*found, strict=True)]


if __name__ == "__main__":
    main()
