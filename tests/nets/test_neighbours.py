"""A picture shown place by place, against enumeration."""

import dataclasses
import itertools

import pytest
import torch

from reverie.core.corruption import SaltAndPepper
from reverie.core.errors import BadInput
from reverie.core.model import Batch
from reverie.core.space import Space
from reverie.maths.imputation import importance_resampling, metropolis_within_gibbs, posterior_mean
from reverie.models.ladder import LadderConfig, LadderVAE
from reverie.models.vae import VAE, VAEConfig
from reverie.nets.neighbours import NeighbourHead, NeighbourLaw, fronts

SIZE = (1, 2, 3)
EVERY = torch.tensor(list(itertools.product((0.0, 1.0), repeat=6))).view(-1, *SIZE)


def shaken(module, scale=0.7):
    """All weights random, for at the start nothing is told."""
    generator = torch.Generator().manual_seed(5)
    for p in module.parameters():
        p.data.add_(scale * torch.randn(p.shape, generator=generator))
    return module


@pytest.fixture
def law():
    torch.manual_seed(0)
    tell = shaken(NeighbourHead(Space(SIZE, "bit"), radius=1, width=8), 0.5)
    return tell(0.3 * torch.randn(1, tell.outputs))


def test_at_the_start_places_are_independent():
    torch.manual_seed(0)
    tell = NeighbourHead(Space(SIZE, "bit"), radius=2, width=4)
    raw = torch.randn(64, tell.outputs)
    torch.testing.assert_close(tell(raw).log_prob(EVERY), tell.all_places(raw[:, :6]).log_prob(EVERY))


@torch.no_grad()
def test_hints_of_the_decoder_move_the_law_but_are_no_numbers_of_it(law):
    hinted = law.said.clone()
    hinted[:, 1:] += 1
    other = NeighbourLaw(law.net, law.all_places, law.fronts, hinted, None).repeated(64).log_prob(EVERY).exp()
    assert torch.equal(law.raw, hinted[:, :1])
    assert abs(other.sum() - 1) < 1e-5
    assert (other - law.repeated(64).log_prob(EVERY).exp()).abs().sum() > 0.02


@torch.no_grad()
def test_probabilities_sum_to_one_and_neighbours_matter(law):
    p = law.repeated(64).log_prob(EVERY).exp()
    assert abs(p.sum() - 1) < 1e-5
    ones = p @ EVERY.flatten(1)  # of each place
    apart = torch.where(EVERY.flatten(1) > 0, ones, 1 - ones).prod(1)
    assert (p - apart).abs().sum() > 0.1


@pytest.mark.parametrize(("kind", "channels"), [("bit", 1), ("byte", 1), ("byte", 3)])
@pytest.mark.parametrize("shift", [False, True])
@torch.no_grad()
def test_all_at_once_is_place_by_place(kind, channels, shift):
    torch.manual_seed(1)
    space = Space((channels, 3, 4), kind)
    tell = shaken(NeighbourHead(space, components=2, radius=2, width=8), 0.2)
    moved = torch.randn(5, tell.shifts) if shift else None
    law = tell(torch.randn(5, tell.outputs), moved)
    x, nats = law.sample(), []
    assert law.sample(2).shape == (2, 5, *space.shape)

    def place(at, here):
        nats.append(here.log_prob(x[at]))
        return x[at]

    assert torch.equal(law.walk(place), x)
    torch.testing.assert_close(torch.stack(nats).sum(0), law.log_prob(x))


@pytest.mark.parametrize(
    ("height", "width", "radius"), [(1, 1, 1), (1, 5, 2), (6, 1, 3), (5, 9, 1), (7, 6, 2), (4, 4, 8)]
)
def test_fronts_visit_every_place_once_and_after_all_that_it_is_told_of(height, width, radius):
    turn = -torch.ones(height, width, dtype=torch.long)
    for i, (r, c) in enumerate(fronts(height, width, radius)):
        assert len(r)
        assert (turn[r, c] == -1).all()
        turn[r, c] = i
    for r, c in itertools.product(range(height), range(width)):
        above = turn[max(0, r - radius) : r, max(0, c - radius) : c + radius + 1]
        assert turn[r, c] > max([-1, *above.flatten().tolist(), *turn[r, max(0, c - radius) : c].tolist()])
    assert turn.max() < height * width


@torch.no_grad()
def test_draws_have_the_probabilities_of_the_law(law):
    torch.manual_seed(2)
    n = 20_000
    drawn = law.sample(n)[:, 0]
    found = torch.bincount((drawn.flatten(1) @ 2.0 ** torch.arange(5, -1, -1)).long(), minlength=64) / n
    p = law.repeated(64).log_prob(EVERY).exp()
    assert ((found - p).abs() < 5 * (p * (1 - p) / n).sqrt() + 1e-4).all()


@torch.no_grad()
def test_the_weight_of_what_was_seen_is_unbiased(law):
    torch.manual_seed(3)
    observed = torch.tensor([[[True, False, True], [False, True, True]]])
    y = torch.tensor([[[1.0, torch.nan, 0.0], [torch.nan, 1.0, 0.0]]])
    agree = (EVERY[:, observed] == y[observed]).all(1)
    truth = law.repeated(64).log_prob(EVERY).exp()[agree].sum()
    n = 20_000
    x, nats = law.repeated(n).complete(y.expand(n, -1, -1, -1), observed.expand(n, -1, -1, -1))
    w = nats.exp()
    assert torch.equal(x[:, observed], y[observed].expand(n, -1))
    assert abs(w.mean() - truth) < 4 * w.std() / n**0.5
    estimate = law.repeated(n).log_prob(y.expand(n, -1, -1, -1), observed.expand(n, -1, -1, -1)).exp()
    assert abs(estimate.mean() - truth) < 4 * estimate.std() / n**0.5


