"""Every distribution against what must be true of it: masses sum to one, draws follow them, observed
coordinates are marginals, and an unobserved NaN reaches nothing."""

import math

import pytest
import torch

from reverie.core.bytes import Binned, LogisticMixture
from reverie.core.counts import Poisson
from reverie.core.distributions import Bernoulli, Gaussian, Lattice
from reverie.core.errors import BadInput
from reverie.core.lattice import snap
from reverie.core.table import Category

BYTES = torch.arange(256) / 127.5 - 1


def logistic(m: int, *event: int, dtype=torch.float32) -> LogisticMixture:
    loc = torch.randn(1, m, *event, dtype=dtype)
    log_scale = torch.randn(1, m, *event, dtype=dtype) * 2 - 3
    return LogisticMixture(loc, log_scale, torch.randn(1, m, *event, dtype=dtype), len(event))


@pytest.mark.parametrize("m", [1, 4])
@pytest.mark.parametrize("loc", [-3.0, -1.0, 0.2, 1.0, 3.0])
@pytest.mark.parametrize("log_scale", [-7.0, -3.0, 1.0])
def test_logistic_masses_sum_to_one_edges_and_tails_included(m, loc, log_scale):
    one = torch.ones(1, m, 1, dtype=torch.float64)
    p = LogisticMixture(loc * one, log_scale * one, torch.randn(1, m, 1, dtype=torch.float64))
    mass = p.log_prob(BYTES.double().view(256, 1)).exp()
    assert mass.min() >= 0
    torch.testing.assert_close(mass.sum(), torch.ones((), dtype=torch.float64), rtol=0, atol=1e-6)


def test_logistic_gradients_stay_finite_far_from_the_data():
    loc = torch.tensor([[[5.0]]], requires_grad=True)
    log_scale = torch.tensor([[[-7.0]]], requires_grad=True)
    p = LogisticMixture(loc, log_scale, torch.zeros(1, 1, 1))
    p.log_prob(torch.tensor([[-0.5]])).sum().backward()
    assert loc.grad.isfinite().all()
    assert log_scale.grad.isfinite().all()
    assert loc.grad.item() < 0  # likelier if moved towards the data


@pytest.mark.parametrize("m", [1, 3])
def test_logistic_draws_follow_its_masses(m):
    p = LogisticMixture(torch.linspace(-0.9, 0.8, m).view(1, m, 1), torch.full((1, m, 1), -2.0), torch.zeros(1, m, 1))
    n = 200_000
    level = torch.round((p.sample(n).flatten() + 1) * 127.5).long()
    seen = torch.bincount(level, minlength=256) / n
    mass = p.log_prob(BYTES.view(256, 1)).exp()
    assert (seen - mass).abs().max() < 5 * math.sqrt(mass.max() / n)


def test_lattice_draws_follow_its_table():
    p = Lattice(torch.randn(1, 2, 256), BYTES)
    n = 100_000
    level = p.levels(p.sample(n))[:, 0]
    for d in range(2):
        seen = torch.bincount(level[:, d], minlength=256) / n
        assert (seen - p.log_p[0, d].exp()).abs().max() < 5 * math.sqrt(p.log_p[0, d].exp().max() / n)


@pytest.mark.parametrize("kind", ["gaussian", "bernoulli", "lattice", "logistic", "binned"])
def test_observed_coordinates_are_marginals_and_hidden_ones_reach_nothing(kind):
    parameter = torch.randn(1, 4, requires_grad=True)
    p = {
        "gaussian": lambda: Gaussian(parameter, torch.zeros(1, 4)),
        "bernoulli": lambda: Bernoulli(parameter),
        "lattice": lambda: Lattice(parameter.unsqueeze(-1) * torch.arange(256) / 100, BYTES),
        "logistic": lambda: LogisticMixture(parameter.unsqueeze(1), torch.zeros(1, 1, 4), torch.zeros(1, 1, 4)),
        "binned": lambda: Binned(Gaussian(parameter, torch.zeros(1, 4))),
    }[kind]()
    observed = torch.tensor([[True, False, True, False]])
    x = (p.sample() if kind != "gaussian" else torch.randn(1, 4)).detach()
    expected = p.terms(x)[0, [0, 2]].sum()
    x[~observed] = math.nan
    log_p = p.log_prob(x, observed)
    torch.testing.assert_close(log_p, expected.view(1))
    log_p.sum().backward()
    assert parameter.grad.isfinite().all()
    assert (parameter.grad[~observed] == 0).all()


@pytest.mark.parametrize("noise", [0.05, 0.4])
def test_denoising_draws_from_the_posterior(noise):
    """Mean and variance of p(x | y) by brute force over the 256 values."""
    y = torch.tensor([[0.13]])
    for p in (logistic(2, 1), Lattice(torch.randn(1, 1, 256), BYTES)):
        weight = p.log_prob(BYTES.view(256, 1)) - 0.5 * ((y[0, 0] - BYTES) / noise).square()
        weight = torch.softmax(weight, 0)
        mean = (weight * BYTES).sum()
        deviation = ((weight * BYTES.square()).sum() - mean**2).sqrt()
        draws = p.denoise(y.expand(2000, 1), noise).flatten()
        assert abs(draws.mean() - mean) < 4 * deviation / math.sqrt(2000) + 1e-6
        assert abs(draws.std() - deviation) < 0.1 * deviation + 1e-6


