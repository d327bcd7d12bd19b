"""Generators and critics: of points, and of pictures of any height and width. Nothing in them normalises.

A generator has two halves, `styles(z)` (B, L, S) for its L layers and `forward(styles)`; around the `centre` (S,) of
the styles lies what is usual. In the plain ones of this file z itself is the one style there is.
"""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F

from reverie.nets.conv import halved, sizes
from reverie.nets.folding import folded, places
from reverie.nets.mlp import mlp

LEAK = 0.2
GAIN = math.sqrt(2 / (1 + LEAK**2))  # keeps the variance across a leaky rectifier (He et al. 2015, arXiv 1502.01852)


def act(h: Tensor) -> Tensor:
    return F.leaky_relu(h, LEAK)


def channels(width: int, scales: int) -> list[int]:
    """Of each scale from the finest on: doubled at every halving, at most eightfold.

    >>> channels(16, 5)
    [16, 32, 64, 128, 128]
    """
    return [width * 2 ** min(i, 3) for i in range(scales)]


def convolution(below: int, above: int, size: int, scale: float = 1.0) -> nn.Conv2d:
    """`size` x `size`, that keeps the height and width; He's start, times `scale`."""
    conv = nn.Conv2d(below, above, size, padding=size // 2)
    nn.init.normal_(conv.weight, std=scale / math.sqrt(below * size**2))
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


class _Down(Function):
    """Every second of the blurred places, across and down. The gradient of this is `_Up` and of that this, again and again: so
    nothing asks for gradients of the kernel, which a penalty on slopes otherwise does, one channel after the other."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, kernel: Tensor) -> Tensor:
        ctx.size = (h.shape[2], h.shape[3])
        ctx.save_for_backward(kernel)
        n = h.shape[1]
        return F.conv2d(h, kernel.to(h.dtype).expand(n, 1, 3, 3), stride=2, padding=1, groups=n)

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, None]:
        return _Up.apply(above[0], *ctx.saved_tensors, ctx.size), None


class _Up(Function):
    """Its transpose, to a `size`."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, kernel: Tensor, size: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(kernel)
        n = h.shape[1]
        more = [after - 2 * before + 1 for after, before in zip(size, h.shape[2:], strict=True)]
        kernel = kernel.to(h.dtype).expand(n, 1, 3, 3)
        return F.conv_transpose2d(h, kernel, stride=2, padding=1, output_padding=more, groups=n)

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, None, None]:
        return _Down.apply(above[0], *ctx.saved_tensors), None, None


class Resampled(nn.Module):
    """[1, 2, 1] across and down, which no frequency above that of the coarser picture survives untouched (Zhang 2019,
    arXiv 1904.11486); a tensor h (B, C, H, W) at half its size, rounded up, or at `size`, which is about twice its own.

    >>> Resampled()(torch.zeros(2, 3, 7, 8)).shape, Resampled((13, 16))(torch.zeros(2, 3, 7, 8)).shape
    (torch.Size([2, 3, 4, 4]), torch.Size([2, 3, 13, 16]))
    """

    kernel: Tensor

    def __init__(self, size: tuple[int, int] | None = None):
        super().__init__()
        self.size = size
        row = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("kernel", torch.outer(row, row), persistent=False)

    def forward(self, h: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C h w"]:
        return _Down.apply(h, self.kernel) if self.size is None else 4 * _Up.apply(h, self.kernel, self.size)


class Block(nn.Module):
    """h + conv(act(conv(act(h)))), which begins as the identity; the first convolution is scaled down by the root of
    the number of blocks (Zhang, Dauphin & Ma 2019, arXiv 1901.09321)."""

    def __init__(self, width: int, blocks: int):
        super().__init__()
        self.inner = convolution(width, width, 3, GAIN * blocks**-0.5)
        self.outer = convolution(width, width, 3, 0.0)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.outer(act(self.inner(act(h))))


class Critic(nn.Module):
    """(B, C, H, W) -> (B,), high for what it takes to be real. A square of `fold` by `fold` pixels is one place of the finest scale.

    >>> Critic((3, 9, 12), 4, 1)(torch.zeros(2, 3, 9, 12)).shape
    torch.Size([2])
    """

    def __init__(self, shape: tuple[int, ...], width: int, depth: int, fold: int = 1):
        super().__init__()
        self.fold = fold
        scales = sizes(*places(shape[1], shape[2], fold))
        widths = channels(width, len(scales))
        layers: list[nn.Module] = [convolution(shape[0] * fold**2, widths[0], 3)]
        for i, w in enumerate(widths):
            layers += [Block(w, depth * len(widths)) for _ in range(depth)]
            if i + 1 < len(widths):
                layers.append(Resampled())
                layers += [convolution(w, widths[i + 1], 1)] * (w != widths[i + 1])
        self.layers = nn.Sequential(*layers)
        self.last = nn.Linear(widths[-1] * math.prod(scales[-1]), 1)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, " B"]:
        return self.last(act(self.layers(folded(x, self.fold))).flatten(1)).squeeze(1)

    def features(self, x: Float[Tensor, "B C H W"]) -> list[Tensor]:
        """What each block makes of x, the finest scale first."""
        h, found = folded(x, self.fold), []
        for layer in self.layers:
            h = layer(h)
            if isinstance(layer, Block):
                found.append(act(h))
        return found