def test_holes_are_refused_in_learning(law):
    with pytest.raises(BadInput, match="neighbours 0"):
        law.log_prob(torch.zeros(1, *SIZE), torch.zeros(1, *SIZE, dtype=torch.bool))
    with pytest.raises(BadInput, match="only pictures"):
        VAE(VAEConfig(neighbours=2), Space((6,), "bit"))


@pytest.fixture
def vae():
    torch.manual_seed(4)
    config = VAEConfig(latent=1, width=8, depth=1, prior="normal", neighbours=1, neighbour_width=8)
    vae = VAE(config, Space(SIZE, "bit"))
    shaken(vae.decoder, 0.5)
    shaken(vae.likelihood, 0.5)
    return vae


def evidence(vae):
    """p(x) (64,) of every picture, z integrated out on a grid."""
    z = torch.linspace(-6, 6, 601).unsqueeze(1)
    log_prior = torch.log_softmax(-z.square().sum(1) / 2, 0)
    given_z = torch.stack([vae.decode(z).log_prob(x.expand(len(z), *SIZE)) for x in EVERY])
    return (given_z + log_prior).logsumexp(1).exp()


@torch.no_grad()
def test_surprise_and_repairs_are_those_of_the_enumerated_machine(vae):
    p = evidence(vae)
    assert abs(p.sum() - 1) < 1e-4
    found = vae.surprise(EVERY, draws=5000)
    told = found.pareto_k < 0.7  # elsewhere the error of an estimate is not to be trusted
    assert told.sum() > 50
    assert ((found.value + p.log()).abs() < 5 * found.error + 1e-3)[told].all()
    observed = torch.tensor([[[False, True, False], [True, False, True]]])
    y = torch.tensor([[[torch.nan, 1.0, torch.nan], [1.0, torch.nan, 0.0]]])
    agree = (EVERY[:, observed] == torch.tensor([1.0, 1.0, 0.0])).all(1)
    truth = p[agree] / p[agree].sum()  # of the eight ways to fill three holes
    places = 2.0 ** torch.arange(2, -1, -1)
    n = 4000
    torch.manual_seed(5)
    for repaired in (
        importance_resampling(vae, y[None], observed[None], n, k=20_000, at_once=20_000),
        metropolis_within_gibbs(vae, y[None], observed[None], n, sweeps=40, at_once=n),
    ):
        x = repaired.draws[:, 0]
        assert torch.equal(x[:, observed], torch.tensor([1.0, 1.0, 0.0]).expand(n, -1))
        share = torch.bincount((x[:, ~observed] @ places).long(), minlength=8) / n
        assert ((share - truth).abs() < 5 * (truth * (1 - truth) / n).sqrt() + 0.004).all(), repaired.method
    mean, _ = posterior_mean(vae, y[None], observed[None], k=20_000, at_once=20_000)
    expected = (EVERY[agree] * truth.view(-1, 1, 1, 1)).sum(0)
    torch.testing.assert_close(mean[0], expected, atol=0.03, rtol=0)


@torch.no_grad()
def test_spoiled_pictures_are_repaired_by_bayes_rule(vae):
    p, noise = evidence(vae), SaltAndPepper(0.4, 0.0, 1.0)
    y = EVERY[[37]]
    truth = p * noise.log_prob(y, EVERY).flatten(1).sum(1).exp()
    truth /= truth.sum()
    torch.manual_seed(6)
    n = 5000
    x = metropolis_within_gibbs(vae, y, None, n, sweeps=20, noise=noise, at_once=n).draws[:, 0]
    share = torch.bincount((x.flatten(1) @ 2.0 ** torch.arange(5, -1, -1)).long(), minlength=64) / n
    assert ((share - truth).abs() < 5 * (truth * (1 - truth) / n).sqrt() + 0.004).all()


@pytest.mark.parametrize("family", ["vae", "ladder"])
def test_every_parameter_learns(family):
    torch.manual_seed(7)
    space = Space((1, 4, 4), "byte")
    if family == "vae":
        model = VAE(VAEConfig(latent=2, width=8, neighbours=2, neighbour_width=4, prior="normal"), space)
    else:
        config = LadderConfig(groups=(1, 1), width=8, latent=2, neighbours=2, neighbour_width=4)
        model = LadderVAE(config, space)
    shaken(model, 0.1)
    x = torch.randint(256, (6, *space.shape)) / 127.5 - 1
    (phase,) = model.phases(Batch(x), 0)
    phase.loss.backward()
    assert all((p.grad != 0).any() for p in model.likelihood.parameters())
    assert model.sample(3).shape == (3, *space.shape)
    assert dataclasses.asdict(model.config)["neighbours"] == 2


@torch.no_grad()
def test_a_head_of_tables_moves_with_its_machine():
    tell = NeighbourHead(Space((1, 3, 4), "byte"), "categorical", radius=1, width=4).double()
    law = tell(torch.randn(2, tell.outputs, dtype=torch.float64))
    x = law.sample()
    assert x.dtype == torch.float64
    assert law.log_prob(x).isfinite().all()
