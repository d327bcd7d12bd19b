"""Recordings that come inside nitime: what is known of them."""

import numpy as np
import pytest

from reverie.core.errors import BadInput
from reverie.data import brains, open_data


def test_fmri_is_28_regions_of_250_volumes():
    data = open_data("fmri")
    trials = [part.trials[0] for part in (data.train, data.valid, data.test)]
    assert sum(len(trial) for trial in trials) == 250
    assert data.space.shape == (25, 28)
    assert np.allclose(np.concatenate([trial.x for trial in trials])[0, :2], [-7.39443, -8.74936])  # LCau, LPut


def test_every_spike_is_counted_once_and_the_sound_lies_beside():
    data = open_data("spikes", window=40)
    path = brains._file("grasshopper_spike_times1.txt")
    times = [float(line) for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    mine = [part.trials[0] for part in (data.train, data.valid, data.test)]
    assert sum(int(trial.x.sum()) for trial in mine) == sum(time < 10e6 for time in times)
    assert sum(len(trial) for trial in mine) == 2500
    assert all(trial.inputs.shape == trial.x.shape for trial in mine)
    first = round(times[0] / 4000 - 0.5)  # the bin of the first spike
    assert mine[0].x[first] >= 1
    assert mine[0].x[:first].sum() == 0


def test_what_nitime_lacks_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(brains, "package", lambda name: tmp_path)
    with pytest.raises(BadInput, match="install it again"):
        open_data("fmri")
