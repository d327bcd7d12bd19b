import math

import numpy as np
import pytest

from reverie.core.errors import BadInput
from reverie.evaluation.scores import from_json, to_json
from reverie.evaluation.series import MODEL, REAL, STIRRED, judge, lyapunov_max, over_members, scores, table


def walk(steps, seed):
    """A noisy circle."""
    random = np.random.default_rng(seed)
    angle = 0.2 * np.arange(steps) + random.uniform(0, 6)
    return np.stack([np.cos(angle), np.sin(angle)], 1) + 0.05 * random.standard_normal((steps, 2))


def test_medians_over_members_with_mad_and_what_diverged_as_the_worst():
    values, diverged = np.array([1.0, 2.0, 4.0, 0.0, 3.0]), np.array([False, False, False, True, False])
    found = over_members(values, diverged, "nats", "lower", "x")
    assert (found.value, found.error) == (3.0, 1.0)  # 1, 2, 3, 4, inf; deviations 0, 1, 1, 2, inf
    assert found.method == "x, median ± MAD of 5 members, 1 diverged"
    assert over_members(values, np.array([True] * 3 + [False] * 2), "nats", "lower", "x").value == math.inf
    one = over_members(np.array([2.0]), np.array([False]), "nats", "lower", "x")
    assert one.value == 2
    assert math.isnan(one.error)


def test_the_model_stands_between_plain_models_and_real_data():
    train, test = walk(2000, 0), walk(2000, 1)
    runs = np.stack([walk(2000, seed) for seed in range(2, 7)])
    runs[4, 1000:] = np.inf
    foreseen = {1: np.stack([test[1:] + 0.01] * 5), 10: np.stack([test[10:] * 0] * 5)}
    stirred = np.stack([walk(2000, seed) for seed in range(7, 12)])
    rows = table(train, test, runs, foreseen, stirred=stirred)
    assert list(rows) == [MODEL, STIRRED, REAL, "white noise", "Gaussian", "VAR(1)", "persistence"]
    for metric in ("d_stsp", "d_hellinger"):
        value = {name: row[metric].value for name, row in rows.items()}
        plain = [value[name] for name in ("white noise", "Gaussian", "persistence")]
        assert max(value[MODEL], value[STIRRED], value[REAL]) < min(plain)
        assert rows[STIRRED][metric] == judge(test, stirred)[metric]
        assert "1 diverged" in rows[MODEL][metric].method
    assert rows[MODEL]["pe_1"].value == pytest.approx(1e-4)
    assert rows["persistence"]["pe_1"].value == pytest.approx(np.mean((test[1:] - test[:-1]) ** 2))
    assert rows["persistence"]["pe_10"].value == pytest.approx(np.mean((test[10:] - test[:-10]) ** 2))
    written = {row.name: row for row in scores(rows)}
    assert list(written) == ["d_stsp", "d_hellinger", "pe_1", "pe_10", "d_stsp_stirred", "d_hellinger_stirred"]
    assert written["d_stsp_stirred"].floor == written["d_stsp"].floor
    assert written["d_stsp_stirred"].value == rows[STIRRED]["d_stsp"].value
    assert written["pe_1"].floor == rows["VAR(1)"]["pe_1"].value
    assert written["pe_1"].method.endswith("floor: VAR(1)")
    assert written["d_stsp"].ceiling == rows[REAL]["d_stsp"].value
    assert written["pe_1"].ceiling is None
    assert from_json(to_json(list(written.values())))


def test_all_rows_are_over_the_same_steps_and_many_channels_are_not_binned():
    rows = table(walk(500, 0), walk(800, 1), walk(600, 2)[None])
    assert all("500 steps" in estimate.method for row in rows.values() for estimate in row.values())
    wide = np.random.default_rng(0).standard_normal((100, 6))
    assert judge(wide, wide[None])["d_stsp"].method.startswith("mixtures")
    assert judge(wide[:, :5], wide[None, :, :5])["d_stsp"].method.startswith("gtf2023, 30 bins")


def test_scores_that_a_test_series_cannot_have_are_left_out():
    train, test = walk(500, 0), walk(500, 1)
    test[::2, 0], test[1::2, 1] = np.nan, np.nan  # no step is whole
    rows = table(train, test, train[None], {1: np.zeros((1, 499, 2))})
    assert set(rows["model"]) == {"d_hellinger", "pe_1"}
    test[:, 0] = np.nan  # a channel is silent
    rows = table(train, test, train[None], {1: np.zeros((1, 499, 2))})
    assert set(rows["model"]) == {"pe_1"}
    assert [score.name for score in scores(rows)] == ["pe_1"]


def test_holes_in_the_test_series_are_carried_over_for_forecasts():
    train, test = walk(500, 0), walk(500, 1)
    test[100, 0] = np.nan
    rows = table(train, test, test[None] * 0, {1: np.zeros((1, 499, 2))})
    carried = test.copy()
    carried[100, 0] = test[99, 0]
    expected = np.nanmean((test[1:] - carried[:-1]) ** 2)
    assert rows["persistence"]["pe_1"].value == pytest.approx(expected)


def test_exponents_of_members():
    found = lyapunov_max(np.array([0.9, 0.8, np.nan, 0.7, 0.95]), "unit of time")
    assert found.value == pytest.approx(0.9)
    assert found.unit == "nats per unit of time"
    assert found.better == "near"
    assert "1 diverged" in found.method


def test_forecasts_of_another_length_are_refused():
    x = walk(100, 0)
    with pytest.raises(BadInput, match="all but the last 5 of 100"):
        table(x, x, x[None], {5: np.zeros((1, 90, 2))})
    with pytest.raises(BadInput, match="cannot be compared"):
        table(x, x[:1], x[None])
