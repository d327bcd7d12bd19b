"""Counts against scipy, against sums over their whole support, and against their own draws."""

import math

import pytest
import scipy.stats
import torch

from reverie.core.counts import NORMAL_FROM, NegativeBinomial, Poisson
from reverie.core.errors import BadInput


def one(value: float, dtype=torch.float64) -> torch.Tensor:
    return torch.full((1, 1), math.log(value), dtype=dtype)


def poisson(rate: float):
    return Poisson(one(rate)), scipy.stats.poisson(rate)


def negative_binomial(mean: float, r: float):
    return NegativeBinomial(one(mean), one(r)), scipy.stats.nbinom(r, r / (r + mean))


PAIRS = [lambda rate=rate: poisson(rate) for rate in (1e-6, 0.3, 9.7, 2000.0)] + [
    lambda m=m, r=r: negative_binomial(m, r)
    for m, r in [(0.01, 5.0), (3.0, 0.05), (3.0, 1.0), (50.0, 20.0), (800.0, 0.7), (40.0, 1e7), (1e-4, 1e-3)]
]
ids = [f"poisson{i}" for i in range(4)] + [f"negative_binomial{i}" for i in range(7)]


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_masses_sum_to_one_and_are_scipys(pair):
    p, reference = pair()
    k = torch.arange(int(reference.isf(1e-12)) + 2, dtype=torch.float64)
    log_p = p.log_prob(k.view(-1, 1))
    assert abs(log_p.exp().sum().item() - 1) < 1e-10
    torch.testing.assert_close(log_p, torch.from_numpy(reference.logpmf(k.numpy())), rtol=1e-8, atol=1e-7)
    mean = (log_p.exp() * k).sum()
    variance = (log_p.exp() * (k - mean).square()).sum()
    m = p.mean.squeeze()
    torch.testing.assert_close(mean, m, rtol=1e-6, atol=0)
    spread = m.square() / p.log_r.exp().squeeze() if isinstance(p, NegativeBinomial) else 0
    torch.testing.assert_close(variance, m + spread, rtol=1e-6, atol=0)


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_draws_follow_the_masses(pair):
    p, reference = pair()
    n = 40_000
    draws = p.sample(n).flatten().long()
    # Cells of about equal mass, none expected fewer than twenty times.
    edges = sorted({int(reference.ppf(q)) for q in torch.linspace(0.005, 0.995, 40).tolist()})
    edges = [e for e in edges if n * reference.sf(e) > 20]
    if not edges:  # next to all of it is at 0
        assert abs((draws > 0).sum() - n * reference.sf(0)) <= 4 * math.sqrt(n * reference.sf(0)) + 4
        return
    cell = torch.bucketize(draws, torch.tensor(edges))  # e_(i-1) < k <= e_i
    expected = torch.tensor([0.0, *reference.cdf(edges), 1.0], dtype=torch.float64).diff() * n
    seen = torch.bincount(cell, minlength=len(expected)).double()
    keep = expected > 0
    chi = ((seen - expected)[keep].square() / expected[keep]).sum().item()
    assert scipy.stats.chi2.sf(chi, int(keep.sum()) - 1) > 1e-4


@pytest.mark.parametrize("rate", [NORMAL_FROM * 0.99, NORMAL_FROM * 1.01, 1e10, 1e20])
def test_large_rates_are_drawn_with_their_mean_and_variance(rate):
    n = 20_000
    off = (Poisson(one(rate)).sample(n).flatten() - rate) / math.sqrt(rate)
    assert abs(off.mean()) < 4 / math.sqrt(n)
    assert abs(off.var() - 1) < 4 * math.sqrt(2 / n)
    wide = NegativeBinomial(one(rate), one(4.0)).sample(n).flatten() / rate
    assert abs(wide.mean() - 1) < 4 * 0.5 / math.sqrt(n)
    assert abs(wide.var() - 0.25) < 4 * 0.25 * math.sqrt((2 + 6 / 4) / n)  # a Gamma's kurtosis is 6 / r
    assert wide.min() >= 0


