"""Every head: a normalised distribution over its space, moved by a shift, and finite whatever a decoder says."""

import itertools

import pytest
import torch

from reverie.core.bytes import LogisticMixture
from reverie.core.distributions import Bernoulli, Gaussian, Lattice
from reverie.core.errors import BadInput
from reverie.core.space import Column, Space
from reverie.nets import conv, mlp
from reverie.nets.likelihoods import FITTING, head

COLUMNS = (
    Column("age", "real"),
    Column("town", "category", 3),
    Column("visits", "count"),
    Column("smokes", "category", 2),
    Column("income", "real"),
    Column("colour", "category", 3),
)
SPACES = {
    "bit": Space((1, 2, 3), "bit"),
    "byte": Space((2, 8, 9), "byte"),
    "real": Space((5,), "real"),
    "count": Space((4, 2), "count"),
    "mixed": Space((6,), "mixed", COLUMNS),
}
CASES = [(kind, name) for kind, names in FITTING.items() for name in names]


def made(kind: str, name: str):
    torch.manual_seed(1)
    return head(SPACES[kind], name, components=2)


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_what_is_drawn_has_a_finite_surprise_and_gradient_even_at_extremes(kind, name):
    net, shape = made(kind, name), SPACES[kind].shape
    for size in (0.0, 1.0, 1e4):
        raw = (net.start + size * torch.randn(8, net.outputs)).requires_grad_()
        p = net(raw)
        x = p.sample().detach()
        assert x.shape == p.mean.shape == (8, *shape)
        log_p = p.log_prob(x)
        assert log_p.shape == (8,)
        assert log_p.isfinite().all()
        log_p.sum().backward()
        assert raw.grad.isfinite().all()
        # At the start no number of the decoder's is idle, but for mixtures' weights, which one component would not have.
        assert size != 0 or (raw.grad != 0).any(0).all()


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_observed_entries_are_marginals_and_hidden_ones_reach_nothing(kind, name):
    net, shape = made(kind, name), SPACES[kind].shape
    raw = torch.randn(4, net.outputs, requires_grad=True)
    p = net(raw)
    x = p.sample().detach()
    observed = torch.rand(4, *shape) < 0.5
    expected = torch.where(observed, p.terms(x), 0.0).flatten(1).sum(1)
    log_p = p.log_prob(torch.where(observed, x, torch.nan), observed)
    torch.testing.assert_close(log_p, expected)
    (gradient,) = torch.autograd.grad(log_p.sum(), raw)
    assert gradient.isfinite().all()
    (hidden,) = torch.autograd.grad(net(raw).log_prob(x, ~observed).sum(), raw)
    assert ((gradient != 0) & (hidden != 0)).sum() == 0


def test_masses_of_a_whole_row_and_of_a_whole_byte_sum_to_one():
    space = Space((3,), "mixed", (COLUMNS[1], COLUMNS[2], COLUMNS[3]))
    net = head(space)
    rows = torch.tensor(list(itertools.product(range(3), range(400), range(2)))).float()
    p = net(torch.randn(1, net.outputs))
    assert abs(p.log_prob(rows).exp().sum() - 1) < 1e-4
    everything = (torch.arange(256) / 127.5 - 1).view(256, 1)
    for name, raw in itertools.product(("logistic", "categorical"), (0.0, 3.0)):
        net = head(Space((1,), "byte"), name)
        p = net(raw * torch.randn(1, net.outputs))
        assert abs(p.log_prob(everything).exp().sum() - 1) < 1e-5


def test_the_distributions_are_those_of_their_names():
    kinds = {"bernoulli": Bernoulli, "logistic": LogisticMixture, "categorical": Lattice, "gaussian": Gaussian}
    for kind, space in SPACES.items():
        defaults = head(space)
        assert type(defaults) is type(head(space, FITTING[kind][0]))
        for name in FITTING[kind]:
            if name in kinds and kind != "mixed":
                net = head(space, name)
                assert isinstance(net(torch.zeros(1, net.outputs)), kinds[name])


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_a_shift_moves_locations_upwards_and_each_only_its_own(kind, name):
    net = made(kind, name)
    raw = 0.1 * torch.randn(1, net.outputs)
    shift = torch.zeros(net.shifts, net.shifts).fill_diagonal_(0.5)
    before, after = net(raw), net(raw.expand(net.shifts, -1), shift)
    if kind == "mixed":  # by part: two real columns, then two categories of three levels, the count, the one of two
        assert net.shifts == 2 + 2 * 3 + 1 + 2
        torch.testing.assert_close((after.mean - before.mean)[[0, 1]][:, [0, 4]], 0.5 * torch.eye(2))
        torch.testing.assert_close(after.mean[8, 2], before.mean[0, 2] * torch.tensor(0.5).exp())
        one = torch.zeros(net.shifts, 6)
        odds = (after.terms(one) - before.terms(one[:1]))[:, 1]  # of town 0: only the logits of towns matter
        assert (odds != 0).sum() == 3
        assert (odds > 0).sum() == 1
        return
    moved = (after.mean - before.mean).flatten(1)
    assert net.shifts == SPACES[kind].dims
    assert (moved.diagonal() > 0.01).all()
    off = moved - torch.diag(moved.diagonal())
    assert off.abs().max() < 1e-6
    if kind == "real":
        torch.testing.assert_close(moved.diagonal(), torch.full((net.shifts,), 0.5))


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_decoders_put_out_what_heads_need(kind, name):
    net, shape = made(kind, name), SPACES[kind].shape
    builders = [mlp.autoencoder] + [conv.autoencoder] * (len(shape) == 3)
    for builder in builders:
        _, decoder = builder(shape, 4, 3, net.start, 8, 1)
        raw = decoder(torch.randn(5, 3))
        assert raw.flatten(1).shape[1] == net.outputs
        assert net(raw).mean.shape == (5, *shape)


def test_a_constant_column_cannot_make_a_density_grow_for_ever():
    for name in ("gaussian", "student"):
        net = head(Space((1,), "real"), name)
        raw = torch.full((1, net.outputs), -1e6)
        raw[:, 0] = 0
        assert net(raw).log_prob(torch.zeros(1, 1)).item() < 7


def test_students_have_a_variance():
    net = head(Space((1,), "real"), "student")
    for raw in (-1e6, 0.0, 1e6):
        assert net(torch.full((1, 3), raw)).log_df.exp().item() > 2


@pytest.mark.parametrize(
    ("kind", "name", "fits"),
    [
        ("bit", "logistic", "bernoulli"),
        ("byte", "gaussian", "logistic or categorical"),
        ("count", "student", "negative_binomial or poisson"),
        ("mixed", "poisson", "gaussian or student"),
    ],
)
def test_a_likelihood_that_does_not_fit_is_named_with_those_that_do(kind, name, fits):
    with pytest.raises(BadInput, match=f"likelihood {name} does not fit {kind} entries; use auto, {fits}"):
        head(SPACES[kind], name)
