"""The rooms of a machine that moves: where it goes, its rhythms, its days beside those of the world, and what it expects next."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from reverie.core.shallow import Shallow
from reverie.evaluation.attractors import spectrum
from reverie.maths.chaos import kaplan_yorke, lyapunov_spectrum
from reverie.maths.cycles import Cycle, cycles
from reverie.models.innovations import Innovations
from reverie.nets.cells import PiecewiseLinear
from reverie.plots import dynamics
from reverie.plots.curves import Ink
from reverie.report.page import Html, drawing, el, figure, number, say, section, table
from reverie.report.scene import Scene

SHOWN = 4  # channels of which lines are drawn, at most
SETTLE, COUNTED, STARTS = 500, 2000, 4  # steps and starts of which exponents are the mean
LINEAR = 64  # hidden units, up to which fixed points are sought
SIDE, PAST, AHEAD, FANS = 600, 100, 60, 200  # steps shown of runs, before and after now, and draws of a forecast


def attractor(scene: Scene) -> Html | None:
    """Where the true series goes and where the machine goes when nobody tells it what was seen; the points at which it could
    stand still, and how fast neighbours part."""
    if (found := _freely(scene)) is None:
        return None
    model, member, true, dreamt = found
    parts: list[Html] = []
    if len(model.gain) > 1:
        lost = int(model.diverged.sum())
        parts.append(
            say(f"Of {len(model.gain)} machines that learned side by side {lost} ran away. Shown is one that did not.")
        )
    still = _still(model, member)
    points = [np.asarray(scene.codec.to_world(_seen(model, member, one.points)).double()) for one in still]

    def draw(ink: Ink) -> Any:
        stable = [one.kind == "stable" for one in still]
        return dynamics.attractors(
            {"the world, never seen": true, "the machine, left alone": dreamt}, ink, points, stable
        )

    caption = "Left, the held-out series. Right, where the machine goes by itself, over as many steps." + (
        " Rings are the points at which it would stand still, could it stay there; filled ones attract."
        if points
        else ""
    )
    parts.append(figure(drawing(draw, "the attractor of the world and that of the machine"), caption))
    parts.append(_exponents(model, member))
    if still:
        parts.append(_points(still, points))
    return section("attractor", "Where it goes", *parts)


def rhythms(scene: Scene) -> Html | None:
    """Spectra of a free run and of the world."""
    if (found := _freely(scene)) is None:
        return None
    _, _, true, dreamt = found
    shown = slice(SHOWN)
    shares = {"the world": spectrum(true[:, shown]), "the machine": spectrum(dreamt[:, shown])}

    def draw(ink: Ink) -> Any:
        return dynamics.spectra(shares, _names(true), ink)

    caption = "How much of the movement of each channel lies at which frequency, of the held-out series and of a free run as long."
    return section(
        "rhythms", "Its rhythms", figure(drawing(draw, "power spectra of the world and of the machine"), caption)
    )


def beside(scene: Scene) -> Html | None:
    """A free run beside the world, and what is expected next."""
    if (found := _freely(scene)) is None:
        return None
    model, _, true, dreamt = found
    names, steps = _names(true), min(SIDE, len(true))
    two = {"world": true[:steps, :SHOWN], "machine": dreamt[:steps, :SHOWN]}
    if scene.space.kind == "count":
        counts = {"the world": true[:steps].astype(int), "the machine": np.rint(dreamt[:steps]).astype(int)}
        picture = drawing(lambda ink: dynamics.raster(counts, ink), "spikes of the world and of the machine")
    else:
        picture = drawing(lambda ink: dynamics.runs(two, names, ink), "a free run beside the world")
    told = "The machine was not told where the world was: it need not be there at the same time, only move as the world does."
    parts = [figure(picture, told)]
    if len(true) > PAST + AHEAD:
        at = (len(true) - PAST - AHEAD) // 2
        past, future = true[at : at + PAST], true[at + PAST : at + PAST + AHEAD]
        seen = scene.codec.to_model(torch.from_numpy(past)).unsqueeze(0).to(model.gain)
        fan = np.asarray(scene.codec.to_world(model.forecast(seen, AHEAD, FANS)[:, 0]).double())

        def draw(ink: Ink) -> Any:
            return dynamics.forecast(past[-AHEAD:, :SHOWN], future[:, :SHOWN], fan[..., :SHOWN], names, ink)

        caption = (
            f"From the middle of the held-out series: {FANS} draws of what comes next, with the noise that the machine expects"
            + (" and what its members disagree about." if len(model.gain) > 1 else ".")
        )
        parts.append(figure(drawing(draw, "a forecast and what came"), caption))
    return section("beside", "Beside the world", *parts)


def _freely(scene: Scene) -> tuple[Innovations, int, np.ndarray, np.ndarray] | None:
    """The machine, a member that does not run away, the longest held-out trial (T, N), and that member's run as long."""
    model, trials = scene.model, scene.data.test.trials
    if not isinstance(model, Innovations) or model.inputs or not trials or bool(model.diverged.all()):
        return None
    true = np.asarray(max(trials, key=len).x, dtype=np.float64)
    member = int(torch.nonzero(~model.diverged)[0])
    with torch.random.fork_rng():
        torch.manual_seed(scene.run.seed)  # in every room the same run
        run = model.free_run(len(true))[member, 0]
    return model, member, true, np.asarray(scene.codec.to_world(run.cpu()).double())


