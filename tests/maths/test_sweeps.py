import math

import pytest
import torch

from reverie.core.errors import BadInput
from reverie.core.shallow import Shallow
from reverie.maths.chaos import orbit
from reverie.maths.sweeps import APERIODIC, DIVERGED, regions, sweep

DOUBLE = torch.float64


def tents(slopes):
    """s z up to 1/2, s (1 - z) beyond, one for each slope."""
    s = torch.tensor(slopes, dtype=DOUBLE)
    one, none = torch.ones(len(s), 1, dtype=DOUBLE), torch.zeros(len(s), 1, dtype=DOUBLE)
    return Shallow(s.view(-1, 1, 1), -2 * s.view(-1, 1, 1), one.unsqueeze(-1), none, -0.5 * one)


def test_the_tent_map_changes_where_its_slope_is_one():
    slopes = [0.5, 0.9, 1.5, 1.9]
    found = sweep(tents(slopes), torch.tensor(slopes), torch.tensor([[0.3], [0.41]], dtype=DOUBLE))
    assert list(found.changes) == [1]
    assert found.changes[1] == "fixed point → chaos; fixed points unstable in 0 → fixed points unstable in 1, 1"
    assert found.periods.tolist() == [[1, 1], [1, 1], [APERIODIC] * 2, [APERIODIC] * 2]
    expected = torch.tensor(slopes, dtype=DOUBLE).log().unsqueeze(1).expand(4, 2)
    torch.testing.assert_close(found.lyapunov, expected)


def test_a_flip_a_turn_and_an_escape_are_told_apart():
    def plane(matrix):
        return torch.tensor(matrix, dtype=DOUBLE)

    cos, sin, skew = math.cos(1.0), math.sin(1.0), 10.0  # displacements along a torus seem to grow in such coordinates
    matrices = torch.stack([
        plane([[-1.0, 0.0], [0.0, 0.5]]), plane([[cos, -sin * skew], [sin / skew, cos]]), plane([[2.0, 0.0], [0.0, 0.5]]),
        plane([[0.0, -1.0], [1.0, 0.0]]),
    ])  # fmt: skip
    weights = Shallow(matrices, *(torch.zeros(4, *n, dtype=DOUBLE) for n in ((2, 1), (1, 2), (2,), (1,))))
    found = sweep(weights, torch.arange(4.0), torch.ones(1, 2))
    assert found.periods.squeeze().tolist() == [2, APERIODIC, DIVERGED, 4]
    assert found.changes[0].startswith("2-cycle → torus or long cycle")
    assert found.changes[1].startswith("torus or long cycle → divergence")
    assert found.changes[2].startswith("divergence → 4-cycle")


def test_regions_of_the_tent_map_are_its_two_halves():
    weights = tents([1.9])
    states = orbit(weights.step, torch.tensor([[[0.3]]], dtype=DOUBLE), 1000)[:, 0, 0]
    found = regions(weights, states)
    assert len(found.on) == 2
    right = found.on[:, 0].int().argmax()
    assert ((found.code == right) == (states[:, 0] > 0.5)).all()
    assert found.visits.tolist() == [int((found.code == i).sum()) for i in range(2)]
    assert found.visits[0] >= found.visits[1]
    assert found.passages.sum() == 1000
    pairs = list(zip(found.code[:-1].tolist(), found.code[1:].tolist(), strict=True))
    assert found.passages.tolist() == [[pairs.count((i, j)) for j in range(2)] for i in range(2)]


def test_what_cannot_be_swept_is_refused():
    with pytest.raises(BadInput, match="one map for each value, not 1 for 2"):
        sweep(tents([0.5]), torch.zeros(2), torch.zeros(1, 1))
    with pytest.raises(BadInput, match="at least 128 settled steps"):
        sweep(tents([0.5]), torch.zeros(1), torch.zeros(1, 1), keep=100)
