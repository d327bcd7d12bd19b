"""Do styles do what they are for? Of the styled GAN that `nobody.py` has learned: mixing, truncation, and finding a given face.

    python benchmarks/nobody.py "styled gan@30" --train-only
    python benchmarks/styles.py [--minutes 30] [--steps 1000]

Mixing: of two dreams A and B the coarse layers of A and the fine ones of B; told is how much the mixture is like either, in coarse and in
fine structure (correlation over pixels, less the mean dream). Truncation: precision and recall as styles are drawn to their mean.
Inversion: the styles of every portrait of a test person are sought, one for each layer.
"""

import argparse
from dataclasses import replace

import numpy as np
import torch
from nobody import QUICK, run_of
from PIL import Image
from table import WORK, say, write
from torch import Tensor
from torch.nn import functional as F

from reverie.core.abilities import perceive
from reverie.data import open_data
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


def mixing(gan: GAN) -> list[list[str]]:
    torch.manual_seed(0)
    a, b = gan.styles(PAIRS), gan.styles(PAIRS)
    mean = gan.sample(DREAMS).mean(0)
    of_a, of_b = (parts(gan.imagine(w) - mean) for w in (a, b))
    rows = []
    for layers in range(a.shape[1] + 1):
        mixed = parts(gan.mix(a, b, layers) - mean)
        found = [correlation(mixed[i], parent[i]) for i in (0, 1) for parent in (of_a, of_b)]
        rows.append([str(layers), *(f"{value:.2f}" for value in found)])
    return rows


def truncation(gan: GAN, real: dict[str, Tensor]) -> list[list[str]]:
    look, rows = PixelPCA(real["training"]), []
    for psi in PSI:
        torch.manual_seed(0)
        x = gan.sample(DREAMS, psi=psi)
        apart = float((x - x.roll(1, 0)).flatten(1).norm(dim=1).mean())
        shares = [
            pictures.precision_recall_density_coverage(look(r), look(x), 5) if apart else None for r in real.values()
        ]
        cells = [
            f"{s[name].value:.2f} ± {s[name].error:.2f}" if s else "–"
            for s in shares
            for name in ("precision", "recall")
        ]
        rows.append([f"{psi:g}", *cells, f"{apart:.1f}"])
    return rows


def decibels(x: Tensor, made: Tensor) -> Tensor:
    """(n,) peak signal to noise ratio of pictures from -1 to 1."""
    return -10 * torch.log10((x - made).square().flatten(1).mean(1) / 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--steps", type=int, default=1000, help="of descent, for an inversion")
    parser.add_argument("--quick", action="store_true", help="seconds of learning, for development")
    asked = parser.parse_args()
    if asked.quick:
        asked.minutes, asked.steps = QUICK, 20
    torch.set_num_threads(1)
    data = open_data("faces")
    if asked.quick:  # test people are for the table
        data = replace(data, test=data.valid)
    gan = run_of("styled gan", asked.minutes, data).model
    assert isinstance(gan, GAN)
    assert isinstance(gan.generator, StyleGenerator)
    gan.config = replace(gan.config, inversion=asked.steps)
    x, train = data.test.x(), data.train.x()
    made = gan.imagine(gan.invert(x))
    say("sought")
    db, plain = decibels(x, made), decibels(x, gan.imagine(gan.styles(len(x), psi=0.0)))
    linear = PixelPCA(train, most=gan.generator.layers * gan.config.style_width)
    vae = run_of("vae", min(5.0, asked.minutes), data).model
    torch.manual_seed(0)
    others = {
        "the mean dream": plain,
        f"{linear.axes.shape[0]} principal components of training portraits": decibels(x, _projected(linear, x)),
        "the five-minute VAE: the mean of p(x|z) at the mean of q(z|x)": decibels(
            x, vae.decode(perceive(vae, x).mean).mean
        ),
    }
    rows = [[f"styles of each layer, {asked.steps:,} steps", _range(db)]]
    rows += [[name, _range(value)] for name, value in others.items()]
    strips = [np.concatenate(list(np.asarray(data.codec.to_world(p[:16]))[:, 0]), 1) for p in (x, made)]
    Image.fromarray(np.concatenate(strips).astype(np.uint8)).save(WORK / "styles.png")
    more = [
        (f"Mixing: correlation of {PAIRS} mixtures with their parents (A gives the coarse layers, B the others)",
         ["layers from A", "coarse, with A", "coarse, with B", "fine, with A", "fine, with B"], mixing(gan)),
        (f"Truncation: {DREAMS:,} dreams, k = 5, in the components of training portraits",
         ["ψ", "precision, training people", "recall, training people", "precision, test people", "recall, test people", "distance of two dreams"],
         truncation(gan, {"training": train, "test": x})),
    ]  # fmt: skip
    notes = [
        f"{len(x)} portraits of test people; the run of nobody.py, {asked.minutes:g} minutes of a core, seed 0.",
        "Coarse: the average of four by four pixels, interpolated; fine: what that lacks; both less the mean dream.",
        ".work/styles.png: the first 16 test portraits, and what was found; portraits of people are not published.",
        f"{gan.config}",
    ]
    write("styles", "Styles: finding a face of a test person", ["by", "PSNR, dB: mean (range)"], rows, notes, more)


def _projected(linear: PixelPCA, x: Tensor) -> Tensor:
    flat = x.flatten(1).double().numpy() - linear.centre
    return torch.as_tensor(flat @ linear.axes.T @ linear.axes + linear.centre).view_as(x)


def _range(db: Tensor) -> str:
    return f"{float(db.mean()):.1f} ({float(db.min()):.1f} to {float(db.max()):.1f})"


if __name__ == "__main__":
    main()
