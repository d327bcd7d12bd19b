"""Machines of known maps, taken apart."""

import math

import pytest
import torch

from reverie.core.errors import BadInput
from reverie.core.space import Space
from reverie.evaluation.anatomy import alone, current, exponents, swept, taken_apart
from reverie.models.recurrent import Recurrent, RecurrentConfig


def halving(inputs=0, slopes=(0.5, 0.25)):
    """z' = slope z + C s of two members, in two dimensions."""
    model = Recurrent(RecurrentConfig(members=2, hidden=1, inputs=inputs), Space((10, 2), "real"))
    with torch.no_grad():
        for parameter in model.cell.parameters():
            parameter.zero_()
        model.cell.a.copy_(torch.tensor(slopes).view(2, 1).expand(2, 2))
        if model.C is not None:
            model.C.copy_(torch.tensor([[[1.0, 2.0]], [[3.0, 0.0]]]))
    return model


def test_exponents_of_each_member_are_the_logarithms_of_its_slopes():
    found = exponents(alone(halving()), starts=3, steps=50)
    expected = torch.tensor([0.5, 0.25]).log().view(2, 1, 1).expand(2, 3, 2)
    torch.testing.assert_close(found, expected)


def test_a_held_input_moves_the_fixed_point_to_where_it_balances():
    model = halving(inputs=1)
    found = taken_apart(alone(model, [0.7]), 0, steps=200, after=5)
    (still,) = found.census.cycles
    torch.testing.assert_close(still.points, 0.7 * torch.tensor([[1.0, 2.0]]).double() / 0.5)
    assert still.kind == "stable"
    torch.testing.assert_close(found.orbit[-1].double(), still.points[0], rtol=1e-5, atol=1e-6)
    assert len(found.visited.visits) == 1
    torch.testing.assert_close(found.pushed, (0.5 ** torch.arange(6.0)).expand(2, 6))


def test_a_sweep_of_an_input_shifts_and_of_a_slope_bifurcates():
    model = halving(inputs=1)
    values = torch.tensor([-1.0, 0.0, 2.0])
    found = swept(alone(model, [0.3]), 1, "input[0]", values)
    torch.testing.assert_close(found.states[:, :, -1, 0], (values.double() * 3 / 0.75).view(3, 1).expand(3, 4))
    assert found.changes == {}
    found = swept(alone(model, [0.0]), 0, "A[1,1]", torch.tensor([0.9, -0.9, -1.1]))
    assert list(found.changes) == [1]
    assert found.changes[1] == "fixed points unstable in 0 → fixed points unstable in 1"


def test_the_value_a_sweep_passes_is_that_of_the_machine():
    system = alone(halving(inputs=1), [0.3])
    assert current(system, 1, "A[0,0]") == 0.25
    assert current(system, 0, "A[0, 1]") == 0.0
    assert current(system, 0, "input[0]") == 0.3
    system.model.cell.h.data.fill_(0.5)
    assert current(system, 1, "h1[0]") == pytest.approx(0.5)  # without what the input adds
    found = swept(system, 1, "h1[0]", torch.tensor([0.0, 0.5]))
    torch.testing.assert_close(found.states[:, 0, -1, 0], torch.tensor([0.9, 1.4]).double() / 0.75)


def test_a_driven_machine_is_not_called_autonomous():
    with pytest.raises(BadInput, match="--input 0 0"):
        alone(Recurrent(RecurrentConfig(inputs=2), Space((10, 2), "real")))
    with pytest.raises(BadInput, match="no inputs"):
        alone(halving(), [1.0])


@pytest.mark.parametrize("name", ["A[2,0]", "A[0]", "h1[0,0]", "input[1]", "B[0]", "A", "__class__"])
def test_a_parameter_that_is_not_there_is_named(name):
    with pytest.raises(BadInput, match=r"shape|no parameter"):
        current(alone(halving(inputs=1), [0.0]), 0, name)


def test_a_gru_has_exponents_but_no_cycles():
    model = Recurrent(RecurrentConfig(cell="gru", hidden=3), Space((10, 2), "real"))
    system = alone(model)
    assert exponents(system, 2, 20).isfinite().all()
    found = taken_apart(system, 0, steps=100)
    assert found.census is None
    with pytest.raises(BadInput, match="GRU"):
        system.member(0)
    assert math.isfinite(float(found.pushed.sum()))
