"""Must it be believed? The five-minute portraits, beside a naive VAE, linear machines and independent pixels.

Everything is measured once, on the test people, at the end. `python benchmarks/faces.py [--minutes 5]`.
A finished run under benchmarks/.work is used again, so that an interrupted measurement goes on where it stopped.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from halves import enlarged
from table import write

from reverie.core.abilities import dream
from reverie.core.recipe import TrainingConfig
from reverie.data import Data, open_data
from reverie.data.data import Split
from reverie.evaluation import evaluate
from reverie.evaluation.features import PixelPCA, RandomConv
from reverie.evaluation.pictures import kernel_difference
from reverie.models import MODELS
from reverie.models.linear import Linear, LinearConfig
from reverie.models.vae import VAEConfig
from reverie.recording import record
from reverie.run import Run
from reverie.train import begin
from reverie.training import fabric_for

WORK = Path(__file__).parent / ".work"
OURS = "vae"
DREAMS = 1000
REPAIRS = 100
COPIES = 20
OTHERS = "naive vae", "linear", "linear, of moved portraits"


def trained(
    name: str, data: Data, model: str, config: Any, training: TrainingConfig, minutes: float | None = None
) -> Run:
    folder = WORK / f"faces-{name}"
    fabric = fabric_for("cpu")
    if folder.exists():
        run = Run.load(folder)
        was = run.blank()
        changed = bool(was.learners()) and was.config != config  # what is solved has chosen its own size
        if changed or replace(run.training, steps=training.steps) != training:
            raise SystemExit(f"{folder} was begun with other settings than are asked for now; remove it")
    else:
        run, _ = begin(data, model, config, training, folder, minutes, 0, fabric, "")
    for _ in record(run, data, fabric):
        pass
    return Run.load(folder)


def linear_of_moved(data: Data, recipe: TrainingConfig) -> Linear:
    """The linear machine, of COPIES of each portrait, moved, bent and lit as the VAE's are."""
    torch.manual_seed(0)
    x = data.codec.to_world(enlarged(data, recipe, COPIES).view(-1, *data.space.shape)).numpy()
    model = Linear(LinearConfig(), data.space)
    model.solve(replace(data, train=Split(x, 0, len(x))), recipe)
    return model.eval()


def repaired(model: Any, data: Data) -> list[tuple[str, float, float, float]]:
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
    models: dict[str, Any] = {key: run.model for key, run in runs.items()}
    models["linear, of moved portraits"] = linear_of_moved(data, usual)
    names = ["bits_per_dim", "kernel_distance", "kernel_distance_clean", "kernel_distance_conv", "kernel_distance_conv_clean",
             "memorisation", "precision", "recall"]  # fmt: skip
    found = {key: {s.name: s for s in evaluate(model, data, draws=500, dreams=DREAMS)} for key, model in models.items()}
    rows = [[key, *(_cell(found[key].get(name)) for name in names)] for key in models]
    ceiling = found["linear"]
    rows.append(["real training people", *(_number(ceiling[n].ceiling) if n in ceiling else "–" for n in names)])
    more = []
    more.append(("Kernel distance: the VAE less the other (below 0: nearer to the test people)",
                     ["against", "extractor", "dreams", "difference"], _differences(models, data)))  # fmt: skip
    lines = [
        [key, half, f"{ours:.1f}", f"{mean:.1f}", f"{100 * (1 - ours / mean):.0f}%", f"{100 * inside:.0f}%"]
        for key in (OURS, "linear", "linear, of moved portraits")
        for half, ours, mean, inside in repaired(models[key], data)
    ]
    head = ["model", "hidden half", "RMSE of mean repair", "RMSE of mean face", "better by", "inside 90% interval"]
    more.append((f"Half-hidden test people, {REPAIRS} repairs each (RMSE in parts of 255)", head, lines))
    ours = runs[OURS]
    note = (f"{len(data.train)} / {len(data.valid)} / {len(data.test)} portraits, split by person; seed 0; the run of {asked.minutes:g} minutes made "
            f"{ours.training.steps} rounds of {ours.training.batch}; settings {ours.model.config}; {ours.training}.")  # fmt: skip
    others = (f"The naive VAE is what one writes down first, and was not tuned: {runs['naive vae'].training.steps:,} rounds of {runs['naive vae'].training.batch} portraits as they are; {naive}. "
              f"The linear machines are fitted in closed form, one to the portraits as they are, one to {COPIES} of each, moved, bent and lit as the VAE's are.")  # fmt: skip
    title = "Portraits: scores on the test people"
    write("faces", title, ["model", *names], rows, [note, others], more)


def _differences(models: dict[str, Any], data: Data) -> list[list[str]]:
    first = OURS
    train, test = data.train.x(), data.test.x()
    made = {}
    for key in (first, *OTHERS):
        torch.manual_seed(1)
        made[key] = {"exact": models[key].sample(DREAMS), "clean": dream(models[key], DREAMS)}
    rows = []
    for other in OTHERS:
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
