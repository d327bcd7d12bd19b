"""Convolutional encoders and decoders for pictures of any height and width."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reverie.core.errors import BadInput


class Offset(nn.Module):
    """h (B, C, H, W) and a learned bias for every entry of it: a convolution need not spell out the mean picture."""

    def __init__(self, start: Tensor):
        super().__init__()
        self.bias = nn.Parameter(start.clone())

    def forward(self, h: Tensor) -> Tensor:
        return h + self.bias.view(1, *h.shape[1:])


class ResidualBlock(nn.Module):
    """h + conv(silu(norm(conv(silu(norm(h)))))); starts as the identity."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm1, self.norm2 = _norm(channels), _norm(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        for parameter in self.conv2.parameters():
            nn.init.zeros_(parameter)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(h))))))


def _norm(channels: int) -> nn.Module:
    return nn.GroupNorm(math.gcd(8, channels), channels)


def halved(size: tuple[int, int], times: int) -> tuple[int, int]:
    """The size of a picture after so many halvings, each rounded up.

    >>> halved((28, 25), 2)
    (7, 7)
    """
    for _ in range(times):
        size = (size[0] + 1) // 2, (size[1] + 1) // 2
    return size


def sizes(height: int, width: int) -> list[tuple[int, int]]:
    """The scales of a picture, halved (rounding up) until the shorter side is below 8.

    >>> sizes(48, 40)
    [(48, 40), (24, 20), (12, 10), (6, 5)]
    """
    scales = [(height, width)]
    while min(scales[-1]) >= 8:
        scales.append(halved(scales[-1], 1))
    return scales


class Encoder(nn.Module):
    """(B, C, H, W) -> (B, code)."""

    def __init__(self, shape: tuple[int, int, int], code: int, width: int, depth: int):
        super().__init__()
        scales = sizes(*shape[1:])
        self.stem = nn.Conv2d(shape[0], width, 3, padding=1)
        stages: list[nn.Module] = []
        for level in range(1, len(scales)):
            channels = width * (level + 1)
            stages.append(nn.Conv2d(width * level, channels, 3, stride=2, padding=1))
            stages.extend(ResidualBlock(channels) for _ in range(depth))
        self.stages = nn.Sequential(*stages)
        channels = width * len(scales)
        self.norm = _norm(channels)
        self.out = nn.Linear(channels * math.prod(scales[-1]), code)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stages(self.stem(x.contiguous(memory_format=torch.channels_last)))
        return self.out(F.silu(self.norm(h)).flatten(1))


class Decoder(nn.Module):
    """(B, latent) -> (B, maps, H, W), of which `start` is what they begin with, laid flat."""

    def __init__(self, size: tuple[int, int], latent: int, start: Tensor, width: int, depth: int):
        super().__init__()
        self.scales = sizes(*size)[::-1]
        top = width * len(self.scales)
        self.inner = nn.Linear(latent, top * math.prod(self.scales[0]))
        self.first = nn.Sequential(*(ResidualBlock(top) for _ in range(depth)))
        self.stages = nn.ModuleList()
        for level in range(len(self.scales) - 1, 0, -1):
            # The finest scale is nine tenths of the work and needs least of it: no residual blocks there.
            blocks = [ResidualBlock(width * level) for _ in range(depth if level > 1 else 0)]
            self.stages.append(nn.Sequential(nn.Conv2d(width * (level + 1), width * level, 3, padding=1), *blocks))
        self.norm = _norm(width)
        maps = len(start) // math.prod(size)
        self.out = nn.Sequential(nn.Conv2d(width, maps, 3, padding=1, bias=False), Offset(start))

    def forward(self, z: Tensor) -> Tensor:
        h = self.inner(z).unflatten(1, (-1, *self.scales[0]))
        h = self.first(h.contiguous(memory_format=torch.channels_last))
        for size, stage in zip(self.scales[1:], self.stages, strict=True):
            h = stage(F.interpolate(h, size))
        return self.out(F.silu(self.norm(h)))


def autoencoder(
    shape: tuple[int, ...], code: int, latent: int, start: Tensor, width: int, depth: int
) -> tuple[nn.Module, nn.Module]:
    """An encoder (B, C, H, W) -> (B, code) and a decoder (B, latent) -> (B, outputs / HW, H, W), whose bias begins as `start` (outputs,)."""
    if len(shape) != 3:
        raise BadInput(f"convolutions need pictures (C, H, W), not examples of shape {shape}; use --model.net mlp")
    picture = (shape[0], shape[1], shape[2])
    encoder = Encoder(picture, code, width, depth)
    decoder = Decoder(picture[1:], latent, start, width, depth)
    for net in (encoder, decoder):
        for parameter in net.parameters():
            if parameter.dim() == 4:  # channels last: what convolutions on processors and GPUs like best
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return encoder, decoder
