"""Surrogates against the bounds they stand for, where the posterior is a formula."""

import math

import pytest
import torch
from torch import Tensor, nn

from reverie.core.distributions import Gaussian
from reverie.core.model import Batch
from reverie.maths.bounds import log_weights, weigh
from reverie.maths.objectives import bound_of, surrogate
from tests.maths.known import Known


class Tuned(Known):
    """Known, with a parameter in q (a shift of its mean) and one in p(x|z) (a shift of x)."""

    def __init__(self, shift: float = 0.0, widen: float = 1.0):
        super().__init__(shift, widen)
        self.q_shift = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        self.p_shift = nn.Parameter(torch.zeros(6, dtype=torch.float64))

    def encode(self, x: Tensor, observed: Tensor | None = None, given: Tensor | None = None) -> Gaussian:
        q = super().encode(x)
        return Gaussian(q.loc + self.q_shift, q.log_scale)

    def decode(self, z: Tensor, given: Tensor | None = None) -> Gaussian:
        p = super().decode(z)
        return Gaussian(p.loc + self.p_shift, p.log_scale)


def gradients(model: Tuned, x: Tensor, seed: int, **asked) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(seed)
    found = surrogate(model, model.encode(x), Batch(x), **asked)
    return *torch.autograd.grad(found.loss, [model.q_shift, model.p_shift]), found.bound


@pytest.fixture
def x():
    torch.manual_seed(3)
    return Known().sample(4)


def test_one_draw_is_the_evidence_bound_and_one_repeat_is_iwae(x):
    log_w = log_weights(Known(0.3, 1.4), x, 12)
    torch.testing.assert_close(bound_of(log_w.view(12, 1, 4)), log_w.mean(0))
    torch.testing.assert_close(bound_of(log_w.view(1, 12, 4)), torch.logsumexp(log_w, 0) - math.log(12))
    parts = [torch.logsumexp(part, 0) - math.log(4) for part in log_w.split(4)]
    torch.testing.assert_close(bound_of(log_w.view(3, 4, 4)), torch.stack(parts).mean(0))


@pytest.mark.parametrize("objective", ["elbo", "stl", "iwae", "dreg"])
@pytest.mark.parametrize(("draws", "repeats"), [(1, 1), (5, 1), (5, 3)])
def test_what_is_told_is_the_bound_whatever_the_weight(x, objective, draws, repeats):
    model = Tuned(0.3, 1.4)
    torch.manual_seed(0)
    log_w = log_weights(model, x, draws * repeats).detach()
    one = objective in ("elbo", "stl")
    bound = bound_of(log_w.view(repeats * draws, 1, 4) if one else log_w.view(repeats, draws, 4)).mean()
    for weight in (1.0, 0.3):
        told = gradients(model, x, 0, objective=objective, draws=draws, repeats=repeats, weight=weight)[2]
        if objective == "elbo":  # its KL is exact, and the draws' is not
            error = log_w.std() * 5 / math.sqrt(log_w.numel())
            assert abs(told - bound) < error
        else:
            torch.testing.assert_close(told, bound)


def test_the_loss_weighs_what_the_posterior_costs(x):
    model, weight = Tuned(0.3, 1.4), 0.3
    torch.manual_seed(0)
    q = model.encode(x)
    found = weigh(model, q, q.sample(6), x)
    log_w = found.log_likelihood + weight * (found.log_prior - found.log_q)
    truths = {
        "elbo": weight * model.prior.kl(q, q.mean).mean(0).sum() - found.log_likelihood.mean(),
        "stl": -log_w.mean(),
        "iwae": -bound_of(log_w.view(2, 3, 4)).mean(),
    }
    for objective, truth in truths.items():
        torch.manual_seed(0)
        loss = surrogate(model, model.encode(x), Batch(x), objective, 3, 2, weight).loss
        torch.testing.assert_close(loss, truth)


def test_at_the_posterior_the_better_gradients_have_no_variance(x):
    for objective, draws in (("stl", 1), ("stl", 6), ("dreg", 6)):
        q, _, bound = gradients(Tuned(), x, 1, objective=objective, draws=draws)
        assert q.abs().max() < 1e-10
        torch.testing.assert_close(bound, -Known().exact(x).mean())
    assert gradients(Tuned(), x, 1, objective="iwae", draws=6)[0].abs().max() > 1e-3


@pytest.mark.parametrize(("objective", "other", "draws"), [("stl", "elbo", 1), ("dreg", "iwae", 5)])
def test_better_gradients_have_the_same_mean(x, objective, other, draws):
    model = Tuned(0.4, 1.3)
    many = x.repeat(500, 1)  # 500 gradients at a time
    a, b = (
        torch.stack([gradients(model, many, seed, objective=name, draws=draws)[0] for seed in range(40)])
        for name in (objective, other)
    )
    error = (a.var(0) / 40 + b.var(0) / 40).sqrt()
    assert ((a.mean(0) - b.mean(0)).abs() < 4 * error).all()
    assert (a.mean(0).abs() > 20 * error).all()
    assert a.std(0).max() < b.std(0).max() or objective == "stl"


def test_both_iwae_gradients_agree_on_the_decoder(x):
    model = Tuned(0.4, 1.3)
    plain, better = (gradients(model, x, 7, objective=name, draws=5)[1] for name in ("iwae", "dreg"))
    torch.testing.assert_close(plain, better)


def test_free_bits_are_free(x):
    """Where every latent costs less than its allowance, the KL has no gradient; the bound told has it all the same."""
    model = Tuned(0.3, 1.4)
    q_free, _, bound_free = gradients(model, x, 2, objective="elbo", free=1e3)
    torch.manual_seed(2)
    q = model.encode(x)
    likelihood = model.decode(q.sample(1)[0]).log_prob(x).mean()
    torch.testing.assert_close(q_free, -torch.autograd.grad(likelihood, model.q_shift)[0])
    torch.testing.assert_close(bound_free, gradients(model, x, 2, objective="elbo")[2])


def test_hidden_entries_reach_no_gradient(x):
    observed = torch.rand(x.shape) < 0.5
    broken = torch.where(observed, x, torch.nan)
    model = Tuned(0.3, 1.4)
    for objective in ("elbo", "stl", "iwae", "dreg"):
        results = []
        for values in (x, broken):
            torch.manual_seed(0)
            seen = torch.where(observed, values, 0.0)
            found = surrogate(model, model.encode(seen), Batch(values, observed), objective, 4)
            results.append((found.loss, *torch.autograd.grad(found.loss, list(model.parameters()))))
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(a, b)
