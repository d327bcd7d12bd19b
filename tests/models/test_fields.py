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
    """Enumerated: sum over z of p(what is above and beside) p(what is below | unit on) E[x | z_1]."""
    model, n = machine(), 40_000
    with torch.no_grad():
        for belief in model.dreamer:
            belief.weight.mul_(4)  # so that what is above is felt below
    z = model.states()
    parts = list(z.split(model.units, 1))
    beliefs, moved = list(model.dreamer)[::-1], []  # from the data up
    for unit in (0, model.units[layer] - 1):
        forced = parts[layer].clone()
        forced[:, unit] = 1
        log_p = torch.zeros(len(z), dtype=torch.float64)
        for i, belief in enumerate(beliefs):
            above = z.new_zeros(len(z), 0) if i == 2 else forced if i + 1 == layer else parts[i + 1]
            log_p += belief(above).log_prob(parts[i])
        assert abs(log_p.exp().sum().item() - 1) < 1e-9
        seen = model.decode(forced if layer == 0 else parts[0]).mean
        expected = torch.einsum("s,schw->chw", log_p.exp(), seen)
        torch.manual_seed(unit)
        found = model.fantasies(layer, [unit], n)[0]
        assert ((found - expected).abs() < 4.5 * 0.5 / n**0.5).all()  # a chance has a deviation of at most 1/2
        usual = torch.einsum("s,schw->chw", model.prior.log_prob(z).exp(), model.decode(parts[0]).mean)
        moved.append((expected - usual).abs().max())
    assert max(moved) > 0.03  # a switch that did nothing would have failed


def test_all_units_share_the_dreams_above_them():
    """A unit without weights below leaves every fantasy as the dreams are, whichever of them it is."""
    model = machine()
    with torch.no_grad():
        model.shown.weight[:, [1, 3]] = 0
    a, b = model.fantasies(0, [1, 3], 50)
    torch.testing.assert_close(a, b)


def test_tables_have_no_fields():
    table = Space((2,), "mixed", (Column("age", "real"), Column("town", "category", 3)))
    model = machine(table)
    for field in (model.receptive, model.projective):
        with pytest.raises(BadInput, match="column"):
            field(0)
