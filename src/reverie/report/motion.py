"""The rooms of a machine that moves: where it goes, its rhythms, its days beside those of the world, and what it expects next."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from reverie.evaluation.anatomy import Alone, alone, exponents
from reverie.evaluation.attractors import spectrum as rhythm
from reverie.maths.cycles import Cycle, cycles
from reverie.models.cohort import Cohort
from reverie.models.innovations import Innovations
from reverie.nets.cells import PiecewiseLinear
from reverie.plots import dynamics
from reverie.plots.curves import Ink
from reverie.report import anatomy
from reverie.report.page import Html, drawing, figure, say, section
from reverie.report.scene import Scene

SHOWN = 4  # channels of which lines are drawn, at most
COUNTED, STARTS = 2000, 4  # steps and starts of which exponents are the mean
LINEAR = 64  # hidden units, up to which fixed points are sought
SIDE, PAST, AHEAD, FANS = 600, 100, 60, 200  # steps shown of runs, before and after now, and draws of a forecast


def attractor(scene: Scene) -> Html | None:
    """Where the true series goes and where the machine goes when nobody tells it what was seen; the points at which it could
    stand still, and how fast neighbours part."""
    if (found := _freely(scene)) is None:
        return None
    if found.acting is not None and found.model.C is not None:
        return None  # what is driven by something that changes has no attractor of its own
    model, member, true, dreamt, _ = found
    numbers = scene.space.numbers  # categories have no place in space
    if not numbers:
        return None
    true, dreamt = true[:, numbers], dreamt[:, numbers]
    parts: list[Html] = []
    if len(model.gain) > 1:
        lost = int(model.diverged.sum())
        parts.append(
            say(f"Of {len(model.gain)} machines that learned side by side {lost} ran away. Shown is one that did not.")
        )
    system = alone(model)
    still = _still(system, member)
    where = [np.asarray(scene.codec.to_world(system.seen(one.points, member)).double())[:, numbers] for one in still]

    paths = {"the world, never seen": true, "the machine, left alone": dreamt}
    told = "Left, the held-out series. Right, where the machine goes by itself, over as many steps."
    if np.isfinite(true).all(1).sum() < 2:  # it has no place in space
        paths = {"the machine, left alone": dreamt}
        told = "Where the machine goes by itself. Of the held-out series hardly a step was measured whole, so it cannot be shown beside it."

    def draw(ink: Ink) -> Any:
        return dynamics.attractors(paths, ink, where, [one.kind == "stable" for one in still])

    caption = told + (
        " Rings are the points at which it would stand still, could it stay there; filled ones attract."
        if where
        else ""
    )
    parts.append(figure(drawing(draw, "the attractor of the world and that of the machine"), caption))
    spectrum = exponents(system, STARTS, COUNTED, min(model.cell.latent, 5))[member]
    parts.append(anatomy.exponents(spectrum, model.cell.latent))
    if still:
        parts.append(anatomy.points(still, where))
    return section("attractor", "Where it goes", *parts)


def subjects(scene: Scene) -> Html | None:
    """The vectors in which the subjects of a cohort differ."""
    model = scene.model
    if not isinstance(model, Cohort):
        return None
    vectors = model.vectors.detach()[0].double().cpu().numpy()
    names = list(scene.data.classes)
    picture = drawing(lambda ink: dynamics.vectors(vectors, names, ink), "the vectors of the subjects")
    wide = vectors.shape[1]
    text = f"One machine for {len(names)} subjects: all weights are shared but {wide} number{'s' * (wide > 1)} for each, which the machine found by itself."
    more = " Shown are their first two principal axes." if wide > 2 else ""
    return section("subjects", "In what they differ", figure(picture, text + more))


def rhythms(scene: Scene) -> Html | None:
    """Spectra of a free run, of one with process noise, and of the world."""
    if (found := _freely(scene)) is None:
        return None
    shown = [c for c in scene.space.numbers if np.isfinite(found.true[:, c]).any()][:SHOWN]
    if not shown:
        return None
    runs = {"the world": found.true, "the machine": found.dreamt}
    if (stirred := _freely(scene, process_noise=True)) is not None and np.isfinite(stirred.dreamt).all():
        runs["the machine, stirred"] = stirred.dreamt
    shares = {name: rhythm(run[:, shown]) for name, run in runs.items()}

    def draw(ink: Ink) -> Any:
        return dynamics.spectra(shares, _names(scene, shown), ink)

    caption = (
        "How much of the movement of each channel lies at which frequency, of the held-out series and of a free run as long. Left alone the "
        "machine obeys its rule alone; stirred, it is moved besides, at every step, by as much as it could not foresee of the recording. Where "
        "that is more like the world, the world is moved by what was not recorded, or by a part of its rule that the machine missed."
    )
    return section(
        "rhythms", "Its rhythms", figure(drawing(draw, "power spectra of the world and of the machine"), caption)
    )


def beside(scene: Scene) -> Html | None:
    """A run beside the world, and what is expected next."""
    if (found := _freely(scene)) is None:
        return None
    model, true, acting = found.model, found.true, found.acting
    shown, steps = [c for c in range(true.shape[1]) if np.isfinite(true[:, c]).any()][:SHOWN], min(SIDE, len(true))
    told = "The machine was not told where the world was: it need not be there at the same time, only move as the world does."
    if acting is not None:
        told = "The machine was told what acted on the world from outside, and of the world its first step: where the inputs lead, both go."
    if scene.space.kind == "count":
        # Counts are thrown, one step after the other; a mean is none.
        thrown = _expected(scene, found, slice(0, 1), steps - 1, 1)[0]
        counts = {"the world": true[1:steps].astype(int), "the machine": thrown.astype(int)}
        picture = drawing(lambda ink: dynamics.raster(counts, ink), "spikes of the world and of the machine")
    else:
        if scene.space.columns:
            told += " A category is drawn by its number, as it is most likely."
        two = {"world": true[:steps, shown], "machine": found.dreamt[:steps, shown]}
        picture = drawing(lambda ink: dynamics.runs(two, _names(scene, shown), ink), "a run beside the world")
    parts = [figure(picture, told)]
    ranked = [i for i, c in enumerate(scene.space.columns) if c.kind != "category"][:SHOWN]
    shown = ranked if scene.space.columns else shown  # of what has no order there are no quantiles
    if shown and len(true) > PAST + AHEAD:
        at = (len(true) - PAST - AHEAD) // 2
        past, future = true[at : at + PAST], true[at + PAST : at + PAST + AHEAD]
        fan = _expected(scene, found, slice(at, at + PAST), AHEAD, FANS)

        def draw(ink: Ink) -> Any:
            names = _names(scene, shown)
            return dynamics.forecast(past[-AHEAD:, shown], future[:, shown], fan[..., shown], names, ink)

        caption = (
            f"From the middle of the held-out series: {FANS} draws of what comes next, with the noise that the machine expects"
            + (" and what its members disagree about." if len(model.gain) > 1 else ".")
        )
        parts.append(figure(drawing(draw, "a forecast and what came"), caption))
    return section("beside", "Beside the world", *parts)


class _Run(NamedTuple):
    """A machine and its own way, in world units."""

    model: Innovations
    member: int  # one that does not run away
    true: np.ndarray  # (T, N) the longest held-out trial
    dreamt: np.ndarray  # (T, N) that member's run, as long
    acting: Tensor | None  # (T, K) what acted on the trial from outside, and on the run


def _freely(scene: Scene, process_noise: bool = False) -> _Run | None:
    """How the machine moves by itself, or where it has inputs, under those of the trial; with process noise or without. Of a cohort it is the machine of the one
    whose trial it is."""
    model, trials = scene.model, scene.data.test.trials
    if not isinstance(model, Innovations | Cohort) or not trials:
        return None
    longest = max(trials, key=len)
    true = np.asarray(longest.x, dtype=np.float64)
    if isinstance(model, Cohort):
        model = model.machines[scene.data.classes.index(longest.subject)]
    if bool(model.diverged.all()):
        return None
    member = int(torch.nonzero(~model.diverged)[0])
    with torch.random.fork_rng():
        torch.manual_seed(scene.run.seed)  # in every room the same run
        if longest.inputs is None:
            acting, run = None, model.free_run(len(true), process_noise=process_noise)
        else:
            acting = torch.from_numpy(np.asarray(longest.inputs)).to(model.gain)
            first = torch.from_numpy(np.nan_to_num(true[:1])).to(model.gain)
            run = model.free_run(len(true), scene.codec.to_model(first), acting[:, None, None], process_noise)
    return _Run(model, member, true, np.asarray(scene.codec.to_world(run[member, 0].cpu()).double()), acting)


def _expected(scene: Scene, found: _Run, past: slice, steps: int, draws: int) -> np.ndarray:
    """(draws, steps, N) of what comes after a stretch of the trial."""
    seen = scene.codec.to_model(torch.from_numpy(found.true[past])).unsqueeze(0).to(found.model.gain)
    acting = None if found.acting is None else found.acting[past.start : past.stop + steps].unsqueeze(0)
    drawn = found.model.forecast(seen, steps, draws, acting)[:, 0]
    return np.asarray(scene.codec.to_world(drawn).double())


def _names(scene: Scene, shown: list[int]) -> list[str]:
    return [scene.space.columns[i].name if scene.space.columns else f"channel {i + 1}" for i in shown]


def _still(system: Alone, member: int) -> list[Cycle]:
    """The fixed points, where they can be told in little time."""
    cell = system.model.cell
    if not isinstance(cell, PiecewiseLinear) or cell.as_shallow().W2.shape[-2] > LINEAR:
        return []
    return cycles(system.member(member), (1,)).cycles
