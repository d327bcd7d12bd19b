import math

import pytest
import torch

from reverie.core.distributions import Gaussian
from reverie.nets.priors import FittedMixture, LearnedGaussian, StandardNormal


def skewed(n: int, latent: int) -> torch.Tensor:
    """Draws of a Gaussian with a mean and a covariance of no particular shape."""
    return torch.randn(n, latent) @ torch.randn(latent, latent) + torch.randn(latent)


def fitted_gaussian(latent: int) -> LearnedGaussian:
    prior = LearnedGaussian(latent)
    prior.fit(skewed(4000, latent))
    return prior


def fitted_mixture() -> FittedMixture:
    prior = FittedMixture(2, 5, 0.9)
    prior.fit(skewed(4000, 2))
    prior.place(prior.sample(3))
    return prior


MAKERS = {
    "normal": lambda: StandardNormal(2),
    "gaussian": lambda: fitted_gaussian(2),
    "mixture": fitted_mixture,
    "mixture before its fit": lambda: FittedMixture(2, 5, 0.9),
}


@pytest.mark.parametrize("name", MAKERS)
def test_priors_integrate_to_one_and_their_samples_match(name):
    prior = MAKERS[name]()
    side = torch.linspace(-16, 16, 1601)
    grid = torch.cartesian_prod(side, side)
    mass = torch.cat([prior.log_prob(part) for part in grid.split(100_000)]).exp() * (side[1] - side[0]) ** 2
    assert abs(mass.sum() - 1) < 1e-3
    draws = prior.sample(40_000)
    mean = (mass[:, None] * grid).sum(0)
    spread = (mass[:, None] * (grid - mean).square()).sum(0).sqrt()
    assert ((draws.mean(0) - mean).abs() < 5 * spread / 200).all()
    assert ((draws.std(0) / spread - 1).abs() < 0.03).all()


@pytest.mark.parametrize("make", [lambda: StandardNormal(3), lambda: fitted_gaussian(3)])
def test_closed_form_kl_is_what_draws_say(make):
    prior = make()
    q = Gaussian(torch.randn(1, 3), torch.randn(1, 3) * 0.3 - 1)
    z = q.sample(200_000)
    difference = q.log_prob(z) - prior.log_prob(z)
    kl = prior.kl(q, z[0]).sum()
    assert abs(difference.mean() - kl) < 5 * difference.std() / math.sqrt(200_000)


def test_the_mixture_is_what_it_says_term_by_term():
    prior = FittedMixture(2, 5, 0.8)
    prior.fit(skewed(5000, 2))
    examples, z = torch.randn(3, 2), torch.randn(7, 2)
    prior.place(examples)
    centres = prior.mean + 0.8 * (examples - examples.mean(0))
    root = math.sqrt(1 - 0.8**2) * torch.linalg.inv(prior.start.whitening)
    parts = [torch.distributions.MultivariateNormal(c, scale_tril=root).log_prob(z) for c in centres]
    assert torch.allclose(prior.log_prob(z), torch.stack(parts).logsumexp(0) - math.log(3), atol=1e-4)


def test_a_mixture_of_no_closeness_is_the_gaussian():
    prior = FittedMixture(2, 5, 0.0)
    prior.fit(skewed(5000, 2))
    z = torch.randn(7, 2)
    before = prior.log_prob(z)
    prior.place(torch.randn(5, 2))
    assert torch.allclose(prior.log_prob(z), before, atol=1e-4)


def test_the_gaussian_follows_the_aggregate_of_what_is_perceived():
    """Its moments go to those of the aggregate: the spread of the means plus the mean of the variances."""
    prior = LearnedGaussian(2)
    mixing, centre = torch.tensor([[2.0, 0.0], [1.0, 0.5]]), torch.tensor([3.0, -1.0])
    for _ in range(2000):
        mean = torch.randn(256, 2) @ mixing.T + centre
        prior.follow(Gaussian(mean, torch.full_like(mean, math.log(0.5))))
    truth = mixing @ mixing.T + 0.25 * torch.eye(2)
    assert torch.allclose(prior.loc, centre, atol=0.1)
    assert torch.allclose(prior.covariance, truth, atol=0.2)
    found = torch.linalg.inv(prior.whitening.T @ prior.whitening)
    assert torch.allclose(found, prior.covariance, atol=0.1)
