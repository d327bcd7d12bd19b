"""25 Gaussians on a grid: which game forgets none of them?

    python benchmarks/modes.py [GAME …] [--seeds N] [--first 100] [--quick]

Of 2,500 samples each: how many of the 25 places have one within 3 standard deviations, and what share of all lies so near to any
of them (of perfect samples, 1 - exp(-4.5) = 98.9%). Both nets are perceptrons; the settings were found with seeds 100 and up.
"""

from dataclasses import replace
from functools import partial

import torch
from learn import CHOOSING, hasty, learned, seeds_parser, starts
from table import middle_of, say, write
from torch import Tensor

from reverie.core.recipe import TrainingConfig
from reverie.data import Data, open_data
from reverie.data.toys import PLACES, SPREAD
from reverie.models.gan import GAN, GANConfig

SAMPLES = 2500
RECIPE = TrainingConfig(steps=30_000, batch=100, rate=3e-3, beta1=0.0, beta2=0.99, average=0.05, final=0.05)
BEST = GANConfig(latent=2, width=128, depth=3, gamma_real=0.02, gamma_fake=0.02)
GAMES = {
    "relativistic, R1 and R2": BEST,
    "relativistic, R1": replace(BEST, gamma_fake=0.0),
    "relativistic, no penalty": replace(BEST, gamma_real=0.0, gamma_fake=0.0),
    "classic, R1 and R2": replace(BEST, game="classic"),
    "classic, no penalty": replace(BEST, game="classic", gamma_real=0.0, gamma_fake=0.0),
}


def covered(points: Tensor) -> dict[str, float]:
    """Of points (n, 2) in the units of the plane: how many places have one near, and the share of the points that are near one."""
    places = torch.cartesian_prod(*[torch.tensor(PLACES)] * 2)
    gap, nearest = torch.cdist(points, places).min(1)
    near = gap < 3 * SPREAD
    return {"modes": float(nearest[near].unique().numel()), "share": near.float().mean().item()}


def one(config: GANConfig, data: Data, recipe: TrainingConfig, seed: int) -> dict[str, float]:
    gan, seconds = learned(lambda: GAN(config, data.space), data, recipe, seed)
    torch.manual_seed(seed)
    return covered(data.codec.to_world(gan.sample(SAMPLES))) | {"seconds": seconds}


def main() -> None:
    parser = seeds_parser(__doc__, 3)
    parser.add_argument("names", nargs="*", metavar="GAME", help=f"of {'; '.join(GAMES)}; none: all of them")
    asked = parser.parse_args()
    if unknown := sorted(set(asked.names) - set(GAMES)):
        parser.error(f"no game called {unknown[0]}; there are {'; '.join(GAMES)}")
    torch.set_num_threads(1)
    data, recipe, rows = open_data("grid", count=100_000), hasty(RECIPE, 200, asked.quick), []
    for name in asked.names or GAMES:
        config, seeds = GAMES[name], range(asked.first, asked.first + asked.seeds)
        found = starts("modes", (config, recipe), seeds, partial(one, config, data, recipe))
        rows.append([
            name, middle_of([f["modes"] for f in found], ".0f"), middle_of([f["share"] for f in found], ".1%"),
            middle_of([f["seconds"] for f in found], ".0f"),
        ])  # fmt: skip
        say(" | ".join(rows[-1]))
    if asked.first >= CHOOSING:
        return
    real = covered(data.test.raw()[:SAMPLES])
    rows.append(["held-out examples", f"{real['modes']:.0f}", f"{real['share']:.1%}", ""])
    header = ["game", "modes of 25", "within 3σ", "seconds"]
    notes = [
        f"{SAMPLES:,} samples; median and range of {asked.seeds} seeds from {asked.first} on. σ is {SPREAD}, the places are 2 apart.",
        f"{BEST}",
        f"{recipe}",
    ]
    write("modes", "25 Gaussians on a grid", header, rows, notes)


if __name__ == "__main__":
    main()
