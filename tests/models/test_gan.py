import copy
import dataclasses
import math

import pytest
import torch
from torch import nn

from reverie.core.errors import BadInput
from reverie.core.model import Batch
from reverie.core.recipe import TrainingConfig
from reverie.core.space import Space
from reverie.data import open_data
from reverie.maths.games import slopes
from reverie.models import gan as family
from reverie.models.gan import GAN, PACE, GANConfig
from reverie.training import State, fabric_for, training, validate

SMALL = GANConfig(latent=4, width=8, depth=1)
ADAM = TrainingConfig(batch=16, steps=40, beta1=0.0, beta2=0.99, average=0.05)


def learn(state: State, data, until: int | None = None) -> None:
    for report in training(state, data, 7, fabric_for("cpu")):
        if report.step == until:
            return


def test_each_side_sees_reals_of_its_own():
    """The critic's loss is a function of the first half of the batch alone, the generator's of the second."""
    gan, x = GAN(SMALL, Space((2,), "real")), torch.randn(8, 2)
    told = []
    for changed in (None, 0, 4):
        other = x.clone()
        if changed is not None:
            other[changed] += 1
        torch.manual_seed(1)
        told.append([phase.loss.item() for phase in gan.phases(Batch(other), 0)])
    base, first, second = told
    assert first[0] != base[0]
    assert first[1] == base[1]
    assert second[0] == base[0]
    assert second[1] != base[1]


def test_the_critics_loss_is_the_game_and_its_penalties():
    space, x = Space((2,), "real"), torch.randn(8, 2)
    torch.manual_seed(0)
    plain = GAN(dataclasses.replace(SMALL, gamma_real=0.0, gamma_fake=0.0), space)
    found = {}
    for real, fake in ((0.0, 0.0), (2.0, 0.0), (0.0, 2.0)):
        gan = GAN(dataclasses.replace(SMALL, gamma_real=real, gamma_fake=fake), space)
        gan.load_state_dict(plain.state_dict())
        torch.manual_seed(1)
        phase = next(gan.phases(Batch(x), 0))
        found[real, fake] = phase.loss.item()
        assert phase.report.item() == pytest.approx(found[0.0, 0.0])
    torch.manual_seed(1)
    dreams = plain.generator(plain.generator.styles(torch.randn(4, 4))).detach()
    for key, shown in (((2.0, 0.0), x[:4]), ((0.0, 2.0), dreams)):
        shown = shown.requires_grad_()
        truth = slopes(plain.critic(shown), shown).mean().item()
        assert found[key] - found[0.0, 0.0] == pytest.approx(truth, rel=1e-3)


def test_a_single_example_is_shown_to_both():
    told = [phase.loss for phase in GAN(SMALL, Space((2,), "real")).phases(Batch(torch.randn(1, 2)), 0)]
    assert len(told) == 2
    assert all(loss.isfinite() for loss in told)


LOG2 = math.log(2)


@pytest.mark.parametrize(
    ("game", "prices"), [("relativistic", (LOG2, LOG2)), ("classic", (2 * LOG2, LOG2)), ("hinge", (2.0, 0.0))]
)
def test_an_untaught_critic_is_worth_what_the_game_says(game, prices):
    gan = GAN(dataclasses.replace(SMALL, game=game), Space((2,), "real"))
    for p in gan.critic.parameters():
        p.data.zero_()
    found = [phase.loss.item() for phase in gan.phases(Batch(torch.randn(8, 2)), 0)]
    assert found == pytest.approx(prices, abs=1e-5)


def test_dreams_for_the_eye_keep_to_the_psi_of_the_settings():
    gan = GAN(dataclasses.replace(SMALL, psi=0.0), Space((1, 8, 8), "byte"))
    timid, bold = gan.dream(4), gan.sample(4)
    assert (timid == timid[:1]).all()
    assert not (bold == bold[:1]).all()


