import math

import numpy as np
import pytest

from reverie.core.errors import BadInput
from reverie.evaluation.attractors import (
    Bins,
    divergence,
    divergence_of_mixtures,
    hellinger,
    prediction_error,
    spectrum,
)


def draws(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def waves(*counts, steps=2000):
    """(steps, N) a sine of so many periods for each channel."""
    turns = 2 * np.pi * np.arange(steps) / steps
    return np.stack([np.sin(n * turns) for n in counts], 1)


def by_the_book(true, generated, m=30, pseudo=1e-5):
    """The definition on the whole grid."""
    margin = 0.1 * true.std(0)
    box = list(zip(true.min(0) - margin, true.max(0) + margin, strict=True))
    p, q = (np.histogramdd(x, m, box)[0] + pseudo for x in (true, generated))
    p, q = p / p.sum(), q / q.sum()
    return float((p * np.log(p / q)).sum())


@pytest.mark.parametrize("size", [1, 2, 3])
def test_divergence_is_the_definition_without_building_the_grid(size):
    true, generated = draws(500, size), 1.3 * draws(500, size, seed=1) + 0.2
    assert divergence(true, generated) == pytest.approx(by_the_book(true, generated), rel=1e-9)


def test_divergence_of_two_bins_by_hand():
    two = Bins("two", 2, 0.0, 0.5)
    true, generated = np.array([[0.0], [0.0], [1.0]]), np.array([[0.0], [1.0], [1.0]])
    # Counts 2, 1 and 1, 2; with half a count more in each bin 2.5 : 1.5 and 1.5 : 2.5.
    expected = 2.5 / 4 * math.log(2.5 / 1.5) + 1.5 / 4 * math.log(1.5 / 2.5)
    assert divergence(true, generated, two) == pytest.approx(expected)
    # What lies outside is not counted: 1.5 : 0.5 against 1.5 : 2.5.
    away = np.array([[0.0], [5.0], [5.0]])
    expected = 2.5 / 4 * math.log(2.5 / 4 / (1.5 / 2)) + 1.5 / 4 * math.log(1.5 / 4 / (0.5 / 2))
    assert divergence(true, away, two) == pytest.approx(expected)


def test_divergence_of_the_same_states_is_zero_in_any_order_and_trial():
    x = draws(600, 3)
    assert divergence(x, x[::-1]) == 0
    assert divergence(x.reshape(3, 200, 3), x.reshape(3, 200, 3)[::-1]) == 0
    assert divergence(draws(50, 8), draws(50, 8)) == 0


def test_divergence_looks_only_at_steps_measured_whole_and_at_finite_runs():
    x, y = draws(400, 2), draws(400, 2, seed=1)
    holed = x.copy()
    holed[::2, 0] = np.nan
    assert divergence(holed, y) == pytest.approx(divergence(x[1::2], y[1::2]))
    y[3, 1] = np.nan
    assert divergence(x, y) == math.inf
    assert divergence_of_mixtures(x, y) == math.inf


def test_mixtures_at_one_point_each_are_gaussians():
    """KL(N(0, v) || N(a, v)) = |a|² / 2v, in units of the true channels' deviations: here they are constant, so as is."""
    true, generated = np.zeros((20, 3)), np.tile([0.3, -0.2, 0.5], (20, 1))
    expected = 0.38 / (2 * 0.5)
    found = divergence_of_mixtures(true, generated, variance=0.5, draws=200_000)
    assert found == pytest.approx(expected, rel=0.01)


def test_mixtures_do_not_depend_on_units_and_see_what_is_missing():
    true = np.concatenate([draws(200, 6), draws(200, 6) + 6])
    units = np.array([1.0, 10.0, 100.0, 0.1, 1.0, 1.0])
    one_lobe = np.concatenate([draws(400, 6, seed=2)])
    both = np.concatenate([draws(200, 6, seed=3), draws(200, 6, seed=4) + 6])
    missing, found = divergence_of_mixtures(true, one_lobe, 0.1), divergence_of_mixtures(true, both, 0.1)
    assert found < 0.2 < missing
    assert divergence_of_mixtures(true * units, one_lobe * units, 0.1) == pytest.approx(missing)


def test_hellinger_of_the_same_series_is_zero_and_of_disjoint_spectra_one():
    x = waves(50, 300)
    assert hellinger(x, x, sigma=2.0) == pytest.approx(0, abs=1e-7)
    assert hellinger(x, 3 * x + 5, sigma=2.0) == pytest.approx(0, abs=1e-7)
    assert hellinger(x, waves(150, 700), sigma=2.0) == pytest.approx(1)
    assert hellinger(x, waves(50, 700), sigma=2.0) == pytest.approx(0.5)  # one channel of two
    assert hellinger(x, np.full_like(x, np.inf)) == 1


def test_hellinger_of_shifted_lines_is_that_of_two_gaussians():
    """Smoothed by s, lines d bins apart overlap as Gaussians do: H² = 1 - exp(-d² / 8 s²)."""
    for apart in (5, 20, 40):
        found = hellinger(waves(400), waves(400 + apart), sigma=15.0)
        assert found == pytest.approx(math.sqrt(1 - math.exp(-(apart**2) / (8 * 15**2))), rel=3e-3)


def test_spectra_are_shares_and_a_channel_that_never_moves_is_flat():
    x = np.concatenate([waves(100), np.full((2000, 1), 0.1)], 1)
    share = spectrum(x, 3.0)
    np.testing.assert_allclose(share.sum(0), 1)
    assert share[:, 0].argmax() == 100
    np.testing.assert_allclose(share[:, 1], 1 / 1001)


def test_the_same_holes_are_cut_into_both_series():
    x = waves(50, 300)
    holed = x.copy()
    holed[np.random.default_rng(0).random(x.shape) < 0.3] = np.nan
    holed[:5, 0] = np.nan
    assert hellinger(holed, x, sigma=2.0) == pytest.approx(0, abs=1e-7)
    never = np.where([True, False], np.nan, x)
    with pytest.raises(BadInput, match="measured at no step"):
        hellinger(never, x)


def test_prediction_errors_are_means_of_squares_over_what_was_measured():
    true = np.array([[[1.0, np.nan], [3.0, 4.0]]])
    assert prediction_error(true, np.zeros_like(true)) == pytest.approx(26 / 3)
    assert prediction_error(true, np.where(np.isnan(true), 7.0, true)) == 0
    assert prediction_error(true, np.full_like(true, np.inf)) == math.inf
    with pytest.raises(BadInput, match="nothing was measured"):
        prediction_error(np.full((2, 2), np.nan), np.zeros((2, 2)))


@pytest.mark.parametrize("far", [1e200, -1e300, np.nan, np.inf])
def test_a_run_that_leaves_every_bound_is_the_worst_without_a_warning(far):
    x = draws(100, 2)
    y = x.copy()
    y[50, 1] = far
    assert divergence(x, y) == divergence_of_mixtures(x, y) == prediction_error(x, y) == math.inf
    assert hellinger(x, y) == 1


def test_lengths_that_differ_are_refused():
    for metric in (divergence, divergence_of_mixtures, hellinger):
        with pytest.raises(BadInput, match="one length"):
            metric(draws(10, 2), draws(9, 2))
    with pytest.raises(BadInput, match="no step has all its channels"):
        divergence(np.full((3, 2), np.nan), draws(3, 2))
