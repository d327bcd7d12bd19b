"""Styles against their definitions, one example at a time."""

import pytest
import torch
import torch.nn.functional as F

from reverie.nets.adversaries import GAIN
from reverie.nets.style import Mapping, Modulated, StyledBlock, StyleGenerator, crossed, truncated


@pytest.mark.parametrize("demodulated", [True, False])
def test_modulated_convolution_against_its_definition(demodulated):
    conv = Modulated(3, 5, 3, 4, demodulated).double()
    torch.nn.init.normal_(conv.bias)
    h, w = torch.randn(6, 3, 7, 5, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
    found = conv(h, w)
    for i in range(6):
        s = conv.affine.weight @ w[i] + conv.affine.bias
        weight = torch.zeros_like(conv.weight)
        for o in range(5):
            scaled = torch.stack([s[c] * conv.weight[o, c] for c in range(3)])
            weight[o] = scaled / scaled.square().sum().sqrt() if demodulated else scaled
        torch.testing.assert_close(found[i], F.conv2d(h[i : i + 1], weight, conv.bias, padding=1)[0])


def test_demodulated_signals_keep_their_size_whatever_the_style():
    conv = Modulated(64, 64, 3, 8)
    h, w = torch.randn(32, 64, 12, 12), 20 * torch.randn(32, 8)
    inside = conv(h, w)[:, :, 1:-1, 1:-1]
    assert inside.std().item() == pytest.approx(1, abs=0.05)


def test_the_noise_of_a_block_begins_silent():
    block = StyledBlock(4, 6, 1, noise=True)
    h, w = torch.randn(2, 4, 5, 5), torch.randn(2, 6)
    assert torch.equal(block(h, w, w), block(h, w, w))
    block.strength.data.fill_(0.5)
    assert not torch.equal(block(h, w, w), block(h, w, w))


@pytest.mark.parametrize("depth", [1, 4])
def test_signals_begin_near_their_own_size_and_differ(depth):
    net = StyleGenerator((3, 32, 32), latent=16, width=16, depth=depth, style=32, mapping=2, noise=True)
    x = net(net.styles(torch.randn(64, 16)))
    assert 0.1 < x.std() < 4
    assert 0.1 < x.std(0).mean() / x.std() < 1


def test_the_size_of_z_says_nothing():
    net, z = Mapping(4, 8, 2), torch.randn(3, 4)
    torch.testing.assert_close(net(z), net(7 * z))


def styled(noise: bool = False) -> StyleGenerator:
    net = StyleGenerator((1, 16, 12), latent=3, width=4, depth=1, style=5, mapping=2, noise=noise)
    for p in net.parameters():
        p.data.add_(0.2 * torch.randn_like(p))
    return net


def test_without_truncation_nothing_changes_and_with_all_of_it_there_is_one_picture():
    net = styled()
    styles, centre = net.styles(torch.randn(6, 3)), net.centre()
    assert torch.equal(truncated(styles, centre, 1.0), styles)
    one = net(truncated(styles, centre, 0.0))
    torch.testing.assert_close(one, net(centre.expand(6, net.layers, -1)))
    assert net(styles).std(0).mean() > 0.01


def test_truncation_ends_at_its_cutoff():
    net = styled()
    styles, centre = net.styles(torch.randn(6, 3)), net.centre()
    found = truncated(styles, centre, 0.3, cutoff=2)
    torch.testing.assert_close(found[:, 1], centre + 0.3 * (styles[:, 1] - centre))
    assert torch.equal(found[:, 2:], styles[:, 2:])


def test_the_centre_is_the_mean_style():
    net = styled()
    w = net.mapping(torch.randn(100_000, 3))
    assert ((net.centre() - w.mean(0)).abs() < 5 * w.std(0) * (1 / 4096 + 1e-5) ** 0.5).all()
    before = torch.random.get_rng_state()
    assert torch.equal(net.centre(), net.centre())
    assert torch.equal(before, torch.random.get_rng_state())


def test_crossed_styles_change_hands_once():
    a, b = torch.zeros(4000, 5, 2), torch.ones(4000, 5, 2)
    found = crossed(a, b, 0.6)
    assert torch.equal(found[..., 0], found[..., 1])
    assert (found[:, 1:] >= found[:, :-1]).all()  # a first, then b
    lengths = (found[..., 0] == 0).sum(1).bincount(minlength=6) / 4000
    expected = torch.tensor([0, 0.15, 0.15, 0.15, 0.15, 0.4])
    torch.testing.assert_close(lengths, expected, atol=0.03, rtol=0)
    assert torch.equal(crossed(a, b, 0.0), a)


@pytest.mark.parametrize("fold", [1, 2, 4])
@pytest.mark.parametrize("shape", [(1, 48, 40), (3, 9, 13), (4, 8, 8)], ids=str)
def test_pictures_of_any_size(shape, fold):
    net = StyleGenerator(shape, latent=3, width=4, depth=2, style=5, mapping=1, noise=True, fold=fold)
    x = net(net.styles(torch.randn(2, 3)))
    assert x.shape == (2, *shape)


def test_every_style_is_heard():
    net = styled()
    styles = net.styles(torch.randn(1, 3)).clone().requires_grad_()
    (gradient,) = torch.autograd.grad(net(styles).square().sum(), styles)
    assert (gradient.abs().sum(2) > 0).all()


def test_the_gain_makes_up_for_the_rectifier():
    h = torch.randn(100_000)
    assert (GAIN * F.leaky_relu(h, 0.2)).square().mean().item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(("size", "depth", "coarse", "layers"), [(24, 1, 2, 6), (48, 2, 8, 16), (6, 1, 1, 2)])
def test_coarse_layers_are_those_of_the_coarser_half_of_the_scales(size, depth, coarse, layers):
    net = StyleGenerator((1, size, size), latent=3, width=4, depth=depth, style=5, mapping=1, noise=False)
    assert (net.coarse, net.layers) == (coarse, layers)
