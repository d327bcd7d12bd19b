import dataclasses
import math

import pytest
import torch

from reverie.core.errors import BadInput
from reverie.core.model import Batch
from reverie.core.recipe import TrainingConfig
from reverie.core.space import Space
from reverie.data import open_data
from reverie.maths import bounds
from reverie.models.ladder import LadderConfig, LadderVAE
from reverie.training import State, fabric_for, training


@pytest.fixture(params=[2, 3])
def ladder(request):
    """Three groups on a picture of odd size, its weights moved so that no two laws are the same."""
    torch.manual_seed(0)
    config = LadderConfig(groups=(1, 2), fold=request.param, width=8, latent=2)
    model = LadderVAE(config, Space((1, 5, 4), "bit")).double()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return model


@pytest.fixture
def x():
    return torch.randint(2, (3, 1, 5, 4), generator=torch.Generator().manual_seed(2)).double()


def test_draws_are_known_again(ladder, x):
    """What a walk with noise says of its draws, a second walk along those draws says too; and dreams likewise."""
    q = ladder.encode(x)
    noise = torch.randn(4, 3, q.size, dtype=torch.float64)
    fused, _ = ladder.weigh(q, noise, x)
    plain = bounds.weigh(ladder, q, q.place(noise), x)
    for a, b in zip(fused, plain, strict=True):
        torch.testing.assert_close(a, b)
    estimates = [ladder.surprise(x, draws=30), bounds.surprise(ladder, x, 30)]
    torch.testing.assert_close(estimates[0].value, estimates[1].value)


def test_the_density_is_that_of_the_draws(ladder, x):
    """Change of variables: log q(z) = log N(noise) - log |dz / dnoise|, the Jacobian by autograd."""
    for law, rows in ((ladder.encode(x[:1]), (1,)), (ladder.prior, (1,))):
        noise = torch.randn(*rows, law.size, dtype=torch.float64)
        jacobian = torch.autograd.functional.jacobian(lambda e, law=law: law.place(e)[0], noise)[:, 0]
        density = -0.5 * (noise.square().sum() + law.size * math.log(2 * math.pi)) - torch.linalg.slogdet(jacobian)[1]
        torch.testing.assert_close(law.log_prob(law.place(noise)).squeeze(), density)


def test_the_kl_of_the_groups_is_the_mean_log_ratio(ladder, x):
    q = ladder.encode(x)
    with torch.no_grad():
        found, kl = ladder.weigh(q, torch.randn(4000, 3, q.size, dtype=torch.float64), x)
    ratio = found.log_q - found.log_prior
    error = (ratio - kl.sum(-1)).std(0) / math.sqrt(4000)
    assert ((ratio - kl.sum(-1)).mean(0).abs() < 4 * error).all()
    assert (kl > 0).all()


def test_what_is_told_is_the_bound(ladder, x):
    for changes in (
        {},
        {"warmup": 100},
        {"free_bits": 50.0},
        {"objective": "iwae", "draws": 4},
    ):  # the loss, too, is what was asked for
        model = LadderVAE(dataclasses.replace(ladder.config, **changes), ladder.space).double()
        model.load_state_dict(ladder.state_dict())
        q = model.encode(x)
        torch.manual_seed(1)
        (phase,) = model.phases(Batch(x), 0)
        torch.manual_seed(1)
        found, kl = ladder.weigh(q, torch.randn(model.config.draws, 3, q.size).double(), x)
        told = found.log_likelihood - kl.sum(-1) if model.config.draws == 1 else found.log_w.logsumexp(0) - math.log(4)
        torch.testing.assert_close(phase.report, -told.mean(), rtol=1e-4, atol=1e-4)
        weight = 1 / 100 if model.config.warmup else 1.0
        charged = kl.mean((0, 1)).clamp(min=model.config.free_bits).sum()
        loss = weight * charged - found.log_likelihood.mean() if model.config.draws == 1 else -told.mean()
        torch.testing.assert_close(phase.loss, loss, rtol=1e-4, atol=1e-4)


def test_labels_change_pictures_and_what_is_perceived():
    torch.manual_seed(0)
    model = LadderVAE(LadderConfig(groups=(1,), width=8, latent=2, classes=3), Space((1, 4, 4), "bit"))
    for p in model.parameters():
        p.data.add_(0.3 * torch.randn_like(p))
    x, z = model.sample(2), model.prior.sample(2)
    one, two = torch.tensor([0, 0]), torch.tensor([0, 2])
    assert torch.equal(model.decode(z, one).mean[0], model.decode(z, two).mean[0])
    assert (model.decode(z, one).mean[1] - model.decode(z, two).mean[1]).abs().max() > 1e-3
    assert (model.encode(x, given=one).mean[1] - model.encode(x, given=two).mean[1]).abs().max() > 1e-3
    with pytest.raises(BadInput, match="labels from 0 to 2"):
        model.sample(2, torch.tensor([0, 3]))


def test_it_learns_kirbys_world():
    """The exact KL over all twelve patterns; noise, and pixels taken one by one, have 3.81 nats."""
    data = open_data("kirby")
    torch.manual_seed(0)
    config = LadderConfig(groups=(1, 1), width=16, latent=4, warmup=200)
    state = State(LadderVAE(config, data.space), TrainingConfig(steps=400, batch=100, rate=1e-2))
    for _ in training(state, data, 0, fabric_for("cpu")):
        pass
    nats = state.average.surprise(data.support.float(), draws=200).value
    kl = (data.probability * (data.probability.log() + nats)).sum()
    assert 0 < kl < 1.5


def test_only_pictures_have_ladders():
    with pytest.raises(BadInput, match="needs pictures"):
        LadderVAE(LadderConfig(), Space((3,), "bit"))


def test_free_bits_are_of_the_evidence_bound():
    with pytest.raises(BadInput, match="free bits belong"):
        LadderVAE(LadderConfig(objective="iwae", draws=2, free_bits=1.0), Space((1, 4, 4), "bit"))
