"""Student's t against scipy, by integration, by its draws, and in its limits."""

import math

import pytest
import scipy.stats
import torch

from reverie.core.distributions import Gaussian
from reverie.core.student import StudentT

CASES = [(0.3, 0.0, 0.5), (-2.0, -1.0, 2.5), (5.0, 2.0, 19.9), (0.0, 0.0, 20.1), (1.0, -3.0, 1e4)]  # loc, log scale, df


def student(loc: float, log_scale: float, df: float, dtype=torch.float64, n: int = 1) -> StudentT:
    return StudentT(*(torch.full((n, 1), v, dtype=dtype) for v in (loc, log_scale, math.log(df))))


@pytest.mark.parametrize("case", CASES)
def test_densities_are_scipys_and_integrate_to_one(case):
    loc, log_scale, df = case
    p, reference = student(*case), scipy.stats.t(df, loc, math.exp(log_scale))
    # sinh spaces the grid evenly in the middle and geometrically in the tails
    s = torch.linspace(-80, 80, 40_001, dtype=torch.float64)
    x = loc + math.exp(log_scale) * torch.sinh(s)
    log_p = p.log_prob(x.view(-1, 1))
    mass = (log_p.exp() * math.exp(log_scale) * torch.cosh(s)).sum() * (s[1] - s[0])
    assert abs(mass.item() - 1) < 1e-9
    middle = s.abs() < 12
    torch.testing.assert_close(log_p[middle], torch.from_numpy(reference.logpdf(x[middle])), rtol=1e-9, atol=1e-7)


@pytest.mark.parametrize("case", CASES)
def test_draws_follow_the_density(case):
    loc, log_scale, df = case
    draws = student(*case).sample(20_000).flatten()
    assert scipy.stats.kstest(draws.numpy(), scipy.stats.t(df, loc, math.exp(log_scale)).cdf).pvalue > 1e-4


def test_draws_are_differentiable():
    """E x^2 = loc^2 + scale^2 df / (df - 2): its gradients, by draws and in closed form."""
    loc, log_scale, log_df = (torch.tensor([[v]], requires_grad=True) for v in (0.5, 0.2, math.log(12.0)))
    draws = StudentT(loc, log_scale, log_df).sample(400_000)
    found = torch.autograd.grad(draws.square().mean(), [loc, log_scale, log_df])
    scale = math.exp(0.2) ** 2
    expected = [1.0, 2 * scale * 12 / 10, -2 * scale * 12 / 10**2]
    for f, e in zip(found, expected, strict=True):
        assert abs(f.item() - e) < 0.05 * abs(e)


def test_many_degrees_of_freedom_are_a_gaussian_in_float32_too():
    x = torch.linspace(-6, 6, 101).view(-1, 1)
    gaussian = Gaussian(torch.zeros(1, 1), torch.zeros(1)).log_prob(x)
    for df in (1e8, 1e12, 1e30):
        torch.testing.assert_close(student(0, 0, df, torch.float32).log_prob(x), gaussian, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("df", [1e-3, 2.0, 19.9, 20.1, 1e3, 1e6])
@pytest.mark.parametrize("log_scale", [-7.0, 0.0, 7.0])
def test_float32_agrees_with_float64_and_so_do_gradients(log_scale, df):
    x = torch.tensor([0.0, 1e-3, 1.0, 30.0, 1e4, 1e15, 1e25]).view(-1, 1)
    answers = []
    for dtype in (torch.float32, torch.float64):
        parameters = [
            torch.full((7, 1), v, dtype=torch.float32).to(dtype).requires_grad_()
            for v in (0.1, log_scale, math.log(df))
        ]
        nats = StudentT(*parameters).log_prob(x.to(dtype))
        answers.append([nats, *torch.autograd.grad(nats.sum(), parameters)])
    for small, large in zip(*answers, strict=True):
        assert small.isfinite().all()
        torch.testing.assert_close(small.double(), large, rtol=1e-4, atol=1e-4 + 1e-6 * df)


def test_observed_entries_are_marginals_and_hidden_ones_reach_nothing():
    parameter = torch.randn(1, 4, requires_grad=True)
    observed = torch.tensor([[True, False, True, False]])
    x = torch.tensor([[2.0, math.nan, 0.0, math.inf]])
    log_p = StudentT(parameter, parameter, parameter).log_prob(x, observed)
    part = parameter[:, [0, 2]]
    torch.testing.assert_close(log_p, StudentT(part, part, part).log_prob(x[:, [0, 2]]))
    log_p.sum().backward()
    assert parameter.grad.isfinite().all()
    assert torch.equal(parameter.grad != 0, observed)


@pytest.mark.parametrize(
    ("df", "y", "noise"), [(2.5, 0.4, 0.7), (3.0, 8.0, 1.0), (3.0, 40.0, 0.05), (0.8, -5.0, 3.0), (200.0, 4.0, 1.0)]
)
def test_denoising_draws_from_the_posterior(df, y, noise):
    """Kolmogorov's distance from the posterior by brute force over a fine grid of x."""
    n = 5_000
    draws = student(0.2, 0.1, df, n=n).denoise(torch.full((n, 1), y, dtype=torch.float64), noise).flatten()
    x = torch.linspace(y - 12 * noise - 3, y + 12 * noise + 3, 200_001, dtype=torch.float64)
    score = student(0.2, 0.1, df).log_prob(x.view(-1, 1)) - 0.5 * ((y - x) / noise).square()
    cdf = torch.softmax(score, 0).cumsum(0)
    uniform = cdf[torch.searchsorted(x, draws).clamp(max=len(x) - 1)]
    assert scipy.stats.kstest(uniform.numpy(), "uniform").pvalue > 1e-4


@pytest.mark.parametrize("df", [0.1, 3.0])
def test_noise_that_hides_everything_leaves_the_density_with_its_farthest_tails(df):
    draws = student(0.0, 0.0, df, n=5_000).denoise(torch.zeros(5_000, 1, dtype=torch.float64), 1e60).flatten()
    assert scipy.stats.kstest(draws.numpy(), scipy.stats.t(df).cdf).pvalue > 1e-4
