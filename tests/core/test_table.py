"""A row of a table: every column has its own distribution, and nobody else's."""

import math

import pytest
import torch

from reverie.core.counts import NegativeBinomial, Poisson
from reverie.core.distributions import Gaussian
from reverie.core.student import StudentT
from reverie.core.table import Category, Ordered, Table

COLUMNS = [torch.tensor([3, 0]), torch.tensor([1]), torch.tensor([2, 5]), torch.tensor([4])]


def parameters(n: int = 1) -> list[torch.Tensor]:
    """For two real columns, a count, two columns of three categories, and one of heavy tails."""
    shapes = [(1, 2), (1, 1), (1, 2, 3), (1, 1)]
    return [torch.randn(s).expand(n, *s[1:]).clone().requires_grad_() for s in shapes]


def table(of: list[torch.Tensor]) -> Table:
    parts = [Gaussian(of[0], of[0]), NegativeBinomial(of[1], of[1]), Category(of[2]), StudentT(of[3], of[3], of[3] + 3)]
    return Table(parts, COLUMNS)


X = torch.tensor([[0.3, 4.0, 2.0, -1.1, 9.0, 0.0]])


def test_terms_are_the_columns_own():
    of = parameters()
    terms = table(of).terms(X)
    real = torch.distributions.Normal(of[0], of[0].exp()).log_prob(X[:, [3, 0]])
    torch.testing.assert_close(terms[:, [3, 0]], real)
    torch.testing.assert_close(terms[:, 1:2], NegativeBinomial(of[1], of[1]).terms(X[:, 1:2]))
    torch.testing.assert_close(terms[0, 2], of[2].log_softmax(-1)[0, 0, 2])
    torch.testing.assert_close(terms[0, 5], of[2].log_softmax(-1)[0, 1, 0])
    torch.testing.assert_close(terms[:, 4:5], StudentT(of[3], of[3], of[3] + 3).terms(X[:, 4:5]))
    torch.testing.assert_close(table(of).log_prob(X), terms.sum(1))


@pytest.mark.parametrize("hidden", range(6))
def test_observed_columns_are_marginals_and_a_hidden_one_reaches_nothing(hidden):
    of = parameters()
    observed = (torch.arange(6) != hidden).view(1, 6)
    x = torch.where(observed, X, math.nan)
    log_p = table(of).log_prob(x, observed)
    torch.testing.assert_close(log_p, table(of).terms(X)[observed].sum().view(1))
    log_p.sum().backward()
    for p, columns in zip(of, COLUMNS, strict=True):
        assert p.grad.isfinite().all()
        moved = p.grad.abs().flatten(2).sum(2) if p.dim() == 3 else p.grad.abs()
        assert torch.equal(moved[0] > 0, columns != hidden)


def test_draws_and_the_mean_put_every_column_in_its_place():
    of = [p.detach() for p in parameters(20_000)]
    p = table(of)
    for draws in (p.sample(), p.sample(2)[1]):
        assert draws.shape == (20_000, 6)
        off = (draws[:, [3, 0]].mean(0) - of[0][0]) / of[0][0].exp()
        assert off.abs().max() < 4 / math.sqrt(20_000)
        variance = p.mean[0, 1] + p.mean[0, 1].square() / of[1][0, 0].exp()
        assert abs(draws[:, 1].mean() - p.mean[0, 1]) < 4 * (variance / 20_000).sqrt()
        assert abs(draws[:, 4].median() - of[3][0, 0]) < 4 * 1.5 * of[3][0, 0].exp() / math.sqrt(20_000)
        for d, column in enumerate((2, 5)):
            seen = torch.bincount(draws[:, column].long(), minlength=3) / 20_000
            assert (seen - of[2][0, d].softmax(0)).abs().max() < 4 * 0.5 / math.sqrt(20_000)
    assert torch.equal(p.mean[0, [2, 5]], of[2][0].argmax(-1).float())
    assert torch.equal(p.mean[0, [3, 0]], of[0][0])


@pytest.mark.parametrize("levels", [1, 2, 7])
def test_categories_sum_to_one_and_there_are_no_others(levels):
    p = Category(torch.randn(1, 1, levels) * 20)
    inside = torch.arange(levels).float().view(-1, 1)
    assert abs(p.log_prob(inside).exp().sum() - 1) < 1e-5
    outside = torch.tensor([[-1.0], [levels], [0.5], [math.nan]])
    assert (p.log_prob(outside) == -math.inf).all()


def test_denoising_takes_every_column_by_its_own_posterior():
    n, noise = 20_000, 0.8
    of = [p.detach() for p in parameters(n)]
    y = torch.tensor([0.3, 3.6, 1.4, -1.1, 2.0, 0.1])
    draws = table(of).denoise(y.expand(n, 6), noise)
    trust = (2 * of[0][0]).exp() / ((2 * of[0][0]).exp() + noise**2)
    posterior = of[0][0] + trust * (y[[3, 0]] - of[0][0])
    assert ((draws[:, [3, 0]].mean(0) - posterior).abs() < 4 * trust.sqrt() * noise / math.sqrt(n)).all()
    for d, column in enumerate((2, 5)):
        fit = -0.5 * ((y[column] - torch.arange(3)) / noise).square()
        seen = torch.bincount(draws[:, column].long(), minlength=3) / n
        assert (seen - (of[2][0, d].log_softmax(0) + fit).softmax(0)).abs().max() < 4 * 0.5 / math.sqrt(n)
    assert torch.equal(draws[:, 1], draws[:, 1].round())


@pytest.mark.parametrize(
    "law",
    [
        Poisson(torch.tensor([[[1.3]], [[-0.5]]]).double()), NegativeBinomial(torch.tensor([[1.0]]).double(), torch.tensor(0.3).double()),
        Category(torch.tensor([[[0.2, 0.5, 0.3]]]).double().log()), Ordered(torch.tensor([[0.4]]).double(), torch.tensor([0.0, 1.0]).double()),
    ],
    ids=lambda law: type(law).__name__,
)  # fmt: skip
def test_noisy_it_is_a_density_that_bayes_would_give(law):
    y = torch.linspace(-5, 60, 13_001).double().view(-1, *[1] * law.mean.dim())
    noisy = law.blurred(0.4)
    density = noisy.terms(y).exp()
    torch.testing.assert_close(torch.trapezoid(density, y, dim=0), torch.ones_like(density[0]))
    k = torch.arange(60).double().view(-1, *[1] * law.mean.dim())
    p = law.terms(torch.minimum(k, torch.tensor(len(law.values) - 1.0)) if isinstance(law, Category) else k).exp()
    p = torch.where(k < len(law.values), p, 0.0) if isinstance(law, Category) else p
    at = torch.tensor(1.3).double()
    seen = torch.distributions.Normal(k, torch.tensor(0.4).double()).log_prob(at).exp()
    torch.testing.assert_close(noisy.terms(at.expand_as(law.mean)).exp(), (p * seen).sum(0))
    draws = torch.stack([law.denoise(at.expand_as(law.mean), 0.4) for _ in range(2000)])
    mean = (p * seen * k).sum(0) / (p * seen).sum(0)
    torch.testing.assert_close(draws.mean(0), mean, atol=0.05, rtol=0)
