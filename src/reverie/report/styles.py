"""The rooms of a machine that dreams in styles: how bold, in what mixture, and whether it can make a face that is real."""

import numpy as np
import torch
from torch import Tensor

from reverie.models.gan import GAN
from reverie.nets.style import StyleGenerator, truncated
from reverie.plots import pictures
from reverie.report.page import Html, el, figure, image, rows, say, section
from reverie.report.scene import ROW, Scene

PSI = (0.0, 0.3, 0.5, 0.7, 0.85, 1.0)
GRIDS = (1.0, 0.7)
PARENTS = 6  # of a side of the mixing table
STOPS, BETWEEN = 6, 12  # of the film: dreams it passes, and pictures from one to the next


def boldness(scene: Scene) -> Html | None:
    """The same dreams nearer to the mean style and farther from it."""
    if (model := _machine(scene)) is None:
        return None
    styles = model.styles(ROW)
    centre = model.generator.centre().to(styles)
    shown = {
        f"ψ = {psi:g}": scene.paint(model.imagine(truncated(styles, centre, psi, None) if psi < 1 else styles))
        for psi in PSI
    }
    caption = "Each column is one dream. At ψ = 0 all are the mean of what it can make; at 1 they are as it learned to make them. Between, what is rare goes first."
    grids = []
    for psi in GRIDS:
        dreams = pictures.grid(scene.paint(model.sample(4 * ROW, psi=psi)), ROW, 4, scene.scale)
        grids.append(figure(image(dreams, f"dreams at ψ = {psi:g}"), f"{4 * ROW} dreams at ψ = {psi:g}, not chosen."))
    sweep = figure(rows(shown, "dreams at several ψ", scene.scale), caption)
    return section("boldness", "How bold", sweep, *grids, _film(scene, model))


def mixing(scene: Scene) -> Html | None:
    """A table of children: coarse styles from the left, fine ones from above."""
    model = _machine(scene)
    if model is None or not isinstance(model.generator, StyleGenerator) or model.generator.layers < 2:
        return None
    coarse, fine = model.styles(PARENTS, 0.85), model.styles(PARENTS, 0.85)
    first = model.generator.coarse
    blank = np.full_like(scene.paint(model.imagine(fine[:1])), 255)
    shown = {"coarse, fine": np.concatenate([blank, scene.paint(model.imagine(fine))])}
    for i in range(PARENTS):
        one = coarse[i : i + 1].expand(PARENTS, -1, -1)
        row = torch.cat([model.imagine(coarse[i : i + 1]), model.mix(one, fine, first)])
        shown[f"{i + 1}"] = scene.paint(row)
    caption = f"Each picture takes the styles of the first {first} layers, which settle coarse things, from the dream at its left, and those of the other {model.generator.layers - first} from the dream above it."
    return section(
        "mixing", "Crossing two dreams", figure(rows(shown, "a table of crossed dreams", scene.scale), caption)
    )


def real(scene: Scene) -> Html | None:
    """Held-out pictures, and what the machine makes when it tries to make them."""
    if (model := _machine(scene)) is None or not len(scene.held):
        return None
    chosen = scene.spread(ROW)
    x = scene.held[chosen]
    made = model.imagine(model.invert(x))
    shown = {"never seen": scene.paint(x), "as it makes it": scene.paint(made)}
    parts = [figure(rows(shown, "held-out pictures and their inversions", scene.scale),
                    "Above, pictures it never saw. Below, the nearest it can make: styles found by descent, each layer its own.")]  # fmt: skip
    if scene.space.kind == "byte":
        error = (made - x).square().flatten(1).mean(1) / 4  # of a range of 2
        ratio = -10 * error.clamp(min=1e-12).log10()
        parts.append(
            say(f"Peak signal-to-noise ratio {ratio.median():.1f} dB (median; {ratio.min():.1f} to {ratio.max():.1f}).")
        )
    return section("inversion", "Can it make one that is real?", *parts)


def _machine(scene: Scene) -> GAN | None:
    return scene.model if isinstance(scene.model, GAN) and scene.pictures else None


def _film(scene: Scene, model: GAN) -> Html:
    """Walks through styles, from dream to dream and back to the first."""
    stops = [model.styles(ROW, 0.7) for _ in range(STOPS)]
    way: list[Tensor] = []
    for a, b in zip(stops, [*stops[1:], stops[0]], strict=True):
        way += [torch.lerp(a, b, t) for t in torch.linspace(0, 1, BETWEEN + 1)[:-1].tolist()]
    drawn = [pictures.grid(scene.paint(model.imagine(styles)), ROW, 4, scene.scale) for styles in way]
    still = pictures.data_uri(pictures.still(drawn[0]), "image/webp")
    picture = el(
        "picture", el("source", media="(prefers-reduced-motion: reduce), print", srcset=still),
        el("img", src=pictures.data_uri(pictures.film(drawn, lossless=False), "image/webp"), class_="crisp",
           width=drawn[0].width, height=drawn[0].height, alt="a film of walks through styles"),
    )  # fmt: skip
    return figure(
        picture, f"{ROW} walks through the styles of {STOPS} dreams each (ψ = 0.7), back to the first.", "plate film"
    )
