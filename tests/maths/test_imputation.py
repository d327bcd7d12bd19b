"""Draws of what is missing against the exact conditional: of probabilistic PCA, and of bits that can be enumerated."""

import itertools
import math
from functools import partial

import pytest
import torch
from scipy.stats import chi2
from torch import Tensor

from reverie.core.corruption import SaltAndPepper
from reverie.core.distributions import Bernoulli, Gaussian
from reverie.maths import imputation
from reverie.maths.imputation import (
    Repaired,
    importance_resampling,
    metropolis_within_gibbs,
    posterior_mean,
    pseudo_gibbs,
)
from reverie.nets.priors import StandardNormal
from tests.maths.known import NOISE, D, Known, Z

N = 4000
OBSERVED = torch.tensor([[True, False, True, False, True, False], [False, True, True, True, True, False]])
WAYS = {
    "resampling": partial(importance_resampling, k=20_000),
    "metropolis": partial(metropolis_within_gibbs, sweeps=100),
    "gibbs": partial(pseudo_gibbs, sweeps=30),
}


@pytest.fixture
def y():
    """Two examples, with nothing to go by where nothing was seen."""
    return torch.where(OBSERVED, Known().sample(2), math.nan)


def conditional(model: Known, y: Tensor, observed: Tensor, noise: float) -> tuple[Tensor, Tensor]:
    """Mean and covariance of all of x given the observed entries of one example, each with `noise` on it."""
    c = model.w @ model.w.T + NOISE**2 * torch.eye(D, dtype=torch.float64)
    gain = c[:, observed] @ torch.linalg.inv(c[observed][:, observed] + noise**2 * torch.eye(int(observed.sum())))
    return gain @ y[observed], c - gain @ c[observed]


def deviations(found: Repaired, model: Known, y: Tensor, noise: float, ess: float) -> tuple[float, float, float]:
    """How far the draws are from the truth, in standard errors: their mean, their covariance, and how many lie in the
    ellipsoid that holds 90% of the exact conditional."""
    worst = torch.zeros(3, dtype=torch.float64)
    for i, observed in enumerate(OBSERVED):
        mean, covariance = conditional(model, y[i], observed, noise)
        free = torch.ones(D, dtype=torch.bool) if noise else ~observed
        mean, covariance = mean[free], covariance[free][:, free]
        draws = found.draws[:, i, free]
        root = torch.linalg.cholesky(covariance)
        white = torch.linalg.solve_triangular(root, (draws - mean).T, upper=False)
        spread = torch.where(torch.eye(len(root), dtype=torch.bool), math.sqrt(2), 1.0)  # of products of white entries
        inside = (white.square().sum(0) < chi2.ppf(0.9, len(root))).double().mean()
        errors = [
            white.mean(1).abs().max() * math.sqrt(ess),
            ((white @ white.T / len(draws) - torch.eye(len(root))).abs() / spread).max() * math.sqrt(ess),
            (inside - 0.9).abs() / math.sqrt(0.09 / ess),
        ]
        worst = torch.maximum(worst, torch.stack(errors))
    return worst[0].item(), worst[1].item(), worst[2].item()


@pytest.mark.parametrize("noise", [0.0, 0.4])
@pytest.mark.parametrize("way", ["resampling", "metropolis"])
def test_a_wrong_q_does_no_harm_to_what_is_exact(way, noise, y):
    # Of fewer entries the posterior is wider: weights have a variance only if q is wide enough for those.
    model = Known(shift=0.35, widen=2.5 if way == "resampling" else 1.5)
    found = WAYS[way](model, y, OBSERVED, N, noise=noise, at_once=50_000)
    # Draws of SIR share the latents that they were chosen from.
    ess = N if found.ess is None else 1 / (1 / N + 1 / found.ess.min().item())
    assert max(deviations(found, model, y, noise, ess)) < 4.5


