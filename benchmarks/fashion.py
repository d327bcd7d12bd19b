"""Test log-likelihood on clothes: which variational autoencoder explains them best?

    python benchmarks/fashion.py [NAME …] [--train-only] [--draws 5000] [--examples 10000]

28x28 clothes, dynamically binarised, 50,000 to learn from and 10,000 to validate; the published 10,000 to test, their
coins thrown once. Every model is a run under benchmarks/.work and every 250 estimated examples are kept there, so that
what was interrupted goes on where it stopped. The table shows what was asked for, beside the figures published
by Norouzi, Fleet & Norouzi (2020, arXiv 2004.04795).
"""

import argparse
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from learn import recorded
from table import WORK, say, write

from reverie.core.recipe import TrainingConfig
from reverie.data import Split, open_data
from reverie.files import write_atomically
from reverie.models.ladder import LadderConfig
from reverie.models.vae import VAEConfig
from reverie.run import Run

PART = 250  # examples whose estimates are kept together
SMALL = {"net": "mlp", "width": 300, "depth": 2, "latent": 40}
GATED = SMALL | {"net": "gated", "objective": "stl"}  # the nets of the published figures
MANY = GATED | {"objective": "dreg", "draws": 8}
ADAM = TrainingConfig(batch=128, rate=1e-3, warmup=0.01, final=0.01, beta2=0.999, average=0.02)
SOAP = replace(ADAM, optimiser="soap", rate=2e-3, warmup=0.03, beta2=0.99, longest=700)
LADDER = TrainingConfig(batch=32, rate=2e-3, warmup=0.03, final=0.01, beta2=0.99, average=0.02, clip=200.0)
MODELS: dict[str, tuple[str, Any, TrainingConfig]] = {
    "vae": ("vae", VAEConfig(**SMALL, prior="normal"), replace(ADAM, steps=250_000)),
    "vamp": ("vae", VAEConfig(**SMALL, prior="vamp", components=500), replace(ADAM, steps=100_000)),
    "gated vae": ("vae", VAEConfig(**GATED, prior="normal"), replace(ADAM, steps=180_000)),
    "gated vamp": ("vae", VAEConfig(**GATED, prior="vamp", components=500), replace(ADAM, steps=90_000)),
    "gated iwae": (
        "vae", VAEConfig(**MANY, prior="normal"), replace(ADAM, batch=64, precision="bfloat16", steps=215_000)
    ),
    "gated iwae vamp": (
        "vae", VAEConfig(**MANY, prior="vamp", components=500, warmup=6000), replace(SOAP, steps=26_000)
    ),
    "ladder": ("ladder", LadderConfig(groups=(2, 4), width=64, latent=8, fold=4), replace(LADDER, steps=60_000)),
    "told ladder": (
        "ladder", LadderConfig(groups=(2, 4), width=96, latent=8, fold=4, neighbours=6, neighbour_width=48, warmup=800),
        replace(LADDER, batch=128, rate=3e-3, optimiser="soap", longest=450, precision="bfloat16", steps=16_000),
    ),
    "wide ladder": (
        "ladder", LadderConfig(groups=(2, 4), width=96, latent=8, fold=4),
        replace(LADDER, batch=128, rate=3e-3, optimiser="soap", precision="bfloat16", steps=13_500),
    ),
}  # fmt: skip
# Norouzi, Fleet & Norouzi (2020, arXiv 2004.04795), who trained all of them with the code base of the VampPrior: mean, and its error over runs
PUBLISHED = {
    "VAE, standard normal": (228.70, 0.15), "VAE, VampPrior": (227.35, 0.05), "Exemplar VAE": (226.75, 0.07),
    "two-level HVAE, standard normal": (227.37, 0.1), "two-level HVAE, VampPrior": (226.72, 0.08), "Exemplar HVAE": (226.53, 0.09),
    "convolutional HVAE, standard normal": (225.38, 0.08), "convolutional HVAE, VampPrior": (224.67, 0.03), "Exemplar ConvHVAE": (224.63, 0.06),
    "PixelSNAIL decoder, standard normal": (223.68, 0.03), "PixelSNAIL decoder, VampPrior": (223.45, 0.02), "Exemplar PixelSNAIL": (223.26, 0.01),
}  # fmt: skip


def place(name: str) -> Path:
    return WORK / f"fashion-{name.replace(' ', '-')}"


