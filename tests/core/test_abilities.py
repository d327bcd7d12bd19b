"""Directions and walks where the truth is known: machines whose pictures are linear in their points."""

import pytest
import torch

from reverie.core.abilities import main_directions, morph, seek, show, traverse
from reverie.core.errors import BadInput
from reverie.core.model import Model
from reverie.core.space import Space
from reverie.models.linear import Linear, LinearConfig
from reverie.models.noise import Noise, NoiseConfig


class Flat(Model):
    """x = points A, points from a Gaussian of unlike spreads, (n, 2, 3) each."""

    def __init__(self):
        super().__init__(None, Space((7,), "real"))
        self.matrix = torch.linalg.qr(torch.randn(7, 6))[0].T * torch.tensor([5, 3, 2, 1.5, 0.4, 0.1]).unsqueeze(1)

    def styles(self, n: int) -> torch.Tensor:
        return torch.randn(n, 2, 3) * torch.tensor([1.0, 2.0, 1.0])

    def imagine(self, styles: torch.Tensor) -> torch.Tensor:
        return styles.flatten(1) @ self.matrix

    def invert(self, x: torch.Tensor) -> torch.Tensor:
        return (x @ torch.linalg.pinv(self.matrix)).unflatten(1, (2, 3))

    def sample(self, n, given=None):
        return self.imagine(self.styles(n))


def test_main_directions_are_those_in_which_dreams_differ_most():
    model = Flat()
    _, ways = main_directions(model, torch.zeros(20_000, 7), 6)
    # A has orthogonal rows, so each principal component of the dreams is one row.
    size = model.matrix.norm(dim=1) * torch.tensor([1.0, 2.0, 1.0]).repeat(2)
    order = size.argsort(descending=True)
    for way, row in zip(ways.flatten(1), order.tolist(), strict=True):
        truth = torch.zeros(6)
        truth[row] = [1.0, 2.0, 1.0][row % 3]  # one standard deviation of that number
        assert min((way - truth).norm(), (way + truth).norm()) < 0.15
    assert len(main_directions(model, torch.zeros(50, 7), 99)[1]) == 6


def test_main_directions_do_not_depend_on_chance_nor_disturb_it():
    model, before = Flat(), torch.random.get_rng_state()
    first = main_directions(model, torch.zeros(50, 7), 2)[1]
    torch.manual_seed(5)
    assert torch.equal(main_directions(model, torch.zeros(50, 7), 2)[1], first)
    torch.random.set_rng_state(before)
    main_directions(model, torch.zeros(50, 7), 2)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_main_directions_of_what_is_perceived_are_its_principal_components():
    torch.manual_seed(0)
    model = Linear(LinearConfig(latent=3), Space((6,), "real"))
    model.axes.copy_(torch.linalg.qr(torch.randn(6, 3))[0])
    model.variances.copy_(torch.tensor([9.0, 4.0, 2.0]))
    x = torch.randn(200, 6)
    z = model.encode(x).mean
    centre, ways = main_directions(model, x, 3)
    torch.testing.assert_close(centre, z.mean(0))
    values, vectors = torch.linalg.eigh(torch.cov(z.T, correction=0))
    truth = (vectors * values.sqrt()).T.flip(0)
    for way, one in zip(ways, truth, strict=True):
        assert min((way - one).norm(), (way + one).norm()) < 1e-4


def test_a_walk_through_a_linear_space_is_straight():
    model = Flat()
    a, b = model.sample(3), model.sample(3)
    way = morph(model, a, b, 5)
    for i in range(5):
        torch.testing.assert_close(way[i], torch.lerp(a, b, i / 4), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(show(model, seek(model, a)), a, atol=1e-3, rtol=1e-3)


def test_a_traverse_passes_its_point_and_goes_as_far_to_both_sides():
    model = Flat()
    point, ways = model.styles(1)[0], torch.randn(4, 2, 3)
    seen = traverse(model, point, ways, reach=2.0, steps=3)
    assert seen.shape == (4, 3, 7)
    for i in range(4):
        torch.testing.assert_close(
            seen[i], model.imagine(torch.stack([point - 2 * ways[i], point, point + 2 * ways[i]]))
        )


def test_a_machine_without_a_space_of_its_own_says_so():
    model = Noise(NoiseConfig(), Space((3,), "real"))
    x = torch.zeros(1, 3)
    for call in (lambda: seek(model, x), lambda: show(model, x), lambda: morph(model, x, x, 2)):
        with pytest.raises(BadInput, match="no space of its own"):
            call()
