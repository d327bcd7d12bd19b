"""The middle rooms of a report: dreams, as they came, as they are, and the ways between them."""

from typing import SupportsFloat

import numpy as np
import torch
from torch import Tensor

from reverie.core.abilities import SEEN, dream, main_directions, morph, traverse
from reverie.evaluation.directions import label_directions
from reverie.plots import pictures
from reverie.plots.curves import scatter
from reverie.report.page import Html, drawing, el, figure, number, rows, say, section, tile, tiles
from reverie.report.scene import ROW, Scene

STEPS = 9  # of a walk
REACH = 2.5  # standard deviations to both sides of the centre


def learning(scene: Scene) -> Html | None:
    """The same latents dreaming as training went on."""
    frames = list(scene.run.dreams())
    if len(frames) < 3 or not (scene.pictures or scene.points):
        return None
    chosen = sorted({round(i) for i in np.linspace(0, len(frames) - 1, 6 if scene.pictures else 3)})
    if scene.points:
        sets = {"real": _plane(scene, scene.held)}
        sets |= {f"round {step:,}": np.asarray(x, dtype=float) for step, x in (frames[i] for i in chosen)}
        made = drawing(lambda ink: scatter(sets, ink), "dreams as training went on")
        return section(
            "learning",
            "Learning to dream",
            figure(made, "Dreams without their grain, from the same random seeds, as training went on."),
        )
    shown = {f"round {frames[i][0]:,}": scene.paint_world(frames[i][1][:ROW]) for i in chosen}
    shown["the world"] = scene.paint(scene.train[:ROW])
    strip = rows(shown, "dreams", scene.scale)
    return section(
        "learning", "Learning to dream",
        figure(strip, "Each column is one dream, always from the same random seed. Going down, the machine has learned "
                      "for longer. The last row is what it had seen: pictures it learned from, paired with no dream."),
        figure(_film(scene, frames),
               f"All {len(frames[0][1])} dreams through the {frames[-1][0]:,} rounds, often at first, when much changes. "
               "The film rests on the last frame and begins again.", "plate film"),
    )  # fmt: skip


