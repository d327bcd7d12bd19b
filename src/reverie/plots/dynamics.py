"""Series in, matplotlib Figures out: what moves, how fast, where it stands still, and what becomes of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from reverie.plots.curves import SERIF, Ink, quiet

Path = Float[np.ndarray, "_ N"]
MOST_DRAWN = 20_000  # steps of one line


def attractors(paths: Mapping[str, Path], ink: Ink, cycles: Sequence[Path] = (), stable: Sequence[bool] = ()) -> Figure:
    """Orbits, a panel each in the same space and on the same axes, the first the true one.

    Of more than three channels the first three principal axes of the true orbit are shown, of two the plane, of one
    the plane of x and of x a while later. `cycles` are drawn over every orbit, a point where k is 1: filled where it is
    `stable`.
    """
    first = next(iter(paths.values()))
    project = _space(first)
    deep = project(first).shape[1] == 3
    figure = Figure(figsize=(8.2, min(4.6, 8.4 / len(paths))), layout="constrained")
    seen = project(first)
    reach = np.quantile(seen[np.isfinite(seen).all(1)], [0.001, 0.999], axis=0)
    reach = reach + 0.06 * np.array([[-1], [1]]) * (reach[1] - reach[0] + 1e-9)
    for i, (name, path) in enumerate(paths.items()):
        axes: Any = figure.add_subplot(1, len(paths), i + 1, projection="3d" if deep else None)
        drawn = project(path)[:MOST_DRAWN]
        out = (drawn < reach[0] - np.ptp(reach, 0)) | (drawn > reach[1] + np.ptp(reach, 0))
        drawn = np.where(out.any(1, keepdims=True), np.nan, drawn)
        axes.plot(*drawn.T, color=ink.first if i == 0 else ink.second, lw=0.35, alpha=0.85)
        for j, cycle in enumerate(cycles):
            _cycle(axes, project(cycle), ink, j < len(stable) and stable[j])
        axes.set_title(name, fontsize=11, family=SERIF, color=ink.text, parse_math=False)
        axes.set(xlim=reach[:, 0], ylim=reach[:, 1], **({"zlim": reach[:, 2]} if deep else {}))
        if deep:
            axes.set_axis_off()
            axes.view_init(elev=18, azim=-62)
            axes.set_box_aspect((1, 1, 0.9), zoom=1.15)
        else:
            axes.set_box_aspect(1)
            quiet(axes, ink)
    return figure


def _space(first: Path) -> Any:
    """What takes a path (T, N) to the two or three coordinates (T, 2 or 3) that are shown of it."""
    if first.shape[1] in (2, 3):
        return lambda path: path
    middle = np.nanmean(first, 0)
    centred = first[np.isfinite(first).all(1)] - middle
    if first.shape[1] == 1:
        x = centred[:, 0]
        alike = np.correlate(x[:4000], x[:4000], "full")[min(len(x), 4000) - 1 :]
        later = max(1, int(np.argmax(alike < alike[0] / np.e)))  # until it is no longer like itself

        def delayed(path: Path) -> np.ndarray:
            # A cycle returns to its beginning, and so do its delays; an orbit ends.
            short = len(path) <= later
            return np.stack([path[:, 0], np.roll(path[:, 0], -later)], 1)[: None if short else -later]

        return delayed
    axes = np.linalg.svd(centred[:: max(1, len(centred) // 20_000)], full_matrices=False)[2][:3]
    return lambda path: (path - middle) @ axes.T


def _cycle(axes: Any, points: np.ndarray, ink: Ink, stable: bool) -> None:
    face = ink.first if stable else "none"
    style = {"marker": "o", "ms": 5, "mew": 1.4, "mfc": face, "mec": ink.first, "ls": "none", "zorder": 5}
    if len(points) > 1:
        closed = np.concatenate([points, points[:1]])
        axes.plot(*closed.T, color=ink.first, lw=1.1, ls="-" if stable else (0, (2, 1.5)), zorder=5)
        style["ms"] = 2.6
    axes.plot(*points.T, **style)


def spectra(
    shares: Mapping[str, Float[np.ndarray, "F N"]],
    channels: Sequence[str],
    ink: Ink,
    dt: float = 1.0,
    unit: str = "step",
) -> Figure:
    """The share of power at each frequency of each channel, one line for each of `shares`, the first the true one.

    Frequencies go from 0 to half a period per step of length `dt`; the panels end where all but a thousandth of the true
    power has been.
    """
    count = len(channels)
    columns = min(count, 3)
    rows = -(-count // columns)
    figure = Figure(figsize=(8.2, 2.3 * rows + 0.4), layout="constrained")
    first = next(iter(shares.values()))
    top = int(np.argmax((first.cumsum(0) > 0.999).all(1))) or len(first) - 1
    frequency = np.arange(len(first)) / (2 * (len(first) - 1) * dt)
    for c, channel in enumerate(channels):
        axes = figure.add_subplot(rows, columns, c + 1)
        for i, (name, share) in enumerate(shares.items()):
            axes.plot(frequency, share[:, c], label=name, **_line(i, ink))
        axes.set_xlim(0, frequency[min(len(first) - 1, int(1.1 * top) + 1)])
        axes.set_yscale("log")
        axes.set_ylim(first[:top, c].max() * 1e-5, first[:, c].max() * 4)
        axes.set_title(channel, fontsize=11, family=SERIF, color=ink.text, parse_math=False)
        if c // columns == rows - 1:
            axes.set_xlabel(f"periods per {unit}")
        if c % columns == 0:
            axes.set_ylabel("share of power")
        quiet(axes, ink)
        if c == 0:
            axes.legend(frameon=False, prop={"family": SERIF, "size": 10}, labelcolor=ink.text)
    return figure


def _alone(axes: Any, t: np.ndarray, x: np.ndarray, color: str) -> None:
    """What was measured between two steps that were not is a point: no line leads to it."""
    seen = np.isfinite(np.concatenate([[np.nan], x, [np.nan]]))
    alone = seen[1:-1] & ~seen[:-2] & ~seen[2:]
    if alone.any():
        axes.plot(t[alone], x[alone], "o", ms=1.2, mew=0, color=color)


def _line(i: int, ink: Ink) -> dict[str, Any]:
    """How the i-th of several series is drawn: the true one, the dreamt one, and others faintly."""
    styles = (
        {"color": ink.first, "lw": 1.1},
        {"color": ink.second, "lw": 1.3},
        {"color": ink.text, "lw": 0.9, "alpha": 0.5},
    )
    return styles[min(i, 2)]


def forecast(
    past: Path,
    future: Path,
    draws: Float[np.ndarray, "D H N"],
    channels: Sequence[str],
    ink: Ink,
    dt: float = 1.0,
    unit: str = "steps",
) -> Figure:
    """What was seen, what came (NaN where unknown), and a fan of what was expected: median, 50% and 90% of the draws."""
    count = len(channels)
    figure = Figure(figsize=(8.2, 0.6 + 1.5 * count), layout="constrained")
    panels = np.atleast_1d(figure.subplots(count, 1, sharex=True))
    before = dt * np.arange(1 - len(past), 1)
    for c, axes in enumerate(panels):
        # The fan opens where the past ends, if that was measured.
        known = int(np.isfinite(past[-1, c]))
        fan = np.concatenate([np.full((len(draws), known), past[-1, c]), draws[..., c]], 1)
        low, quarter, middle, three, high = np.nanquantile(fan, [0.05, 0.25, 0.5, 0.75, 0.95], axis=0)
        after = dt * np.arange(1 - known, draws.shape[1] + 1)
        axes.fill_between(after, low, high, color=ink.second, alpha=0.18, lw=0, label="90%")
        axes.fill_between(after, quarter, three, color=ink.second, alpha=0.32, lw=0, label="50%")
        axes.plot(after, middle, color=ink.second, lw=1.3, label="expected")
        axes.plot(before, past[:, c], color=ink.first, lw=1.1)
        _alone(axes, before, past[:, c], ink.first)
        came = np.concatenate([past[-1:, c], future[:, c]])
        axes.plot(dt * np.arange(len(came)), came, color=ink.first, lw=1.1, label="what was, and what came")
        _alone(axes, dt * np.arange(len(came)), came, ink.first)
        axes.axvline(0, color=ink.faint, lw=0.8)
        axes.set_ylabel(channels[c], rotation=0, ha="right", va="center", parse_math=False)
        quiet(axes, ink)
    panels[0].legend(
        frameon=False,
        prop={"family": SERIF, "size": 10},
        labelcolor=ink.text,
        ncols=4,
        loc="lower left",
        bbox_to_anchor=(0, 1),
    )
    panels[-1].set_xlabel(f"time from now, {unit}")
    return figure


def runs(series: Mapping[str, Path], channels: Sequence[str], ink: Ink, dt: float = 1.0, unit: str = "steps") -> Figure:
    """Series one above the other, each channel on the same scale everywhere; a dreamt one need not follow the true one."""
    count = len(channels)
    figure = Figure(figsize=(8.2, 0.5 + 0.62 * count * len(series)), layout="constrained")
    panels = np.atleast_1d(figure.subplots(count * len(series), 1, sharex=True))
    first = next(iter(series.values()))
    for k, axes in enumerate(panels):
        c, i = divmod(k, len(series))
        name, path = list(series.items())[i]
        low, high = np.nanmin(first[:, c]), np.nanmax(first[:, c])
        axes.plot(dt * np.arange(len(path)), path[:, c], **_line(min(i, 1), ink))
        _alone(axes, dt * np.arange(len(path)), path[:, c], _line(min(i, 1), ink)["color"])
        axes.set_ylim(low - 0.1 * (high - low) - 1e-9, high + 0.1 * (high - low) + 1e-9)
        if k == len(panels) - 1:
            axes.set_xlabel(f"time, {unit}")
        quiet(axes, ink)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.spines["bottom"].set_visible(k == len(panels) - 1)
        axes.tick_params(axis="x", length=3 if k == len(panels) - 1 else 0)
        axes.set_ylabel(
            f"{channels[c]}, {name}",
            rotation=0,
            ha="right",
            va="center",
            color=axes.lines[0].get_color(),
            parse_math=False,
        )
    return figure


def bifurcations(
    values: Float[np.ndarray, " V"],
    states: Float[np.ndarray, "V B T"],
    lyapunov: Float[np.ndarray, "V B"],
    changes: Sequence[int],
    parameter: str,
    ink: Ink,
) -> Figure:
    """One unit of the settled states at each value of a parameter, the largest exponent below, and a line between values
    i and i + 1 for each i of `changes`."""
    figure = Figure(figsize=(8.2, 4.6), layout="constrained")
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    across = np.broadcast_to(values[:, None, None], states.shape)
    finite = np.isfinite(states) & (np.abs(states) < 1e6)
    top.plot(across[finite], states[finite], ",", color=ink.first, alpha=0.6)
    top.set_ylabel("settled states")
    below.axhline(0, color=ink.faint, lw=0.8)
    below.plot(values, lyapunov, color=ink.second, lw=1.0)
    below.set_ylabel("λmax, nats/step")
    below.set_xlabel(parameter, parse_math=False)
    for axes in (top, below):
        for i in changes:
            axes.axvline((values[i] + values[i + 1]) / 2, color=ink.second, alpha=0.4, lw=0.6, zorder=0)
        quiet(axes, ink)
    return figure


def raster(
    spikes: Mapping[str, Int[np.ndarray, "_ N"] | Bool[np.ndarray, "_ N"]],
    ink: Ink,
    dt: float = 1.0,
    unit: str = "steps",
) -> Figure:
    """Spike counts of N neurons over time, a panel for each of `spikes`: a stroke where a neuron fired, the darker the more often."""
    neurons = max(x.shape[1] for x in spikes.values())
    figure = Figure(figsize=(8.2, 0.5 + len(spikes) * min(3.0, 0.8 + 0.09 * neurons)), layout="constrained")
    panels = np.atleast_1d(figure.subplots(len(spikes), 1, sharex=True, sharey=True))
    most = max(1, *(int(x.max(initial=0)) for x in spikes.values()))
    for i, (axes, (name, x)) in enumerate(zip(panels, spikes.items(), strict=True)):
        when, who = np.nonzero(x)
        strokes = np.tile(to_rgba(ink.first if i == 0 else ink.second), (len(when), 1))
        strokes[:, 3] = 0.35 + 0.65 * x[when, who].astype(float) / most
        axes.vlines(dt * when, who - 0.4, who + 0.4, colors=strokes, lw=0.9)
        axes.set_ylim(neurons - 0.4, -0.6)
        axes.set_title(name, fontsize=11, family=SERIF, color=ink.text, parse_math=False, loc="left")
        axes.set_ylabel("neuron")
        if i == len(panels) - 1:
            axes.set_xlabel(f"time, {unit}")
        quiet(axes, ink)
        if neurons <= 10:
            axes.set_yticks(range(neurons), [str(k + 1) for k in range(neurons)])
        else:
            axes.yaxis.get_major_locator().set_params(integer=True)
    return figure


def pushes(sizes: Float[np.ndarray, "M T"], ink: Ink) -> Figure:
    """How far a push of each unit has moved the state, after each step, over the size of the push."""
    figure = Figure(figsize=(8.2, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.axhline(1, color=ink.faint, lw=0.8)
    strong = np.argsort(-sizes[:, -1])[:6]
    for rank, i in enumerate(strong):
        axes.semilogy(sizes[i], **_line(rank, ink), label=f"unit {i + 1}")
    axes.set(xlabel="steps after the push", ylabel="size of the difference")
    axes.legend(frameon=False, labelcolor=ink.text, ncols=3)
    quiet(axes, ink)
    return figure


def vectors(found: Float[np.ndarray, "J K"], names: Sequence[str], ink: Ink) -> Figure:
    """A point for each of J subjects: of one number along a line, of two in the plane, of more on their first two principal axes."""
    wide = found.shape[1]
    if wide > 2:
        centred = found - found.mean(0)
        found = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    figure = Figure(figsize=(8.2, 1.9 if wide == 1 else 4.6), layout="constrained")
    axes = figure.subplots()
    across, up = found[:, 0], found[:, 1] if wide > 1 else np.zeros(len(found))
    axes.plot(across, up, "o", ms=5, color=ink.first, alpha=0.8)
    for i, name in enumerate(names):
        axes.annotate(
            name, (across[i], up[i]), (3, 6), textcoords="offset points", fontsize=7.5, color=ink.text,
            rotation=60 if wide == 1 else 0, parse_math=False,
        )  # fmt: skip
    axes.set_xlabel("first number" if wide <= 2 else "first axis")
    if wide > 1:
        axes.set_ylabel("second number" if wide == 2 else "second axis")
    else:
        axes.set_yticks([])
        axes.set_ylim(-0.4, 1.6)
    quiet(axes, ink)
    return figure