def test_denoising_a_gaussian_and_a_bit():
    n = 100_000
    p = Gaussian(torch.full((n, 1), 1.0), torch.zeros(1))
    draws = p.denoise(torch.full((n, 1), 3.0), 0.5)  # precision 1 at 1 and 4 at 3
    assert abs(draws.mean() - 2.6) < 0.01
    assert abs(draws.var() - 0.2) < 0.005
    bits = Bernoulli(torch.full((n, 1), math.log(0.3 / 0.7))).denoise(torch.full((n, 1), 0.8), 0.6)
    ratio = 0.3 / 0.7 * math.exp((0.8**2 - 0.2**2) / (2 * 0.36))
    assert abs(bits.mean() - ratio / (1 + ratio)) < 0.01


def test_binned_gaussian_sums_to_one_over_the_whole_lattice():
    wide = torch.arange(-2000, 2256, dtype=torch.float64) / 127.5 - 1
    for bytes_of_scale in (0.6, 1.0, 20.0):
        log_scale = torch.full((1, 1), math.log(bytes_of_scale / 127.5), dtype=torch.float64)
        mass = Binned(Gaussian(torch.full((1, 1), 0.123, dtype=torch.float64), log_scale)).log_prob(wide.view(-1, 1))
        bound = 4 * math.exp(-2 * math.pi**2 * bytes_of_scale**2) + 1e-12
        assert abs(mass.exp().sum().item() - 1) < bound


def test_snap_is_the_nearest_byte():
    x = torch.rand(1000) * 2.4 - 1.2
    nearest = BYTES[(x.view(-1, 1) - BYTES).abs().argmin(1)]
    torch.testing.assert_close(snap(x), nearest)


@pytest.mark.parametrize("m", [1, 3])
def test_float32_agrees_with_float64(m):
    p = logistic(m, 50, dtype=torch.float64)
    x = BYTES[torch.randint(256, (1, 50))].double()
    small = LogisticMixture(p.loc.float(), p.log_scale.float(), p.logits.float(), 1)
    torch.testing.assert_close(small.log_prob(x.float()).double(), p.log_prob(x), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
@pytest.mark.parametrize("kind", ["bits", "table", "one logistic", "three logistics", "categories"])
def test_at_a_temperature_probabilities_are_powers(kind, temperature):
    law, values = {
        "bits": lambda: (Bernoulli(torch.randn(1, 5).double()), torch.arange(2.0)),
        "table": lambda: (Lattice(torch.randn(1, 5, 256).double(), BYTES.double()), BYTES),
        "one logistic": lambda: (logistic(1, 5, dtype=torch.float64), BYTES),
        "three logistics": lambda: (logistic(3, 5, dtype=torch.float64), BYTES),
        "categories": lambda: (Category(torch.randn(1, 5, 4).double()), torch.arange(4.0)),
    }[kind]()
    values = values.double()
    every = values.view(-1, 1).expand(-1, 5)
    expected = torch.softmax(torch.stack([law.terms(row[None])[0] for row in every]) / temperature, 0)
    hot = law.tempered(temperature)
    found = torch.stack([hot.terms(row[None])[0] for row in every]).exp()
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)
    if kind == "categories":
        assert torch.equal(hot.mean, law.mean)
    else:
        torch.testing.assert_close(hot.mean[0], values @ expected, rtol=0, atol=2e-5)
    n = 20_000
    drawn = hot.sample(n)[:, 0]
    assert drawn.shape == (n, 5)
    mean, square = values @ expected, values.square() @ expected
    assert ((drawn.mean(0) - mean).abs() < 4.5 * ((square - mean.square()) / n).sqrt() + 1e-6).all()
    assert (drawn[:1000].unsqueeze(-1) - values).abs().min(-1).values.max() < 1e-6


def test_bytes_at_a_temperature_are_the_same_however_many_are_held_at_once(monkeypatch):
    law = LogisticMixture(torch.randn(7, 2, 1, 2, 3), torch.randn(7, 2, 1, 2, 3) - 3, torch.randn(7, 2, 1, 2, 3), 3)
    hot, x = law.tempered(0.6), BYTES[torch.randint(256, (7, 1, 2, 3))]
    together = hot.mean, hot.log_prob(x), hot.log_prob(x[:1])
    monkeypatch.setattr(type(hot), "at_once", 13)
    for a, b in zip(together, (hot.mean, hot.log_prob(x), hot.log_prob(x[:1])), strict=True):
        torch.testing.assert_close(a, b)
    assert hot.sample().shape == x.shape
    assert hot.sample(4).shape == (4, *x.shape)


def test_a_gaussian_at_a_temperature_is_wider_and_what_has_no_name_is_refused():
    law, x = Gaussian(torch.randn(1, 3), torch.randn(3)), torch.randn(2, 3)
    hot = law.tempered(2.5)
    (a, b), (c, d) = law.log_prob(x), hot.log_prob(x)
    torch.testing.assert_close(c - d, (a - b) / 2.5)
    torch.testing.assert_close(hot.sample(50_000).var(0)[0], 2.5 * law.scale.square(), rtol=0.05, atol=0)
    with pytest.raises(BadInput, match="Poisson is known at temperature 1"):
        Poisson(torch.zeros(1, 2)).tempered(2.0)
