"""Which styles make a given example? Sought by descent, where no encoder was taught (Abdal, Qin & Wonka 2019, arXiv 1904.03189)."""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from reverie.nets.adversaries import Resampled
from reverie.optimisers import Adam

RATE = 0.05  # as a share of the size of a style
FEATURES = 0.1  # weight of the critic's features beside the pixels
LOOSE = 1e-3  # how strongly a style of one layer is held to the mean of all layers


def invert(
    generator: Callable[[Tensor], Tensor],
    features: Callable[[Tensor], Iterable[Tensor]],
    starts: Float[Tensor, "B L S"],
    x: Float[Tensor, "B *shape"],
    observed: Bool[Tensor, "B *shape"] | None,
    steps: int,
) -> Float[Tensor, "B L S"]:
    """(B, L, S) styles whose pictures are like x (B, *shape, model units) where it was observed.

    For the first half of `steps` all layers share one style, which begins as the mean of those of `starts`; then each has
    its own. What is lowered is the mean squared difference, at every scale of a [1, 2, 1] pyramid, and that of the critic's
    `features`, in which what was not seen is as the picture has it. No example knows of the others, but by the noise of a generator that
    adds some.
    """
    x, seen = _as_seen(x, observed)
    common = starts.mean(1, keepdim=True)
    spread = common.square().mean((1, 2), keepdim=True).sqrt().clamp(min=1e-3)  # of each start: the size of its numbers
    # In units of the spread, so that the steps are of one size for all.
    found = [nn.Parameter(common / spread), nn.Parameter(torch.zeros_like(starts))]
    movers = [Adam([p], 0.9, 0.99, 0.0) for p in found]
    for step in range(steps):
        alone = step >= steps // 2
        rate = RATE * min(1.0, 4 * (1 - step / steps))
        with torch.enable_grad():
            made = generator(spread * (found[0] + found[1]))
            shown = torch.where(seen > 0, x, made.detach())
            loss = _apart(made, x, seen).sum() + FEATURES * _unlike(features(made), features(shown)).sum()
            loss = loss + LOOSE * found[1].square().mean((1, 2)).sum()
            moved = found if alone else found[:1]
            for p, gradient in zip(moved, torch.autograd.grad(loss, moved), strict=True):
                p.grad = gradient
        for mover in movers[: len(moved)]:
            mover.step(rate)
    return (spread * (found[0] + found[1])).detach()


def nearest(
    pictures: Float[Tensor, "K *shape"], x: Float[Tensor, "B *shape"], observed: Bool[Tensor, "B *shape"] | None
) -> Int[Tensor, " B"]:
    """(B,) which of the K pictures is most like each x, where it was observed."""
    x, seen = _as_seen(x, observed)
    return torch.stack([_apart(pictures, one, there).argmin() for one, there in zip(x, seen, strict=True)])


def _as_seen(x: Tensor, observed: Tensor | None) -> tuple[Tensor, Tensor]:
    """x with 0 where it was not observed, and 1 where it was, 0 where not."""
    if observed is None:
        return x, torch.ones_like(x)
    return torch.where(observed, x, 0.0), observed.to(x.dtype)


def _apart(made: Tensor, x: Tensor, seen: Tensor) -> Float[Tensor, " B"]:
    """The mean squared difference of what was seen, at the scale of x and, of pictures, at all coarser ones."""
    gap = (made - x) * seen
    seen = seen.expand_as(gap)
    down, total = Resampled().to(x.device), torch.zeros(len(gap), device=x.device)
    while True:
        total = total + gap.square().flatten(1).sum(1) / seen.flatten(1).sum(1).clamp(min=1e-6)
        if gap.dim() != 4 or min(gap.shape[2:]) < 8:
            return total
        gap, seen = down(gap), down(seen)


def _unlike(a: Iterable[Tensor], b: Iterable[Tensor]) -> Tensor:
    """The squared difference of features, each layer's as a share of its mean square."""
    parts = []
    for one, other in zip(a, b, strict=True):
        scale = other.detach().square().flatten(1).mean(1).clamp(min=1e-6)
        parts.append(F.mse_loss(one, other.detach(), reduction="none").flatten(1).mean(1) / scale)
    return torch.stack(parts).mean(0)