def test_a_wrong_q_ruins_pseudo_gibbs_and_the_right_one_does_not(y):
    wrong, right = (WAYS["gibbs"](model, y, OBSERVED, N, at_once=50_000) for model in (Known(0.35, 1.5), Known()))
    assert max(deviations(right, Known(), y, 0.0, N)) < 4.5
    mean, covariance, coverage = deviations(wrong, Known(), y, 0.0, N)
    assert mean > 50
    assert covariance > 50
    assert coverage > 50
    assert wrong.acceptance is None


def test_the_posterior_mean_is_that_of_the_conditional(y):
    model = Known(shift=0.35, widen=2.5)
    for noise in (0.0, 0.4):
        found, ess = posterior_mean(model, y, OBSERVED, k=40_000, noise=noise, at_once=3000)
        for i, observed in enumerate(OBSERVED):
            mean, covariance = conditional(model, y[i], observed, noise)
            error = (found[i] - mean).abs() / covariance.diagonal().clamp(min=1e-12).sqrt()
            assert error[~observed].max() < 4.5 / math.sqrt(ess[i].item())
            if noise:
                assert error[observed].max() < 4.5 / math.sqrt(ess[i].item())
            else:
                assert torch.equal(found[i, observed], y[i, observed])
    assert (ess > 1000).all()
    assert (ess < 40_000).all()


def test_no_example_is_lost_whose_recognition_has_gone_astray(y):
    """q is where nothing likely is, and sure of it; of all draws those from the prior count."""
    model = Known(shift=200.0, widen=0.01)
    found, ess = posterior_mean(model, y, OBSERVED, k=40_000)
    for i, observed in enumerate(OBSERVED):
        mean, covariance = conditional(model, y[i], observed, 0.0)
        error = (found[i] - mean).abs() / covariance.diagonal().clamp(min=1e-12).sqrt()
        assert error[~observed].max() < 4.5 / math.sqrt(ess[i].item())
    assert (ess > 100).all()


def test_the_exact_posterior_is_always_accepted_and_its_weights_are_even(y, monkeypatch):
    monkeypatch.setattr(imputation, "DEFENCE", 1e-12)
    found = metropolis_within_gibbs(Known(), y, OBSERVED, 20, sweeps=40)
    assert torch.equal(found.acceptance, torch.ones(2, dtype=torch.float64))
    everything = torch.ones_like(OBSERVED)
    ess = importance_resampling(Known(), Known().sample(2), everything, 5, k=300).ess
    torch.testing.assert_close(ess, torch.full((2,), 300.0, dtype=torch.float64))


def test_the_acceptance_rate_is_that_of_two_gaussians():
    """Everything seen: z ~ p(z|x) meets z' ~ q(z|x), and the mean of min(1, ratio) is an integral over both."""
    model, x = Known(shift=0.35, widen=1.0), Known().sample(1)
    start = Known().encode(x).sample(2000)
    found = metropolis_within_gibbs(model, x, None, 2000, sweeps=30, warm=0, start=start, at_once=2000)
    # In units of the posterior z ~ N(0, 1) and z' ~ N(delta, 1), so the log ratio is delta'(z - z').
    delta = 0.35 / model.variance.sqrt()
    distance = delta.square().sum().sqrt().item()
    # log ratio ~ N(-d^2, 2 d^2), whose E min(1, e^r) is 2 Phi(-d / sqrt 2).
    expected = 2 * torch.special.ndtr(torch.tensor(-distance / math.sqrt(2))).item()
    assert found.acceptance.item() == pytest.approx(expected, abs=0.01)


def test_r_hat_tells_chains_that_mix_from_chains_that_are_stuck(y):
    mixed = metropolis_within_gibbs(Known(), y, OBSERVED, 8, sweeps=500)
    assert mixed.r_hat.max() < 1.03
    stuck = metropolis_within_gibbs(Known(shift=3.0, widen=0.2), y, OBSERVED, 8, sweeps=100, warm=0)
    assert stuck.acceptance.max() < 0.1
    assert stuck.r_hat.min() > 1.5
    assert pseudo_gibbs(Known(), y, OBSERVED, 8, sweeps=5).r_hat.isnan().all()


