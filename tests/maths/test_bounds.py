"""Importance sampling against probabilistic PCA, where log p(x) is a formula."""

import math

import pytest
import torch

from reverie.maths import bounds
from tests.maths.known import D, Known


@pytest.fixture
def x():
    return Known().sample(5)


def test_with_the_exact_posterior_every_weight_is_the_evidence(x):
    model = Known()
    log_w = bounds.log_weights(model, x, 7)
    torch.testing.assert_close(log_w, -model.exact(x).expand(7, 5))
    found = bounds.surprise(model, x, 2)
    torch.testing.assert_close(found.value, model.exact(x))
    assert found.error.max() < 1e-6
    found = bounds.surprise(model, x, 1)
    torch.testing.assert_close(found.value, model.exact(x))
    assert found.error.isnan().all()  # one weight does not tell how weights differ


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
    runs = [bounds.surprise(model, x, 200, seed=i) for i in range(200)]
    values = torch.stack([run.value for run in runs])
    mean_likelihood = torch.exp(-(values - model.exact(x))).mean(0)
    assert (mean_likelihood - 1).abs().max() < 0.05
    stated = torch.stack([run.error for run in runs]).mean(0)
    assert ((stated / values.std(0)) - 1).abs().max() < 0.25
    assert (values.mean(0) >= model.exact(x) - 3 * values.std(0) / math.sqrt(200)).all()


def test_the_bound_tightens_with_k():
    model = Known(0.5, 1.5)
    x = model.sample(2000)
    means = [bounds.surprise(model, x, k).value.mean() for k in (1, 4, 16, 64)]
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


@pytest.mark.parametrize("k", [1, 10, 1000])
def test_an_estimate_depends_on_its_example_alone(x, k):
    """Neither on how much is held at a time, nor on the batch, its ragged end, its order, or the precision."""
    model = Known(0.3, 1.4)
    whole = bounds.surprise(model, x, k, at_once=100_000)
    order = torch.tensor([3, 0, 4, 1, 2])
    for found, rows in (
        (bounds.surprise(model, x, k, at_once=7), slice(None)),
        (bounds.surprise(model, x, k, at_once=3 * k), slice(None)),
        (bounds.surprise(model, x[order], k), order),
        (bounds.surprise(model, x[4:], k), slice(4, None)),
    ):
        for name in ("value", "error", "ess"):
            torch.testing.assert_close(getattr(found, name), getattr(whole, name)[rows], equal_nan=True)
    single = Known(0.3, 1.4).float()
    single.w, single.variance = single.w.float(), single.variance.float()
    torch.testing.assert_close(bounds.surprise(single, x.float(), k).value, whole.value.float(), rtol=1e-4, atol=1e-3)
    assert not torch.equal(bounds.surprise(model, x, k, seed=1).value, whole.value)


def test_the_tail_tells_whether_the_error_can_be_trusted(x):
    """q narrower than the posterior has weights with a Pareto tail of index 1 - v, v the ratio of the variances."""
    for widen, index in ((1.2, None), (math.sqrt(0.5), 0.5), (math.sqrt(0.2), 0.8)):
        found = bounds.surprise(Known(0.0, widen), x, 20_000)
        assert found.pareto_k.shape == (5,)
        if index is None:
            assert (found.pareto_k < 0.2).all()
        else:
            assert (found.pareto_k - index).abs().max() < 0.2


def test_minus_zero_is_zero(x):
    zeros = torch.zeros_like(x)
    plus, minus = (bounds.surprise(Known(0.3, 1.4), one, 20).value for one in (zeros, -zeros))
    assert torch.equal(plus, minus)
