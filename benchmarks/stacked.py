"""Three digits, one in each colour: how many of the 1,000 numbers does a generator dream, and how evenly?

    python benchmarks/stacked.py [NAME …] [--seeds N] [--first 100] [--quick]

The digits are scikit-learn's, 8x8; 50,000 stacks of digits that the split gives for training are learned from. Of 25,600
dreams every channel is read by a support vector machine that was trained on real digits; told are how many of the 1,000 numbers
appear, and the divergence of their frequencies from even ones (of perfect samples, 999 / 51,200 = 0.0195 nats on average).
"""

import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from learn import CHOOSING, hasty, learned, seeds_parser, starts
from sklearn.svm import SVC
from table import middle_of, say, write

from reverie.core.recipe import TrainingConfig
from reverie.data import Data, Split, open_data
from reverie.data.arrays import from_array
from reverie.data.config import DataConfig
from reverie.models.gan import GAN, GANConfig

SAMPLES = 25_600
STACKS = 50_000
RECIPE = TrainingConfig(steps=12_000, batch=64, rate=2e-3, beta1=0.0, beta2=0.99, average=0.02, final=0.05)
PLAIN = GANConfig(latent=64, width=16, depth=1)
GANS = {
    "plain": PLAIN,
    "styled": replace(PLAIN, style=True),
    "classic, no penalty": replace(PLAIN, game="classic", gamma_real=0.0, gamma_fake=0.0),
}
PUBLISHED = {
    "DCGAN": "99 / 3.4", "WGAN-GP": "959 / 0.73", "StyleGAN2": "940 / 0.42", "R3GAN": "1,000 / 0.029",
}  # fmt: skip


def stacked(split: Split, count: int, seed: int) -> np.ndarray:
    """(count, 3, 8, 8) bytes, every channel a digit of the split, drawn on its own."""
    rows = np.random.default_rng(seed).integers(len(split), size=(count, 3))
    return split.raw().numpy()[:, 0][rows]


def reader(digits: Data) -> tuple[Callable[[np.ndarray], np.ndarray], float]:
    """Pictures (n, 3, 8, 8) bytes -> (n,) numbers from 0 to 999; and its accuracy on single held-out digits."""
    flat = [split.raw().flatten(1).numpy() / 255.0 for split in (digits.train, digits.test)]
    svm = SVC(C=10.0, gamma=0.05).fit(flat[0], digits.train.labels.numpy())
    accuracy = float((svm.predict(flat[1]) == digits.test.labels.numpy()).mean())

    def read(x: np.ndarray) -> np.ndarray:
        return svm.predict(x.reshape(-1, 64) / 255.0).reshape(-1, 3) @ np.array([100, 10, 1])

    return read, accuracy


def spread(numbers: np.ndarray) -> dict[str, float]:
    """How many of the 1,000 there are, and nats of divergence of their frequencies from even ones."""
    share = np.bincount(numbers, minlength=1000) / len(numbers)
    there = share[share > 0]
    return {"modes": float(len(there)), "kl": float((there * np.log(1000 * there)).sum())}


def one(config: GANConfig, data: Data, read: Callable, recipe: TrainingConfig, seed: int) -> dict[str, float]:
    gan, seconds = learned(lambda: GAN(config, data.space), data, recipe, seed)
    torch.manual_seed(seed)
    dreams = torch.cat([data.codec.to_world(gan.sample(256)) for _ in range(SAMPLES // 256)])
    return spread(read(dreams.numpy())) | {"seconds": seconds}


def main() -> None:
    parser = seeds_parser(__doc__, 3)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {'; '.join(GANS)}; none: all of them")
    asked = parser.parse_args()
    if unknown := sorted(set(asked.names) - set(GANS)):
        parser.error(f"nothing called {unknown[0]}; there are {'; '.join(GANS)}")
    torch.set_num_threads(1)
    digits, recipe, rows = open_data("digits"), hasty(RECIPE, 200, asked.quick), []
    data = from_array("stacked", stacked(digits.train, STACKS, 0), {"source": "made"}, DataConfig())
    read, accuracy = reader(digits)
    for name in asked.names or GANS:
        config, seeds = GANS[name], range(asked.first, asked.first + asked.seeds)
        found = starts("stacked", (config, recipe), seeds, partial(one, config, data, read, recipe))
        modes, kl, seconds = ([f[key] for f in found] for key in ("modes", "kl", "seconds"))
        rows.append([
            name, middle_of(modes, ",.0f"),
            middle_of(kl, ".4f"), f"{statistics.median(seconds):.0f}",
        ])  # fmt: skip
        say(" | ".join(rows[-1]))
    if asked.first >= CHOOSING:
        return
    for what, split in (("stacks of training digits", digits.train), ("stacks of held-out digits", digits.test)):
        real = spread(read(stacked(split, SAMPLES, 1)))
        rows.append([what, f"{real['modes']:,.0f}", f"{real['kl']:.4f}", ""])
    notes = [
        f"{SAMPLES:,} dreams; median and range of {asked.seeds} seeds from {asked.first} on. The reader is right on {accuracy:.1%} of held-out digits.",
        "Published at 28x28 with MNIST, modes / nats (Huang et al. 2024, arXiv 2501.05441, table 1): "
        + "; ".join(f"{name} {figures}" for name, figures in PUBLISHED.items())
        + ".",
        *(f"{name}: {GANS[name]}" for name in asked.names or GANS),
        f"{recipe}",
    ]
    header = ["machine", "modes of 1,000", "KL from even, nats", "seconds"]
    write("stacked", "Stacked digits", header, rows, notes)


if __name__ == "__main__":
    main()
