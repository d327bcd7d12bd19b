import numpy as np
import pytest
import torch
from scipy.stats import norm, rankdata

from reverie.maths.convergence import r_hat


def by_the_book(x):
    """The definition of Vehtari et al. (2021), one quantity (chains, steps) at a time."""

    def classic(z):
        n = z.shape[1]
        within, between = z.var(1, ddof=1).mean(), n * z.mean(1).var(ddof=1)
        return np.sqrt(((n - 1) / n * within + between / n) / within)

    def scores(z):
        return norm.ppf((rankdata(z).reshape(z.shape) - 3 / 8) / (z.size + 1 / 4))

    half = x.shape[1] // 2
    split = np.concatenate([x[:, :half], x[:, half:]])
    return max(classic(scores(split)), classic(scores(np.abs(split - np.sort(split.ravel())[(split.size - 1) // 2]))))


def test_it_is_the_definition_ties_and_all():
    x = torch.randn(3, 40, 4, 2)
    x[1, :, 0] += 1.0
    x[2, :, 1] *= 3.0
    x[:, 10:, 2] = x[:, 10:, 2].round()
    found = r_hat(x)
    assert found.shape == (4, 2)
    for i in range(4):
        for j in range(2):
            assert found[i, j].item() == pytest.approx(by_the_book(x[:, :, i, j].numpy().astype(float)), abs=1e-5)


def test_independent_draws_agree():
    found = r_hat(torch.randn(8, 500, 50))
    assert found.min() > 0.99
    assert found.max() < 1.01


def test_disagreement_of_place_or_spread_or_over_time_is_seen_whatever_the_tails():
    moved, wider, drifting = torch.randn(4, 500), torch.randn(4, 500), torch.randn(4, 500)
    moved[0] += 1
    wider[0] *= 3
    drifting[:, 250:] += 1
    cauchy = torch.distributions.Cauchy(0.0, 1.0).sample((4, 500))
    found = r_hat(torch.stack([moved, wider, drifting, cauchy], -1))
    assert (found[:3] > 1.05).all()
    assert found[3] < 1.01


def test_chains_that_never_move():
    apart = torch.arange(3.0).view(3, 1).expand(3, 10)
    assert r_hat(apart).isposinf()
    assert r_hat(torch.ones(3, 10)).isnan()
    assert r_hat(torch.randn(3, 3)).isnan()