@pytest.mark.parametrize("way", WAYS)
def test_what_was_seen_comes_back_bit_equal_whatever_the_parts(way, y):
    for at_once in (1, 7, 100):
        changes = {"k": 30} if way == "resampling" else {"sweeps": 8}
        found = WAYS[way](Known(), y, OBSERVED, 5, at_once=at_once, **changes)
        assert found.draws.shape == (5, 2, D)
        assert torch.equal(found.draws[:, OBSERVED], y[OBSERVED].expand(5, -1))
        assert found.draws.isfinite().all()
        for part in (found.acceptance, found.r_hat, found.ess):
            assert part is None or part.shape == (2,)
        assert found.draws[:, ~OBSERVED].std(0).min() > 0


def test_parts_change_nothing_but_the_draws(y):
    for model, way, changes in (
        (Known(0.35, 2.5), "resampling", {"k": 5000}),
        (Known(), "metropolis", {"sweeps": 20}),
    ):
        found = WAYS[way](model, y, OBSERVED, 1000, at_once=700, **changes)
        ess = 1000 if found.ess is None else 1 / (1 / 1000 + 1 / found.ess.min().item())
        assert max(deviations(found, model, y, 0.0, ess)) < 4.5


def test_chains_begin_where_they_are_told_to(y):
    model, start = Known(), torch.randn(3, 2, Z, dtype=torch.float64) * 50
    found = pseudo_gibbs(model, y, OBSERVED, 3, sweeps=0, start=start)
    off = (found.draws - start @ model.w.T)[:, ~OBSERVED]
    assert off.abs().max() < 5 * NOISE


class Quadrants:
    """Three bits whose probabilities depend on a label and on the signs of two standard normal latents; q is wrong."""

    def __init__(self):
        self.prior = StandardNormal(2)
        self.logits = 1.5 * torch.randn(2, 2, 2, 3)  # by label, sign, sign

    def encode(self, x: Tensor, observed: Tensor | None = None, given: Tensor | None = None) -> Gaussian:
        return Gaussian(0.5 * x[:, :2] - 0.2, torch.zeros(2))

    def decode(self, z: Tensor, given: Tensor) -> Bernoulli:
        return Bernoulli(self.logits[given, (z[:, 0] > 0).long(), (z[:, 1] > 0).long()])

    def exact(self, y: Tensor, observed: Tensor, given: int, corruption: SaltAndPepper) -> Tensor:
        """(8,) p(x | what was seen) of all patterns of three bits: every quadrant has a quarter of the prior."""
        joint = []
        for bits in itertools.product([0.0, 1.0], repeat=3):
            x = torch.tensor(bits)
            seen = corruption.log_prob(y, x)[observed].sum()
            p = Bernoulli(self.logits[given]).log_prob(x.expand(2, 2, 3)).exp().mean()
            joint.append(p * seen.exp())
        return torch.stack(joint) / sum(joint)


@pytest.mark.parametrize("way", ["resampling", "metropolis"])
def test_spoiled_and_missing_bits_follow_the_enumeration(way):
    model, corruption, n = Quadrants(), SaltAndPepper(0.5, 0.0, 1.0), 4000
    y = torch.tensor([[1.0, 0.0, math.nan], [1.0, 0.0, math.nan]])
    given, observed = torch.tensor([0, 1]), ~y.isnan()
    found = WAYS[way](model, y, observed, n, noise=corruption, given=given, at_once=16_000)
    ess = n if found.ess is None else 1 / (1 / n + 1 / found.ess.min().item())
    for i in range(2):
        pattern = (found.draws[:, i] @ torch.tensor([4.0, 2.0, 1.0])).long()
        seen = torch.bincount(pattern, minlength=8) / n
        p = model.exact(y[i], observed[i], i, corruption)
        assert p.min() > 1e-3
        assert ((seen - p).square() / p).sum().item() * ess < chi2.ppf(1 - 1e-5, 7)
    assert (
        model.exact(y[0], observed[0], 0, corruption) - model.exact(y[1], observed[1], 1, corruption)
    ).abs().max() > 0.1
