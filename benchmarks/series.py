"""Recurrent machines on the published recordings: where they go when left alone, at what rhythms, and how well they foresee.

    python benchmarks/series.py FOLDER [lorenz] [ecg] [fmri] [--members 20] [--first 100] [--quick]

FOLDER holds the recordings of Hess, Monfared, Brenner & Durstewitz (2023, arXiv 2306.04406; lorenz, ecg) and of Koppe, Toutounji,
Kirsch, Lis & Durstewitz (2019, arXiv 1902.07186; fmri). Twenty shallow PLRNNs learn side by side, in one run, each from windows
and a beginning of its own, by generalised teacher forcing. What is told is the median over them ± the median
absolute deviation, with how many diverged, beside real data and plain models. A run is kept under benchmarks/.work, and what was
interrupted goes on where it stopped.

Settings were found with seeds 100 and up. They are judged on the training recording; where that is noisy, the noise that the machine
expects is added to its free runs. The test recording is not opened.

results/series-WORLD.png: the beginnings of the recording, and of the runs of the first machine, by which nothing is chosen: scores alone do not tell
whether what they praise is a heartbeat.
"""

import argparse
import io
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from learn import CHOOSING, digest, hasty, recorded
from PIL import Image
from table import WORK, keep, say, write
from table import Table as Shown

from reverie.core.model import Estimate
from reverie.core.recipe import TrainingConfig
from reverie.data import Data, open_data
from reverie.evaluation import series
from reverie.maths.chaos import lyapunov_spectrum
from reverie.models.recurrent import Recurrent, RecurrentConfig
from reverie.plots import dynamics
from reverie.plots.curves import LIGHT, figure_png
from reverie.run import Run

BEGINNING = 4000  # steps of a picture
ORBITS, SETTLE, COUNTED = 20, 1000, 10_000  # of which exponents are the mean, and their steps


class World(NamedTuple):
    train: str
    test: str  # a file; empty: the last steps of the training one
    window: int
    config: RecurrentConfig
    recipe: TrainingConfig
    ahead: tuple[int, ...]
    dt: float  # of a step, in the units in which exponents are told
    truth: str  # what is known
    smoothing: float = series.SMOOTHING  # of spectra, bins
    noisy: bool = True  # the training recording


ADAM = TrainingConfig(batch=16, rate=2e-3, clip=10.0, average=0.0, final=0.01, warmup=0.01, beta2=0.999)
SOAP = replace(ADAM, optimiser="soap")
WORLDS = {
    "lorenz": World(
        "lorenz63_noise5_train.npy", "lorenz63_clean_test.npy", 200, RecurrentConfig(hidden=1000, alpha=0.1, smooth=7), replace(SOAP, steps=2500),
        (20,), 0.01, "published, shallow PLRNN with generalised teacher forcing: D_stsp 0.26, D_H 0.09, PE(20) 9e-4; λ of the system 0.906",
    ),
    "ecg": World(
        "ecg_pecuzal5_train.npy", "ecg_pecuzal5_test.npy", 200, RecurrentConfig(latent=8, hidden=400, alpha=0.04, smooth=0, process_noise=0.008), replace(SOAP, steps=12_000),
        (20,), 1.0, "published, shallow PLRNN with generalised teacher forcing: D_stsp 4.3, D_H 0.34, PE(20) 2.4e-3", noisy=False,
    ),
    "fmri": World(
        "fmri_20roi.npy", "", 72, RecurrentConfig(cell="clipped", hidden=50, alpha=0.15, smooth=0), replace(ADAM, steps=500, decay=0.3),
        (1, 5), 1.0, "360 volumes of one person support no claim about attractors; spectra smoothed by 1 bin", 1.0,
    ),
}  # fmt: skip


def opened(world: World, folder: Path, choosing: bool, quick: bool) -> tuple[Data, np.ndarray, np.ndarray]:
    """The data, what was learned from (T, N), and what it is judged by (T, N), in world units."""
    test = str(folder / world.test) if world.test and not choosing else ""
    data = open_data(str(folder / world.train), window=world.window, test=test, split="time")
    known = np.asarray(data.train.trials[0].x, float)
    held = known if choosing and world.test else np.asarray((data.valid if choosing else data.test).trials[0].x, float)
    return data, known, held[: 2000 if quick else None]


@torch.no_grad()
def left_alone(model: Recurrent, data: Data, steps: int, grain: bool, process_noise: bool = False) -> np.ndarray:
    """Free runs (S, T, N) in world units, NaN of what diverged; with the noise that is expected of what is seen, if `grain`, and
    with that which moves the states."""
    states = model.free_run(steps, process_noise=process_noise)[:, 0]
    if grain:
        states = states + torch.randn_like(states) * model.seen.modality.log_scale.exp()
    states = torch.where(model.diverged.view(-1, 1, 1), torch.nan, states)
    return np.asarray(data.codec.to_world(states).double())


