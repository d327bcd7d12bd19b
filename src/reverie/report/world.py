"""The first rooms of a report: what it is about, what chance makes, and the data."""

import dataclasses
import math
from typing import NamedTuple

import numpy as np
import torch

from reverie.core.abilities import dream
from reverie.core.recipe import TrainingConfig
from reverie.plots.curves import scatter
from reverie.report.page import (
    Html,
    drawing,
    el,
    figure,
    number,
    plain,
    power,
    rows,
    say,
    section,
    settings,
    tile,
    tiles,
)
from reverie.report.scene import ROW, Scene

NANOSECONDS = 13.8e9 * 365.25 * 86400 * 1e9  # since the Big Bang (Planck 2018: 13.8 billion years)


class Odds(NamedTuple):
    """Powers of ten."""

    pictures: float  # how many different examples there are
    gain: float  # how many times likelier a held-out one is under the machine than by chance
    gain_error: float

    @property
    def better(self) -> bool:
        """Does the machine know more than chance?"""
        return self.gain > max(2 * self.gain_error, 1e-3)


def odds(dims: int, levels: int, nats: float, error: float) -> Odds:
    """Of a world of `dims` entries with `levels` values each, under a machine to which an example costs `nats`.

    By chance every example has probability levels^-dims, under the machine exp(-nats).

    >>> odds(dims=3, levels=10, nats=math.log(100), error=0.0)
    Odds(pictures=3.0, gain=1.0, gain_error=0.0)
    """
    everything = dims * math.log10(levels)
    return Odds(everything, everything - nats / math.log(10), error / math.log(10))


def title(scene: Scene) -> Html:
    """Name, figures and a first look."""
    run, data = scene.run, scene.data
    size = sum(p.numel() for p in scene.model.parameters())
    learned = f"in {run.training.steps:,} rounds of {run.training.batch}" if size else "in one step, by a formula"
    lead = (
        f"What a machine of the kind {run.config['model']} made of {len(data.train):,} {scene.noun}s, which it learned {learned}: what it dreams, "
        f"what it sees in {scene.noun}s it never saw, and how far it can be trusted."
    )
    hero = None
    if scene.pictures:
        shown = scene.paint(dream(scene.model, 16))
        items = [tile(x, "", scene.scale) for x in shown]
        hero = el("div", tiles(items, scene.width), class_="hero", role="img", aria_label=f"dreams of {data.name}")
    return el(
        "header", el("p", "Reverie", class_="brand"), el("h1", "Dreams of ", el("em", data.name)),
        el("p", lead, class_="lead"), hero, el("dl", *_figures(scene, size), class_="figures"), class_="title",
    )  # fmt: skip


def _figures(scene: Scene, size: int) -> list[Html]:
    def one(value: Html | str, text: Html | str) -> Html:
        return el("div", el("dd", value), el("dt", text))

    made = []
    if scene.cost is not None:
        nats, error, _ = scene.cost
        bits, spread = (float(b) for b in scene.bits([nats, error]))
        lattice = scene.space.lattice
        if lattice is not None:
            chance = (
                f"bits for each {scene.entry} of a new {scene.noun}; chance needs {plain(int(math.log2(len(lattice))))}"
            )
            made.append(one(number(bits, spread), chance))
            found = odds(scene.space.dims, len(lattice), nats, error)
            if found.better:
                made.append(one(power(found.gain), f"times likelier than by chance: a {scene.noun} it never saw"))
        else:
            made.append(one(number(nats, error), f"nats: how surprising it finds a new {scene.noun}"))
    made.append(one(f"{scene.space.dims:,}", f"numbers in one {scene.noun}"))
    if size:
        made.append(one(f"{size:,}", "numbers learned"))
    return made


def chance(scene: Scene) -> Html | None:
    """Truly random examples beside real ones, and how likely a real one is by chance."""
    n = ROW
    if scene.pictures:
        random, real = scene.paint(scene.noise(n)), scene.paint(scene.held[scene.spread(n)])
        looks = rows({"by chance": random, "real": real}, scene.data.name, scene.scale)
    elif scene.points:
        sets = {"real": _plane(scene, scene.held), "by chance": _plane(scene, scene.noise(len(scene.held)))}
        looks = drawing(lambda ink: scatter(sets, ink), "real points beside random ones")
    else:
        return None
    caption = {
        "byte": f"Above, truly random {scene.noun}s: every {scene.entry} thrown on its own, all 256 values equally likely. "
        "Below, real ones which the machine has never seen.",
        "bit": f"Above, truly random {scene.noun}s: a fair coin for every {scene.entry}. "
        "Below, real ones which the machine has never seen.",
        "real": f"Random {scene.noun}s, every number from the same bell curve, beside real ones.",
    }[scene.space.kind]
    return section("chance", "What chance makes", figure(looks, caption), *_answer(scene))


