"""Numbers in, matplotlib Figures out, in the inks of a light or of a dark page."""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import AsinhLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike, NDArray


class Ink(NamedTuple):
    """The colours of a figure; its paper is transparent."""

    text: str
    faint: str
    first: str
    second: str


LIGHT = Ink("#3b3733", "#cfc8bc", "#1d1b19", "#a4452c")
DARK = Ink("#cdc6ba", "#4a453f", "#ece6da", "#e08a68")
SERIF = ["STIXGeneral"]  # comes with matplotlib, so that the same run gives the same page everywhere


def learning(
    rounds: ArrayLike,
    losses: Mapping[str, ArrayLike],
    valid_rounds: ArrayLike,
    valid: Mapping[str, ArrayLike],
    dims: int | None,
    ink: Ink,
    likelihood: bool = True,
    explained: Mapping[str, str] = {},
) -> Figure:
    """Losses (T,) by learner over `rounds` (T,), and on validation examples, a panel a learner.

    They are nats per example where they are a `likelihood`. `dims`: the entries of one example; then a second
    axis tells bits/dim. `explained`: what is told of a learner, in nats, in plain words.
    """
    figure, panels = _panels(len(losses), 3.1, ink)
    x = np.asarray(rounds, dtype=float)
    for axes, (learner, column) in zip(panels, losses.items(), strict=True):
        y = np.asarray(column, dtype=float)
        axes.plot(x, y, color=ink.first, lw=1.1, label="training examples, as the loader shows them")
        seen = [y]
        if learner in valid:
            held = np.asarray(valid[learner], dtype=float)
            axes.plot(
                np.asarray(valid_rounds, dtype=float), held, color=ink.second, lw=1.6, label="validation examples"
            )
            seen.append(held)
        _frame_after_the_fall(axes, x, seen)
        axes.set_xlabel("round")
        axes.set_ylabel("nats per example" if likelihood or learner in explained else "loss")
        if len(losses) > 1:
            axes.set_title(explained.get(learner, learner), loc="left", fontsize=10.5, family=SERIF, color=ink.text)
        if dims:
            second = axes.secondary_yaxis("right", functions=_bits_per_dim(dims))
            second.set_ylabel("bits/dim")
            quiet(second, ink)
        axes.legend(frameon=False, prop={"family": SERIF, "size": 10}, labelcolor=ink.text, loc="upper right")
    return figure


def watched(seen: Mapping[str, tuple[ArrayLike, ArrayLike]], explained: Mapping[str, str], ink: Ink) -> Figure:
    """What a machine saw of its own learning, by name: rounds (T,) and values (T,), a small panel each on the same axis.

    `explained` says by name what it is. What is always above zero and has fallen tenfold is drawn on a logarithmic axis.
    """
    figure, panels = _panels(len(seen), 1.35, ink)
    last = max(float(np.max(rounds)) for rounds, _ in seen.values())
    for axes, (name, (rounds, values)) in zip(panels, seen.items(), strict=True):
        y = np.asarray(values, dtype=float)
        axes.plot(
            np.asarray(rounds, dtype=float), y, color=ink.first, lw=1.1, marker="o" if len(y) < 30 else None, ms=3
        )
        if y.min() > 0 and y.max() > 10 * y.min():
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0), numticks=5))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.9g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.minorticks_off()
        elif y.min() >= 0:
            axes.set_ylim(0, 1.08 * y.max() or 1)
        axes.set_xlim(0, last)
        axes.set_title(explained.get(name, name), loc="left", fontsize=10.5, family=SERIF, color=ink.text)
    for axes in panels[:-1]:
        axes.tick_params(axis="x", labelbottom=False)
    panels[-1].set_xlabel("round")
    return figure


