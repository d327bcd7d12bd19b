"""Which parts would make five minutes of portraits better? Candidates beside the recipe that `make dream` has.

    python benchmarks/recipes.py [NAME …] [--minutes 4] [--first 100]

Each has the same minutes of one core's own time, whatever else the machine does, and is judged on validation people: the test people are
not looked at. Of every candidate 32 dreams are kept in benchmarks/.work/recipes-NAME.png, drawn from p(x) on the left, the means of p(x|z) on the right.
"""

import argparse
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from learn import digest, learned, rounds_within, starts
from PIL import Image
from table import WORK, say, write

from reverie.core.abilities import dream
from reverie.data import Data, augment, open_data
from reverie.evaluation import evaluate
from reverie.models.vae import VAE

# No setting: training pictures as they were moved before they kept their grain.
LINEAR = "moved by linear interpolation"
# What each changes of the settings, and of the learning.
CANDIDATES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "the recipe": ({}, {}),
    LINEAR: ({}, {}),
    "told of neighbours": ({"neighbours": 3, "neighbour_width": 16}, {}),
    "three logistics": ({"logistics": 3}, {}),
    "bound of three draws": ({"objective": "iwae", "draws": 3}, {}),
    "soap": ({}, {"optimiser": "soap"}),
}
SCORES = ("bits_per_dim", "kernel_distance", "kernel_distance_clean", "kernel_distance_conv", "kernel_distance_conv_clean", "memorisation")  # fmt: skip


def trained(name: str, data: Data, minutes: float, seed: int) -> tuple[VAE, int]:
    """The machine, its averaged weights, and the rounds that fit."""
    config, recipe = VAE.recipe(data.space, len(data.train))
    change, learning = CANDIDATES[name]
    config, recipe = replace(config, **change), replace(recipe, **learning)
    steps = rounds_within(minutes, lambda: VAE(config, data.space), data, recipe, seed)
    with patch.object(augment, "INTERPOLATION", "bilinear" if name == LINEAR else augment.INTERPOLATION):
        model, _ = learned(lambda: VAE(config, data.space), data, replace(recipe, steps=steps), seed)
    return model, steps


def picture(model: VAE, data: Data) -> np.ndarray:
    """(H, W) bytes: 32 dreams of both kinds, four rows of eight."""
    torch.manual_seed(1)
    sides = [np.asarray(data.codec.to_world(x))[:, 0] for x in (model.sample(32), dream(model, 32))]
    return np.concatenate([x.reshape(4, 8, *x.shape[1:]).transpose(0, 2, 1, 3).reshape(4 * x.shape[1], -1) for x in sides], 1)  # fmt: skip


def one(name: str, data: Data, minutes: float, seed: int) -> dict[str, float]:
    model, steps = trained(name, data, minutes, seed)
    WORK.mkdir(exist_ok=True)
    Image.fromarray(picture(model, data).astype(np.uint8)).save(WORK / f"recipes-{name.replace(' ', '-')}.png")
    found = {s.name: s for s in evaluate(model, data, split="valid", draws=200, dreams=500, seed=seed)}
    pairs = {key: float(found[key].value) for key in SCORES} | {
        f"±{key}": float(found[key].error or 0) for key in SCORES
    }
    return pairs | {"rounds": float(steps)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {'; '.join(CANDIDATES)}; none: all of them")
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--first", type=int, default=100, help="the seed")
    asked = parser.parse_args()
    if unknown := sorted(set(asked.names) - set(CANDIDATES)):
        parser.error(f"no candidate called {unknown[0]}; there are {'; '.join(CANDIDATES)}")
    torch.set_num_threads(1)
    data, rows = open_data("faces"), []
    for name in asked.names or CANDIDATES:
        settings = (name, CANDIDATES[name], asked.minutes)
        (found,) = starts(
            f"recipes-{digest(settings)}",
            settings,
            [asked.first],
            lambda seed, name=name: one(name, data, asked.minutes, seed),
        )  # type: ignore[misc]
        rows.append(
            [name, f"{found['rounds']:,.0f}", *(f"{found[key]:.3f} ± {found['±' + key]:.3f}" for key in SCORES)]
        )
        say(" | ".join(rows[-1]))
    notes = [
        f"{len(data.valid)} pictures of validation people; seed {asked.first}; {asked.minutes:g} minutes of one core's own time each; ± over people.",
        *(
            f"{name}: {change | learning or 'as `make dream` has it'}"
            for name, (change, learning) in CANDIDATES.items()
            if name in (asked.names or CANDIDATES) and name != LINEAR
        ),
    ]
    write(
        "recipes",
        "Portraits: candidates beside the recipe, on validation people",
        ["recipe", "rounds", *SCORES],
        rows,
        notes,
    )


if __name__ == "__main__":
    main()
