import numpy as np
import pytest

from reverie.core.errors import BadInput
from reverie.evaluation.baselines import VAR1, Gaussian, baselines


def linear(steps=20_000, seed=0):
    """A stationary VAR(1), its A, b, and the covariance it settles to."""
    A, b = np.array([[0.9, 0.2], [-0.3, 0.7]]), np.array([1.0, -2.0])
    noise = np.random.default_rng(seed).standard_normal((steps, 2)) @ np.array([[0.5, 0.0], [0.3, 0.4]]).T
    x = np.zeros((steps, 2))
    for t in range(1, steps):
        x[t] = A @ x[t - 1] + b + noise[t]
    return x[200:], A, b


def test_a_var_finds_the_linear_system_it_was_fitted_to():
    x, A, b = linear()
    found = VAR1.fitted(x)
    np.testing.assert_allclose(found.A, A, atol=0.02)
    np.testing.assert_allclose(found.b, b, atol=0.1)
    np.testing.assert_allclose(found.root @ found.root.T, [[0.25, 0.15], [0.15, 0.25]], atol=0.01)


def test_free_runs_have_the_moments_of_the_data():
    x, *_ = linear()
    for name, model in baselines(x).items():
        run = model.run(20_000, seed=1)
        assert run.shape == (20_000, 2)
        np.testing.assert_array_equal(run, model.run(20_000, seed=1))
        if name == "persistence":
            assert (run == run[0]).all()
            assert (x == run[0]).all(1).any()
            continue
        np.testing.assert_allclose(run.mean(0), x.mean(0), atol=0.2)
        cov = np.cov(x.T) * (np.eye(2) if name == "white noise" else 1)
        np.testing.assert_allclose(np.cov(run.T), cov, rtol=0.1, atol=0.05)
        lag = np.cov(run[1:, 0], run[:-1, 0])[0, 1] / run[:, 0].var()
        expected = np.cov(x[1:, 0], x[:-1, 0])[0, 1] / x[:, 0].var() if name == "VAR(1)" else 0
        assert lag == pytest.approx(expected, abs=0.05)


def test_forecasts_are_expectations():
    x, A, b = linear()
    last = np.array([[3.0, -1.0], [0.0, np.nan]])
    found = {name: model.forecast(last, 2) for name, model in baselines(x).items()}
    np.testing.assert_allclose(found["white noise"], [x.mean(0)] * 2)
    np.testing.assert_allclose(found["Gaussian"], [x.mean(0)] * 2)
    np.testing.assert_allclose(found["persistence"], [[3, -1], [0, x[:, 1].mean()]])
    np.testing.assert_allclose(found["VAR(1)"][0], A @ (A @ last[0] + b) + b, atol=0.1)
    assert np.isfinite(found["VAR(1)"]).all()


def test_holes_are_left_out():
    x, A, _ = linear()
    x[np.random.default_rng(0).random(x.shape) < 0.1] = np.nan
    np.testing.assert_allclose(VAR1.fitted(x).A, A, atol=0.03)
    assert np.isfinite(Gaussian.fitted(x, white=True).run(5)).all()


def test_too_little_is_refused():
    with pytest.raises(BadInput, match="more than 2 pairs"):
        VAR1.fitted(np.zeros((3, 2)))
    with pytest.raises(BadInput, match="fewer than two steps"):
        Gaussian.fitted(np.array([[0.0, np.nan], [1.0, 1.0]]))


def test_what_a_series_is_not_enough_for_is_left_out():
    x = np.random.default_rng(0).standard_normal((20, 30))
    assert set(baselines(x)) == {
        "white noise",
        "Gaussian",
        "persistence",
    }  # a VAR(1) of 30 channels wants more than 20 steps
    x[::2, 0], x[1::2, 1] = np.nan, np.nan
    assert "VAR(1)" not in baselines(x)
    assert "persistence" not in baselines(x)