def test_so_many_dreams_are_crossed_in_training(monkeypatch):
    shares = []
    monkeypatch.setattr(family, "crossed", lambda a, b, share: shares.append(share) or a)
    for mixing in (0.3, 0.0):
        gan = GAN(dataclasses.replace(SMALL, style=True, mixing=mixing), Space((1, 16, 16), "byte"))
        list(gan.phases(Batch(torch.zeros(4, 1, 16, 16)), 0))
    assert shares == [0.3, 0.3]  # those the critic learns by, and those the generator does


def test_a_repair_is_like_what_was_seen():
    """Of what the generator can make: each draw is sought until it agrees with what was seen, noise or not."""
    torch.manual_seed(0)
    gan = GAN(dataclasses.replace(SMALL, inversion=100), Space((1, 8, 8), "byte"))
    observed = torch.zeros(1, 8, 8, dtype=torch.bool)
    observed[:, :4] = True
    x, others = gan.sample(3), gan.sample(200)
    draws = gan.repair(x, observed.expand_as(x), 4, 0.2)
    off = (draws - x)[..., observed].square().mean()
    assert off < 0.03 * (others[:, None] - x)[..., observed].square().mean()


def test_dreams_take_the_mean_and_the_spread_of_what_was_seen():
    data = open_data("rings", count=2000)
    torch.manual_seed(0)
    state = State(
        GAN(GANConfig(latent=4, width=32, depth=2), data.space), dataclasses.replace(ADAM, steps=1200, batch=128)
    )
    learn(state, data)
    x, truth = state.average.sample(4000), data.test.x()
    assert (x.mean(0) - truth.mean(0)).abs().max() < 0.25
    assert (x.std(0) - truth.std(0)).abs().max() < 0.25


STYLED = dataclasses.replace(SMALL, style=True, style_width=6, noise=True)


@pytest.mark.parametrize(
    ("name", "config"),
    [("rings", SMALL), ("digits", dataclasses.replace(SMALL, augment=0.8, overfit=-1.0)), ("digits", STYLED)],
)
def test_a_resumed_run_is_the_run_that_was_not_stopped(name, config):
    data = open_data(name)
    torch.manual_seed(0)
    whole = State(GAN(config, data.space), dataclasses.replace(ADAM, steps=20))
    stopped = State(copy.deepcopy(whole.model), whole.config)
    learn(whole, data)
    assert whole.model.strength == (0.8 if config.augment else 0)  # in one look, in so short a run
    learn(stopped, data, until=18)
    kept = {k: v.clone() for k, v in stopped.tensors().items()}
    torch.manual_seed(99)
    again = State(GAN(config, data.space), whole.config)
    again.restore(kept, 18)
    learn(again, data)
    finished = again.tensors()
    assert finished.keys() == whole.tensors().keys()
    for key, value in whole.tensors().items():
        assert torch.equal(value, finished[key]), key


def test_dreams_have_the_holes_of_what_they_are_held_against():
    """A column that was never measured is never judged: whatever a dream says there, the critic does not know."""
    gan, x = GAN(SMALL, Space((3,), "real")), torch.randn(8, 3)
    observed = torch.ones_like(x, dtype=torch.bool)
    observed[:, 1] = False
    for phase in gan.phases(Batch(torch.where(observed, x, 0.0), observed), 0):
        if phase.learner == "generator":
            bias = gan.generator.net[-1].bias
            (gradient,) = torch.autograd.grad(phase.loss, bias)
            assert gradient[1] == 0
            assert (gradient[[0, 2]] != 0).all()


@pytest.mark.parametrize("config", [SMALL, STYLED], ids=["plain", "styled"])
def test_truncation_goes_from_one_picture_to_all(config):
    gan = GAN(dataclasses.replace(config, noise=False), Space((1, 8, 8), "byte"))
    found = []
    for psi in (1.0, 0.5, 0.0):
        torch.manual_seed(3)
        found.append(gan.sample(40, psi=psi))
    torch.manual_seed(3)
    assert torch.equal(gan.sample(40), found[0])
    spread = [x.std(0).mean().item() for x in found]
    assert spread[0] > spread[1] > spread[2] == 0


