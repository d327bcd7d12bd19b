"""Channels of different kinds seen of one state: laws that sum to one, and pulls that weigh what they tell."""

import itertools

import pytest
import torch

from reverie.core.errors import BadInput
from reverie.core.space import Column, Space
from reverie.nets.mixed import MixedObservation, observation_of
from reverie.nets.modalities import simplex
from reverie.nets.observations import observation

S, B, T = 2, 5, 7
COLUMNS = (
    Column("label", "category", 3), Column("volts", "real"), Column("mood", "ordered", 4),
    Column("spikes", "count"), Column("awake", "category", 2), Column("field", "real"),
)  # fmt: skip


def made(columns=COLUMNS, latent=3, **more):
    torch.manual_seed(0)
    seen = MixedObservation(S, latent, columns, **more).double()
    for p in seen.parameters():
        p.data.add_(0.4 * torch.randn_like(p))
    return seen


def only(*kinds):
    return tuple(Column(f"c{i}", kind, levels) for i, (kind, levels) in enumerate(kinds))


def levels_of(columns):
    """(n, N) all combinations of levels."""
    return torch.tensor(list(itertools.product(*(range(c.levels) for c in columns))), dtype=torch.float64)


def test_probabilities_of_all_combinations_sum_to_one():
    columns = only(("category", 3), ("ordered", 4), ("category", 2), ("ordered", 2))
    seen, every = made(columns), levels_of(columns)
    z = 2 * torch.randn(S, len(every), 3, dtype=torch.float64)[:, :1].expand(-1, len(every), -1)
    for law in (seen(z), seen.first(every.expand(S, -1, -1))):
        torch.testing.assert_close(law.log_prob(every).exp().sum(1), torch.ones(S).double())


def test_a_mixed_density_integrates_to_one():
    columns = only(("real", 0), ("category", 2), ("count", 0))
    seen = made(columns)
    z = torch.randn(S, 1, 3, dtype=torch.float64)
    grid = torch.linspace(-30, 30, 3001, dtype=torch.float64)
    total = torch.zeros(S).double()
    for level, count in itertools.product(range(2), range(60)):
        x = torch.stack([grid, torch.full_like(grid, level), torch.full_like(grid, count)], -1)
        total = total + torch.trapezoid(seen(z).log_prob(x).exp(), grid)
    torch.testing.assert_close(total, torch.ones(S).double())


@pytest.mark.parametrize("kind", ["category", "ordered"])
def test_two_levels_are_logistic_regression(kind):
    seen = made(only((kind, 2)))
    z = torch.randn(S, B, 3, dtype=torch.float64, requires_grad=True)
    x = torch.tensor([0.0, 1, 1, 0, 1]).double().view(1, B, 1)
    # Of two corners of a simplex the second lies sqrt 2 below the first.
    slope = -(2**0.5) if kind == "category" else 1.0
    logits = slope * (z[..., : seen.reach] @ seen.readout + seen.bias)
    wanted = torch.distributions.Bernoulli(logits=logits).log_prob(x.expand(S, -1, -1)).sum(-1)
    found = seen(z).log_prob(x)
    torch.testing.assert_close(found, wanted)
    slopes = [
        torch.autograd.grad(nats.sum(), (z, seen.readout, seen.bias), retain_graph=True) for nats in (found, wanted)
    ]
    for a, b in zip(*slopes, strict=True):
        torch.testing.assert_close(a, b)


def test_the_cumulative_logit_is_as_published():
    seen = made(only(("ordered", 4)))
    z = torch.randn(S, B, 3, dtype=torch.float64)
    upto = torch.stack([seen(z).log_prob(torch.full((1, B, 1), float(k)).double()).exp() for k in range(4)], -1).cumsum(
        -1
    )
    thresholds = torch.nn.functional.pad(seen.modality.parts[0].log_gaps.exp().cumsum(-1), (1, 0))[:, 0, 0]
    wanted = torch.sigmoid(thresholds.unsqueeze(1) - seen.location(z))
    torch.testing.assert_close(upto[..., :3], wanted)
    assert torch.equal(seen(z).mean.squeeze(-1), (wanted < 0.5).sum(-1).double())


