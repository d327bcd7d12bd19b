"""Hamiltonian moves against what they must conserve: volume, energy, direction of time, and the density itself."""

import math

import pytest
import torch
from torch import Tensor, nn

from reverie.maths.hmc import State, leapfrog, transition


def banana(z: Tensor) -> list[Tensor]:
    """Two bent wells: nothing about it is Gaussian."""
    return [-(z[:, 0].square() - 1).square(), -2 * (z[:, 1] - 0.5 * z[:, 0].square()).square()]


BOTH = (1.0, 1.0)


def steps(n: int, size: float) -> Tensor:
    return torch.full((n, 1), size, dtype=torch.float64)


def moves(density, z, size, leaps, count, weights=(1.0,)) -> tuple[Tensor, float]:
    """z after `count` moves, and how often they were accepted."""
    state, accepted = State.at(density, z), []
    for _ in range(count):
        momentum, log_u = torch.randn_like(z), torch.rand(len(z), dtype=z.dtype).log()
        state, share = transition(density, state, momentum, log_u, steps(len(z), size), leaps, weights)
        accepted.append(float(share.mean()))
    return state.z, sum(accepted) / count


def test_the_slopes_are_those_of_the_terms_and_the_state_keeps_no_graph():
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    z = torch.randn(4, 3, dtype=torch.float64)

    def density(z: Tensor) -> list[Tensor]:
        return [net(z).squeeze(1), -0.5 * z.square().sum(1)]

    with torch.no_grad():
        state = State.at(density, z)
    assert not any(part.requires_grad for part in state)
    assert all(p.grad is None for p in net.parameters())
    weights = (0.3, 2.0)
    first, second = density(z.requires_grad_())
    (expected,) = torch.autograd.grad((0.3 * first + 2 * second).sum(), z)
    torch.testing.assert_close(state.force(weights), expected)
    z = z.detach()
    torch.testing.assert_close(state.log_p(weights), 0.3 * net(z).squeeze(1).detach() - z.square().sum(1))


def test_time_runs_backwards_when_the_momentum_is_turned():
    z, momentum = torch.randn(2, 50, 2, dtype=torch.float64)
    there, moving = leapfrog(banana, State.at(banana, z), momentum, steps(50, 0.1), 20, BOTH)
    assert (there.z - z).abs().mean() > 0.5
    back, stopped = leapfrog(banana, there, -moving, steps(50, 0.1), 20, BOTH)
    torch.testing.assert_close(back.z, z)
    torch.testing.assert_close(-stopped, momentum)


@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.3, 2.0)])
def test_volume_is_preserved(scale):
    """The determinant of the flow's Jacobian, by central differences: a column for each of (z, momentum)."""
    here, tiny = torch.tensor([0.7, -0.3, 0.4, 1.1], dtype=torch.float64), 1e-5
    nudged = torch.cat([here + tiny * torch.eye(4).double(), here - tiny * torch.eye(4).double()])
    step = 0.2 * torch.tensor([scale], dtype=torch.float64).expand(8, 2)
    state, momentum = leapfrog(banana, State.at(banana, nudged[:, :2]), nudged[:, 2:], step, 7, BOTH)
    flow = torch.cat([state.z, momentum], 1)
    jacobian = ((flow[:4] - flow[4:]) / (2 * tiny)).T
    assert (jacobian - torch.eye(4)).abs().max() > 0.5
    assert abs(torch.linalg.det(jacobian) - 1) < 1e-6


def test_the_error_of_the_energy_is_of_second_order_and_acceptance_goes_to_one():
    z, momentum = torch.randn(2, 500, 2, dtype=torch.float64) * 0.7
    start = State.at(banana, z)
    errors, refused = [], []
    for halvings in range(3):
        size, leaps = 0.1 / 2**halvings, 10 * 2**halvings
        end, after = leapfrog(banana, start, momentum, steps(500, size), leaps, BOTH)
        change = end.log_p(BOTH) - start.log_p(BOTH) + 0.5 * (momentum.square() - after.square()).sum(1)
        errors.append(float(change.abs().mean()))
        _, accepted = transition(banana, start, momentum, z[:, 0], steps(500, size), leaps, BOTH)
        torch.testing.assert_close(accepted, change.exp().clamp(max=1))
        refused.append(1 - float(accepted.mean()))
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.15)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.05)
    assert refused[2] < refused[0] / 10 < 0.01


def test_a_gaussian_is_left_as_it_was():
    """From exact draws, with steps so long that a fifth to a half of the moves are refused."""
    n = 40_000
    root = torch.tensor([[1.0, 0.0], [0.8, 0.5]], dtype=torch.float64)
    precision = torch.linalg.inv(root @ root.T)
    z = torch.randn(n, 2, dtype=torch.float64) @ root.T + 3

    def density(z: Tensor) -> list[Tensor]:
        return [-0.5 * torch.einsum("ni,ij,nj->n", z - 3, precision, z - 3)]

    after, accepted = moves(density, z, 0.6, 3, 5)
    assert 0.5 < accepted < 0.8
    white = torch.linalg.solve_triangular(root, (after - 3).T, upper=False)
    assert (white.mean(1).abs() < 4 / math.sqrt(n)).all()
    second = white @ white.T / n
    assert ((second - torch.eye(2)).abs() < 4 * math.sqrt(2 / n)).all()
    assert abs(float(white.pow(4).mean()) - 3) < 4 * math.sqrt(96 / (2 * n))


def test_two_bent_wells_are_found_with_the_moments_of_a_grid():
    n = 8000
    start = 3 * torch.rand(n, 2, dtype=torch.float64) - 1.5
    z, accepted = moves(banana, start, 0.25, 6, 40, BOTH)
    assert 0.5 < accepted < 0.95
    axis = torch.linspace(-4, 6, 801, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    p = torch.softmax(sum(banana(grid)), 0)
    for moment in (
        lambda z: z[:, 0],
        lambda z: z[:, 1],
        lambda z: z[:, 0].square(),
        lambda z: z[:, 1].square(),
        lambda z: z[:, 0].square() * z[:, 1],
        lambda z: (z[:, 0].abs() < 0.5).double(),
    ):
        found = moment(z)
        assert abs(found.mean() - p @ moment(grid)) < 4 * found.std() / math.sqrt(n)


def test_a_trajectory_that_leaves_the_support_is_refused():
    """log p of a Gamma(3, 1), which is not a number below zero: mean and variance are 3."""
    n = 4000
    z, accepted = moves(lambda z: [2 * z[:, 0].log() - z[:, 0]], torch.full((n, 1), 2.0).double(), 0.8, 3, 30)
    assert accepted < 0.95
    assert (z > 0).all()
    assert abs(z.mean() - 3) < 4 * math.sqrt(3 / n)
    assert abs(z.var() - 3) < 4 * math.sqrt((9 + 6 * 3 + 18) / n)  # excess kurtosis 6 / 3
