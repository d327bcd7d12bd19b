"""Particles: as many as their weight says, and an evidence without bias."""

import pytest
import torch

from reverie.maths.particles import Ancestry, systematic


def test_each_is_there_as_often_as_its_weight_says():
    log_w = torch.randn(50, 40) * 2
    expected = 40 * torch.softmax(log_w, 1)
    counts = torch.stack([torch.bincount(row, minlength=40) for row in systematic(log_w)])
    assert (counts.sum(1) == 40).all()
    assert ((counts - expected).abs() < 1 + 1e-3).all()
    many = torch.stack([torch.bincount(systematic(log_w[:1])[0], minlength=40) for _ in range(2000)]).float().mean(0)
    assert (many - expected[0]).abs().max() < 0.1


def test_a_lonely_path_is_followed_back():
    """Two particles; the second alone is possible at each second step, so every draw descends from it."""
    torch.manual_seed(0)
    ancestry = Ancestry(1, 1, 2, torch.zeros(1))
    drawn = [torch.tensor([[[1.0], [2.0]]]), torch.tensor([[[3.0], [4.0]]])]
    chosen = ancestry.grown(drawn[0], torch.tensor([[-1e9, 0.0]]))
    assert chosen.tolist() == [[1, 1]]
    assert ancestry.grown(drawn[1], torch.zeros(1, 2)) is None
    draws, log_p, _ = ancestry.finished(100, torch.tensor([True]))
    assert (draws[:, 0, 0, 0] == 2).all()
    assert set(draws[:, 0, 1, 0].tolist()) == {3.0, 4.0}
    torch.testing.assert_close(log_p, torch.tensor([0.5]).log())


def test_the_evidence_of_a_gaussian_walk():
    """x_t a random walk of unit steps, seen with unit noise at every step: the evidence is a Gaussian's."""
    torch.manual_seed(0)
    y = torch.tensor([0.5, 1.0, -0.7, 0.2], dtype=torch.float64)
    steps = torch.arange(1.0, 5, dtype=torch.float64)
    covariance = torch.minimum(steps[:, None], steps) + torch.eye(4, dtype=torch.float64)
    exact = torch.distributions.MultivariateNormal(torch.zeros(4, dtype=torch.float64), covariance).log_prob(y)
    members, batch, many = 2, 100, 200
    ancestry = Ancestry(members, batch, many, y)
    x = torch.zeros(members, batch * many, 1, dtype=torch.float64)
    for value in y:
        x = x + torch.randn_like(x)
        chosen = ancestry.grown(x, torch.distributions.Normal(x[..., 0], 1.0).log_prob(value))
        x = x if chosen is None else x.gather(1, chosen.unsqueeze(-1))
    _, log_p, error = ancestry.finished(1, torch.tensor([True, True]))
    found = (log_p - exact).exp()
    assert abs(found.mean() - 1) < 4 * found.std() / batch**0.5
    assert error.mean() / found.std() == pytest.approx(1, rel=0.25)


def test_its_error_over_many_steps_is_not_far_too_small():
    torch.manual_seed(0)
    members, batch, many = 1, 300, 64
    y = torch.randn(100).cumsum(0) * 0.3
    ancestry, x = Ancestry(members, batch, many, y), torch.zeros(members, batch * many, 1)
    for value in y:
        x = 0.9 * x + 0.3 * torch.randn_like(x)
        chosen = ancestry.grown(x, torch.distributions.Normal(x[..., 0], 1.0).log_prob(value))
        x = x if chosen is None else x.gather(1, chosen.unsqueeze(-1))
    _, log_p, error = ancestry.finished(0, torch.tensor([True]))
    assert 0.45 < error.mean() / log_p.std() < 1.1  # as its docstring owns
