import numpy as np
import pytest

from reverie.core.errors import BadInput
from reverie.evaluation.resampling import blocks, bootstrap_of_median, error_of_mean, jackknife


def test_jackknife_of_a_mean_is_the_textbook_error():
    x = np.random.default_rng(0).normal(size=40)
    value, error = jackknife(lambda used: x[used].mean(), np.arange(40))
    assert value == x.mean()
    assert error == pytest.approx(x.std(ddof=1) / 40**0.5, rel=1e-12)


def test_jackknife_adds_the_variances_of_several_samples():
    random = np.random.default_rng(1)
    x, y = random.normal(size=30), random.normal(size=50)
    _, error = jackknife(lambda a, b: [x[a].mean() - y[b].mean()], np.arange(30), np.arange(50))
    assert error[0] == pytest.approx(np.sqrt(x.var(ddof=1) / 30 + y.var(ddof=1) / 50), rel=1e-12)


def test_groups_are_left_out_whole_and_too_few_are_refused():
    assert len(np.unique(blocks(400, np.arange(400) // 10))) == 40
    assert len(np.unique(blocks(1000))) == 20
    with pytest.raises(BadInput, match="at least 3"):
        blocks(10, [0] * 5 + [1] * 5)
    with pytest.raises(BadInput, match="at least 3"):
        blocks(2)
    with pytest.raises(BadInput, match="name one for each"):
        blocks(3, [1, 2])


def test_error_of_mean_matches_what_happens_over_new_groups():
    random = np.random.default_rng(2)
    groups = np.repeat(np.arange(30), 5)
    worlds = [random.normal(size=30)[groups] + random.normal(size=150) for _ in range(300)]
    claimed = np.mean([error_of_mean(x, groups) for x in worlds])
    assert claimed == pytest.approx(np.std([x.mean() for x in worlds]), rel=0.1)


def test_bootstrap_of_median_matches_what_happens():
    random = np.random.default_rng(3)
    worlds = random.normal(size=(100, 101))
    claimed = np.mean([bootstrap_of_median(x, np.arange(101), rounds=100) for x in worlds])
    assert claimed == pytest.approx(np.median(worlds, axis=1).std(), rel=0.15)


def test_of_one_group_there_is_no_spread():
    x = np.array([1.0, 2.0, 4.0])
    assert np.isnan(bootstrap_of_median(x, np.zeros(3, dtype=int)))
    assert np.isnan(error_of_mean(x, ["ann"] * 3))
    assert np.isnan(error_of_mean(x[:1]))