def test_real_channels_alone_are_an_affine_gaussian():
    columns, latent = only(*[("real", 0)] * 4), 3
    torch.manual_seed(1)
    mixed, plain = MixedObservation(S, latent, columns), observation("gaussian", "real", S, latent, 4)
    x = torch.randn(30, 20, 2) @ torch.randn(2, 4) + 0.1 * torch.randn(30, 20, 4)
    observed = torch.rand_like(x) < 0.8
    for seen in (mixed, plain):
        seen.prepare(torch.where(observed, x, 0.0), observed)
        seen.settle(torch.linspace(0.1, 0.4, 4).expand(S, -1))
    z = torch.randn(T, S, B, latent)
    seen = x[:B, :T].transpose(0, 1).unsqueeze(1)
    torch.testing.assert_close(mixed(z).log_prob(seen), plain(z).log_prob(seen))
    weight = 0.3 * observed[:B, :T].transpose(0, 1).unsqueeze(1).float()
    pulls = mixed.forcing(seen, weight), plain.forcing(seen, weight)
    assert all(torch.equal(*torch.broadcast_tensors(a, b)) for a, b in zip(*pulls, strict=True))
    assert torch.equal(mixed.start(seen[0], None), plain.start(seen[0], None))


def test_prepared_it_has_the_frequencies_of_the_data():
    torch.manual_seed(2)
    x = torch.stack(
        [torch.multinomial(torch.tensor(p), 2000, True) for p in ([0.6, 0.1, 0.3], [0.05, 0.3, 0.5, 0.15])], -1
    )
    x = x.float().view(50, 40, 2)
    seen = MixedObservation(1, 3, only(("category", 3), ("ordered", 4)))
    seen.prepare(x, None)
    share = [x[..., i].long().flatten().bincount() / 2000 for i in range(2)]
    law, first = seen(torch.zeros(1, 1, 3)), seen.first(torch.zeros(1, 2))
    for part, begun, wanted in zip(law.parts, first.parts, share, strict=True):
        torch.testing.assert_close(part.log_p.exp().flatten(), wanted, atol=1e-3, rtol=0)
        torch.testing.assert_close(begun.log_p.exp().flatten(), wanted, atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", ["category", "ordered"])
@pytest.mark.parametrize("steep", [0.3, 1.0, 5.0])
def test_levels_pull_to_the_location_on_average_and_by_what_they_explain(kind, steep):
    """Against states that are drawn with their levels."""
    seen = made(only((kind, 3)), latent=2)
    seen.readout.data.mul_(steep)
    z = torch.randn(S, 200_000, 2, dtype=torch.float64)
    x, located = seen(z).sample(), seen.location(z) - seen.bias
    target = seen.target(x)
    variance = located.var(1).sum(-1)
    slope = ((target - target.mean(1, keepdim=True)) * located).mean(1).sum(-1) / variance
    torch.testing.assert_close(slope, torch.ones(S).double(), atol=0.15, rtol=0)
    explained = torch.zeros(S).double()
    for level in range(3):
        of = (x == level).double()
        mean = (of * located).sum(1) / of.sum(1).clamp(min=1)
        explained += of.mean((1, 2)) * mean.square().sum(-1)
    torch.testing.assert_close(
        seen.modality.parts[0].trust(seen._around().split(seen.modality.widths, -1)[0])[:, 0],
        explained / variance,
        atol=0.02,
        rtol=0.1,
    )


def test_the_weaker_a_readout_the_more_it_is_logistic_regressions_working_response():
    seen = made(only(("ordered", 2)), latent=1)
    seen.readout.data.fill_(0.01)
    p = torch.sigmoid(seen.bias).detach()
    for level in (0.0, 1.0):
        target = seen.target(torch.full((S, 1, 1), level).double())
        torch.testing.assert_close(target, (level - p) / (p * (1 - p)), rtol=1e-2, atol=0)


def test_of_ordered_levels_higher_ones_pull_higher():
    seen = made(only(("ordered", 4)), latent=1)
    targets = seen.target(torch.arange(4.0).view(1, 4, 1).double())[..., 0]
    assert (targets.diff(dim=1) > 0).all()


def test_the_names_of_levels_do_not_matter():
    """A category's corners are all alike: levels in another order, with the corners turned along, pull the same."""
    seen, other = (MixedObservation(1, 2, only(("category", 3), ("real", 0))).double() for _ in range(2))
    order = torch.tensor([2, 0, 1])
    turn = simplex(3).double() @ simplex(3)[:, order].T.double()  # of the corners
    torch.manual_seed(3)
    for p in (seen.readout, seen.bias):
        p.data.copy_(torch.randn_like(p))
    for p, q in ((seen.readout, other.readout), (seen.bias, other.bias)):
        q.data.copy_(torch.cat([p.data[..., :2] @ turn.T, p.data[..., 2:]], -1))
    z = torch.randn(1, B, 2, dtype=torch.float64)
    x = seen(z).sample()
    same = torch.stack([torch.argsort(order)[x[..., 0].long()].double(), x[..., 1]], -1)
    renamed = torch.stack([order[x[..., 0].long()].double(), x[..., 1]], -1)
    found = [one.log_prob(y) for one, y in ((seen(z), x), (other(z), same))]
    same = same if torch.allclose(*found) else renamed
    torch.testing.assert_close(seen(z).log_prob(x), other(z).log_prob(same))
    weight = torch.ones(1, 1, 1, 1).double()
    pulled = [one.forcing(y.unsqueeze(0), weight).pulled(z, 0) for one, y in ((seen, x), (other, same))]
    torch.testing.assert_close(*pulled)


def test_what_tells_more_pulls_more():
    seen = made()
    x = seen(torch.randn(1, S, B, 3).double()).sample()
    weight = seen.forcing(x, torch.full((1, 1, 1, 1), 0.5).double()).weight
    assert weight.shape == (1, S, 1, seen.modality.numbers)
    assert weight.max() == 0.5  # of the most telling channel, a real one
    assert (weight > 0).all()
    seen.readout.data[..., :2] *= 1e-3  # those of the first channel, a label, come to say nothing
    later = seen.forcing(x, torch.full((1, 1, 1, 1), 0.5).double()).weight
    assert (later[..., :2] < 1e-4).all()


def test_real_channels_alone_are_smoothed():
    seen = made()
    x = torch.randn(T, 1, B, 6).double()
    smooth = seen.modality.smoothed(x, torch.full((T, T), 1 / T).double())
    for i, column in enumerate(COLUMNS):
        wanted = x[..., i].mean(0, keepdim=True).expand(T, -1, -1) if column.kind == "real" else x[..., i]
        torch.testing.assert_close(smooth[..., i], wanted)


def test_what_was_not_seen_pulls_nothing():
    seen = made()
    z = torch.randn(S, B, 3, dtype=torch.float64)
    x = seen(z).sample().unsqueeze(0)
    observed = torch.rand(x.shape) < 0.5
    found = [seen.forcing(torch.where(observed, x, behind), observed.double()).pulled(z, 0) for behind in (0.0, 1.0)]
    assert torch.equal(*found)
    law = seen(z)
    assert torch.equal(*(law.log_prob(torch.where(observed[0], x[0], v), observed[0]) for v in (0.0, torch.nan)))


def test_gradients_are_right_in_double_precision():
    seen = made(spread=True)
    z = torch.randn(S, B, 3, dtype=torch.float64, requires_grad=True)
    x = seen(z).sample().detach()
    parameters = [p for name, p in seen.named_parameters() if name != "guess"]
    torch.autograd.gradcheck(lambda z, *_: seen(z).log_prob(x), (z, *parameters))


def test_only_what_fits():
    space = Space((9, 6), "mixed", COLUMNS)
    assert isinstance(observation_of(space, "auto", 1, 3), MixedObservation)
    assert (
        type(observation_of(space, "negative_binomial", 1, 3)(torch.zeros(1, 1, 3)).parts[3]).__name__
        == "NegativeBinomial"
    )
    with pytest.raises(BadInput, match="may be auto, or, of counts, poisson or negative_binomial"):
        observation_of(space, "identity", 1, 3)
    with pytest.raises(BadInput, match="never changes"):
        MixedObservation(1, 2, only(("category", 1)))