def measure(
    name: str, run: Run, part: str, split: Split, draws: int, examples: int, first: int
) -> dict[str, np.ndarray]:
    """Per-example estimates (n,), nats; begun with the first."""
    x, folder = split.x(), place(name) / part
    folder.mkdir(exist_ok=True)
    found: dict[str, list[np.ndarray]] = {"value": [], "error": [], "ess": [], "pareto_k": []}
    for start in (*range(first, examples, PART), *range(0, first, PART)):
        kept = folder / f"{draws}-{start:05d}.npz"
        if not kept.exists():
            made = run.model.surprise(x[start : start + PART], draws=draws)
            buffer = io.BytesIO()
            np.savez(buffer, **{key: getattr(made, key).numpy() for key in found})
            write_atomically(kept, buffer.getvalue())
            say(f"{name}: {start + PART} of {examples} estimated, {made.value.mean():.2f}")
        with np.load(kept, allow_pickle=False) as made:
            for key, rows in found.items():
                rows.append(made[key])
    return {key: np.concatenate(rows) for key, rows in found.items()}


def on_the_way(name: str, run: Run) -> list[list[str]]:
    """Rows of a table: of the log, every tenth of the rounds. The loss of training pictures is of the weights as they are, the other of the averaged ones."""
    told = [row for row in run.log if "valid" in row]
    picked = {min(told, key=lambda row: abs(row["step"] - i * run.training.steps / 10))["step"] for i in range(1, 11)}
    return [
        [name, f"{row['step']:,}", f"{row['losses']['all']:.2f}", f"{row['valid']['all']:.2f}"]
        for row in told
        if row["step"] in picked
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MODELS)}; none: all of them")
    parser.add_argument("--train-only", action="store_true", help="estimate nothing")
    parser.add_argument("--valid", action="store_true", help="estimate validation examples, and write no table")
    parser.add_argument("--draws", type=int, default=5000)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument(
        "--first",
        type=int,
        default=0,
        help=f"the example to begin with, a multiple of {PART}: a second process may begin in the middle",
    )
    parser.add_argument("--table", default="fashion", help="its name; of models that need another number of draws")
    asked = parser.parse_args()
    if asked.first % PART or not 0 <= asked.first < asked.examples:
        parser.error(f"--first is {asked.first}; it must be a multiple of {PART} below {asked.examples}")
    if unknown := sorted(set(asked.names) - set(MODELS)):
        parser.error(f"no model called {unknown[0]}; there are {', '.join(MODELS)}")
    data = open_data("fashion", binarise="dynamic")
    WORK.mkdir(exist_ok=True)
    rows, ways = [], []
    for name in asked.names or MODELS:
        run, minutes = recorded(place(name), data, *MODELS[name])
        if asked.train_only:
            continue
        part = "valid" if asked.valid else "test"
        found = measure(name, run, part, getattr(data, part), asked.draws, asked.examples, asked.first)
        value, n = found["value"], len(found["value"])
        rows.append([
            name, f"{value.mean():.2f} ± {value.std() / n**0.5:.2f}", f"{np.sqrt(np.square(found['error']).sum()) / n:.3f}",
            f"{np.median(found['ess']):.0f}", f"{(found['pareto_k'] > 0.7).mean():.0%}", f"{run.training.steps:,}", f"{minutes:.0f}",
        ])  # fmt: skip
        ways += on_the_way(name, run)
        if asked.valid:
            say(f"{name}: {' '.join(rows.pop())}")
    if asked.train_only or asked.valid:
        return
    rows += [[f"{name} (published)", f"{nats:.2f} ± {error:g}", *[""] * 5] for name, (nats, error) in PUBLISHED.items()]
    header = ["model", f"test, nats (IWAE-{asked.draws})", "error of the estimates", "median ESS", "Pareto k > 0.7", "rounds", "minutes"]  # fmt: skip
    notes = [
        f"{asked.examples:,} test examples; ± over examples, which are the same for all models; of published figures over runs (arXiv 2004.04795).",
        "The error of the estimates is that of the delta method, too small where the tail is heavy (Pareto k > 0.7): with more draws the value would be lower.",
        "Told of neighbours, a decoder is of the kind of the PixelSNAIL rows, and not of those above them.",
        "One run each: a difference of a tenth of a nat is none. A cosine, averaged weights, seed 0; the gated nets are the ones of the published figures. Minutes of training on this machine, "
        "beside whatever else it did.",
        *(f"{name}: {MODELS[name][1]}; {MODELS[name][2]}" for name in asked.names or MODELS),
    ]
    more = [
        (
            "On the way: the bound that it learns by, nats",
            ["model", "round", "of training pictures", "of the first 256 validation pictures"],
            ways,
        )
    ]
    write(asked.table, "Clothes: test log-likelihood", header, rows, notes, more)


if __name__ == "__main__":
    main()
