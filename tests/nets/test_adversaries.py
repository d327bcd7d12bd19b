"""Nets without normalisation: any size, the variance they begin with, and that every example is judged alone."""

import pytest
import torch

from reverie.nets.adversaries import Block, Critic, Generator, PointCritic, PointGenerator, Resampled
from reverie.nets.folding import folded, places, unfolded

SHAPES = [(1, 8, 8), (1, 48, 40), (3, 28, 28), (4, 32, 16), (3, 9, 13), (1, 1, 7), (2, 17, 30)]


@pytest.mark.parametrize("fold", [1, 2, 4])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_pictures_of_any_size(shape, fold):
    generator, critic = Generator(shape, 5, 4, 1, fold), Critic(shape, 4, 1, fold)
    x = generator(generator.styles(torch.randn(3, 5)))
    assert x.shape == (3, *shape)
    assert critic(x).shape == (3,)


@pytest.mark.parametrize("size", [(8, 6), (7, 5), (1, 4)], ids=str)
def test_resampling_against_its_definition(size):
    h = torch.randn(1, 1, *size, dtype=torch.float64)
    row = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64)
    kernel = torch.outer(row, row) / 16

    def blurred(x: torch.Tensor) -> torch.Tensor:
        padded = torch.nn.functional.pad(x, (1, 1, 1, 1))[0, 0]
        return torch.stack([
            torch.stack([(padded[i : i + 3, j : j + 3] * kernel).sum() for j in range(x.shape[3])])
            for i in range(x.shape[2])
        ])  # fmt: skip

    torch.testing.assert_close(Resampled().double()(h)[0, 0], blurred(h)[::2, ::2])
    for more in (0, 1):
        after = [2 * n - 1 + more for n in size]
        sparse = torch.zeros(1, 1, *after, dtype=torch.float64)
        sparse[0, 0, ::2, ::2] = h[0, 0]
        torch.testing.assert_close(Resampled(tuple(after)).double()(h)[0, 0], 4 * blurred(sparse))


@pytest.mark.parametrize("size", [(8, 6), (7, 5), (1, 4)], ids=str)
def test_resampling_can_be_differentiated_twice(size):
    """Its gradient is written by hand, and a penalty on slopes takes the gradient of that."""
    h = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    for net in (Resampled().double(), Resampled(tuple(2 * n - 1 for n in size)).double()):
        torch.autograd.gradcheck(lambda h, net=net: net(h).square().sin(), h)
        torch.autograd.gradgradcheck(lambda h, net=net: net(h).square().sin(), h)


@pytest.mark.parametrize("fold", [2, 3, 4])
def test_folding_loses_nothing_and_moves_no_place(fold):
    x = torch.randn(2, 3, 11, 7)
    h = folded(x, fold)
    assert h.shape == (2, 3 * fold**2, *places(11, 7, fold))
    assert torch.equal(unfolded(h, fold, (11, 7)), x)
    nearby = h[:, :, 1, 0].view(2, 3, fold, fold)
    assert torch.equal(nearby, x[:, :, fold : 2 * fold, :fold])


def test_a_block_begins_as_the_identity():
    h = torch.randn(2, 4, 5, 5)
    assert torch.equal(Block(4, 3)(h), h)


@pytest.mark.parametrize("depth", [1, 4])
def test_signals_begin_near_their_own_size(depth):
    """However deep: without this a net that does not normalise explodes or dies."""
    generator, critic = Generator((3, 32, 32), 64, 16, depth), Critic((3, 32, 32), 16, depth)
    x = generator(generator.styles(torch.randn(16, 64)))
    assert 0.1 < x.std() < 3
    x = torch.randn(16, 3, 32, 32, requires_grad=True)
    (slope,) = torch.autograd.grad(critic(x).sum(), x)
    assert 0.001 < slope.flatten(1).norm(dim=1).mean() < 3


@pytest.mark.parametrize("shape", [(3,), (1, 9, 8)], ids=str)
def test_every_example_is_judged_alone(shape):
    critic = Critic(shape, 4, 1) if len(shape) == 3 else PointCritic(shape, 8, 2)
    for p in critic.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    x = torch.randn(5, *shape)
    alone = torch.cat([critic(row) for row in x.split(1)])
    torch.testing.assert_close(critic(x), alone)


def test_points_have_their_shape():
    net = PointGenerator((2, 3), 4, 8, 2)
    assert net(net.styles(torch.randn(5, 4))).shape == (5, 2, 3)
