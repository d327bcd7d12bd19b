"""Probabilistic PCA against dense Gaussian formulas written out in full."""

import math

import pytest
import torch

from reverie.core.corruption import SaltAndPepper
from reverie.core.errors import BadInput
from reverie.core.recipe import TrainingConfig
from reverie.core.space import Space
from reverie.data.arrays import from_array
from reverie.data.config import DataConfig
from reverie.models import linear
from reverie.models.linear import Linear, LinearConfig


@pytest.fixture(scope="module")
def fitted():
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(3, 8, generator=generator)
    clean = torch.randn(2000, 3, generator=generator) @ mix
    # One scale for all features, so that noise that is isotropic in the world is so for the model.
    x = 0.3 * mix.norm(dim=0) * torch.randn(2000, 8, generator=generator) + clean + 5
    data = from_array("made", x.numpy(), {"source": "made"}, DataConfig())
    model = Linear(LinearConfig(), data.space)
    model.solve(data, TrainingConfig())
    covariance = model.weights @ model.weights.T + model.noise * torch.eye(8, dtype=torch.float64)
    return model, data, torch.distributions.MultivariateNormal(model.mu, covariance)


def test_it_finds_the_size_of_the_latent_and_the_noise(fitted):
    model, _data, _ = fitted
    assert model.config.latent == 3
    # Each feature was made with noise of 0.3 of its signal, and scaled to one.
    assert abs(model.noise.sqrt() - 0.3 / (1 + 0.3**2) ** 0.5) < 0.02


@pytest.mark.parametrize("part", [7, 500, 1599, 10_000])
@pytest.mark.parametrize("count", [5, 2000])
def test_examples_are_taken_in_parts_and_give_what_all_of_them_give(monkeypatch, part, count):
    x = torch.randn(count, 8, generator=torch.Generator().manual_seed(1)) @ torch.diag(torch.arange(1.0, 9)) + 100
    data = from_array("made", x.numpy(), {"source": "made"}, DataConfig())
    monkeypatch.setattr(linear, "PART", part)
    model = Linear(LinearConfig(2), data.space)
    model.solve(data, TrainingConfig())
    whole = data.train.x().double()
    torch.testing.assert_close(model.mu, whole.mean(0))
    covariance = torch.cov(whole.T, correction=0)
    values, vectors = torch.linalg.eigh(covariance)
    torch.testing.assert_close(model.variances, values.flip(0)[:2].clamp(min=float(model.noise)))
    torch.testing.assert_close((model.axes.T @ vectors[:, -2:]).abs().sum(0), torch.ones(2, dtype=torch.float64))


def test_surprise_is_the_dense_formula(fitted):
    model, data, law = fitted
    x = data.test.x(20)
    torch.testing.assert_close(model.surprise(x).value.double(), -law.log_prob(x.double()), rtol=1e-4, atol=1e-4)


def test_surprise_of_a_part_is_the_marginal(fitted):
    model, data, law = fitted
    x = data.test.x(5)
    for keep in ([0, 3, 4], [7], list(range(8))):
        observed = torch.zeros(5, 8, dtype=torch.bool)
        observed[:, keep] = True
        part = torch.distributions.MultivariateNormal(law.loc[keep], law.covariance_matrix[keep][:, keep])
        found = model.surprise(x, observed).value.double()
        torch.testing.assert_close(found, -part.log_prob(x[:, keep].double()), rtol=1e-4, atol=1e-4)


def test_no_parameters_near_the_solution_are_likelier(fitted):
    """Tipping & Bishop's solution is the maximum of the likelihood on the training set."""
    model, data, _ = fitted
    x = data.train.x()
    best = model.surprise(x).value.double().mean()
    for name in ("mu", "noise", "variances"):
        for change in (0.97, 1.03):
            kept = getattr(model, name).clone()
            setattr(model, name, kept * change)
            assert model.surprise(x).value.double().mean() > best - 1e-6
            setattr(model, name, kept)


def test_encode_is_the_exact_posterior(fitted):
    """log p(x|z) + log p(z) - log p(z|x) is log p(x) at every z."""
    model, data, law = fitted
    x = data.test.x(4)
    q = model.encode(x)
    z = q.sample()
    whole = model.decode(z).log_prob(x) + model.prior.log_prob(z) - q.log_prob(z)
    torch.testing.assert_close(whole.double(), law.log_prob(x.double()), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("noise", [0.0, 0.7])
def test_repair_draws_from_the_gaussian_conditional(fitted, noise):
    model, data, law = fitted
    x = data.test.x(1)
    known = torch.tensor([True, False, True, True, False, True, False, True])
    n = 40_000
    draws = model.repair(x, known.expand(1, 8), n, noise)[:, 0].double()
    c = law.covariance_matrix
    seen = c[known][:, known] + noise**2 * torch.eye(int(known.sum()), dtype=torch.float64)
    gain = c[:, known] @ torch.linalg.inv(seen)
    mean = law.loc + gain @ (x[0, known].double() - law.loc[known])
    covariance = c - gain @ c[known]
    deviation = covariance.diagonal().clamp(min=0).sqrt()
    assert ((draws.mean(0) - mean).abs() < 5 * deviation / math.sqrt(n) + 1e-5).all()
    spread = torch.cov(draws.T)
    scale = torch.outer(deviation, deviation) + 1e-9
    if noise:
        assert ((spread - covariance).abs() / scale.clamp(min=1e-6)).max() < 0.05
    hidden = ~known
    assert ((spread - covariance)[hidden][:, hidden].abs() / scale[hidden][:, hidden]).max() < 0.05


def test_samples_have_the_covariance(fitted):
    model, _, law = fitted
    x = model.sample(50_000).double()
    assert (torch.cov(x.T) - law.covariance_matrix).abs().max() < 0.05
    assert (x.mean(0) - law.loc).abs().max() < 0.03


def test_other_noise_than_gaussian_is_refused():
    model = Linear(LinearConfig(latent=2), Space((5,), "real"))
    with pytest.raises(BadInput, match="Gaussian noise alone"):
        model.repair(torch.zeros(2, 5), None, 1, SaltAndPepper(0.1))


def test_holes_are_refused_wherever_they_are():
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)).numpy()
    whole = from_array("made", x, {"source": "made"}, DataConfig())
    for part in (whole.train, whole.valid):
        broken = x.copy()
        broken[part.start, 1] = torch.nan
        data = from_array("made", broken, {"source": "made"}, DataConfig())
        with pytest.raises(BadInput, match="missing entries"):
            Linear(LinearConfig(2), data.space).solve(data, TrainingConfig())
