"""Perceptrons."""

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

Net = Callable[[int, int, int, int], nn.Sequential]


def autoencoder(
    shape: tuple[int, ...], code: int, latent: int, start: Tensor, width: int, depth: int, net: Net | None = None
) -> tuple[nn.Module, nn.Module]:
    """An encoder (B, *shape) -> (B, code) and a decoder (B, latent) -> (B, outputs), whose bias begins as `start` (outputs,).

    `net` makes each of them, (inputs, width, depth, outputs) -> a Sequential that ends with a linear layer; without it, `mlp`.
    """
    net = net or mlp
    encoder = nn.Sequential(nn.Flatten(), *net(math.prod(shape), width, depth, code))
    decoder = net(latent, width, depth, len(start))
    with torch.no_grad():
        decoder[-1].bias.copy_(start)  # type: ignore[operator]
    return encoder, decoder


def residual_mlp(inputs: int, width: int, depth: int, outputs: int) -> nn.Sequential:
    """inputs -> width (linear), `depth` residual layers, a normalisation, -> outputs."""
    layers = [ResidualLayer(width) for _ in range(depth)]
    return nn.Sequential(nn.Linear(inputs, width), *layers, nn.LayerNorm(width), nn.Linear(width, outputs))


class ResidualLayer(nn.Module):
    """h + W2 silu(W1 norm(h)); starts as the identity."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, width)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.outer(nn.functional.silu(self.inner(self.norm(h))))


def mlp(inputs: int, width: int, depth: int, outputs: int) -> nn.Sequential:
    """inputs -> width (depth times, ReLU) -> outputs.

    >>> mlp(4, 8, 2, 3)(torch.zeros(5, 4)).shape
    torch.Size([5, 3])
    """
    sizes = [inputs, *[width] * depth]
    layers = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], outputs))


def gated_mlp(inputs: int, width: int, depth: int, outputs: int) -> nn.Sequential:
    """inputs -> width (depth times, gated) -> outputs; as in Tomczak & Welling (2018, arXiv 1705.07120)."""
    sizes = [inputs, *[width] * depth]
    return nn.Sequential(*(Gated(a, b) for a, b in itertools.pairwise(sizes)), nn.Linear(sizes[-1], outputs))


class Gated(nn.Module):
    """(A h + a) sigmoid(B h + b): what is said, and how much of it is let through (Dauphin, Fan, Auli & Grangier 2016, arXiv 1612.08083)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.both = nn.Linear(inputs, 2 * outputs)

    def forward(self, h: Tensor) -> Tensor:
        return nn.functional.glu(self.both(h), 1)
