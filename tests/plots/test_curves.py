import io
import itertools

import numpy as np
import pytest
from PIL import Image

from reverie.plots import curves


def test_learning_curves_tell_nats_and_bits_and_leave_the_fall_out_of_the_frame():
    losses = [1e6, *np.linspace(1000, 900, 99)]
    figure = curves.learning(range(1, 101), {"all": losses}, [50, 100], {"all": [960, 930]}, 100, curves.LIGHT)
    (axes,) = figure.axes
    assert axes.get_ylim()[1] < 1100
    assert axes.get_ylabel() == "nats per example"
    (bits,) = axes.child_axes
    figure.draw_without_rendering()
    assert bits.get_ylim()[0] == pytest.approx(axes.get_ylim()[0] / (100 * np.log(2)))
    assert len(curves.learning([1, 2], {"critic": [1, 2], "generator": [2, 1]}, [], {}, None, curves.DARK).axes) == 2


def test_what_was_watched_has_a_panel_each_on_one_axis():
    seen = {"distance": ([10, 20], [50.0, 0.5]), "altered": ([5, 30], [0.0, 0.0]), "variety": ([5, 30], [0.5, 1.0])}
    figure = curves.watched(seen, {"altered": "share altered"}, curves.LIGHT)
    distance, altered, variety = figure.axes
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["distance", "share altered", "variety"]
    assert distance.get_yscale() == "log"
    assert altered.get_ylim() == (0, 1)
    assert variety.get_ylim()[0] == 0
    assert all(axes.get_xlim() == (0, 30) for axes in figure.axes)
    figure.draw_without_rendering()


def test_surprises_of_every_world_are_counted_on_one_axis():
    figure = curves.surprises({"own": [1.0, 1.1, 1.2], "noise": [9.0, 9.5]}, "bits/dim", curves.LIGHT)
    own, noise = figure.axes
    assert own.get_xscale() == "log"
    assert own.get_xlim() == noise.get_xlim()
    assert [p.get_data().values.sum() for axes in (own, noise) for p in axes.patches] == [3, 2]
    with_negatives = curves.surprises({"own": [-1.0, 2.0], "noise": [9.0]}, "nats", curves.LIGHT)
    assert with_negatives.axes[0].get_xscale() == "linear"


@pytest.mark.parametrize("own", [[-300.0, -280.0], [300.0, 320.0]])
def test_the_ticks_of_surprises_do_not_run_into_each_other(own):
    figure = curves.surprises({"own": own, "noise": [2e7, 2.1e7]}, "nats", curves.LIGHT)
    figure.draw_without_rendering()
    last = figure.axes[-1]
    low, high = last.get_xlim()
    boxes = [
        label.get_window_extent()
        for at, label in zip(last.get_xticks(), last.get_xticklabels(), strict=True)
        if low <= at <= high and label.get_text()
    ]
    assert len(boxes) > 2
    assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes))


def test_a_figure_is_the_same_file_again_on_transparent_paper():
    points = np.random.default_rng(0).normal(size=(30, 2))

    def made() -> bytes:
        return curves.figure_png(curves.scatter({"real": points, "dreamt": points}, curves.DARK), dpi=40)

    assert made() == made()
    with Image.open(io.BytesIO(made())) as image:
        assert image.getpixel((0, 0))[3] == 0
