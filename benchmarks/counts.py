"""A chaotic system seen only through counts: is it found again?

    python benchmarks/counts.py [FOLDER] [--members 5] [--first 100] [--quick]

Lorenz-63, 50,000 steps of 0.01, standardised, drives thirty neurons: each fires with log rate 0.5 + 0.7 a·x for a direction a of its own, so about two
spikes a step. Shallow PLRNNs with three latent units learn from the counts alone: with a Poisson observation model, pulled by what was seen or by
what a recogniser believes, and, beside it, with a Gaussian one of square-root counts. The states that pulled while learning, or were believed, are
mapped to the true ones along the recording by the best affine map; then a free run, mapped in the same way, is held against a long series of the system (D_stsp, and D_H
of its rhythms; its greatest Lyapunov exponent should be 0.906). With FOLDER, of published sets, also for the three channels of
Poisson counts in it, which carry about 3% of the variance of the states at one step. Settings were found with seeds 100 and up.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from learn import CHOOSING, digest, hasty, recorded
from table import WORK, say, write
from torch import Tensor

from reverie.core.recipe import TrainingConfig
from reverie.data import DataConfig
from reverie.data.dynamics import lorenz, simulate
from reverie.data.series import from_trials
from reverie.data.windows import Trial
from reverie.evaluation.anatomy import alone
from reverie.evaluation.attractors import divergence, hellinger
from reverie.models.recurrent import RecurrentConfig
from reverie.nets.recurrence import growth

STEPS, HELD, DT, NEURONS, WINDOW = 50_000, 50_000, 0.01, 30, 200
CONFIG = RecurrentConfig(latent=3, hidden=100, alpha=0.1, smooth=10)
ADAM = TrainingConfig(steps=6000, batch=16, rate=2e-3, clip=10.0, average=0.0, final=0.01, warmup=0.01, beta2=0.999)


STRETCH, LEFT_OUT = 1000, 100  # steps at a time, and those at both ends that are not asked about


class Way(NamedTuple):
    name: str
    observation: Any
    forcing: Any


WAYS = (
    Way("Poisson", "poisson", "fixed"),
    Way("Poisson, recognised", "poisson", "recognised"),
    Way("Gaussian, square roots", "gaussian", "fixed"),
)


class World(NamedTuple):
    name: str
    counts: np.ndarray  # (T, N)
    states: np.ndarray  # (T, 3), true
    held: np.ndarray  # (T, 3), another recording of the states


def worlds(folder: Path | None, seed: int) -> list[World]:
    random = np.random.default_rng(seed)
    x, held = (simulate(lorenz(), n, DT, 1, seed=seed + i)[0] for i, n in enumerate((STEPS, HELD)))
    mean, scale = x.mean(0), x.std(0)
    x, held = (x - mean) / scale, (held - mean) / scale
    directions = random.standard_normal((3, NEURONS))
    directions /= np.linalg.norm(directions, axis=0)
    found = [World("thirty neurons", random.poisson(np.exp(0.5 + 0.7 * x @ directions)), x, held)]
    if folder:
        parts = [
            np.load(folder / f"lorenz_multimodal_{n}.npy").astype(float)
            for n in ("poisson_train", "gaussian_train", "gaussian_test")
        ]
        found.append(World("published counts", parts[0].astype(np.int32), parts[1], parts[2]))
    return found


def along(model: Any, x: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The states (S, L, M) that a model found along a recording x (T, N), and at which of its steps (L,).

    What filters single counts is not asked: the log of one is biased, and bends the map.
    """
    steps = np.arange(len(x) // STRETCH * STRETCH).reshape(-1, STRETCH)[:, LEFT_OUT:-LEFT_OUT]
    parts = x[: len(x) // STRETCH * STRETCH].unflatten(0, (-1, STRETCH))
    if model.recognition is not None:
        found = model.encode(parts).mean  # (B, S, T, M)
    else:
        found = model.learned(*model.by_time(parts), 0)[0].permute(2, 1, 0, 3)
    return found[:, :, LEFT_OUT:-LEFT_OUT].transpose(0, 1).flatten(1, 2).double().numpy(), steps.ravel()


def judged(world: World, way: Way, asked: argparse.Namespace) -> tuple[np.ndarray, float]:
    """(members, 4): the share of the states' variance that what is found along the recording explains, D_stsp, D_H and the Lyapunov exponent
    of the mapped free run; minutes."""
    rooted = way.observation == "gaussian"
    seen = np.sqrt(world.counts).astype(np.float32) if rooted else world.counts.astype(np.int32)
    config = replace(CONFIG, observation=way.observation, forcing=way.forcing, members=asked.members)
    data = from_trials(
        world.name, [Trial(seen)], {}, DataConfig(window=WINDOW, split="time"), kind="real" if rooted else "count"
    )
    recipe = hasty(ADAM, 50, asked.quick)
    place = WORK / f"counts-{digest((world.name, config, recipe))}-{asked.first}"
    run, minutes = recorded(place, data, "recurrent", config, recipe, asked.first)
    model: Any = run.model
    torch.manual_seed(asked.first)
    with torch.no_grad():
        found, steps = along(model, data.codec.to_model(torch.from_numpy(seen).float()))
        free = model.cell.orbit(alone(model).settled(1), len(world.held))[:, :, 0]
        exponents = growth(model.cell.as_shallow(), free.unsqueeze(2)).log().div(DT).tolist()
    rows = []
    for i in range(asked.members):
        if model.diverged[i]:
            rows.append([np.nan] * 4)
            continue
        true, known = world.states[steps], np.c_[found[i], np.ones(len(steps))]
        there, *_ = np.linalg.lstsq(known, true, rcond=None)
        explained = 1 - ((known @ there - true) ** 2).mean() / true.var(0).mean()
        mapped = np.c_[free[:, i].double().numpy(), np.ones(len(free))] @ there
        rows.append([explained, divergence(world.held, mapped), hellinger(world.held, mapped), exponents[i]])
    return np.array(rows), minutes


def told(values: np.ndarray) -> str:
    fine = values[np.isfinite(values)]
    middle = np.median(fine) if len(fine) else np.nan
    return f"{middle:.3g} ± {np.median(np.abs(fine - middle)):.2g}" if len(fine) else "all diverged"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help=f"the seed; {CHOOSING} and up for choosing settings")
    parser.add_argument("--quick", action="store_true", help="little learning, for development")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows, notes = [], []
    for world in worlds(asked.folder, 1000 * asked.first):
        for way in WAYS:
            found, minutes = judged(world, way, asked)
            lost = int(np.isnan(found[:, 0]).sum())
            rows.append([world.name, way.name, *map(told, found.T), f"{lost} of {asked.members}", f"{minutes:.0f}"])
            say("  ".join(rows[-1]))
        real = world.states[: len(world.held)]
        floor = divergence(world.held[: len(real)], real), hellinger(world.held[: len(real)], real)
        rows.append([world.name, "the system itself", "", *(f"{n:.3g}" for n in floor), "0.906", "", ""])
        say("  ".join(rows[-1]))
    notes = [
        f"Median ± median absolute deviation over members that did not diverge; seed {asked.first}.",
        f"{replace(CONFIG, members=asked.members)}; {ADAM}.",
    ]
    header = [
        "recording",
        "seen through",
        "states explained",
        "D_stsp",
        "D_H",
        "Lyapunov exponent",
        "diverged",
        "minutes",
    ]
    if asked.first < CHOOSING:
        write("counts", "Lorenz-63 through counts", header, rows, notes)


if __name__ == "__main__":
    main()
