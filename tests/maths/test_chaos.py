import math

import pytest
import torch

from reverie.core.errors import BadInput
from reverie.core.shallow import Shallow
from reverie.maths.chaos import kaplan_yorke, kick, lyapunov_spectrum, orbit

DOUBLE = torch.float64


def tent(slope):
    """z' = s z up to 1/2, s (1 - z) beyond, as a Shallow: s z - 2 s relu(z - 1/2)."""
    parts = [[[slope]]], [[[-2 * slope]]], [[[1.0]]], [[0.0]], [[-0.5]]
    return Shallow(*(torch.tensor(n, dtype=DOUBLE) for n in parts))


def test_a_linear_map_has_the_logarithms_of_its_eigenvalues():
    basis = torch.randn(4, 4, dtype=DOUBLE)
    matrix = basis @ torch.diag(torch.tensor([1.5, -0.9, 0.3, 0.01], dtype=DOUBLE)) @ torch.linalg.inv(basis)
    args = (lambda z: z + 0.1, lambda z: matrix.expand(2, 4, 4), torch.zeros(2, 4, dtype=DOUBLE), 200)
    expected = torch.tensor([1.5, 0.9, 0.3, 0.01], dtype=DOUBLE).log().expand(2, 4)
    found = lyapunov_spectrum(*args, warm_up=100)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(lyapunov_spectrum(*args, warm_up=100, count=2), found[:, :2])
    torch.testing.assert_close(lyapunov_spectrum(*args, warm_up=100, every=3), found, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(lyapunov_spectrum(*args, warm_up=100, dt=0.5), 2 * found)


def test_a_rotation_neither_parts_nor_joins():
    turn = torch.tensor([[math.cos(1.0), -math.sin(1.0)], [math.sin(1.0), math.cos(1.0)]], dtype=DOUBLE)
    start = torch.ones(1, 2, dtype=DOUBLE)
    found = lyapunov_spectrum(lambda z: z @ turn.T, lambda z: turn.expand(1, 2, 2), start, 100)
    torch.testing.assert_close(found, torch.zeros(1, 2, dtype=DOUBLE), rtol=0, atol=1e-12)


@pytest.mark.parametrize("slope", [1.2, 1.7, 1.99])
def test_the_tent_map_parts_neighbours_by_its_slope(slope):
    weights = tent(slope)
    found = lyapunov_spectrum(weights.step, weights.jacobian, torch.rand(1, 5, 1, dtype=DOUBLE), 300, warm_up=10)
    torch.testing.assert_close(found, torch.full((1, 5, 1), math.log(slope), dtype=DOUBLE))


def test_the_logistic_map_at_its_end_parts_them_by_log_two():
    start = torch.rand(200, 1, dtype=DOUBLE)
    found = lyapunov_spectrum(lambda z: 4 * z * (1 - z), lambda z: (4 - 8 * z).unsqueeze(-1), start, 1000, warm_up=50)
    assert found.mean().item() == pytest.approx(math.log(2), rel=0.005)


def test_members_are_as_they_would_be_alone_and_one_that_runs_away_spoils_no_other():
    both = Shallow(*(torch.cat([a, b]) for a, b in zip(tent(1.5), tent(-3.0), strict=True)))
    start = torch.full((2, 1, 1), 0.3, dtype=DOUBLE)
    found = lyapunov_spectrum(both.step, both.jacobian, start, 2000)
    assert found[0].item() == pytest.approx(math.log(1.5))
    assert found[1].isnan().all()
    assert kaplan_yorke(found)[1].isnan()


def test_the_low_end_of_a_spectrum_is_not_lost_between_two_frames():
    """Of an orbit in float32 too, whose rounding is coarser than what five steps leave of the last direction."""
    values = torch.tensor([1.2, 0.5, 0.01], dtype=DOUBLE)
    basis = torch.randn(3, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    matrix = basis @ torch.diag(values) @ torch.linalg.inv(basis)
    start = torch.zeros(1, 3)
    found = lyapunov_spectrum(lambda z: z, lambda z: matrix.expand(1, 3, 3), start, 200, warm_up=50, every=5)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found[0].double(), values.log(), rtol=0, atol=1e-4)


def test_a_forgotten_direction_is_minus_infinity():
    flat = torch.tensor([[2.0, 0.0], [0.0, 0.0]], dtype=DOUBLE)
    found = lyapunov_spectrum(lambda z: z, lambda z: flat.expand(1, 2, 2), torch.zeros(1, 2, dtype=DOUBLE), 10)
    assert found[0, 1].item() == -math.inf


def test_kaplan_yorke_of_known_spectra():
    spectra = torch.tensor([[0.9, 0.0, -14.5], [0.5, 0.2, 0.1], [-0.1, -0.2, -0.3], [0.5, -0.5, -1.0]], dtype=DOUBLE)
    expected = torch.tensor([2 + 0.9 / 14.5, 3.0, 0.0, 2.0], dtype=DOUBLE)
    torch.testing.assert_close(kaplan_yorke(spectra), expected)


def test_a_kick_moves_a_linear_map_by_its_powers():
    matrix = torch.randn(3, 3, dtype=DOUBLE)
    start = torch.randn(4, 3, dtype=DOUBLE)
    moved = kick(lambda z: z @ matrix.T + 1, start, 0.5, 3)
    assert moved.shape == (3, 4, 4, 3)
    for unit in range(3):
        for t in range(4):
            column = 0.5 * torch.linalg.matrix_power(matrix, t)[:, unit]
            torch.testing.assert_close(moved[unit, t], column.expand(4, 3))
    assert orbit(lambda z: 2 * z, torch.ones(1), 3).squeeze().tolist() == [1, 2, 4, 8]


def test_no_steps_are_refused():
    with pytest.raises(BadInput, match="need steps"):
        lyapunov_spectrum(lambda z: z, lambda z: z, torch.zeros(1, 2), 0)