def _answer(scene: Scene) -> list[Html]:
    """How likely such a picture is by chance, in numbers."""
    lattice = scene.space.lattice
    if lattice is None or scene.cost is None:
        return []
    nats, error, method = scene.cost
    dims, levels = scene.space.dims, len(lattice)
    found = odds(dims, levels, nats, error)
    all_of_them = el("span", f"{levels}", el("sup", f"{dims:,}"), " = ", power(found.pictures), class_="math")
    told = [
        say(
            el("strong", "How likely is one of them by chance? "),
            "There are ",
            all_of_them,
            f" different {scene.noun}s of this size, and chance makes each as often as any other: once in ",
            power(found.pictures),
            " tries.",
        )
    ]
    bits, spread = (float(b) for b in scene.bits([nats, error]))
    cost = f"{number(bits, spread)} bits for each {scene.entry} instead of {plain(int(math.log2(levels)))}"
    if not found.better:
        told.append(say(f"This machine knows nothing better: a new {scene.noun} costs it {cost}.", _small(method)))
        return [*told, *_least(scene)]
    told.append(
        say(
            f"To this machine a new {scene.noun} costs {cost}, so in the geometric mean it is ",
            power(found.gain),
            " times likelier than by chance",
            _give_or_take(found.gain_error),
            ". ",
            "Probabilities add up to one: at most ",
            power(found.pictures - found.gain),
            f" {scene.noun}s can be as likely to it as that. So of all {scene.noun}s there are, no more than one in ",
            power(found.gain),
            " looks to the machine as much like its world as real ones do.",
            _small(method),
        )
    )
    tries = math.log10(NANOSECONDS)
    if found.gain > tries + 3:
        told.append(
            say(
                "One random ",
                scene.noun,
                " in every nanosecond since the Big Bang would make ",
                power(tries),
                " of them. The odds that even one is of that kind: less than one in ",
                power(found.gain - tries),
                ".",
            )
        )
    return [*told, *_least(scene)]


def _least(scene: Scene) -> list[Html]:
    if scene.data.entropy is None:
        return []
    least = float(scene.bits(scene.data.entropy))
    return [say(f"This world is known in full: no machine can need less than {number(least)} bits on average.")]


def _give_or_take(error: float) -> str:
    return f" (the exponent is known to ± {max(1, round(error)):,})" if error > 0 else ""


def _small(text: str) -> Html:
    return el("small", f" (Estimator: {text}.)")


def _plane(scene: Scene, x: torch.Tensor) -> np.ndarray:
    return np.asarray(scene.codec.to_world(x).double().numpy())


def data(scene: Scene) -> Html:
    """The data as the model sees them."""
    opened, training = scene.data, scene.run.training
    shape = " × ".join(map(str, scene.space.shape))
    kinds = {
        "byte": "256 levels each",
        "bit": "0 or 1 each",
        "real": "real numbers",
        "count": "counts",
        "mixed": "of different kinds",
    }
    told: list[Html] = [
        say(
            f"{len(opened.train):,} {scene.noun}s to learn from, {len(opened.valid):,} to watch while learning, and "
            f"{len(opened.test):,} kept aside until the end. Each is {shape} numbers, {kinds[scene.space.kind]}."
        ),
    ]
    if opened.test.groups is not None:
        whole = len(set(opened.test.groups.tolist()))
        told.append(
            say(f"Groups stay together: of the {whole} in the last set, not one {scene.noun} was seen in learning.")
        )
    if scene.pictures:
        shown = scene.paint(scene.train[: 2 * ROW])
        made = tiles([tile(x, f"training picture {i + 1}", scene.scale) for i, x in enumerate(shown)], scene.width)
        told.append(figure(made, "Pictures it learned from, as they are."))
        moved = {
            f.name: getattr(training, f.name)
            for f in dataclasses.fields(TrainingConfig)
            if f.name in ("mirror", "zoom", "shift", "turn", "warp", "light") and getattr(training, f.name)
        }
        if moved and scene.model.learners():
            batch = next(opened.batches(2 * ROW, scene.run.seed, 0, training))
            shown = scene.paint(batch.x)
            made = tiles([tile(x, f"altered picture {i + 1}", scene.scale) for i, x in enumerate(shown)], scene.width)
            how = ", ".join(name if value is True else f"{name} {value}" for name, value in moved.items())
            told.append(
                figure(made, f"Pictures as it was shown them, altered anew each time so that few say more ({how}).")
            )
    if opened.skipped:
        lines = [el("li", el("code", name), f": {reason}") for name, reason in opened.skipped[:40]]
        more = f" The first {len(lines)}:" if len(opened.skipped) > len(lines) else ""
        told.append(
            el("details", el("summary", f"{len(opened.skipped):,} files were left out.{more}"), el("ul", *lines))
        )
    told.append(el("details", el("summary", "How the numbers are prepared"), settings(opened.codec.to_json())))
    return section("data", "The world it knows", *told)
