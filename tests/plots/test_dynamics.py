import numpy as np
import pytest

from reverie.plots import dynamics
from reverie.plots.curves import DARK, LIGHT, figure_png


def circle(steps=500, size=2, turns=5.0):
    angle = np.linspace(0, 2 * np.pi * turns, steps)
    return np.stack([np.cos(angle + i) for i in range(size)], 1)


@pytest.mark.parametrize(("size", "shown"), [(1, 2), (2, 2), (3, 3), (7, 3)])
def test_attractors_are_shown_in_two_or_three_dimensions_on_the_same_axes(size, shown):
    true, dreamt = circle(size=size), 0.5 * circle(size=size)
    figure = dynamics.attractors({"seen": true, "dreamt": dreamt}, LIGHT, [true[:1], true[:50]], [True, False])
    one, other = figure.axes
    assert one.name == ("3d" if shown == 3 else "rectilinear")
    assert one.get_xlim() == other.get_xlim()
    point, cycle = one.lines[1], one.lines[2]
    assert point.get_markerfacecolor() == LIGHT.first
    assert cycle.get_linestyle() == "--"
    assert one.lines[3].get_markerfacecolor() == "none"
    assert figure_png(figure, dpi=30)


def test_principal_axes_keep_distances_of_what_is_flat():
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((7, 3)))[0]
    x = np.random.default_rng(1).standard_normal((200, 3))
    shown = dynamics._space(x @ basis.T)(x @ basis.T)
    np.testing.assert_allclose(np.linalg.norm(shown[0] - shown[1:], axis=1), np.linalg.norm(x[0] - x[1:], axis=1))


def test_a_run_that_explodes_leaves_the_frame_and_the_axes_alone():
    wild = circle(size=3) * np.exp(np.linspace(0, 500, 500))[:, None]
    figure = dynamics.attractors({"seen": circle(size=3), "dreamt": wild}, DARK)
    assert max(map(abs, figure.axes[1].get_xlim())) < 2
    drawn = np.stack(figure.axes[1].lines[0].get_data_3d())
    assert np.nanmax(np.abs(drawn)) < 5
    assert figure_png(figure, dpi=30)


def test_spectra_have_their_peak_where_the_series_has_its_period():
    share = np.full((501, 2), 1e-6)
    share[100, 0] = share[20, 1] = 1.0
    figure = dynamics.spectra({"seen": share, "dreamt": share}, ["a", "b"], LIGHT, dt=0.1, unit="second")
    line = figure.axes[0].lines[0]
    assert line.get_xdata()[line.get_ydata().argmax()] == pytest.approx(1.0)  # 100 of 500 parts of 5 per second
    assert figure.axes[0].get_xlabel() == "periods per second"
    assert figure.axes[0].get_xlim()[1] < 1.5  # beyond it nothing is left to see
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["seen", "dreamt"]


def test_a_fan_opens_at_the_last_step_seen_and_holds_the_draws():
    past = circle(50)
    draws = past[-1] + np.random.default_rng(0).standard_normal((400, 30, 2)) * np.arange(1, 31)[:, None]
    future = np.full((20, 2), np.nan)
    future[:5] = 0
    figure = dynamics.forecast(past, future, draws, ["a", "b"], LIGHT, dt=0.5, unit="s")
    axes = figure.axes[0]
    wide, narrow = (fan.get_paths()[0].vertices for fan in axes.collections)
    at = {x: np.ptp(wide[wide[:, 0] == x, 1]) for x in (0.0, 5.0, 15.0)}
    assert at[0.0] == 0
    assert at[15.0] == pytest.approx(30 * 2 * 1.645, rel=0.2)
    assert at[5.0] < at[15.0]
    assert np.ptp(narrow[:, 1]) < np.ptp(wide[:, 1])
    assert figure.axes[-1].get_xlabel() == "time from now, s"
    assert figure_png(figure, dpi=30)


def test_runs_of_a_channel_share_a_scale():
    figure = dynamics.runs({"seen": circle(), "dreamt": 0.1 * circle()}, ["a", "b"], DARK)
    assert len(figure.axes) == 4
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()
    assert figure.axes[3].get_ylabel() == "b, dreamt"
    assert figure_png(figure, dpi=30)


def test_bifurcations_are_marked_between_their_values():
    values = np.array([0.0, 1.0, 2.0])
    states = np.zeros((3, 2, 10))
    states[2, 1] = np.inf
    figure = dynamics.bifurcations(values, states, np.zeros((3, 2)), [1], "slope", LIGHT)
    top, below = figure.axes
    assert len(top.lines[0].get_xdata()) == 50  # what ran away is not drawn
    assert top.lines[-1].get_xdata()[0] == below.lines[-1].get_xdata()[0] == 1.5
    assert figure_png(figure, dpi=30)


def test_every_spike_is_a_stroke_and_more_of_them_are_darker():
    x = np.zeros((20, 3), dtype=int)
    x[4, 0], x[7, 2], x[9, 2] = 1, 4, 1
    figure = dynamics.raster({"seen": x, "dreamt": x > 0}, LIGHT, dt=10.0, unit="ms")
    (strokes,) = figure.axes[0].collections
    assert sorted(path.vertices[0, 0] for path in strokes.get_paths()) == [40, 70, 90]
    assert strokes.get_colors()[:, 3].max() == 1
    assert (strokes.get_colors()[:, 3] < 0.6).sum() == 2
    assert figure_png(dynamics.raster({"seen": x * 0}, LIGHT), dpi=30)


def test_channels_may_be_called_anything():
    names = ["cost_$_per_$", "p$^$q"]
    shown = [
        dynamics.runs({"$seen$": circle(), "$^$": circle()}, names, DARK),
        dynamics.forecast(circle()[:20], circle()[20:30], np.stack([circle()[20:30]] * 3), names, DARK),
        dynamics.spectra({"seen": np.full((9, 2), 1 / 9)}, names, DARK),
        dynamics.vectors(circle()[:2], names, DARK),
    ]
    assert shown[0].axes[0].get_ylabel() == "cost_$_per_$, $seen$"
    assert all(figure_png(figure, dpi=30) for figure in shown)


def test_what_was_measured_now_and_then_is_shown_as_points_and_a_fan_opens_after_a_gap():
    seen = circle()[:60].copy()
    seen[1::2, 0] = np.nan  # the last step too
    drawn = np.stack([circle()[60:70]] * 5)
    figure = dynamics.forecast(seen, seen[:10], drawn, ["a", "b"], DARK)
    (points,) = [line for line in figure.axes[0].lines if line.get_marker() == "o" and len(line.get_xdata()) == 30]
    np.testing.assert_array_equal(points.get_ydata(), seen[::2, 0])
    expected = {line.get_label(): line for line in figure.axes[0].lines}["expected"]
    np.testing.assert_array_equal(expected.get_xdata(), np.arange(1, 11))
    assert not [line for line in figure.axes[1].lines if line.get_marker() == "o"]
    assert figure_png(figure, dpi=30)
