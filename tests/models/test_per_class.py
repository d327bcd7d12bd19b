import numpy as np
import pytest
import torch

from reverie.core import abilities
from reverie.core.errors import BadInput
from reverie.core.model import Batch, Repairs, Surprised
from reverie.core.recipe import TrainingConfig
from reverie.core.space import Space
from reverie.data.arrays import from_array
from reverie.data.config import DataConfig
from reverie.evaluation import evaluate
from reverie.models import MODELS, made
from reverie.models.gan import GANConfig
from reverie.models.helmholtz import HelmholtzConfig
from reverie.models.per_class import PerClass
from reverie.models.recurrent import RecurrentConfig
from reverie.models.vae import VAEConfig
from reverie.training import State, fabric_for, training

BITS = Space((1, 2, 3), "bit")
WORLD = (torch.arange(64).unsqueeze(1) >> torch.arange(6) & 1).float().view(64, 1, 2, 3)
CONFIGS = {"helmholtz": HelmholtzConfig(layers=(4, 2)), "vae": VAEConfig(latent=2, width=8, depth=1, prior="normal")}


@pytest.fixture(scope="module")
def two_kinds():
    """Bits that are mostly on, label 0, and a third as many that are mostly off, label 1."""
    generator = torch.Generator().manual_seed(0)
    on = (torch.rand(300, 1, 2, 3, generator=generator) < 0.9).numpy()
    off = (torch.rand(100, 1, 2, 3, generator=generator) < 0.1).numpy()
    labels = np.repeat([0, 1], [300, 100])
    return from_array("two", np.concatenate([on, off]), {"source": "two"}, DataConfig(), labels, ["on", "off"])


def trained(name, data, steps=150):
    torch.manual_seed(0)
    model = made(name, CONFIGS.get(name, MODELS[name].Config()), data.space, per_class=2)
    state = State(model, TrainingConfig(steps=steps, batch=32, rate=1e-2))
    for _ in training(state, data, 0, fabric_for("cpu")):
        pass
    return state.average


@pytest.mark.parametrize("name", ["independent", "vae", "helmholtz"])
def test_the_least_surprised_machine_knows_the_label(two_kinds, name):
    model = trained(name, two_kinds)
    x, y = two_kinds.test.x(), two_kinds.test.labels
    chance = model.chances(x, draws=20)
    torch.testing.assert_close(chance.sum(1), torch.ones(len(x)))
    assert (chance.argmax(1) == y).float().mean() > 0.9
    torch.testing.assert_close(model.label_shares[0].item(), (two_kinds.train.labels == 0).float().mean().item())
    one = torch.ones(50, dtype=torch.long)
    assert model.sample(50, one).mean() < 0.3
    assert abilities.dream(model, 50, one).mean() < 0.3
    assert model.sample(50, 0 * one).mean() > 0.7
    observed = torch.rand_like(x) < 0.5
    draws = model.repair(x, observed, 4)
    assert torch.equal(draws[:, observed], x[observed].expand(4, -1))
    assert model.surprise(x, given=y, draws=20).value.mean() < model.surprise(x, given=1 - y, draws=20).value.mean()


def test_all_labels_together_make_one_distribution(two_kinds):
    model = trained("helmholtz", two_kinds, steps=20)
    chance = (-model.surprise(WORLD).value).exp()
    assert abs(chance.sum().item() - 1) < 1e-4
    for y, machine in enumerate(model.machines):
        given = torch.full((64,), y)
        torch.testing.assert_close(model.surprise(WORLD, given=given).value, machine.surprise(WORLD).value)


@pytest.mark.parametrize("name", ["vae", "helmholtz"])
def test_a_machine_without_examples_rests(name):
    torch.manual_seed(0)
    model = made(name, CONFIGS[name], BITS, per_class=3)
    learners = {key: list(group) for key, group in model.learners().items()}
    assert sum(map(len, learners.values())) == len(list(model.parameters()))
    resting = {id(p) for p in model.machines[1].parameters()}
    seen = set()
    for phase in model.phases(Batch(WORLD[:6], None, torch.tensor([0, 2, 2, 0, 2, 2])), 0):
        if phase.gradients is None:
            gradients = torch.autograd.grad(phase.loss, learners[phase.learner], allow_unused=True)
        else:
            gradients = phase.gradients
        assert phase.report.isfinite()
        for p, gradient in zip(learners[phase.learner], gradients, strict=True):
            assert (gradient is None) == (id(p) in resting)
            seen.add(id(p))
    assert seen == {id(p) for p in model.parameters()}


def test_what_makes_no_machine_for_each_class_is_refused(two_kinds):
    with pytest.raises(BadInput, match="classes"):
        PerClass(MODELS["vae"], VAEConfig(classes=2), BITS, 2)
    with pytest.raises(BadInput, match="no training example"):
        two_kinds.of_label(1).of_label(0)


def test_what_no_machine_can_do_all_together_cannot():
    space = Space((1, 6, 5), "byte")
    gans = made("gan", GANConfig(latent=2, width=4), space, per_class=2)
    assert not gans.can(Surprised)
    assert gans.can(Repairs)
    assert made("vae", CONFIGS["vae"], space, per_class=2).can(Surprised)
    raw = torch.randint(256, (200, 1, 6, 5), generator=torch.Generator().manual_seed(0)).byte().numpy()
    data = from_array("made", raw, {"source": "made"}, DataConfig(), np.arange(200) % 2, ["a", "b"])
    names = {score.name for score in evaluate(gans, data, dreams=20)}
    assert "nats" not in names
    assert names  # it is judged by its dreams


def test_what_machines_of_classes_cannot_be_is_told():
    for change, words in (({"members": 3}, "one member"), ({"inputs": 1}, "no inputs")):
        with pytest.raises(BadInput, match=words):
            made("recurrent", RecurrentConfig(**change), Space((10, 2), "real"), per_class=2)


def test_the_gradients_of_each_machine_are_clipped_by_themselves(two_kinds):
    moved = []
    for clip in (0.0, 1e-3):
        torch.manual_seed(0)
        model = made("vae", CONFIGS["vae"], two_kinds.space, per_class=2)
        for p in model.machines[0].decoder.parameters():
            p.data *= 20  # whose gradients are larger
        recipe = TrainingConfig(steps=1, batch=16, optimiser="sgd", rate=1.0, warmup=0.0, clip=clip, average=0.0)
        before = [[p.detach().clone() for p in machine.parameters()] for machine in model.machines]
        next(training(State(model, recipe), two_kinds, 0, fabric_for("cpu")))
        moved.append(
            [
                torch.cat([(p - b).flatten() for p, b in zip(machine.parameters(), old, strict=True)])
                for machine, old in zip(model.machines, before, strict=True)
            ]
        )
    for free, clipped in zip(*moved, strict=True):
        assert clipped.norm().item() == pytest.approx(1e-3, rel=2e-2)
        torch.testing.assert_close(1e3 * clipped, free / free.norm(), atol=2e-2, rtol=0)