def _names(x: np.ndarray) -> list[str]:
    return [f"channel {i + 1}" for i in range(min(SHOWN, x.shape[1]))]


def _seen(model: Innovations, member: int, z: Tensor) -> Tensor:
    """(k, N) what a member expects to see at its states z (k, M)."""
    many = z.to(model.gain).view(len(z), 1, 1, -1).expand(-1, len(model.gain), -1, -1)
    return model.seen(many).mean[:, member, 0].cpu()


def _weights(model: Innovations, member: int) -> Shallow | None:
    """The member's map, if it is piecewise linear."""
    return model.cell.as_shallow().member(member) if isinstance(model.cell, PiecewiseLinear) else None


def _still(model: Innovations, member: int) -> list[Cycle]:
    """Its fixed points, where they can be told in little time."""
    weights = _weights(model, member)
    if weights is None or weights.W2.shape[-2] > LINEAR:
        return []
    return cycles(weights, (1,)).cycles


def _exponents(model: Innovations, member: int) -> Html:
    """The Lyapunov spectrum of the member's free orbits."""
    members = len(model.gain)
    x = model.seen.first(model.gain.new_zeros(STARTS, model.space.shape[1])).sample()
    z = model.cell.orbit(model.seen.start(x.unsqueeze(0), None), SETTLE, None, None)[-1]
    wide = z.shape[-1]

    def step(state: Tensor) -> Tensor:
        return model.cell.step(state.expand(members, -1, -1))[member : member + 1]

    def slope(state: Tensor) -> Tensor:
        return model.cell.jacobian(state.expand(members, -1, -1))[member : member + 1]

    found = lyapunov_spectrum(step, slope, z[member : member + 1], COUNTED, warm_up=50, count=min(wide, 5), every=5)[0]
    found = found[found.isfinite().all(1)]
    if not len(found):
        return say("Its orbits leave every bound: there are no exponents to tell.")
    mean, spread = found.mean(0), found.std(0) / max(len(found), 2) ** 0.5
    first = float(mean[0])
    kind = "Neighbours part: it is chaotic." if first > 3 * float(spread[0]) + 1e-4 else "Neighbours do not part."
    words = ", ".join(number(float(a), float(b)) for a, b in zip(mean, spread, strict=True))
    size = f" Its orbit has a Kaplan-Yorke dimension of {float(kaplan_yorke(mean)):.2f}." if len(mean) == wide else ""
    return say(
        el("b", "Lyapunov exponents"),
        f" (nats per step, of {len(found)} free runs of {COUNTED:,} steps): {words}. {kind}{size}",
    )


def _points(still: list[Cycle], points: list[np.ndarray]) -> Html:
    """A table of fixed points: where, of what kind, and how sure."""
    body = []
    for one, at in zip(still, points, strict=True):
        where = ", ".join(f"{value:.3g}" for value in at[0][:SHOWN]) + (", …" if at.shape[1] > SHOWN else "")
        largest = abs(complex(one.eigenvalues[0]))
        body.append(
            [where, one.kind, f"{one.unstable} of {len(one.eigenvalues)}", f"{largest:.3f}", f"{one.residual:.0e}"]
        )
    head = ["it would stand still at", "kind", "directions that leave", "largest |eigenvalue|", "|F(z) − z|"]
    return table(head, body)
