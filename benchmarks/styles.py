"""Do styles do what they are for? Of the styled GAN that `nobody.py` has learned: mixing, truncation, and finding a given face.

    python benchmarks/nobody.py "styled gan@10x3" --train-only
    python benchmarks/styles.py [--minutes 10] [--seeds 3] [--steps 1000]

Mixing: of two dreams A and B the coarse layers of A and the fine ones of B; told is how much the mixture is like either, in coarse and in
fine structure (correlation over pixels, less the mean dream). Truncation: precision and recall as styles are drawn to their mean.
Inversion: the styles of every portrait of a test person are sought, one for each layer.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from nobody import QUICK, run_of
from PIL import Image
from table import WORK, median_of, middle_of, say, write
from torch import Tensor
from torch.nn import functional as F

from reverie.core.abilities import perceive
from reverie.core.model import Estimate
from reverie.data import Data, open_data
from reverie.data.data import Split
from reverie.evaluation import pictures
from reverie.evaluation.features import PixelPCA
from reverie.models.gan import GAN
from reverie.nets.style import StyleGenerator

PAIRS = 500
DREAMS = 1000
PSI = (0.0, 0.3, 0.5, 0.7, 0.85, 1.0)


def parts(x: Tensor) -> tuple[Tensor, Tensor]:
    """Of pictures (n, C, H, W): what is left at a quarter of the size, and what that lacks."""
    coarse = F.interpolate(F.avg_pool2d(x, 4), x.shape[2:], mode="bilinear")
    return coarse, x - coarse


def correlation(a: Tensor, b: Tensor) -> float:
    """The mean over pictures of their correlation over pixels."""
    return float(F.cosine_similarity(a.flatten(1), b.flatten(1)).mean())


def mixing(gan: GAN) -> list[list[float]]:
    """For each number of layers from A: how the mixtures correlate with A and B, in coarse and in fine structure."""
    torch.manual_seed(0)
    a, b = gan.styles(PAIRS), gan.styles(PAIRS)
    mean = gan.sample(DREAMS).mean(0)
    of_a, of_b = (parts(gan.imagine(w) - mean) for w in (a, b))
    rows = []
    for layers in range(a.shape[1] + 1):
        mixed = parts(gan.mix(a, b, layers) - mean)
        rows.append([correlation(mixed[i], parent[i]) for i in (0, 1) for parent in (of_a, of_b)])
    return rows


def truncation(gan: GAN, real: Sequence[Split], look: PixelPCA) -> list[tuple[list[Estimate], float]]:
    """For each ψ: precision and recall beside each split of real people, none where all dreams are one; and the distance of two dreams."""
    rows = []
    for psi in PSI:
        torch.manual_seed(0)
        x = gan.sample(DREAMS, psi=psi)
        apart = float((x - x.roll(1, 0)).flatten(1).norm(dim=1).mean())
        shares = [pictures.precision_recall_density_coverage(look(r.x()), look(x), 5, r.groups) for r in real if apart]
        rows.append(([s[name] for s in shares for name in ("precision", "recall")], apart))
    return rows


def decibels(x: Tensor, made: Tensor) -> Tensor:
    """(n,) peak signal to noise ratio of pictures from -1 to 1."""
    return -10 * torch.log10((x - made).square().flatten(1).mean(1) / 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1000, help="of descent, for an inversion")
    parser.add_argument("--quick", action="store_true", help="seconds of learning, for development")
    asked = parser.parse_args()
    if asked.quick:
        asked.minutes, asked.steps, asked.seeds = QUICK, 20, 2
    torch.set_num_threads(1)
    data = open_data("faces")
    if asked.quick:  # test people are for the table
        data = replace(data, test=data.valid)
    gans = [made_of("styled gan", asked.minutes, data, seed, asked.steps) for seed in range(asked.seeds)]
    x, train = data.test.x(), data.train.x()
    found = []
    for gan in gans:
        found.append(gan.imagine(gan.invert(x)))
        say("sought")
    generator = gans[0].generator
    assert isinstance(generator, StyleGenerator)
    linear = PixelPCA(train, most=generator.layers * gans[0].config.style_width)
    vae = run_of("vae", min(5.0, asked.minutes), data).model
    means = [gan.imagine(gan.styles(len(x), psi=0.0)) for gan in gans]
    ways = {
        f"styles of each layer, {asked.steps:,} steps": found,
        "the mean dream": means,
        f"{linear.axes.shape[0]} principal components of training portraits": [_projected(linear, x)],
        f"the VAE of {min(5.0, asked.minutes):g} minutes: the mean of p(x|z) at the mean of q(z|x)": [
            vae.decode(perceive(vae, x).mean).mean
        ],
    }
    rows = []
    for name, pictures_of in ways.items():
        db = [decibels(x, made) for made in pictures_of]
        far = torch.cat(db)
        rows.append(
            [name, middle_of([float(d.mean()) for d in db], ".1f"), f"{float(far.min()):.1f} to {float(far.max()):.1f}"]
        )
    strips = [np.concatenate(list(np.asarray(data.codec.to_world(p[:16]))[:, 0]), 1) for p in (x, found[0])]
    Image.fromarray(np.concatenate(strips).astype(np.uint8)).save(WORK / "styles.png")
    mixed = zip(*(mixing(gan) for gan in gans), strict=True)
    look = PixelPCA(train)
    bold = zip(*(truncation(gan, (data.train, data.test), look) for gan in gans), strict=True)
    more = [
        (f"Mixing: correlation of {PAIRS} mixtures with their parents (A gives the coarse layers, B the others)",
         ["layers from A", "coarse, with A", "coarse, with B", "fine, with A", "fine, with B"],
         [[str(n), *(middle_of(cell) for cell in zip(*rows, strict=True))] for n, rows in enumerate(mixed)]),
        (f"Truncation: {DREAMS:,} dreams, k = 5, in the components of training portraits",
         ["ψ", "precision, training people", "recall, training people", "precision, test people", "recall, test people", "distance of two dreams"],
         [[f"{psi:g}", *([median_of(cell, 2) for cell in zip(*(shares for shares, _ in rows), strict=True)] or ["–"] * 4),
           middle_of([apart for _, apart in rows], ".1f")] for psi, rows in zip(PSI, bold, strict=True)]),
    ]  # fmt: skip
    notes = [
        f"{len(x)} portraits of test people; runs of nobody.py, {asked.minutes:g} minutes of a core; medians over {asked.seeds} seeds, ranges in brackets; "
        "± over people and dreams.",
        "Coarse: the average of four by four pixels, interpolated; fine: what that lacks; both less the mean dream.",
        ".work/styles.png: the first 16 test portraits, and what was found; portraits of people are not published.",
        f"{gans[0].config}",
    ]
    write("styles", "Styles: finding a face of a test person", ["by", "PSNR, dB", "of single faces"], rows, notes, more)


def made_of(name: str, minutes: float, data: Data, seed: int, steps: int) -> GAN:
    """The finished machine of nobody.py, which seeks styles by so many steps."""
    gan = run_of(name, minutes, data, seed).model
    assert isinstance(gan, GAN)
    gan.config = replace(gan.config, inversion=steps)
    return gan


def _projected(linear: PixelPCA, x: Tensor) -> Tensor:
    flat = x.flatten(1).double().numpy() - linear.centre
    return torch.as_tensor(flat @ linear.axes.T @ linear.axes + linear.centre).view_as(x)


if __name__ == "__main__":
    main()
