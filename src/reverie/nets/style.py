"""A generator that is told its style at every layer, coarse things first (Karras, Laine & Aila 2018, arXiv 1812.04948), and that
paints at every scale what the coarser ones lack (Denton, Chintala, Szlam & Fergus 2015, arXiv 1506.05751)."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from reverie.nets.adversaries import GAIN, Resampled, Step, act, climb, convolution

TINY = 1e-8
NECK = 4  # channels that a scale hears of the coarser ones
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


class StyledRise(nn.Module):
    """From one step to the next, which is about twice as large: channels are blended by a modulated convolution of one place and
    interpolated."""

    def __init__(self, before: Step, step: Step, style: int):
        super().__init__()
        self.blend, self.larger = Modulated(before.width, step.width, 1, style), Resampled(step.size)

    def forward(self, h: Tensor, w: Tensor) -> Tensor:
        return self.larger(self.blend(h, w))


class Neck(nn.Module):
    """h (B, C, H, W) of one step -> that of the next, which is about twice as large, by way of NECK channels and with a
    constant of its own. What is finer thus hears of coarser scales where things are, and has to ask its own styles how they look:
    were it told all, the coarse styles would settle the fine structure too."""

    def __init__(self, before: Step, step: Step, style: int):
        super().__init__()
        self.down, self.larger = Modulated(before.width, NECK, 1, style), Resampled(step.size)
        self.up = Modulated(NECK, step.width, 3, style)
        self.constant = nn.Parameter(torch.randn(1, step.width, *step.size))

    def forward(self, h: Tensor, w: Tensor) -> Tensor:
        return self.constant + GAIN * self.up(self.larger(self.down(h, w)), w)


class Scale(nn.Module):
    """What happens at one scale of a styled generator: h from the scale `before` (None: this is the coarsest) -> h here, and to the picture so far is
    added what is painted from h, less what of that the coarser scale could have painted. So coarse structure is
    settled by coarse styles, and finer ones cannot undo it.

    `steps`: that of this scale, and finer ones at which nothing but interpolation happens. Two styles for each of `depth` blocks.
    """

    def __init__(
        self,
        before: Step | None,
        steps: list[Step],
        colours: int,
        style: int,
        depth: int,
        blocks: int,
        noise: bool,
    ):
        super().__init__()
        here, last = steps[0], steps[-1]
        self.entry = Neck(before, here, style) if before else None
        self.blocks = nn.ModuleList(StyledBlock(here.width, style, blocks, noise) for _ in range(depth))
        self.exits = nn.ModuleList(StyledRise(*pair, style) for pair in pairwise(steps))
        self.paint = Modulated(last.width, colours, 3, style, demodulated=False)
        coarser = steps if before else []
        self.larger = nn.Sequential(*(Resampled(step.size) for step in coarser))
        self.smaller = nn.Sequential(*(Resampled() for _ in coarser))

    def forward(self, h: Tensor, picture: Tensor | None, styles: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        if self.entry is not None:
            h = self.entry(h, styles[0])
        for block, first, second in zip(self.blocks, styles[::2], styles[1::2], strict=True):
            h = block(h, first, second)
        painted = h
        for rise in self.exits:
            painted = rise(painted, styles[-1])
        painted = self.paint(act(painted), styles[-1])
        if picture is None:
            return h, painted
        return h, painted + self.larger(picture - self.smaller(painted))


class StyleGenerator(nn.Module):
    """z (B, Z) -> w by a mapping network -> a style for each of L layers -> pictures (B, C, H, W) in model units.

    The coarsest h is a learned constant, as is what every finer scale adds: all that differs between pictures comes from the styles. `fold` as for `climb`.

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
        many = sum(step.blocks for step in steps)
        self.latent, self.layers, self.each = latent, 2 * depth * many, 2 * depth
        self.mapping = Mapping(latent, style, mapping)
        self.constant = nn.Parameter(torch.randn(1, steps[0].width, *steps[0].size))
        parts = [[step] for step in steps[: many - 1]] + [steps[many - 1 :]]  # what is only interpolated comes last
        before = [None, *steps[: many - 1]]
        self.scales = nn.ModuleList(
            Scale(coarser, part, shape[0], style, depth, depth * many, noise)
            for coarser, part in zip(before, parts, strict=True)
        )

    @property
    def coarse(self) -> int:
        """How many of the layers settle coarse things: those of the coarser half of the scales; of a single scale, half."""
        return self.each * (len(self.scales) // 2) or self.layers // 2

    def styles(self, z: Float[Tensor, "B Z"]) -> Float[Tensor, "B L S"]:
        return self.mapping(z).unsqueeze(1).expand(-1, self.layers, -1)

    @torch.no_grad()
    def centre(self) -> Float[Tensor, " S"]:
        """The mean style, over always the same draws of z: so it is a function of the weights, averaged as they are."""
        generator = torch.Generator().manual_seed(0)
        z = torch.randn(DRAWS, self.latent, generator=generator)
        return self.mapping(z.to(self.constant)).mean(0)

    def forward(self, styles: Float[Tensor, "B L S"]) -> Float[Tensor, "B C H W"]:
        h, picture = self.constant.expand(len(styles), -1, -1, -1), None
        for scale, part in zip(self.scales, styles.split(self.each, 1), strict=True):
            h, picture = scale(h, picture, part.unbind(1))
        assert picture is not None
        return picture


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
