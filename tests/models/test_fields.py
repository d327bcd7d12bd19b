"""What single units of a machine look for, add, and dream of, against their weights and against enumeration."""

import itertools

import pytest
import torch

from reverie.core.errors import BadInput
from reverie.core.model import Layered
from reverie.core.space import Column, Space
from reverie.models import MODELS
from reverie.models.helmholtz import Helmholtz, HelmholtzConfig
from reverie.nets.likelihoods import head

BITS = Space((1, 2, 3), "bit")


def machine(space=BITS, **changes):
    torch.manual_seed(0)
    made = Helmholtz(HelmholtzConfig(**({"layers": (4, 3, 2)} | changes)), space).double()
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.7 * torch.randn_like(p))
    return made


def test_only_machines_with_layers_have_fields():
    assert isinstance(machine(), Layered)
    assert {name for name, family in MODELS.items() if hasattr(family, "fantasies")} == {"helmholtz"}


@pytest.mark.parametrize("kind", ["sigmoid", "nade"])
def test_a_field_is_a_sum_over_all_ways_through_the_layers(kind):
    model = machine(generation=kind, recognition=kind, shown=kind)
    up = [belief.weight for belief in model.recogniser]  # each (above, below)
    down = [model.shown.weight, *(belief.weight for belief in list(model.dreamer)[:0:-1])]  # each (below, above)
    for layer, count in enumerate(model.units):
        seen, added = model.receptive(layer), model.projective(layer)
        assert seen.shape == added.shape == (count, 1, 2, 3)
        for unit, pixel in itertools.product(range(count), range(6)):
            looks = adds = 0.0
            for way in itertools.product(*(range(size) for size in model.units[:layer])):
                path = [pixel, *way, unit]
                a = b = torch.ones((), dtype=torch.float64)
                for i, (low, high) in enumerate(itertools.pairwise(path)):
                    a, b = a * up[i][high, low], b * down[i][low, high]
                looks, adds = looks + a, adds + b
            torch.testing.assert_close(seen[unit].flatten()[pixel], looks)
            torch.testing.assert_close(added[unit].flatten()[pixel], adds)


def test_labels_are_no_part_of_a_field():
    model = machine(classes=2)
    pixels = model.recogniser[0].weight.view(4, 3, 2, 3)[:, :1]  # a channel of pixels, then one for each label
    torch.testing.assert_close(model.receptive(0), pixels)
    torch.testing.assert_close(model.projective(0).flatten(1), model.shown.weight[:, :4].T)


@pytest.mark.parametrize(("name", "logistics"), [("logistic", 1), ("logistic", 3), ("categorical", 1)])
def test_what_is_added_to_bytes_is_what_moves_their_location(name, logistics):
    """The weights of a pure shift by s are found to be s."""
    part = head(Space((1, 2, 2), "byte"), name, logistics)
    shift = torch.randn(4, 5)
    raw = torch.zeros(part.outputs, 5)
    if name == "categorical":
        raw = torch.einsum("v,dn->vdn", part.values, shift).flatten(0, 1) + 0.3  # a constant logit says nothing
    else:
        raw[: 4 * logistics] = shift.repeat(logistics, 1)
        raw[4 * logistics :] = 7.0  # scales and weights of the components are no locations
    torch.testing.assert_close(part.located(raw), shift, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_fantasy_is_the_mean_dream_with_its_unit_on(layer):
    """Enumerated: E[x | z_i = 1], and P(z_i = 1)."""
    model, n = machine(), 40_000
    with torch.no_grad():
        for belief in model.dreamer:
            belief.weight.mul_(4)  # so that what is above is felt below
    z = model.states()
    with torch.no_grad():
        chance, seen = model.prior.log_prob(z).exp(), model.decode(z).mean
    on = z.split(model.units, 1)[layer] * chance.unsqueeze(1)
    expected = torch.einsum("su,schw->uchw", on, seen) / on.sum(0).view(-1, 1, 1, 1)
    found, often = model.fantasies(layer, n)
    assert ((often - on.sum(0)).abs() < 4.5 * 0.5 / n**0.5).all()
    few = 4.5 * 0.5 / (n * on.sum(0)) ** 0.5  # a chance has a deviation of at most 1/2
    assert ((found - expected).abs() < few.view(-1, 1, 1, 1)).all()
    usual = torch.einsum("s,schw->chw", chance, seen)
    assert (expected - usual).abs().max() > 0.05  # the mean of all dreams would have failed


def test_a_unit_that_is_never_on_has_no_fantasy():
    model = machine()
    with torch.no_grad():
        model.dreamer[0].bias[0] = -1000
    found, often = model.fantasies(len(model.units) - 1, 50)
    assert found[0].isnan().all()
    assert often[0] == 0
    assert not found[often > 0].isnan().any()


def test_tables_have_no_fields():
    table = Space((2,), "mixed", (Column("age", "real"), Column("town", "category", 3)))
    model = machine(table)
    for field in (model.receptive, model.projective):
        with pytest.raises(BadInput, match="column"):
            field(0)
