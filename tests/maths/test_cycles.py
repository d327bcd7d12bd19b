import pytest
import torch

from reverie.core.errors import BadInput
from reverie.core.shallow import Shallow
from reverie.maths.chaos import orbit
from reverie.maths.cycles import cycles

DOUBLE = torch.float64


def plrnn(a1, w1):
    """The PLRNN in the plane of Eisenmann et al. (2023)."""
    A = torch.diag(torch.tensor([a1, 0.96461297], dtype=DOUBLE))
    W = torch.tensor([[0.0, w1], [0.52505308, 0.0]], dtype=DOUBLE)
    h = torch.tensor([0.37298253, -0.97931491], dtype=DOUBLE)
    return Shallow(A[None], W[None], torch.eye(2, dtype=DOUBLE)[None], h[None], torch.zeros(1, 2, dtype=DOUBLE))


def tent(slope):
    parts = [[[slope]]], [[[-2 * slope]]], [[[1.0]]], [[0.0]], [[-0.5]]
    return Shallow(*(torch.tensor(n, dtype=DOUBLE) for n in parts))


def test_the_published_fixed_point():
    (only,) = cycles(plrnn(-0.0222311, -0.64375)).cycles
    assert [round(v, 2) for v in only.points[0].tolist()] == [0.36, -22.26]
    assert only.kind == "stable"


@pytest.mark.parametrize(("a1", "w1", "period"), [(0.8377689, -0.64375, 16), (0.9777689, -0.14375, 27)])
def test_the_published_cycles(a1, w1, period):
    weights = plrnn(a1, w1)
    found = cycles(weights, [period], patience=2)
    assert [one.period for one in found.cycles] == [period, period]
    assert sorted(one.kind for one in found.cycles) == ["saddle", "stable"]
    assert found.complete == ()
    for one in found.cycles:
        assert one.residual < 1e-10
        around = orbit(weights.step, one.points[None], period)
        torch.testing.assert_close(around[-1, 0], one.points)
        torch.testing.assert_close(around[1, 0], one.points.roll(-1, 0))


def test_the_tent_map_has_as_many_cycles_as_it_must():
    """At slope s each word of k letters is one point of period k or of a divisor: 2, 2, 6, 12 points of least period k."""
    found = cycles(tent(1.99999), range(1, 6))
    assert [sum(one.period == k for one in found.cycles) for k in range(1, 6)] == [2, 1, 2, 3, 6]
    assert found.complete == (1, 2, 3, 4, 5)
    for one in found.cycles:
        assert one.kind == "unstable"
        assert one.eigenvalues.abs().item() == pytest.approx(1.99999**one.period)


def test_the_heuristic_finds_what_trying_everything_finds():
    random = torch.Generator().manual_seed(1)
    shapes = (3, 3), (3, 6), (6, 3), (3,), (6,)
    for _ in range(2):
        A, W1, W2, h1, h2 = (torch.randn(1, *shape, dtype=DOUBLE, generator=random) for shape in shapes)
        weights = Shallow(0.5 * A, 0.8 * W1, W2, h1, h2)
        everything = cycles(weights, [1, 2])
        heuristic = cycles(weights, [1, 2], enumerable=0, patience=3, start=torch.randn(100, 3, dtype=DOUBLE))
        assert everything.complete == (1, 2)
        assert heuristic.complete == ()
        assert len(everything.cycles) == len(heuristic.cycles)
        for one in everything.cycles:
            assert any(torch.cdist(one.points, two.points).min() < 1e-6 for two in heuristic.cycles)


def test_stability_is_that_of_orbits_beside_it():
    weights = plrnn(0.8377689, -0.64375)
    for one in cycles(weights, [1, 16], patience=1).cycles:
        end = orbit(weights.step, one.points[None, :1] + 1e-6, 200 * one.period)[-1, 0]
        returned = bool(torch.linalg.vector_norm(end - one.points[0]) < 1e-9)
        assert returned == (one.unstable == 0)


def test_a_fixed_point_on_the_border_of_regions_is_found_and_a_line_of_them_is_not():
    zero = torch.zeros(1, 2, dtype=DOUBLE)
    weights = Shallow(torch.full((1, 1, 1), 0.5, dtype=DOUBLE), torch.full((1, 1, 2), 0.1, dtype=DOUBLE),
                      torch.tensor([[[1.0], [-1.0]]], dtype=DOUBLE), zero[:, :1], zero)  # fmt: skip
    (only,) = cycles(weights).cycles
    assert only.points.abs().max() < 1e-12
    assert (
        cycles(weights._replace(A=torch.ones(1, 1, 1, dtype=DOUBLE), W1=torch.zeros(1, 1, 2, dtype=DOUBLE))).cycles
        == []
    )


def test_what_cannot_be_searched_is_refused():
    two = Shallow(*(torch.cat([part, part]) for part in tent(1.5)))
    with pytest.raises(BadInput, match="one member, not 2"):
        cycles(two)
    with pytest.raises(BadInput, match="periods from 1 on"):
        cycles(tent(1.5), [0])


def test_a_map_without_units_has_the_fixed_point_of_a_linear_one():
    A = torch.diag(torch.tensor([0.5, -0.25], dtype=DOUBLE))
    nothing = torch.zeros(1, 2, 0, dtype=DOUBLE), torch.zeros(1, 0, 2, dtype=DOUBLE)
    weights = Shallow(A[None], *nothing, torch.ones(1, 2, dtype=DOUBLE), torch.zeros(1, 0, dtype=DOUBLE))
    (only,) = cycles(weights).cycles
    torch.testing.assert_close(only.points[0], torch.tensor([2.0, 0.8], dtype=DOUBLE))