@pytest.mark.parametrize("log_mean", [-60.0, -8.0, 0.0, 9.0, 25.0])
@pytest.mark.parametrize("log_r", [-20.0, -3.0, 0.0, 8.0, 40.0, math.inf])
def test_float32_agrees_with_float64_and_so_do_gradients(log_mean, log_r):
    """From nothing to a hundred million counts. `log_r` infinite stands for Poisson."""
    near = [] if log_mean < 0 else [round(math.exp(log_mean) * f) for f in (0.5, 0.999, 1.0, 1.5)]
    x = torch.tensor([0.0, 1, 2, 7, 10, 11, 1000, 1e6, 1e8, *near]).view(-1, 1)
    answers = []
    for dtype in (torch.float32, torch.float64):
        parameters = [torch.full((1, 1), v, dtype=dtype, requires_grad=True) for v in (log_mean, log_r) if v < math.inf]
        p = Poisson(*parameters) if log_r == math.inf else NegativeBinomial(*parameters)
        nats = p.log_prob(x.to(dtype))
        gradients = [torch.autograd.grad(v, parameters, retain_graph=True) for v in nats]
        answers.append((nats, torch.tensor([[float(g) for g in row] for row in gradients])))
    (small, small_gradient), (large, large_gradient) = answers
    assert small.isfinite().all()
    assert small_gradient.isfinite().all()
    # A count k and its mean are known to one part in 10^7 each, so a log ratio is, and it is multiplied by k; the mass
    # itself moves by as much if the parameter does by its last bit.
    blur = 3e-6 * (1 + large_gradient.abs().sum(1))
    error = (small.double() - large).abs()
    assert (error <= blur + 1e-5 * large.abs()).all()
    scale = torch.maximum(x.squeeze(1), torch.full((), math.exp(log_mean)))
    assert ((small_gradient - large_gradient).abs() <= 1e-5 * scale[:, None] + 1e-4).all()


def test_a_large_r_is_a_poisson():
    k = torch.arange(60, dtype=torch.float64).view(-1, 1)
    torch.testing.assert_close(
        NegativeBinomial(one(20.0), one(1e15)).log_prob(k), Poisson(one(20.0)).log_prob(k), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("make", [Poisson, lambda p: NegativeBinomial(p, torch.zeros(1))])
def test_impossible_counts_have_no_mass_and_no_gradient(make):
    parameter = torch.randn(1, 1, requires_grad=True)
    log_p = make(parameter).log_prob(torch.tensor([[-1.0], [0.5], [math.inf]]))
    assert (log_p == -math.inf).all()
    log_p.sum().backward()
    assert parameter.grad.item() == 0


@pytest.mark.parametrize("make", [Poisson, lambda p: NegativeBinomial(p, p)])
def test_observed_counts_are_marginals_and_hidden_ones_reach_nothing(make):
    parameter = torch.randn(1, 4, requires_grad=True)
    p = make(parameter)
    observed = torch.tensor([[True, False, True, False]])
    x = torch.tensor([[2.0, math.nan, 0.0, -7.5]])
    log_p = p.log_prob(x, observed)
    torch.testing.assert_close(log_p, make(parameter[:, [0, 2]]).log_prob(x[:, [0, 2]]))
    log_p.sum().backward()
    assert parameter.grad.isfinite().all()
    assert torch.equal(parameter.grad != 0, observed)


@pytest.mark.parametrize(
    ("p", "y", "noise"),
    [
        (Poisson(one(5.0)), 7.3, 2.0),
        (Poisson(one(100.0)), 100.0, 3.0),  # peaks that agree, so that the noise alone says how far to look
        (Poisson(one(5.0)), 60.0, 3.0),  # far from what is expected
        (Poisson(one(300.0)), 3.0, 40.0),
        (Poisson(one(4.0)), -1.0, 1e4),  # noise that hides everything
        (NegativeBinomial(one(8.0), one(0.1)), 6.4, 3.0),  # one peak at 0, another near y
        (NegativeBinomial(one(200.0), one(2.0)), 30.2, 0.3),
    ],
)
def test_denoising_draws_from_the_posterior(p, y, noise):
    k = torch.arange(3000, dtype=torch.float64)
    posterior = torch.softmax(p.log_prob(k.view(-1, 1)) - 0.5 * ((y - k) / noise).square(), 0)
    n = 3_000
    wide = type(p)(*(v.expand(n, 1) for v in vars(p).values() if isinstance(v, torch.Tensor)))
    draws = wide.denoise(torch.full((n, 1), y, dtype=torch.float64), noise).flatten()
    cells = posterior * n > 8
    seen = torch.bincount(draws.long(), minlength=3000).double()
    rest = max(n * posterior[~cells].sum().item(), 1e-9)
    chi = ((seen - n * posterior)[cells].square() / (n * posterior[cells])).sum().item()
    assert scipy.stats.chi2.sf(chi, max(1, int(cells.sum()) - 1)) > 1e-4
    assert seen[~cells].sum() <= rest + 5 * math.sqrt(rest) + 5


def test_what_cannot_be_enumerated_is_not_denoised():
    with pytest.raises(BadInput, match="cannot be denoised"):
        Poisson(one(1e6)).denoise(torch.full((1, 1), 1e6, dtype=torch.float64), 1e4)


def test_what_was_not_seen_needs_no_denoising():
    p = Poisson(one(1e6).expand(1, 2))
    y, observed = torch.tensor([[1e6, 0.0]], dtype=torch.float64), torch.tensor([[True, False]])
    filled = p.fill(y, observed, 2.0)
    assert abs(filled[0, 0] - 1e6) < 12
    assert abs(filled[0, 1] - 1e6) < 6000
