"""A generator that is told its style at every layer, coarse things first (Karras, Laine & Aila 2018, arXiv 1812.04948)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from reverie.nets.adversaries import GAIN, act, climb, convolution, rise

TINY = 1e-8
SLOW = 0.01
DRAWS = 4096  # of z, of which the centre of the styles is the mean


class Mapping(nn.Module):
    """z (B, Z) -> w (B, W): z at unit root mean square, then a perceptron, whose weights are held over SLOW, so that Adam moves what
    they do a hundredth as far as all else (Karras et al. 2018): without this dreams lose their variety.

    >>> Mapping(4, 8, 2)(torch.randn(3, 4)).shape
    torch.Size([3, 8])
    """

    def __init__(self, latent: int, width: int, depth: int):
        super().__init__()
        linear = [nn.Linear(width if i else latent, width) for i in range(depth)]
        for layer in linear:
            nn.init.normal_(layer.weight, std=GAIN / math.sqrt(layer.in_features) / SLOW)
            nn.init.zeros_(layer.bias)
        self.layers = nn.ModuleList(linear)

    def forward(self, z: Float[Tensor, "B Z"]) -> Float[Tensor, "B W"]:
        w = z * torch.rsqrt(z.square().mean(1, keepdim=True) + TINY)
        for layer in self.layers:
            w = act(SLOW * layer(w))
        return w


class Modulated(nn.Module):
    """A convolution whose weights W (above, below, k, k) are scaled by the style, for each example on its own,

        W'_oikl = s_i W_oikl,  W''_oikl = W'_oikl / (sum_ikl W'_oikl²)^½,  s = A w + 1,

    the second of them, which keeps the size of what comes out, only where it is `demodulated` (Karras et al. 2019,
    arXiv 1912.04958). What is scaled here is the input and the output of one convolution, which is the same.

    >>> Modulated(3, 4, 3, style=5)(torch.zeros(2, 3, 8, 8), torch.zeros(2, 5)).shape
    torch.Size([2, 4, 8, 8])
    """

    def __init__(self, below: int, above: int, size: int, style: int, demodulated: bool = True, scale: float = 1.0):
        super().__init__()
        plain = convolution(below, above, size, scale)
        self.weight, self.bias, self.demodulated = plain.weight, plain.bias, demodulated
        self.affine = nn.Linear(style, below)
        nn.init.normal_(self.affine.weight, std=style**-0.5)
        nn.init.ones_(self.affine.bias)

    def forward(self, h: Float[Tensor, "B I H W"], w: Float[Tensor, "B S"]) -> Float[Tensor, "B O H W"]:
        assert self.bias is not None
        s = self.affine(w)
        out = F.conv2d(h * s[:, :, None, None], self.weight, padding=self.weight.shape[2] // 2)
        if self.demodulated:
            size = s.square() @ self.weight.square().sum((2, 3)).T
            out = out * torch.rsqrt(size + TINY)[:, :, None, None]
        return out + self.bias[:, None, None]


class StyledBlock(nn.Module):
    """h + conv(act(conv(act(h)) + noise)), both convolutions modulated. It does not begin as the identity, or
    no style would be heard: what `blocks` of them add begins about as large as what came in.

    The noise is one number for each place, as strong in each channel as it was learned to be.
    """

    def __init__(self, width: int, style: int, blocks: int, noise: bool):
        super().__init__()
        self.inner = Modulated(width, width, 3, style)
        self.outer = Modulated(width, width, 3, style, demodulated=False, scale=blocks**-0.5)
        self.strength = nn.Parameter(torch.zeros(width, 1, 1)) if noise else None

    def forward(self, h: Tensor, first: Tensor, second: Tensor) -> Tensor:
        inner = GAIN * self.inner(act(h), first)
        if self.strength is not None:
            inner = inner + self.strength * torch.randn_like(inner[:, :1])
        return h + self.outer(act(inner), second)


class StyleGenerator(nn.Module):
    """z (B, Z) -> w by a mapping network -> a style for each of L convolutions -> pictures (B, C, H, W) in model units.

    The coarsest picture is a learned constant: all that differs between pictures comes from the styles. `fold` as for `climb`.

    >>> net = StyleGenerator((3, 9, 12), latent=5, width=4, depth=1, style=6, mapping=2, noise=False)
    >>> styles = net.styles(torch.randn(2, 5))
    >>> styles.shape, net(styles).shape
    (torch.Size([2, 4, 6]), torch.Size([2, 3, 9, 12]))
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        latent: int,
        width: int,
        depth: int,
        style: int,
        mapping: int,
        noise: bool,
        fold: int = 1,
    ):
        super().__init__()
        steps = climb((shape[1], shape[2]), width, fold)
        blocks = depth * sum(step.blocks for step in steps)
        self.latent, self.layers = latent, 2 * blocks
        self.mapping = Mapping(latent, style, mapping)
        self.constant = nn.Parameter(torch.randn(1, steps[0].width, *steps[0].size))
        self.rises, self.blocks = nn.ModuleList(), nn.ModuleList()
        for before, step in zip((None, *steps), steps, strict=False):
            own = [StyledBlock(step.width, style, blocks, noise) for _ in range(depth * step.blocks)]
            self.rises.append(nn.Sequential(*rise(before, step)))
            self.blocks.append(nn.ModuleList(own))
        self.last = convolution(steps[-1].width, shape[0], 3)

    def styles(self, z: Float[Tensor, "B Z"]) -> Float[Tensor, "B L S"]:
        return self.mapping(z).unsqueeze(1).expand(-1, self.layers, -1)

    @torch.no_grad()
    def centre(self) -> Float[Tensor, " S"]:
        """The mean style, over always the same draws of z: so it is a function of the weights, averaged as they are."""
        generator = torch.Generator().manual_seed(0)
        z = torch.randn(DRAWS, self.latent, generator=generator)
        return self.mapping(z.to(self.constant)).mean(0)

    def forward(self, styles: Float[Tensor, "B L S"]) -> Float[Tensor, "B C H W"]:
        h, each = self.constant.expand(len(styles), -1, -1, -1), iter(styles.unbind(1))
        for rises, blocks in zip(self.rises, self.blocks, strict=True):
            h = rises(h)
            for block in blocks:  # type: ignore[attr-defined]
                h = block(h, next(each), next(each))
        return self.last(act(h))


def crossed(a: Float[Tensor, "B L S"], b: Float[Tensor, "B L S"], share: float) -> Float[Tensor, "B L S"]:
    """For that share of the examples the styles of a up to a layer, drawn for each example, and of b from there on;
    so that neighbouring layers learn not to rely on each other. The others keep a."""
    n, layers = a.shape[:2]
    if layers < 2:
        return a
    cut = torch.randint(1, layers, (n, 1), device=a.device)
    cut = torch.where(torch.rand(n, 1, device=a.device) < share, cut, layers)
    return torch.where((torch.arange(layers, device=a.device) < cut).unsqueeze(2), a, b)


def truncated(
    styles: Float[Tensor, "B L S"], centre: Float[Tensor, " S"], psi: float, cutoff: int | None = None
) -> Float[Tensor, "B L S"]:
    """The first `cutoff` layers (None: all) drawn towards the centre: at psi 0 they are it, at 1 what they were.

    >>> truncated(torch.full((1, 2, 1), 3.0), torch.ones(1), 0.5, cutoff=1).flatten()
    tensor([2., 3.])
    """
    if psi == 1:
        return styles
    near = centre + psi * (styles - centre)
    return torch.cat([near[:, :cutoff], styles[:, cutoff:]], 1) if cutoff is not None else near
