import copy
import math

import pytest
import torch
from torch import nn

from reverie.core.distributions import Gaussian
from reverie.core.errors import BadInput
from reverie.core.space import Column, Space
from reverie.nets.priors import Prior, VampPrior, prior

from .test_priors import chi_square, square

PLANE = Space((2,), "real")


class Seer(nn.Module):
    """A model as far as a vamp prior knows one: an encoder to Gaussians in the plane, that counts its calls."""

    def __init__(self, space: Space = PLANE, components: int = 4):
        super().__init__()
        self.prior: Prior = VampPrior(components, space)
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(space.dims, 8), nn.Tanh(), nn.Linear(8, 4))
        self.prior.perceive = self.encode
        self.calls = 0

    def encode(self, x: torch.Tensor) -> Gaussian:
        self.calls += 1
        mean, log_scale = self.encoder(x).chunk(2, -1)
        return Gaussian(4 * mean, log_scale - 0.5)


@torch.no_grad()
def truth(model: Seer, z: torch.Tensor) -> torch.Tensor:
    """The density written out as a mixture of what the encoder says now."""
    q = model.encode(model.prior.inputs)
    parts = torch.distributions.Independent(torch.distributions.Normal(q.loc, q.scale), 1)
    weights = torch.distributions.Categorical(logits=torch.zeros(len(q.loc)))
    return torch.distributions.MixtureSameFamily(weights, parts).log_prob(z)


@torch.no_grad()
def test_it_is_the_mixture_of_encodings_and_its_samples_match():
    model = Seer()
    grid, area = square(12, 480)
    mass = model.prior.log_prob(grid).exp() * area
    assert torch.allclose(mass, truth(model, grid).exp() * area, atol=1e-7, rtol=1e-4)
    assert abs(mass.sum() - 1) < 1e-3
    draws = model.prior.sample(20_000)
    value, freedom = chi_square(mass, grid, draws)
    assert freedom > 8
    assert value < freedom + 5 * math.sqrt(2 * freedom)
    assert ((draws.mean(0) - model.prior.mean).abs() < 5 * draws.std(0) / math.sqrt(20_000)).all()


