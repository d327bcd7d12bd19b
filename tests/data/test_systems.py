"""Built-in recordings of known systems."""

import numpy as np
import pytest

from reverie.core.errors import BadInput
from reverie.data import open_data


@pytest.mark.parametrize("name", ["lorenz", "rossler", "lorenz96", "bursting-neuron"])
def test_a_system_is_recorded_twice(name):
    data = open_data(name, count=200, window=10)
    train, valid, test = (split.trials for split in (data.train, data.valid, data.test))
    assert [len(part[0]) for part in (train, valid, test)] == [180, 20, 200]
    assert not np.allclose(train[0].x[:100], test[0].x[:100])
    assert open_data(**data.spec).fingerprint == data.fingerprint
    assert open_data(name, count=200, window=10, seed=1).fingerprint != data.fingerprint


def test_the_test_set_is_clean_and_the_training_part_is_not():
    """Second differences of a flow are small; of noise they have a variance of 6."""
    data = open_data("lorenz", count=2000)
    rough = {}
    for name in ("train", "test"):
        x = getattr(data, name).trials[0].x.astype(np.float64)
        rough[name] = np.diff(x, 2, axis=0).std(0) / x.std(0)
    # The flow's own part is a few hundredths.
    assert (rough["train"] > 0.8 * 0.05 * 6**0.5).all()
    assert (rough["train"] < 1.6 * 0.05 * 6**0.5).all()
    assert (rough["test"] < 0.08).all()


def test_too_short_is_told():
    with pytest.raises(BadInput, match="at least 20 steps"):
        open_data("lorenz", count=10)
