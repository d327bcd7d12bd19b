"""Augmentation does what its knobs say and nothing else."""

import math
from dataclasses import replace

import pytest
import torch

from reverie.core.recipe import TrainingConfig
from reverie.data import augment as room
from reverie.data.augment import altered, augment

NONE = TrainingConfig()
ALL = replace(NONE, mirror=True, zoom=0.1, shift=0.1, turn=0.2, warp=0.02, light=0.1)


def bytes_at_random(*shape):
    return torch.randint(0, 256, shape) / 127.5 - 1


@pytest.fixture
def ones(monkeypatch):
    """Every draw from the normal is 1."""
    monkeypatch.setattr(torch, "randn", lambda *shape, **more: torch.ones(*shape))


def test_nothing_asked_is_the_same_object():
    for kind in ("byte", "bit", "real"):
        x = bytes_at_random(3, 1, 8, 6)
        assert augment(x, NONE, kind) is x


def test_mirror_gives_each_picture_or_its_mirror_and_both_come():
    x = bytes_at_random(200, 2, 4, 6)
    seen = augment(x, replace(NONE, mirror=True))
    kept, flipped = ((seen == y).flatten(1).all(1) for y in (x, x.flip(-1)))
    assert (kept | flipped).all()
    assert 60 < kept.sum() < 140


def test_a_picture_that_is_moved_keeps_its_grain():
    """Bilinear interpolation leaves four ninths of the power of white noise."""
    torch.manual_seed(0)
    x = 0.2 * torch.randn(64, 1, 32, 32)
    moved = augment(x, replace(NONE, shift=0.06, turn=0.06, zoom=0.1, warp=0.05))
    assert 0.7 < moved.var() / x.var() < 1.02


def test_mirror_within_a_resampling_is_the_same_mirror(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda *shape, **more: torch.zeros(*shape))  # all are flipped
    monkeypatch.setattr(torch, "randn", lambda *shape, **more: torch.zeros(*shape))
    x = bytes_at_random(3, 1, 8, 6)
    once = augment(x, ALL)
    assert torch.allclose(once, x.flip(-1), atol=1e-5)
    assert torch.allclose(augment(once, ALL), x, atol=1e-5)


@pytest.mark.parametrize("shape", [(8, 8), (8, 6)])
def test_half_a_turn_flips_both_ways(ones, shape):
    x = bytes_at_random(2, 3, *shape)
    assert torch.allclose(augment(x, replace(NONE, turn=math.pi)), x.flip(-1, -2), atol=2.1 / 255)


def test_a_quarter_turn_of_a_square(ones):
    x = bytes_at_random(2, 1, 8, 8)
    turned = augment(x, replace(NONE, turn=math.pi / 2))
    quarters = [torch.rot90(x, k, (-2, -1)) for k in (1, 3)]
    assert any(torch.allclose(turned, q, atol=2.1 / 255) for q in quarters)


def test_a_turn_keeps_distances_in_pixels(ones):
    # Whatever the aspect, the places looked at lie as far apart, in pixels, as the pixels do.
    x = torch.zeros(1, 1, 12, 8)
    grid = room._grid(x, replace(NONE, turn=0.7))[0] * torch.tensor([8 / 2, 12 / 2])
    assert torch.allclose((grid[:, 1:] - grid[:, :-1]).norm(dim=-1), torch.ones(12, 7), atol=1e-5)
    assert torch.allclose((grid[1:] - grid[:-1]).norm(dim=-1), torch.ones(11, 8), atol=1e-5)


def test_zoom_is_the_log_of_the_size(ones):
    x = torch.zeros(1, 1, 12, 8)
    grid = room._grid(x, replace(NONE, zoom=0.25))
    assert torch.allclose(grid, math.exp(0.25) * room._grid(x, NONE), atol=1e-6)


def test_shift_is_in_half_pictures(ones):
    x = bytes_at_random(2, 1, 8, 8)
    moved = augment(x, replace(NONE, shift=0.25))  # one pixel of eight is a quarter of a half
    assert torch.allclose(moved[..., :7, :7], x[..., 1:, 1:], atol=2.1 / 255)


def test_light_changes_contrast_about_the_mean(ones):
    x = bytes_at_random(4, 1, 9, 9) * 0.2
    lit = room._lit(x, 0.1)
    assert torch.allclose(lit.mean((1, 2, 3)), x.mean((1, 2, 3)) + 0.07, atol=1e-6)  # gradients of light have mean 0
    middle = (lit - lit.mean((1, 2, 3), keepdim=True))[:, 0, 4, 4]
    assert torch.allclose(middle, ((x - x.mean((1, 2, 3), keepdim=True)) * math.exp(0.1))[:, 0, 4, 4], atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 8, 6), (3, 16, 16)])
def test_bytes_stay_on_their_lattice(shape):
    for config in (ALL, replace(NONE, light=0.5), replace(NONE, turn=0.3)):
        seen = augment(bytes_at_random(5, *shape), config)
        level = (seen + 1) * 127.5
        assert torch.allclose(level, level.round(), atol=1e-4)
        assert level.min() >= 0
        assert level.max() <= 255


def test_bits_stay_bits():
    x = torch.bernoulli(torch.full((20, 1, 4, 6), 0.5))
    seen = augment(x, ALL, "bit")
    assert ((seen == x) | (seen == x.flip(-1))).flatten(1).all(1).all()
    assert augment(x, replace(ALL, mirror=False), "bit") is x


def test_each_picture_gets_its_own():
    x = bytes_at_random(1, 1, 8, 8).expand(6, -1, -1, -1)
    assert len(augment(x, ALL).flatten(1).unique(dim=0)) == 6


def test_alterations_leave_a_known_share_alone_and_let_gradients_pass():
    x = torch.rand(2000, 1, 6, 5, requires_grad=True)
    assert altered(x, 0.0) is x
    y = altered(x, 0.3)
    alone = (y == x).flatten(1).all(1).float().mean().item()
    assert alone == pytest.approx(0.7**3, abs=0.04)  # neither moved nor lit nor cut
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert gradient.isfinite().all()
    assert gradient.flatten(1).abs().sum(1).min() > 0
    assert not (altered(x, 1.0) == x).flatten(1).all(1).any()


def test_what_is_lit_and_moved_at_no_strength_is_what_it_was():
    x = torch.rand(4, 3, 6, 5)
    torch.testing.assert_close(altered(x, 1.0, TrainingConfig(), cut=0.0), x)


def test_what_is_taken_out_is_an_oblong_of_known_size_that_can_lie_anywhere():
    shape = 2000, 1, 12, 8
    out = altered(torch.ones(shape), 1.0, TrainingConfig(), cut=0.5) == 0
    rows, columns = out.any(3).sum(2), out.any(2).sum(2)
    assert torch.equal(out.sum((2, 3)), rows * columns)  # all of the oblong, and nothing else
    assert rows.max() == 6
    assert columns.max() == 4
    assert (rows[:, 0] == 6).float().mean().item() == pytest.approx(
        7 / 12, abs=0.04
    )  # the centre between 2.5 and 9.5 of 12
    assert torch.allclose(out.float().mean(0), out.flip(2, 3).float().mean(0), atol=0.05)
    assert out.float().mean(0).amin() > 0.05
