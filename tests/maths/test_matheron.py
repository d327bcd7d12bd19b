import pytest
import torch

from reverie.maths.matheron import Linearised

Z, D, N = 3, 6, 200_000


@pytest.fixture
def world():
    """z ~ N(1, diag), x = W z + b + noise: draws of both, and what made them."""
    spread, slope = torch.tensor([1.0, 0.5, 2.0]), torch.randn(D, Z)
    deviation = torch.rand(D) + 0.2

    def draw(n: int):
        z = 1 + spread * torch.randn(n, Z)
        return z, z @ slope.T - 2 + deviation * torch.randn(n, D)

    return draw, spread, slope, deviation


def conditional(world, y, observed, noise, doubt):
    """Mean and covariance of z given the observed entries of y, by the formula for Gaussians."""
    _, spread, slope, deviation = world
    w, s = slope[observed], doubt * deviation[observed].square() + noise**2
    covariance = torch.linalg.inv(torch.diag(1 / spread.square()) + w.T @ torch.diag(1 / s) @ w)
    return 1 + covariance @ w.T @ ((y[observed] - w.sum(1) + 2) / s), covariance


def test_what_is_linear_is_found(world):
    draw, spread, slope, deviation = world
    found = Linearised.of(*draw(N))
    assert torch.allclose(found.slope, slope, atol=0.05)
    assert torch.allclose(found.rest.sqrt(), deviation, rtol=0.02)
    assert torch.allclose(found.precision, torch.diag(1 / spread.square()), atol=0.1)


@pytest.mark.parametrize(("noise", "doubt"), [(0.0, 1.0), (0.7, 1.0), (0.0, 5.0), (0.3, 2.0)])
def test_moved_draws_have_the_gaussian_conditional(world, noise, doubt):
    draw, *_ = world
    linear = Linearised.of(*draw(N))
    y = draw(2)[1]
    observed = torch.tensor([[True, False, True, True, False, True], [False, True, False, False, False, False]])
    n = 40_000
    z, x = (part.view(n, 2, -1) for part in draw(2 * n))
    moved = linear.moved(z, x, y, observed, noise, doubt)
    for i in range(2):
        mean, covariance = conditional(world, y[i], observed[i], noise, doubt)
        spread = covariance.diagonal().sqrt()
        assert ((moved[:, i].mean(0) - mean).abs() < 0.08 * spread).all()
        assert torch.allclose(torch.cov(moved[:, i].T), covariance, atol=0.05 * float(spread.max() ** 2))


def test_where_nothing_is_seen_nothing_moves(world):
    draw, *_ = world
    z, x = draw(N)
    linear = Linearised.of(z, x)
    some = z[:20].view(10, 2, Z)
    moved = linear.moved(some, x[:20].view(10, 2, D), torch.zeros(2, D), torch.zeros(2, D, dtype=torch.bool))
    assert torch.equal(moved, some)
