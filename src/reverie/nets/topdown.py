"""A picture seen from the bottom up and imagined from the top down: the nets of a ladder of latents."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reverie.core.bits import single
from reverie.nets.conv import Offset, halved
from reverie.nets.folding import folded, places, unfolded


class Block(nn.Module):
    """Narrow in the middle: 1x1, two 3x3 (1x1 where the map is too small for them to see anything), 1x1 (Child 2021)."""

    def __init__(self, inputs: int, inner: int, outputs: int, size: tuple[int, int], gain: float = 1.0):
        super().__init__()
        wide = 3 if min(size) > 2 else 1
        sizes = [(inputs, inner, 1), (inner, inner, wide), (inner, inner, wide), (inner, outputs, 1)]
        self.layers = nn.ModuleList(nn.Conv2d(a, b, k, padding=k // 2) for a, b, k in sizes)
        for layer in self.layers:  # so that four layers pass on what they are given, at its size
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        with torch.no_grad():  # residual paths begin small, so that a deep ladder begins as a shallow one
            self.layers[-1].weight.mul_(gain)  # type: ignore[operator]

    def forward(self, h: Tensor) -> Tensor:
        for layer in self.layers:
            h = layer(F.silu(h))
        return h


class Rung(nn.Module):
    """One group of latents: what is expected there, what is perceived there, and what follows from it."""

    def __init__(self, width: int, latent: int, size: tuple[int, int], gain: float):
        super().__init__()
        inner = max(width // 2, latent)
        self.latent = latent
        self.expect = Block(width, inner, 2 * latent + width, size, gain=0.1)
        self.perceive = Block(2 * width, inner, 2 * latent, size, gain=0.1)
        self.take = nn.Conv2d(latent, width, 1)
        self.follow = Block(width, inner, width, size, gain)
        nn.init.normal_(self.take.weight, std=math.sqrt(1 / latent))
        nn.init.zeros_(self.take.bias)  # type: ignore[arg-type]

    def prior(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(mean, log scale, what h becomes whatever z is)."""
        mean, log_scale, more = self.expect(h).split([self.latent, self.latent, h.shape[1]], 1)
        return single(mean), single(log_scale).clamp(-7, 3), h + more

    def posterior(self, h: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_scale = single(self.perceive(torch.cat([h, seen], 1))).chunk(2, 1)
        return mean, log_scale.clamp(-7, 3)

    def onward(self, h: Tensor, z: Tensor) -> Tensor:
        h = h + self.take(z)
        return h + self.follow(h)


class Ladder(nn.Module):
    """The nets of both directions. `groups` are the numbers of latent groups at each scale, coarsest first; at
    the finest scale a square of `fold` by `fold` pixels is one place, the pixels its channels.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        groups: tuple[int, ...],
        width: int,
        latent: int,
        start: Tensor,
        classes: int,
        fold: int = 2,
    ):
        super().__init__()
        channels, self.height, self.width = shape
        self.fold = fold
        finest = places(self.height, self.width, fold)
        self.sizes = [halved(finest, i) for i in range(len(groups))][::-1]
        depth = sum(groups)
        gain = 1 / math.sqrt(depth)
        self.stem = nn.Conv2d(fold**2 * channels, width, 3, padding=1)
        self.up = nn.ModuleList(
            nn.ModuleList(Block(width, max(width // 2, latent), width, size, gain) for _ in range(n))
            for n, size in zip(groups, self.sizes, strict=True)
        )
        self.start = nn.Parameter(torch.zeros(1, width, *self.sizes[0]))
        self.rungs = nn.ModuleList(
            nn.ModuleList(Rung(width, latent, size, gain) for _ in range(n))
            for n, size in zip(groups, self.sizes, strict=True)
        )
        maps = len(start) // (self.height * self.width)
        self.out = nn.Conv2d(width, fold**2 * maps, 3, padding=1, bias=False)
        self.offset = Offset(start)
        # A label is told to the eye and to the hand, not to the latents: p(z) is the same for all labels.
        self.label = nn.Embedding(classes, width) if classes else None
        self.last = Block(width, max(width // 2, latent), width, self.sizes[-1], gain) if classes else None
        self.events = [(latent, *size) for n, size in zip(groups, self.sizes, strict=True) for _ in range(n)]
        for parameter in self.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)

    def seen(self, x: Tensor, given: Tensor | None) -> list[Tensor]:
        """What is there at every scale, coarsest first."""
        h = self.stem(folded(x, self.fold).contiguous(memory_format=torch.channels_last))
        if self.label is not None and given is not None:
            h = h + self.label(given)[:, :, None, None]
        out = []
        for size, blocks in zip(self.sizes[::-1], list(self.up)[::-1], strict=True):
            if h.shape[2:] != size:
                h = F.adaptive_avg_pool2d(h, size)
            for block in blocks:  # type: ignore[attr-defined]
                h = h + block(h)
            out.append(h)
        return out[::-1]

    def climb(self, n: int) -> "Descent":
        """The state in which n dreams begin."""
        return Descent(self, self.start.expand(n, -1, -1, -1).contiguous(memory_format=torch.channels_last))

    def finish(self, h: Tensor, given: Tensor | None) -> Tensor:
        """(B, maps, H, W)."""
        if self.label is not None and self.last is not None and given is not None:
            h = h + self.label(given)[:, :, None, None]
            h = h + self.last(h)
        return self.offset(unfolded(self.out(F.silu(h)), self.fold, (self.height, self.width)))


class Descent:
    """A way down the ladder: for each rung, the state `h` is read and moved on by its z."""

    def __init__(self, ladder: Ladder, h: Tensor):
        self.ladder, self.h = ladder, h

    def rungs(self) -> Iterator[tuple[int, Rung]]:
        """(scale, rung), coarsest first, with `h` brought to the size of the scale."""
        for scale, rungs in enumerate(self.ladder.rungs):
            if self.h.shape[2:] != self.ladder.sizes[scale]:
                self.h = F.interpolate(self.h, self.ladder.sizes[scale])
            for rung in rungs:  # type: ignore[attr-defined]
                yield scale, rung