def _film(scene: Scene, frames: list[tuple[int, np.ndarray]]) -> Html:
    tall = max(scene.space.shape[-2:])
    small = max(1, 24 // tall)
    drawn = [pictures.grid(scene.paint_world(x), 8, max(2, small), small) for _, x in frames]
    # Sharp little pixels compress better without loss, soft pictures far better with it.
    content = pictures.film(drawn, lossless=tall <= 16)
    still = pictures.data_uri(pictures.still(drawn[-1]), "image/webp")
    show = round(8 * scene.width / drawn[0].width) or 1
    return el(
        "picture",
        el("source", media="(prefers-reduced-motion: reduce), print", srcset=still),
        el("img", src=pictures.data_uri(content, "image/webp"), class_="crisp", width=drawn[0].width * show,
           height=drawn[0].height * show, alt="a film of the same dreams as training went on"),
    )  # fmt: skip


def fresh(scene: Scene) -> Html | None:
    """Dreams, each above the training example nearest to it."""
    if scene.points:
        sets = {"real": _plane(scene, scene.held), "dreamt": _plane(scene, scene.model.sample(len(scene.held)))}
        made = drawing(lambda ink: scatter(sets, ink), "real points beside dreamt ones")
        return section("dreams", "Fresh dreams", figure(made, "As many dreams as there are real points kept aside."))
    if not scene.pictures:
        return None
    x = dream(scene.model, 64)
    distance, which, near = nearest(scene, x)
    usual = nearest(scene, scene.held)[0]
    pairs = np.stack([scene.paint(x), scene.paint(near)], 1)  # (64, 2, C, H, W)
    unit = scene.unit[1]
    items = [
        tile(pairs[i], f"dream {i + 1} above training picture {which[i] + 1}", scene.scale, _apart(scene, distance[i]))
        for i in range(2 * ROW)
    ]
    told = [
        figure(tiles(items, scene.width),
               f"Above, a dream nobody chose; below, the training picture most like it. A copy would show as a twin. The "
               f"number is the typical difference of a pixel, in {unit}."),
        say(f"Half of 64 dreams differ by more than {_apart(scene, np.median(distance))} from everything in the training set, "
            f"the nearest by {_apart(scene, distance.min())}; half of the real pictures it never saw differ by more than "
            f"{_apart(scene, np.median(usual))}. Soft pictures lie nearer to everything.", _memory(scene)),
    ]  # fmt: skip
    if scene.imagines:
        torch.manual_seed(scene.run.seed)
        assert scene.model.prior is not None
        prior: object = scene.model.prior
        z = prior.sample(ROW)  # type: ignore[attr-defined]
        seen = scene.model.decode(z, scene.model.labels(ROW, None))  # type: ignore[operator]
        both = {"in mind": scene.paint(seen.mean), "drawn": scene.paint(seen.sample())}
        told.append(figure(rows(both, "dreams", scene.scale),
                           "What the machine has in mind, and the same with the grain of chance that it allows each pixel. "
                           "All numbers on this page are about the second kind unless they say otherwise."))  # fmt: skip
    return section("dreams", "Fresh dreams", *told)


def _apart(scene: Scene, distance: SupportsFloat) -> str:
    return f"{float(distance):.{1 if scene.space.kind == 'byte' else 2}f}"


def nearest(scene: Scene, x: Tensor) -> tuple[np.ndarray, np.ndarray, Tensor]:
    """Of each of x (n, *shape): the distance (n,) to the nearest training example as the root of the mean square over its
    entries, that one's number (n,), and how it looks (n, *shape), flipped where a flip is as likely and nearer."""
    sides = [scene.train, scene.train.flip(-1)] if scene.pictures and scene.data.mirror else [scene.train]
    found = torch.stack([torch.cdist(x.flatten(1).float(), side.flatten(1)) for side in sides])  # (sides, n, N)
    best, flat = found.permute(1, 0, 2).flatten(1).min(1)
    side, which = flat // len(scene.train), flat % len(scene.train)
    looks = torch.stack([sides[int(s)][int(i)] for s, i in zip(side, which, strict=True)])
    return (best * scene.unit[0] / scene.space.dims**0.5).numpy(), which.numpy(), looks


def _memory(scene: Scene) -> str | None:
    score = scene.scores.get("memorisation")
    if score is None or score.value is None:
        return None
    return (
        f" Exact draws lie {number(score.value, score.error)} times as far from the training set as new real pictures do "
        "(a copying machine would have 0, and 1 is as new as the world itself)."
    )


def walk(scene: Scene) -> Html | None:
    """Between two real examples."""
    if not scene.roams or not (scene.pictures or scene.points):
        return None
    ends = scene.spread(8)
    if len(ends) < 2:
        return None
    pairs = list(zip(ends[0::2], ends[1::2], strict=False))[: 4 if scene.pictures else 3]
    first, last = (list(side) for side in zip(*pairs, strict=True))
    a, b = scene.held[first], scene.held[last]
    labels = scene.given(first), scene.given(last)
    given = None if labels[0] is None or labels[1] is None else (labels[0], labels[1])
    between = morph(scene.model, a, b, STEPS, given).transpose(0, 1)  # (pairs, STEPS, *shape)
    if scene.points:
        lines = [_plane(scene, way) for way in between]
        sets = {"walks between real points": _plane(scene, scene.held)}
        made = drawing(lambda ink: scatter(sets, ink, lines), "walks between real points")
        told = "What the machine makes of the straight way, in its own space, from one real point to another."
    else:
        made = el("div", *(
            rows({"": np.concatenate([scene.paint(a[i : i + 1]), scene.paint(way), scene.paint(b[i : i + 1])])},
                 f"a walk from one held-out picture to another, {i + 1}", scene.scale)
            for i, way in enumerate(between)
        ), class_="walks")  # fmt: skip
        told = (
            "The first and the last of each row are real and were never seen in learning. Between them lies the straight way "
            "through the machine's own space. Look for halfway pictures that stand by themselves, not two laid over each other."
        )
    return section("walk", "A walk between two that are real", figure(made, told))


def directions(scene: Scene) -> Html | None:
    """What single directions of the latent space do."""
    if not scene.roams or not scene.pictures or not len(scene.train):
        return None
    given = scene.data.train.labels if scene.model.classes else None
    given = None if given is None else given[:SEEN]
    centre, ways = main_directions(scene.model, scene.data.train.x(SEEN), 6, given)
    if not len(ways):
        return None
    usual = 0 if given is None else int(given.mode().values)
    seen = traverse(scene.model, centre, ways, REACH, STEPS, usual)
    shown = {f"{i + 1}": scene.paint(row) for i, row in enumerate(seen)}
    middle, what = ("perceives", "training pictures") if scene.perceives else ("dreams", "its dreams")
    caption = (
        f"In the middle, the picture at the centre of all that the machine {middle}. Each row goes along one direction, {REACH} "
        f"standard deviations to both sides; the first is the one in which {what} differ most. Nobody named these."
    )
    parts = [figure(rows(shown, "direction", scene.scale), caption)]
    if named := label_directions(scene.model, scene.data):
        seen = traverse(scene.model, centre, torch.stack(list(named.values())), REACH, STEPS)
        shown = {name: scene.paint(row) for name, row in zip(named, seen, strict=True)}
        parts.append(
            figure(
                rows(shown, "direction of a label", scene.scale),
                "The same towards what people have named: each row goes straight across the plane that parts pictures of that label, at its right end, from all others.",
            )
        )
    return section("directions", "The directions of its world", *parts)


def _plane(scene: Scene, x: Tensor) -> np.ndarray:
    return np.asarray(scene.codec.to_world(x).double().numpy())
