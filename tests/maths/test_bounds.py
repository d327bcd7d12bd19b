"""Importance sampling against probabilistic PCA, where log p(x) is a formula."""

import math

import pytest
import torch
from torch import Tensor

from reverie.core.distributions import Gaussian
from reverie.core.space import Space
from reverie.maths import bounds
from reverie.models.latent import LatentModel
from reverie.nets.priors import StandardNormal

D, Z, NOISE = 6, 2, 0.5


class Known(LatentModel):
    """p(x|z) = N(Wz, s^2), q = the exact posterior, moved by `shift` and widened by `widen`."""

    def __init__(self, shift: float = 0.0, widen: float = 1.0):
        super().__init__(None, Space((D,), "real"))
        generator = torch.Generator().manual_seed(1)
        self.w = torch.randn(D, Z, generator=generator, dtype=torch.float64)
        # Orthogonal columns, so that the posterior factorises and a diagonal q can be exact.
        self.w = torch.linalg.qr(self.w)[0] * torch.tensor([2.0, 0.7], dtype=torch.float64)
        self.prior = StandardNormal(Z).double()
        self.variance = 1 / (1 + self.w.square().sum(0) / NOISE**2)
        self.shift, self.widen = shift, widen

    def encode(self, x: Tensor) -> Gaussian:
        mean = x @ self.w / NOISE**2 * self.variance + self.shift
        return Gaussian(mean, (0.5 * self.variance.log() + math.log(self.widen)).expand_as(mean))

    def decode(self, z: Tensor) -> Gaussian:
        return Gaussian(z @ self.w.T, torch.full((D,), math.log(NOISE), dtype=torch.float64))

    def exact(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        keep = torch.arange(D) if observed is None else observed.nonzero().flatten()
        covariance = self.w[keep] @ self.w[keep].T + NOISE**2 * torch.eye(len(keep), dtype=torch.float64)
        law = torch.distributions.MultivariateNormal(torch.zeros(len(keep), dtype=torch.float64), covariance)
        return -law.log_prob(x[:, keep])


@pytest.fixture
def x():
    return Known().sample(5)


def test_with_the_exact_posterior_every_weight_is_the_evidence(x):
    model = Known()
    log_w = bounds.log_weights(model, x, 7)
    torch.testing.assert_close(log_w, -model.exact(x).expand(7, 5))
    found = bounds.surprise(model, x, 1)
    torch.testing.assert_close(found.value, model.exact(x))
    assert found.error.max() < 1e-6


def test_the_evidence_bound_falls_short_by_the_kl(x):
    shift, widen = 0.3, 1.4
    model = Known(shift, widen)
    log_w = bounds.log_weights(model, x, 40_000)
    gap = -model.exact(x) - log_w.mean(0)
    q = model.encode(x)
    true = Known().encode(x)
    ratio = torch.exp(2 * (q.log_scale - true.log_scale))
    distance = ((q.loc - true.loc) / true.log_scale.exp()).square()
    kl = 0.5 * (ratio + distance - 1 - ratio.log()).sum(1)
    assert (gap - kl).abs().max() < 4 * log_w.std(0).max() / math.sqrt(40_000)


def test_weights_are_unbiased_and_the_stated_error_is_right(x):
    model = Known(0.3, 1.4)
    runs = [bounds.surprise(model, x, 200) for _ in range(200)]
    values = torch.stack([run.value for run in runs])
    mean_likelihood = torch.exp(-(values - model.exact(x))).mean(0)
    assert (mean_likelihood - 1).abs().max() < 0.05
    stated = torch.stack([run.error for run in runs]).mean(0)
    assert ((stated / values.std(0)) - 1).abs().max() < 0.25
    assert (values.mean(0) >= model.exact(x) - 3 * values.std(0) / math.sqrt(200)).all()


def test_the_bound_tightens_with_k(x):
    model = Known(0.5, 1.5)
    means = [bounds.surprise(model, x.repeat(400, 1), k).value.mean() for k in (1, 4, 16, 64)]
    assert means == sorted(means, reverse=True)


def test_hidden_entries_are_integrated_out(x):
    """q is wrong for partly observed examples (it takes zeros for the rest), and the weights mend that."""
    observed = torch.tensor([True, True, False, True, False, True])
    broken = x.clone()
    broken[:, ~observed] = math.nan
    model = Known(0.0, 2.5)
    found = bounds.surprise(model, broken, 100_000, observed.expand(5, D))
    assert (found.value - model.exact(x, observed)).abs().max() < 0.05
    assert ((found.value - model.exact(x, observed)).abs() < 5 * found.error + 1e-3).all()


def test_streaming_changes_nothing_but_the_draws(x):
    """Same law whatever the chunks: compared on many more draws than the tolerance needs."""
    model = Known(0.3, 1.4)
    small = bounds.surprise(model, x, 1000, at_once=7)
    large = bounds.surprise(model, x, 1000, at_once=100_000)
    assert ((small.value - large.value).abs() < 5 * (small.error + large.error)).all()
    assert small.value.shape == small.error.shape == small.ess.shape == (5,)