def test_its_gradient_reaches_pseudo_inputs_and_encoder():
    model = Seer().double()
    z = torch.randn(5, 2, dtype=torch.float64)
    leaves = (model.prior.raw, model.encoder[1].weight)

    def density(raw: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        replaced = {"prior.raw": raw, "encoder.1.weight": weight}
        return torch.func.functional_call(model, replaced, (z,), tie_weights=False)

    model.forward = lambda z: model.prior.log_prob(z)
    assert torch.autograd.gradcheck(density, [leaf.detach().clone().requires_grad_() for leaf in leaves])


def test_the_encoder_is_not_asked_again_while_nothing_changes():
    model = Seer()
    z = torch.randn(3, 5, 2)
    with torch.no_grad():
        for _ in range(10):
            model.prior.log_prob(z)
            model.prior.sample(2)
    assert model.calls == 1
    model.prior.log_prob(z)  # a gradient may be wanted
    assert model.calls == 2
    model.requires_grad_(False)
    model.prior.log_prob(z.requires_grad_()).sum().backward()
    assert model.calls == 2


def step(fused: bool):
    def change(model: Seer) -> None:
        optimiser = torch.optim.AdamW(model.parameters(), 0.1, fused=fused)
        with torch.enable_grad():
            model.prior.log_prob(torch.randn(8, 2)).sum().backward()
        optimiser.step()

    return change


def load(model: Seer) -> None:
    model.load_state_dict(Seer().state_dict())


def reverse(model: Seer) -> None:
    """The same numbers, elsewhere: no sum of them would show it."""
    model.encoder[1].weight.data = model.encoder[1].weight.data.flip(0)


def edit(model: Seer) -> None:
    model.encoder[3].bias.data.add_(1)  # .data has no version


def invent(model: Seer) -> None:
    model.prior.start(torch.randn(4, 2))


CHANGES = {"step": step(False), "fused": step(True), "load": load, "reverse": reverse, "edit": edit, "invent": invent}


@torch.no_grad()
@pytest.mark.parametrize("name", CHANGES)
def test_what_is_remembered_is_never_stale(name):
    model = Seer()
    z = torch.randn(20, 2)
    before = model.prior.log_prob(z)
    CHANGES[name](model)
    after = model.prior.log_prob(z)
    assert not torch.allclose(after, before, atol=1e-2)
    assert torch.allclose(after, truth(model, z), atol=1e-4)


@torch.no_grad()
def test_it_moves_to_another_type_and_back():
    model = Seer()
    z = torch.randn(20, 2)
    before = model.prior.log_prob(z)
    double = model.double().prior.log_prob(z.double())
    assert double.dtype == model.prior.sample().dtype == torch.float64
    assert torch.allclose(double, before.double(), atol=1e-4)
    model.encoder[3].bias += 1
    assert torch.allclose(model.float().prior.log_prob(z), truth(model, z), atol=1e-4)


def test_what_was_seen_in_inference_is_not_used_in_learning():
    model = Seer().requires_grad_(False)
    with torch.inference_mode():
        model.prior.log_prob(torch.randn(3, 2))
    z = torch.randn(3, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(model.prior.log_prob(z).sum(), z)
    assert gradient.abs().sum() > 0


@torch.no_grad()
def test_a_copy_perceives_with_its_own_encoder():
    model = Seer()
    z = torch.randn(20, 2)
    before = model.prior.log_prob(z)
    twin = copy.deepcopy(model)
    assert twin.prior.perceive.__self__ is twin
    model.encoder[3].bias += 1
    assert torch.equal(twin.prior.log_prob(z), before)
    twin.encoder[3].bias += 1
    assert torch.allclose(twin.prior.log_prob(z), model.prior.log_prob(z), atol=1e-6)
    assert not torch.allclose(twin.prior.log_prob(z), before, atol=1e-2)


@torch.no_grad()
def test_the_model_is_no_part_of_its_prior():
    model, other = Seer(), Seer()
    assert list(model.prior.state_dict()) == ["raw"]
    assert len(list(model.parameters())) == 5
    other.load_state_dict(model.state_dict())
    z = torch.randn(20, 2)
    assert torch.equal(other.prior.log_prob(z), model.prior.log_prob(z))


@pytest.mark.parametrize(
    ("kind", "low", "high", "within"),
    [("bit", 0, 1, 0.03), ("byte", -1, 1, 0.05), ("count", 0, 1e9, 0.06), ("real", -1e9, 1e9, 1e-6)],
)
def test_pseudo_inputs_are_valid_and_start_at_examples(kind, low, high, within):
    vamp = prior("vamp", 2, 5, 0.5, Space((1, 2, 3), kind))
    with torch.no_grad():
        vamp.raw.mul_(5)
    assert vamp.inputs.min() >= low
    assert vamp.inputs.max() <= high
    x = {
        "bit": torch.randint(2, (3, 1, 2, 3)).float(),
        "byte": torch.randint(256, (3, 1, 2, 3)) / 127.5 - 1,
        "count": torch.poisson(torch.full((3, 1, 2, 3), 4.0)) * 10,
        "real": torch.randn(3, 1, 2, 3),
    }[kind]
    vamp.start(x, noise=0)
    assert torch.allclose(vamp.inputs, x[[0, 1, 2, 0, 1]], atol=within)
    vamp.inputs.sum().backward()
    assert (vamp.raw.grad > 0).all()  # no entry is stuck
    vamp.start(x)
    assert not torch.equal(vamp.inputs[0], vamp.inputs[3])


def test_what_cannot_be_is_refused():
    columns = (Column("age", "real"), Column("town", "category", 3))
    with pytest.raises(BadInput, match="mixed table"):
        VampPrior(3, Space((2,), "mixed", columns))
    with pytest.raises(RuntimeError, match="perceive"):
        VampPrior(3, PLANE).log_prob(torch.zeros(1, 2))
    vamp = VampPrior(3, PLANE)
    vamp.perceive = lambda x: vamp
    with pytest.raises(BadInput, match=r"--model\.posterior gaussian"):
        vamp.sample()