class Step(NamedTuple):
    """Of a generator's way from a coarse picture to the whole one."""

    size: tuple[int, int]
    width: int
    blocks: bool  # whether anything but resampling happens there


def climb(size: tuple[int, int], width: int, fold: int) -> list[Step]:
    """The steps to a picture of that size, coarsest first. Where a critic takes `fold` by `fold` pixels for one place, the generator
    has its last blocks at that scale; what is finer is interpolated and met by one convolution, so that no grid is seen.

    >>> [(*step.size, step.width) for step in climb((48, 40), 16, 2)]
    [(6, 5, 64), (12, 10, 32), (24, 20, 16), (48, 40, 8)]
    """
    grid = sizes(*places(*size, fold))
    steps = [Step(at, w, True) for at, w in zip(grid, channels(width, len(grid)), strict=True)]
    for i in range(fold.bit_length() - 1):
        steps.insert(0, Step(halved(size, fold.bit_length() - 2 - i), max(width >> (i + 1), 4), False))
    return steps[::-1]


def rise(before: Step | None, step: Step) -> list[nn.Module]:
    """From one step to the next, which is about twice as large."""
    if before is None:
        return []
    thinner = [convolution(before.width, step.width, 1)] * (before.width != step.width)
    return [*thinner, Resampled(step.size)]


class Unstyled(nn.Module):
    """z (B, Z), as it is drawn, is the only style."""

    layers = 1

    def __init__(self, latent: int):
        super().__init__()
        self.latent = latent

    def styles(self, z: Float[Tensor, "B Z"]) -> Float[Tensor, "B 1 Z"]:
        return z.unsqueeze(1)

    def centre(self) -> Float[Tensor, " Z"]:
        return torch.zeros(self.latent)


class Generator(Unstyled):
    """z (B, Z) -> pictures (B, C, H, W) in model units, not confined to their range.

    >>> net = Generator((3, 9, 12), 5, 4, 1)
    >>> net(net.styles(torch.zeros(2, 5))).shape
    torch.Size([2, 3, 9, 12])
    """

    def __init__(self, shape: tuple[int, ...], latent: int, width: int, depth: int, fold: int = 1):
        super().__init__(latent)
        steps = climb((shape[1], shape[2]), width, fold)
        self.base = (steps[0].width, *steps[0].size)
        self.first = nn.Linear(latent, math.prod(self.base))
        nn.init.normal_(self.first.weight, std=latent**-0.5)
        nn.init.zeros_(self.first.bias)
        layers: list[nn.Module] = []
        blocks = depth * sum(step.blocks for step in steps)
        for before, step in zip((None, *steps), steps, strict=False):
            layers += rise(before, step)
            layers += [Block(step.width, blocks) for _ in range(depth * step.blocks)]
        self.rest = nn.Sequential(*layers)
        self.last = convolution(steps[-1].width, shape[0], 3)

    def forward(self, styles: Float[Tensor, "B 1 Z"]) -> Float[Tensor, "B C H W"]:
        return self.last(act(self.rest(self.first(styles.squeeze(1)).view(-1, *self.base))))


class PointCritic(nn.Module):
    """(B, *shape) -> (B,), by a perceptron."""

    def __init__(self, shape: tuple[int, ...], width: int, depth: int):
        super().__init__()
        self.net = mlp(math.prod(shape), width, depth, 1)

    def forward(self, x: Float[Tensor, "B *shape"]) -> Float[Tensor, " B"]:
        return self.net(x.flatten(1)).squeeze(1)

    def features(self, x: Float[Tensor, "B *shape"]) -> list[Tensor]:
        """What its last layer but one makes of x."""
        return [self.net[:-1](x.flatten(1))]


class PointGenerator(Unstyled):
    """z (B, Z) -> (B, *shape), by a perceptron.

    >>> net = PointGenerator((2,), 5, 8, 1)
    >>> net(net.styles(torch.zeros(3, 5))).shape
    torch.Size([3, 2])
    """

    def __init__(self, shape: tuple[int, ...], latent: int, width: int, depth: int):
        super().__init__(latent)
        self.shape = shape
        self.net = mlp(latent, width, depth, math.prod(shape))

    def forward(self, styles: Float[Tensor, "B 1 Z"]) -> Float[Tensor, "B *shape"]:
        return self.net(styles.squeeze(1)).view(-1, *self.shape)
