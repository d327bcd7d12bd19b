"""The page of a recurrent machine that was taken apart."""

from typing import Any

import numpy as np
from torch import Tensor

from reverie.data.codecs import Codec
from reverie.evaluation.anatomy import Alone, Anatomy
from reverie.maths.chaos import kaplan_yorke
from reverie.maths.cycles import Cycle
from reverie.maths.sweeps import Sweep
from reverie.plots import dynamics
from reverie.plots.curves import Ink
from reverie.report.page import Html, document, drawing, el, figure, number, say, section, table

SHOWN = 4  # channels that are told of a point, at most
LISTED = 12  # regions and members in a table, at most
MARGIN = 1e-4  # nats per step: an exponent that is nearer to 0 is not told from it


def page(
    name: str,
    system: Alone,
    codec: Codec,
    spectra: Tensor,
    found: Anatomy,
    bent: tuple[str, float, Sweep] | None,
) -> Html:
    """All that was found of a run: exponents (S, starts, count) of its members, one of them taken apart, and perhaps a sweep."""
    held = f" Its inputs are held at {', '.join(f'{v:g}' for v in system.held)}." if system.held else ""
    head = el(
        "header", el("p", "Reverie", class_="brand"), el("h1", "Inside ", el("em", name)),
        el("p", f"Member {found.member} of {len(spectra)}, left alone and taken apart.{held}", class_="lead"), class_="title",
    )  # fmt: skip
    rooms = [
        section("exponents", "Do neighbours part?", *_all(system, spectra, found.member)),
        section("attractor", "Where it goes, and where it could stay", *_attractor(system, codec, found)),
        *([] if found.visited is None else [section("regions", "Its linear regions", *_regions(found))]),
        section("pushes", "What a push does", _pushes(found)),
        *([] if bent is None else [section("sweep", f"As {bent[0]} changes", *_bent(*bent))]),
    ]
    end = el("footer", f"Made by reverie from the run {name}. Nothing on this page was retouched or chosen by hand.")
    return document(f"Inside {name}", f"The dynamics of {name}", "real", head, el("main", *rooms), "\n", end)


def told(spectrum: Tensor) -> tuple[Tensor, Tensor] | None:
    """Mean and standard error (count,) of the exponents (starts, count) of orbits that do not leave every bound."""
    found = spectrum[spectrum.isfinite().all(1)].double()
    return (found.mean(0), found.std(0, correction=min(1, len(found) - 1)) / len(found) ** 0.5) if len(found) else None


def exponents(spectrum: Tensor, wide: int) -> Html:
    """One member's exponents (starts, count), of `wide` there are, in a sentence."""
    if (pair := told(spectrum)) is None:
        return say("Its orbits leave every bound: there are no exponents to tell.")
    mean, error = pair
    first = float(mean[0])
    kind = "Neighbours part: it is chaotic." if first > 3 * float(error[0]) + MARGIN else "Neighbours do not part."
    words = ", ".join(number(float(a), float(b)) for a, b in zip(mean, error, strict=True))
    size = f" Its orbit has a Kaplan-Yorke dimension of {float(kaplan_yorke(mean)):.2f}." if len(mean) == wide else ""
    return say(el("b", "Lyapunov exponents"), f" (nats per step, of {len(spectrum)} free runs): {words}. {kind}{size}")


def points(still: list[Cycle], where: list[np.ndarray]) -> Html:
    """A table of fixed points and cycles: where they begin, of what kind, and how sure."""
    body = []
    for one, at in zip(still, where, strict=True):
        first = ", ".join(f"{value:.3g}" for value in at[0][:SHOWN]) + (", …" if at.shape[1] > SHOWN else "")
        largest = abs(complex(one.eigenvalues[0]))
        leave = f"{one.unstable} of {len(one.eigenvalues)}"
        body.append([first, str(one.period), one.kind, leave, f"{largest:.3f}", f"{one.residual:.0e}"])
    return table(
        ["it begins at", "period", "kind", "directions that leave", "largest |eigenvalue|", "|F(z) − z|"], body
    )


