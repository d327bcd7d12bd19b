"""Windows: an array of rows that holds every step once, and never crosses trials."""

import numpy as np
import pytest
import torch

from reverie.data.windows import Trial, Windows

RNG = np.random.default_rng(0)


def numbered(*lengths):
    """Trials whose entry tells the trial and the step."""
    return [np.stack([np.full(n, i), np.arange(n)], 1).astype(np.float32) for i, n in enumerate(lengths)]


def rows(windows):
    return {tuple(map(tuple, w)) for w in np.asarray(windows).astype(int).tolist()}


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_every_window_of_every_trial_is_there_once_and_none_other(stride):
    trials = numbered(9, 4, 12)
    windows = Windows.of(trials, 4, stride)
    wanted = [
        tuple((i, t) for t in range(s, s + 4)) for i, x in enumerate(trials) for s in range(0, len(x) - 3, stride)
    ]
    assert len(windows) == len(wanted)
    assert rows(windows) == set(wanted)
    assert (np.asarray(windows)[:, 0, 0] == windows.owners).all()


def test_a_short_trial_is_filled_up():
    windows = np.asarray(Windows.of(numbered(2, 5), 4))
    short = windows[np.isnan(windows).any((1, 2))]
    assert len(short) == 1
    assert short[0, :2].tolist() == [[0, 0], [0, 1]]
    assert np.isnan(short[0, 2:]).all()
    assert (np.asarray(Windows.of(numbered(2), 4, fill=0.0))[0, 2:] == 0).all()


def test_indexing_is_that_of_an_array():
    windows = Windows.of([RNG.normal(size=(40, 3)).astype(np.float32)], 5)
    whole = np.asarray(windows)
    assert whole.shape == windows.shape == (36, 5, 3)
    for index in (slice(3, 9), slice(None, None, 2), np.array([5, 1, 1]), [0, 7]):
        assert np.array_equal(np.asarray(windows[index]), whole[index])
    assert len(windows[2:4][1:]) == 1


def test_held_is_a_view_in_which_the_windows_lie():
    windows = Windows.of([RNG.normal(size=(40, 3)).astype(np.float32), RNG.normal(size=(7, 3)).astype(np.float32)], 5)
    view, places = windows.held("cpu")
    assert view.untyped_storage().nbytes() == windows.steps.nbytes
    assert torch.equal(view.index_select(0, places), torch.from_numpy(np.asarray(windows)))


def test_a_part_of_a_trial_keeps_its_inputs_beside_it():
    trial = Trial(np.arange(8.0)[:, None], np.arange(8)[:, None], "a").cut(2, 5)
    assert trial.x[:, 0].tolist() == trial.inputs[:, 0].tolist() == [2, 3, 4]
    assert trial.subject == "a"
    assert len(trial) == 3
