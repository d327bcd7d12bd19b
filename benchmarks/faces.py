"""Must it be believed? The five-minute portraits, beside a naive VAE, a linear machine and independent pixels.

Everything is measured once, on the test people, at the end. `python benchmarks/faces.py [--minutes 5]`.
A finished run under benchmarks/.work is used again, so that an interrupted measurement goes on where it stopped.
"""

import argparse
import dataclasses
from pathlib import Path

import torch
from table import write

from reverie.core.abilities import dream
from reverie.core.recipe import TrainingConfig
from reverie.data import open_data
from reverie.evaluation import evaluate
from reverie.evaluation.features import PixelPCA, RandomConv
from reverie.evaluation.pictures import kernel_difference
from reverie.models import MODELS
from reverie.models.vae import VAEConfig
from reverie.recording import record
from reverie.run import Run
from reverie.train import begin
from reverie.training import fabric_for

WORK = Path(__file__).parent / ".work"
OURS = "vae"
DREAMS = 1000
REPAIRS = 100


def trained(name, data, model, config, training, minutes=None) -> Run:
    folder = WORK / f"faces-{name}"
    fabric = fabric_for("cpu")
    if folder.exists():
        run = Run.load(folder)
    else:
        run, _ = begin(data, model, config, training, folder, minutes, 0, fabric, "")
    for _ in record(run, data, fabric):
        pass
    return Run.load(folder)


def repaired(model, data) -> list[tuple[str, float, float, float]]:
    """For each hidden half of every test person: RMSE of the mean repair, of the mean face (of 255), 90% coverage."""
    x, mean = data.test.x(), data.train.x().mean(0)
    height, width = x.shape[-2:]
    rows = []
    for name, part in (
        ("right", (..., slice(width // 2, None))),
        ("bottom", (..., slice(height // 2, None), slice(None))),
    ):
        hidden = torch.zeros_like(x, dtype=torch.bool)
        hidden[part] = True
        torch.manual_seed(0)
        draws = model.repair(torch.where(hidden, torch.zeros_like(x), x), ~hidden, REPAIRS)
        ours = (draws.mean(0) - x)[hidden].square().mean().sqrt() * 127.5
        copied = (mean - x)[hidden].square().mean().sqrt() * 127.5
        low, high = torch.quantile(draws, torch.tensor([0.05, 0.95]), dim=0)
        inside = ((low <= x) & (x <= high))[hidden].float().mean()
        rows.append((name, float(ours), float(copied), float(inside)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    asked = parser.parse_args()
    data = open_data("faces")
    recipe, usual = MODELS["vae"].recipe(data.space, len(data.train))
    naive = VAEConfig(net="conv", latent=64, width=28, depth=1, prior="normal")  # 1.7 million parameters
    runs = {
        OURS: trained("vae", data, "vae", recipe, usual, asked.minutes),
        "naive vae": trained("naive", data, "vae", naive, TrainingConfig(steps=1000, batch=32)),
        "linear": trained("linear", data, "linear", MODELS["linear"].Config(), TrainingConfig()),
        "independent": trained("independent", data, "independent", MODELS["independent"].Config(), TrainingConfig()),
    }
    names = ["bits_per_dim", "kernel_distance", "kernel_distance_clean", "kernel_distance_conv", "kernel_distance_conv_clean",
             "memorisation", "precision", "recall"]  # fmt: skip
    found = {key: {s.name: s for s in evaluate(run.model, data, draws=500, dreams=DREAMS)} for key, run in runs.items()}
    rows = [[key, *(_cell(found[key].get(name)) for name in names)] for key in runs]
    ceiling = found["linear"]
    rows.append(["real training people", *(_number(ceiling[n].ceiling) if n in ceiling else "–" for n in names)])
    more = []
    more.append(("Kernel distance: the VAE less the other (below 0: nearer to the test people)",
                     ["against", "extractor", "dreams", "difference"], _differences(runs, data)))  # fmt: skip
    lines = [
        [key, half, f"{ours:.1f}", f"{mean:.1f}", f"{100 * (1 - ours / mean):.0f}%", f"{100 * inside:.0f}%"]
        for key in (OURS, "linear")
        for half, ours, mean, inside in repaired(runs[key].model, data)
    ]
    head = ["model", "hidden half", "RMSE of mean repair", "RMSE of mean face", "better by", "inside 90% interval"]
    more.append((f"Half-hidden test people, {REPAIRS} repairs each (RMSE in parts of 255)", head, lines))
    ours = runs[OURS]
    note = (f"{len(data.train)} / {len(data.valid)} / {len(data.test)} portraits, split by person; seed 0; the run of {asked.minutes:g} minutes made "
            f"{ours.training.steps} rounds of {ours.training.batch}; settings {dataclasses.asdict(ours.model.config)}.")  # fmt: skip
    title = "Portraits: scores on the test people"
    write("faces", title, ["model", *names], rows, [note], more)


def _differences(runs: dict[str, Run], data) -> list[list[str]]:
    first = OURS
    train, test = data.train.x(), data.test.x()
    made = {}
    for key in (first, "naive vae", "linear"):
        torch.manual_seed(1)
        made[key] = {"exact": runs[key].model.sample(DREAMS), "clean": dream(runs[key].model, DREAMS)}
    rows = []
    for other in ("naive vae", "linear"):
        for features in (PixelPCA(train), RandomConv(train)):
            for kind in ("exact", "clean"):
                real, a, b = (features(x) for x in (test, made[first][kind], made[other][kind]))
                d = kernel_difference(real, a, b, data.test.groups)
                rows.append([other, features.name, kind, f"{d.value:.3f} ± {d.error:.3f}"])
    return rows


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _cell(score) -> str:
    return "–" if score is None else f"{score.value:.3f} ± {score.error or 0:.3f}"


if __name__ == "__main__":
    main()
