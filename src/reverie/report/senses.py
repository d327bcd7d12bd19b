"""The last rooms with pictures: perceiving and mending what was never seen, and telling worlds apart."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from reverie.core.abilities import perceive
from reverie.core.model import Repairs, Surprised
from reverie.evaluation.resampling import blocks, jackknife
from reverie.plots import curves
from reverie.report.page import Html, drawing, figure, number, rows, say, section, table, tile, tiles
from reverie.report.scene import ROW, Scene

DRAWS = 19  # of each: between the least and the greatest of 19 exchangeable draws lies the truth in 18 of 20 cases
CLEANED = 8000  # numbers cleaned of noise, over all draws: each costs a table of 256 probabilities a sweep
SIGMA = 25  # grey levels of 255
OTHERS = 48  # examples of each foreign world


def perceiving(scene: Scene) -> Html | None:
    """Held-out pictures through the machine and back."""
    if not scene.perceives or not scene.pictures or not len(scene.held):
        return None
    chosen, rows_all = scene.spread(ROW), list(range(len(scene.held)))
    x, given = scene.held[chosen], scene.given(rows_all)
    with torch.no_grad():
        z = perceive(scene.model, scene.held, given).mean
        every = scene.model.decode(z, given).mean  # type: ignore[operator]
    back, kept = every[chosen], _names(scene, rows_all)
    (error, usual), (spread, _) = jackknife_rmse(every, scene.held, _mean_picture(scene), None, kept)
    step, unit = scene.unit
    latent = z[0].numel()
    caption = (
        f"Above, pictures it never saw; below, what is left after they passed through its {latent:,} latent numbers. What it "
        f"has no notion of is lost: the typical error is {number(step * error, step * spread)} {unit}, against "
        f"{number(step * usual)} for the mean training picture."
    )
    shown = {"real": scene.paint(x), "perceived": scene.paint(back)}
    return section(
        "perceiving", "Seeing what it never saw", figure(rows(shown, "held-out pictures", scene.scale), caption)
    )


def mending(scene: Scene) -> Html | None:
    """Held-out pictures completed with half of them hidden, and cleaned of noise."""
    model = scene.model
    if not model.can(Repairs) or not model.repairs_quickly or not scene.pictures or not len(scene.held):
        return None
    parts: list[Html] = []
    lines: list[list[str]] = []
    held = scene.spread(ROW)
    if min(scene.space.shape[-2:]) > 1:
        for name, observed in _halves(scene).items():
            made, line = _completed(scene, held, name, observed)
            parts.append(made)
            lines.append(line)
        head = ["hidden", "mean of the draws", "mean training picture", "better by"]
        caption = f"Typical errors on the hidden pixels ({scene.unit[1]}), over {len(held)} held-out pictures."
        if scene.space.kind == "bit":  # whose intervals are all or nothing
            lines = [line[:-1] for line in lines]
        else:
            head.append("90% intervals hold")
            caption += (
                f" The truth should lie between the least and the greatest of {DRAWS} draws in 90% of the pixels; more "
                "often where many pixels can have one value only."
            )
        parts.append(figure(table(head, lines), caption, "figures-table"))
    if scene.space.kind == "byte":
        parts.append(_denoised(scene))
    return section("mending", "Mending what is missing", *parts)


def _halves(scene: Scene) -> dict[str, Tensor]:
    """What is seen, (C, H, W) bool, by the name of the half that is hidden."""
    _, height, width = scene.space.shape
    seen = {name: torch.ones(scene.space.shape, dtype=torch.bool) for name in ("left half", "right half", "lower half")}
    seen["left half"][..., : width // 2] = False
    seen["right half"][..., width - width // 2 :] = False
    seen["lower half"][:, height - height // 2 :] = False
    return seen


def _completed(scene: Scene, held: list[int], name: str, observed: Tensor) -> tuple[Html, list[str]]:
    x = scene.held[held]
    seen = observed.expand_as(x)
    draws = _repaired(scene, held, x, seen, DRAWS)
    mean = draws.mean(0)
    hidden = scene.paint(x)
    hidden[~seen.numpy()[:, : hidden.shape[1]]] = 128
    shown = {
        "shown": hidden, "one idea": scene.paint(draws[0]), "another": scene.paint(draws[1]),
        f"mean of {DRAWS}": scene.paint(mean), "truth": scene.paint(x),
    }  # fmt: skip
    caption = (
        f"The {name} hidden: what the machine was shown, two of its completions, the mean of {DRAWS}, and the truth."
    )
    names = _names(scene, held)
    (error, usual), (spread, usual_spread) = jackknife_rmse(mean, x, _mean_picture(scene), ~observed, names)
    gain, gain_error = _gain(mean, x, _mean_picture(scene), ~observed, names)
    inside = (
        ((x >= draws.min(0).values - 1e-6) & (x <= draws.max(0).values + 1e-6))[:, ~observed].double().mean(1).numpy()
    )
    share, share_error = (
        jackknife(lambda used: inside[used].mean(), blocks(len(inside), names))
        if len(inside) > 2
        else (inside.mean(), math.nan)
    )
    step = scene.unit[0]
    line = [
        name, number(step * error, step * spread), number(step * usual, step * usual_spread),
        f"{number(100 * gain, 100 * gain_error)}%", f"{number(100 * float(share), 100 * float(share_error))}%",
    ]  # fmt: skip
    return figure(rows(shown, f"{name} hidden", scene.scale), caption), line


def _repaired(scene: Scene, held: list[int], x: Tensor, observed: Tensor | None, n: int, noise: float = 0.0) -> Tensor:
    given = {"given": scene.given(held)} if scene.model.classes else {}
    draws: Tensor = scene.model.repair(x, observed, n, noise=noise, **given)  # type: ignore[operator]
    return draws.to(x.dtype)


def _names(scene: Scene, held: list[int]) -> NDArray[np.generic] | None:
    """Who is on each picture, where that makes at least three independent groups."""
    names = None if scene.groups is None else scene.groups[held]
    return names if names is not None and len(np.unique(names)) > 2 else None


def _mean_picture(scene: Scene) -> Tensor:
    return scene.train.mean(0)


def jackknife_rmse(
    guess: Tensor, truth: Tensor, usual: Tensor, where: Tensor | None, names: NDArray[np.generic] | None
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Root mean square errors over the entries `where` (*shape) of guess (n, *shape) and of `usual` (*shape), and the
    standard errors of both over new examples (or groups of them)."""
    squares = _squares(guess, truth, usual, where)
    if len(truth) < 3:
        a, b = np.sqrt(squares.mean(1)).tolist()
        return (a, b), (math.nan, math.nan)
    value, error = jackknife(lambda used: np.sqrt(squares[:, used].mean(1)), blocks(len(truth), names))
    return (float(value[0]), float(value[1])), (float(error[0]), float(error[1]))