def surprises(found: Mapping[str, ArrayLike], unit: str, ink: Ink) -> Figure:
    """A histogram of surprise (n,) for each world in `found`, one above the other on the same axis.

    The first world is the machine's own. The axis is logarithmic where the worlds lie a factor of four apart; where some are
    below zero and others far above the own one, it is so beyond that one.
    """
    worlds = {name: np.asarray(v, dtype=float) for name, v in found.items()}
    everything = np.concatenate(list(worlds.values()))
    low, high = float(everything.min()), float(everything.max())
    wide = low > 0 and high > 4 * low
    usual = max(float(np.abs(next(iter(worlds.values()))).max()), 1e-9)
    far = not wide and high - low > 20 * usual
    edges = np.geomspace(low * 0.97, high * 1.03, 70) if wide else np.linspace(low, high + 1e-9, 70)
    if far:
        edges = usual * np.sinh(np.linspace(np.arcsinh(low / usual), np.arcsinh(high / usual) + 1e-9, 70))
    figure = Figure(figsize=(8.2, 0.5 + 0.82 * len(worlds)), layout="constrained")
    panels = np.atleast_1d(figure.subplots(len(worlds), 1, sharex=True))
    for i, (axes, (name, values)) in enumerate(zip(panels, worlds.items(), strict=True)):
        colour = ink.second if i == 0 else ink.text
        heights, _ = np.histogram(values, edges)
        axes.stairs(heights, edges, fill=True, color=colour, alpha=0.9 if i == 0 else 0.55)
        axes.set_ylim(0, max(1, heights.max()) * 1.15)
        if far:
            axes.set_xscale("asinh", linear_width=usual)
            axes.xaxis.set_major_locator(AsinhLocator(usual, numticks=7))
        if wide:
            axes.set_xscale("log")
            many = high > 50 * low  # decades, of which evenly spaced ticks would crowd the last
            axes.xaxis.set_major_locator(LogLocator(numticks=7) if many else MaxNLocator(9, steps=[1, 2, 5, 10]))
        if wide or far:
            axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.9g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.minorticks_off()
        quiet(axes, ink)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_ylabel(name, rotation=0, ha="right", va="center", color=colour, parse_math=False)
        axes.tick_params(axis="x", length=3 if i == len(worlds) - 1 else 0)
    panels[-1].set_xlabel(unit)
    return figure


def scatter(sets: Mapping[str, NDArray[np.floating]], ink: Ink, lines: Sequence[ArrayLike] = ()) -> Figure:
    """Sets of points (n, 2), a panel each on the same axes; `lines` (m, 2) are drawn over the last."""
    count = len(sets)
    figure = Figure(figsize=(8.2, min(4.4, 8.6 / count)), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, count, sharex=True, sharey=True))
    first = next(iter(sets.values()))
    middle, reach = first.mean(0), 1.25 * np.abs(first - first.mean(0)).max(0) + 1e-9
    for i, (axes, (name, points)) in enumerate(zip(panels, sets.items(), strict=True)):
        axes.scatter(points[:, 0], points[:, 1], s=3, lw=0, alpha=0.6, color=ink.first if i == 0 else ink.second)
        axes.set_title(name, fontsize=11, family=SERIF, color=ink.text, parse_math=False)
        axes.set_xlim(middle[0] - reach[0], middle[0] + reach[0])
        axes.set_ylim(middle[1] - reach[1], middle[1] + reach[1])
        axes.set_box_aspect(1)
        quiet(axes, ink)
    for line in lines:
        way = np.asarray(line, dtype=float)
        panels[-1].plot(way[:, 0], way[:, 1], color=ink.first, lw=1.6, marker="o", ms=3)
    return figure


def figure_png(figure: Figure, dpi: int = 160, transparent: bool = True) -> bytes:
    """A PNG of the figure, on transparent paper or on its own; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, transparent=transparent, metadata={"Software": None})
    return buffer.getvalue()


def _bits_per_dim(dims: int) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """From nats per example, and back."""
    unit = dims * math.log(2)
    return lambda nats: nats / unit, lambda bits: bits * unit


def _panels(count: int, height: float, ink: Ink) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(8.2, height * count), layout="constrained")
    panels = list(np.atleast_1d(figure.subplots(count, 1)))
    for axes in panels:
        quiet(axes, ink)
        axes.grid(axis="y", color=ink.faint, lw=0.6)
    return figure, panels


def _frame_after_the_fall(axes: Axes, x: NDArray[np.floating], seen: list[NDArray[np.floating]]) -> None:
    """The first rounds fall so far that nothing else would be seen: they may leave the frame at the top."""
    settled = np.concatenate([y[max(1, len(y) // 20) :] if len(y) > 2 else y for y in seen])
    settled = settled[np.isfinite(settled)]
    if len(settled):
        low, high = settled.min(), settled.max()
        axes.set_ylim(low - 0.06 * (high - low) - 1e-9, high + 0.12 * (high - low) + 1e-9)
    axes.set_xlim(min(0, x.min(initial=0)), x.max(initial=1))


def quiet(axes: Any, ink: Ink) -> None:
    """Thin lines, no box, the page's own colours."""
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(ink.faint)
    axes.set_axisbelow(True)
    axes.tick_params(colors=ink.text, labelsize=10, width=0.6, length=3, labelfontfamily=SERIF[0])
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=ink.text, fontsize=11, family=SERIF)