def exponents(model: Recurrent, data: Data, known: np.ndarray, count: int = 1) -> np.ndarray:
    """The largest of each member (S, count), nats per step, NaN of what diverged: of the orbits that begin where the recording was, at steps
    far apart. (From elsewhere some lead to attractors which the recording knows nothing of.)"""
    places = np.linspace(0, len(known) - 1, ORBITS).astype(int)
    start = data.codec.to_model(torch.from_numpy(known[places])).float().unsqueeze(0)
    z = model.cell.orbit(model.seen.start(start, None), SETTLE)[-1]
    found = lyapunov_spectrum(model.cell.step, model.cell.jacobian, z, COUNTED, warm_up=200, count=count, every=10)
    return np.where(model.diverged.unsqueeze(1), np.nan, found.double().mean(1))


def foreseen(model: Recurrent, data: Data, held: np.ndarray, ahead: tuple[int, ...]) -> dict[int, np.ndarray]:
    x = data.codec.to_model(torch.from_numpy(held)).unsqueeze(0)
    return {n: np.asarray(data.codec.to_world(model.foresee(x, n)[:, 0]).double()) for n in ahead}


def shown(held: np.ndarray, alone: np.ndarray, stirred: np.ndarray) -> Image.Image:
    """The first channel of each, one above the other."""
    three = {"the recording": held, "left alone": alone, "process noise": stirred}
    figure = dynamics.runs({name: x[:BEGINNING, :1] for name, x in three.items()}, ["x"], LIGHT)
    return Image.open(io.BytesIO(figure_png(figure, transparent=False)))


def told(found: Estimate) -> str:
    spread = f" ± {found.error:.3g}" if np.isfinite(found.error) else ""
    return f"{found.value:.3g}{spread}"


def trained(
    name: str, folder: Path, asked: argparse.Namespace
) -> tuple[World, Run, Data, np.ndarray, np.ndarray, float]:
    """The world as asked for, the finished run, the data, what was learned from, what it is judged by, and its minutes."""
    world, choosing = WORLDS[name], asked.first >= CHOOSING
    world = world._replace(config=replace(world.config, members=asked.members))
    data, known, held = opened(world, folder, choosing, asked.quick)
    world = world._replace(recipe=hasty(world.recipe, 50, asked.quick))
    place = WORK / f"series-{name}-{digest((world.config, world.recipe, world.window, choosing))}-{asked.first}"
    run, minutes = recorded(place, data, "recurrent", world.config, world.recipe, asked.first)
    return world, run, data, known, held, minutes


def measured(name: str, folder: Path, asked: argparse.Namespace) -> tuple[series.Table, str]:
    """The rows of one world, and what is to be said of it."""
    world, run, data, known, held, minutes = trained(name, folder, asked)
    model: Any = run.model
    torch.manual_seed(asked.first)
    grain = asked.first >= CHOOSING and world.noisy
    alone, stirred = (left_alone(model, data, len(held), grain, noise) for noise in (False, True))
    rows = series.table(known, held, alone, foreseen(model, data, held, world.ahead), world.smoothing, stirred=stirred)
    if asked.first < CHOOSING:
        keep(f"series-{name}", shown(held, alone[0], stirred[0]))
    largest = series.lyapunov_max(exponents(model, data, known)[:, 0] / world.dt)
    rows[series.MODEL]["lyapunov"] = largest
    lost = int(model.diverged.sum())
    about = f"{name}: {world.config}; {world.recipe}; {minutes:.0f} minutes of learning; {lost} of {asked.members} diverged; {world.truth}."
    return rows, about


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="WORLD", help=f"of {', '.join(WORLDS)}; none: all")
    parser.add_argument("--members", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help=f"the seed; {CHOOSING} and up for choosing settings")
    parser.add_argument("--quick", action="store_true", help="little learning, for development")
    asked = parser.parse_args()
    if unknown := sorted(set(asked.names) - set(WORLDS)):
        parser.error(f"no world called {unknown[0]}; there are {', '.join(WORLDS)}")
    torch.set_num_threads(1)
    tables: list[Shown] = []
    notes = [
        "Process noise: every step the machine is moved as well by a draw of what it could not foresee of the validation windows, through the gain that "
        "makes these likeliest (`free_run(process_noise=True)`), as a VAR(1) is; without it, it goes where its map leads, as the published figures have it.",
        f"Median ± median absolute deviation over {asked.members} machines that learned side by side, seed {asked.first}; one thread.",
    ]
    for name in asked.names or WORLDS:
        rows, about = measured(name, asked.folder, asked)
        metrics = list(rows[series.MODEL])
        body = [[row, *(told(found[m]) if m in found else "" for m in metrics)] for row, found in rows.items()]
        say("\n".join("  ".join(line) for line in body) + "\n" + about)
        tables.append((name, ["", *metrics], body))
        notes.append(about)
    if asked.first < CHOOSING:
        (title, header, body), *more = tables
        write("series", f"Recordings: {title}", header, body, notes, more)


if __name__ == "__main__":
    main()
