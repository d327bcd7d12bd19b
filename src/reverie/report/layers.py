"""The room of a machine with layers: what each unit looks for, what it adds to a dream, and what is dreamt when it is on."""

import numpy as np
import torch

from reverie.core.model import Layered
from reverie.report.page import Html, el, figure, say, section, tile, tiles
from reverie.report.scene import ROW, Scene

UNITS = 3 * ROW  # of a layer, at most
DREAMS = 5000  # of which a fantasy is the mean of those with its unit on


def layers(scene: Scene) -> Html | None:
    """Fields and fantasies of the units of every layer."""
    model = scene.model
    if not isinstance(model, Layered) or not scene.pictures:
        return None
    told: list[Html] = [
        say(
            "A layer is a row of units that are on or off. Awake, each is switched by what it sees below; asleep, by what "
            "is dreamt above it, and it adds its share to the dream below. Three pictures tell of each unit."
        ),
        el(
            "ul",
            el("li", el("b", "Top, what it looks for: "), "its weights of recognition. White speaks for it, black against it."),
            el("li", el("b", "Middle, what it adds: "), "its weights of generation. White is made brighter, black darker."),
            el("li", el("b", "Bottom, its fantasy: "), f"of {DREAMS:,} dreams, the mean of those in which it was on. Below it, in "
               "how many it was; where the machine never dreamt of it, it is grey."),
        ),
    ]  # fmt: skip
    for layer, count in enumerate(model.units):
        told += [el("h3", f"Layer {layer + 1}"), _layer(scene, model, layer, count)]
    return section("layers", "What single units know", *told)


def _layer(scene: Scene, model: Layered, layer: int, count: int) -> Html:
    receptive, projective = model.receptive(layer), model.projective(layer)
    strength = projective.flatten(1).norm(dim=1)
    chosen = torch.argsort(strength, descending=True, stable=True)[:UNITS].tolist()
    dreamt, often = model.fantasies(layer, DREAMS)
    fantasies = scene.paint(torch.nan_to_num(dreamt[chosen]))
    fields = (scene.paint_field(part[chosen]) for part in (receptive, projective))
    stacks = np.stack([*fields, fantasies], 1)  # (few, 3, C, H, W)
    items = [
        tile(stack, f"unit {unit + 1} of layer {layer + 1}: field of recognition, field of generation, fantasy",
             scene.scale, f"{often[unit]:.0%}")
        for unit, stack in zip(chosen, stacks, strict=True)
    ]  # fmt: skip
    few = f"All {count} units" if count <= UNITS else f"The {UNITS} of {count} units that add most to dreams"
    which = few if count == 1 else f"{few}, the strongest first"
    how = (
        "The fields are the weights themselves."
        if layer == 0
        else "Its fields are those of the layer below, each times its weight to this unit, and summed, as if the units between "
        "were not switches."
    )
    caption = f"{which}. {how} Every field has its own scale of grey."
    return figure(tiles(items, scene.width), caption)