def _gain(
    guess: Tensor, truth: Tensor, usual: Tensor, where: Tensor, names: NDArray[np.generic] | None
) -> tuple[float, float]:
    """The share of the error of `usual` that `guess` is without, and its standard error."""
    squares = _squares(guess, truth, usual, where)

    def share(used: NDArray[np.bool_]) -> float:
        mine, theirs = np.sqrt(squares[:, used].mean(1))
        return float(1 - mine / theirs) if theirs > 0 else 0.0

    if len(truth) < 3:
        return share(np.ones(len(truth), dtype=bool)), math.nan
    value, error = jackknife(share, blocks(len(truth), names))
    return float(value), float(error)


def _squares(guess: Tensor, truth: Tensor, usual: Tensor, where: Tensor | None) -> NDArray[np.float64]:
    """(2, n) mean square errors of each example."""
    where = torch.ones_like(usual, dtype=torch.bool) if where is None else where
    both = [(x - truth)[:, where].double().square().mean(1) for x in (guess, usual.expand_as(truth))]
    return np.asarray(torch.stack(both).numpy())


def _denoised(scene: Scene) -> Html:
    sigma, step = SIGMA / 127.5, scene.unit[0]
    chains = min(32, max(4, CLEANED // scene.space.dims))
    held = scene.spread(min(ROW, chains))
    count = max(1, chains // len(held))
    x = scene.held[held]
    noisy = x + sigma * torch.randn_like(x)
    draws = _repaired(scene, held, noisy, None, count, sigma)
    names = _names(scene, held)
    (error, _), (spread, _) = jackknife_rmse(draws.mean(0), x, noisy.mean(0), None, names)
    before = float((noisy - x).square().mean().sqrt())
    shown = {"noisy": scene.paint(noisy), "cleaned": scene.paint(draws.mean(0)), "truth": scene.paint(x)}
    drawn = "a picture drawn from" if count == 1 else f"the mean of {count} pictures drawn from"
    caption = (
        f"Noise of {SIGMA} {scene.unit[1]} on every pixel, and {drawn} what could lie behind it. "
        f"The typical error falls from {number(step * before)} to {number(step * error, step * spread)}."
    )
    return figure(rows(shown, "noisy pictures", scene.scale), caption)


def surprise(scene: Scene) -> Html | None:
    """The most and the least surprising held-out examples, and what else surprises the machine."""
    found = scene.surprise
    if found is None or not scene.model.can(Surprised):
        return None
    on_lattice = scene.space.lattice is not None
    unit = "bits/dim" if on_lattice else "nats"
    told = scene.bits if on_lattice else np.asarray
    parts: list[Html] = []
    if scene.pictures:
        order = np.argsort(found.nats, kind="stable")
        for which, name in ((order[:ROW], "least"), (order[::-1][:ROW], "most")):
            shown = scene.paint(scene.held[[found.rows[i] for i in which]])
            items = [
                tile(x, f"held-out picture of {name} surprise", scene.scale, f"{told(found.nats[i]):.2f}")
                for x, i in zip(shown, which, strict=True)
            ]
            parts.append(
                figure(
                    tiles(items, scene.width), f"The {name} surprising of {len(order)} held-out pictures, in {unit}."
                )
            )
    worlds = {name: told(scene.nats(x)[0]) for name, x in _others(scene).items()}
    own = told(found.nats)
    everything = {"real, held out": own} | worlds
    parts.append(
        figure(drawing(lambda ink: curves.surprises(everything, f"surprise, {unit}", ink), "histograms of surprise"),
               f"How surprising the machine finds its own world and others that were brought to the same size ({found.method}). "
               "Further right is stranger."))  # fmt: skip
    names = None if scene.groups is None else _names(scene, found.rows)
    separated = {name: _auroc(own, other, names) for name, other in worlds.items()}
    lines = [
        [name, number(value, error), number(float(worlds[name].mean()))] for name, (value, error) in separated.items()
    ]
    caption = (
        "How often a real held-out one is less surprising than one of the other world: 1 always, 0.5 as by chance."
    )
    parts.append(
        figure(table(["other world", "told apart", f"mean surprise, {unit}"], lines), caption, "figures-table")
    )
    if any(value < 0.5 for value, _ in separated.values()):
        parts.append(
            say(
                "A world to which the machine gives less surprise than to its own is nothing new: plain, smooth pictures are "
                "cheap to describe, whatever they show. Surprise alone does not say where a picture comes from."
            )
        )
    return section("surprise", "What surprises it", *parts)


def _auroc(
    own: NDArray[np.float64], other: NDArray[np.float64], names: NDArray[np.generic] | None
) -> tuple[float, float]:
    """The share of pairs in which `own` (n,) is below `other` (m,), and its standard error."""
    below = (own[:, None] < other) + 0.5 * (own[:, None] == other)
    if min(below.shape) < 3:
        return float(below.mean()), math.nan
    value, error = jackknife(lambda a, b: below[np.ix_(a, b)].mean(), blocks(len(own), names), blocks(len(other)))
    return float(value), float(error)


def _others(scene: Scene) -> dict[str, Tensor]:
    """Examples (n, *shape) of other worlds, in this one's model units."""
    made: dict[str, Tensor] = {}
    if scene.pictures and scene.space.kind == "byte":
        made["the same upside down"] = scene.held[scene.spread(OTHERS)].flip(-2)
    # Digits are no other world to a machine of digits.
    if scene.pictures and scene.space.kind in ("bit", "byte") and not _of_digits(scene):
        made["digits"] = _digits(scene)
    if scene.space.kind in ("mixed", "count"):  # where no noise is truly random: a category has no uniform real numbers
        made["its own entries, shuffled"] = _shuffled(scene)
    else:
        made["noise"] = scene.noise(OTHERS).to(scene.held.dtype)
    return made


def _shuffled(scene: Scene) -> Tensor:
    """Examples (n, *shape) whose entries come each from another held-out example: what they are, but not how they go together."""
    x = scene.held.flatten(1)
    measured = torch.ones_like(x, dtype=torch.bool) if scene.observed is None else scene.observed.flatten(1)
    measured = measured | ~measured.any(0)  # an entry that nobody has, as the machine knows it
    rows = torch.multinomial(measured.T.double(), OTHERS, replacement=True).T
    return x.gather(0, rows).view(OTHERS, *scene.space.shape)


def _of_digits(scene: Scene) -> bool:
    return set(scene.data.classes) == set("0123456789")


def _digits(scene: Scene) -> Tensor:
    """scikit-learn's 8x8 digits, as large as they fit, on black."""
    from sklearn.datasets import load_digits

    channels, height, width = scene.space.shape
    x = torch.from_numpy(load_digits().images[:OTHERS] / 16).float()[:, None]
    side = min(height, width)
    x = F.interpolate(x, (side, side), mode="bilinear", align_corners=False)
    left, top = (width - side) // 2, (height - side) // 2
    x = F.pad(x, (left, width - side - left, top, height - side - top)).expand(-1, channels, -1, -1)
    if scene.space.kind == "bit":
        return (x > 0.5).float()
    return torch.round(x * 255) / 127.5 - 1