def test_an_inversion_knows_no_chance_and_no_portions(monkeypatch):
    gan = GAN(
        dataclasses.replace(STYLED, inversion=6), Space((1, 8, 8), "byte")
    )  # its generator throws dice at every block
    gan.generator.scales[0].blocks[0].strength.data.fill_(0.5)
    x, observed = gan.sample(5), torch.rand(5, 1, 8, 8) < 0.7
    before = torch.random.get_rng_state()
    whole = gan.invert(x, observed)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(7)
    assert torch.equal(gan.invert(x, observed), whole)
    quiet = GAN(dataclasses.replace(STYLED, noise=False, inversion=6), Space((1, 8, 8), "byte"))
    whole = quiet.invert(x, observed)
    monkeypatch.setattr(family, "AT_ONCE", 2)
    torch.testing.assert_close(quiet.invert(x, observed), whole, atol=1e-3, rtol=1e-3)


def test_a_mixture_has_the_ends_that_it_is_made_of():
    gan = GAN(dataclasses.replace(STYLED, noise=False), Space((1, 16, 16), "byte"))
    for p in gan.generator.parameters():
        p.data.add_(0.2 * torch.randn_like(p))
    a, b = gan.styles(3), gan.styles(3)
    layers = gan.generator.layers
    assert torch.equal(gan.mix(a, b, layers), gan.imagine(a))
    assert torch.equal(gan.mix(a, b, 0), gan.imagine(b))
    assert not torch.equal(gan.mix(a, b, layers // 2), gan.imagine(a))


class Ruler(nn.Module):
    """A critic that knows one number of a picture."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1).mean(1)


def judging(**changes) -> GAN:
    """A gan whose dreams are all black, and whose critic says how light a picture is."""
    gan = GAN(dataclasses.replace(SMALL, augment=0.6, **changes), Space((1, 8, 8), "byte"))
    gan.critic = Ruler()
    gan.generator.last.weight.data.zero_()
    gan.generator.last.bias.data.fill_(-1.0)
    return gan


@pytest.mark.parametrize(
    ("held", "heart", "share"), [(-0.7, 0.7, 0.1), (-0.2, 0.2, 0.0), (0.3, 0.0, 0.0), (-2.0, 1.0, 0.1)]
)
def test_what_the_critic_knows_by_heart_is_measured_and_answered(held, heart, share):
    gan, grey = judging(overfit=0.5), torch.zeros(6, 1, 8, 8)
    found = gan.watch(Batch(grey), Batch(grey + held), 0.1 / PACE)
    assert found["by heart"] == pytest.approx(heart, abs=1e-6)
    assert found["altered"] == pytest.approx(share, abs=1e-6)
    assert found["variety"] == 0  # all dreams are the same


def test_the_share_of_altered_pictures_keeps_its_bounds():
    gan, grey = judging(overfit=0.5), torch.zeros(6, 1, 8, 8)
    assert gan.watch(Batch(grey), Batch(grey - 0.9), 1.0)["altered"] == pytest.approx(0.6)
    gan.looks.zero_()  # it forgets what it saw
    assert gan.watch(Batch(grey), Batch(grey), 1.0)["altered"] == 0


def test_validation_needs_no_gradients():
    data = open_data("digits")
    told = validate(GAN(SMALL, data.space), data, 0, 0)
    assert set(told) == {"critic", "generator"}


def test_what_cannot_be_is_said():
    with pytest.raises(BadInput, match="not bits"):
        GAN(SMALL, Space((1, 8, 8), "bit"))
    with pytest.raises(BadInput, match="for pictures"):
        GAN(dataclasses.replace(SMALL, net="conv"), Space((3,), "real"))
    with pytest.raises(BadInput, match="for convolutions"):
        GAN(STYLED, Space((3,), "real"))


def test_a_critic_folds_by_powers_of_two():
    with pytest.raises(BadInput, match="powers of two, not by 3"):
        GAN(dataclasses.replace(SMALL, fold=3), Space((1, 12, 12), "byte"))
    with pytest.raises(BadInput, match="only pictures are folded"):
        GAN(dataclasses.replace(SMALL, fold=2), Space((2,), "real"))