def _all(system: Alone, spectra: Tensor, member: int) -> list[Html]:
    parts = [exponents(spectra[member], system.model.cell.latent)]
    if len(spectra) > 1:
        means = [(i, pair) for i in range(len(spectra)) if (pair := told(spectra[i])) and not system.model.diverged[i]]
        first = np.array([float(mean[0]) for _, (mean, _) in means])
        middle = float(np.median(first))
        spread = float(np.median(np.abs(first - middle)))
        lost = int(system.model.diverged.sum())
        parts.append(
            say(f"Of {len(spectra)} members {lost} ran away; the largest exponent of the others is {middle:.4g} ± {spread:.2g} (median, and median absolute deviation).")
        )  # fmt: skip
        body = [
            [str(i), *(number(float(a), float(b)) for a, b in zip(m[:3], e[:3], strict=True))] for i, (m, e) in means
        ]
        parts.append(table(["member", *(f"λ{k + 1}" for k in range(len(body[0]) - 1))], body[:LISTED]))
    return parts


def _attractor(system: Alone, codec: Codec, found: Anatomy) -> list[Html]:
    numbers = system.model.space.numbers

    def world(z: Tensor) -> np.ndarray:
        return np.asarray(codec.to_world(system.seen(z, found.member)).double())[:, numbers]

    orbit, cycles = world(found.orbit), [] if found.census is None else found.census.cycles
    where = [world(one.points) for one in cycles]

    def draw(ink: Ink) -> Any:
        return dynamics.attractors({"the machine, left alone": orbit}, ink, where, [c.kind == "stable" for c in cycles])

    marked = " Rings are points at which it would stand still, and cycles, dashed, that it would repeat; filled ones attract."
    parts: list[Html] = []
    if numbers:  # categories have no place in space
        parts.append(
            figure(drawing(draw, "an orbit and its cycles"), "An orbit of the machine." + (marked if cycles else ""))
        )
    if found.census is None:
        return [*parts, say("A GRU is not piecewise linear: its fixed points cannot be solved for.")]
    if cycles:
        parts.append(points(cycles, where))
    sure = ", ".join(map(str, found.census.complete))
    note = (
        f"Of period {sure} there are no others."
        if sure
        else "There may be others: not every sequence of regions was tried."
    )
    return [*parts, say(note)]


def _regions(found: Anatomy) -> list[Html]:
    assert found.visited is not None
    visits = found.visited.visits.double()
    share = visits / visits.sum()
    nats = -float((share * share.log()).sum())
    body = [
        ["".join("●" if on else "·" for on in code.tolist()), f"{float(part):.1%}"]
        for code, part in zip(found.visited.on[:LISTED], share, strict=False)
    ]
    units = found.visited.on.shape[1]
    text = f"The map is linear wherever the same hidden units are on. The orbit of {len(found.orbit):,} steps ran through {len(visits)} such regions of the 2^{units} codes there are; which one it is in tells {nats:.2f} nats."
    return [say(text), table(["hidden units that are on", "of the time"], body)]


def _pushes(found: Anatomy) -> Html:
    pushed = found.pushed.double().cpu().numpy()

    def draw(ink: Ink) -> Any:
        return dynamics.pushes(pushed, ink)

    caption = "How far the state is from where it would have been, after a small push of one of its units; 1 is the push itself. Geometric mean over states of the orbit."
    return figure(drawing(draw, "growth of small pushes"), caption)


def _bent(name: str, now: float, found: Sweep) -> list[Html]:
    def draw(ink: Ink) -> Any:
        states = found.states[..., 0].numpy()
        return dynamics.bifurcations(
            found.values.numpy(), states, found.lyapunov.numpy(), list(found.changes), name, ink
        )

    caption = f"Settled states of the first unit and the largest exponent from several starts; a line wherever something changes. The machine has {name} = {now:.4g}."
    body = [
        [f"{float(found.values[i]):.4g} to {float(found.values[i + 1]):.4g}", what] for i, what in found.changes.items()
    ]
    listed = [table(["between", "what changes"], body)] if body else [say("Nothing changes.")]
    return [figure(drawing(draw, f"bifurcations along {name}"), caption), *listed]
