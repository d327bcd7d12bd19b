"""What was seen, smoothed: noise that pulls makes what is learned too tame."""

import functools

import torch
from jaxtyping import Float
from torch import Tensor

FARTHEST = 30  # steps over which what was seen is smoothed without being asked to
ROUGH = 0.1  # share of its variance that a series may not owe to the steps around, and still be smoothed,
BY_CHANCE = 0.5  # where so much of it, beyond what is known to be chance, may be left


@torch.no_grad()
def smoothing(x: Float[Tensor, "W T N"], chance: Float[Tensor, " N"] | None = None) -> int:
    """The steps on both sides over which parabolas foretell each step of windows best when it is left out of their fit; 0
    where the narrowest does, for then there is no noise to speak of, and where more than ROUGH of the variance is left: it may be no
    noise, but what moves the series. Where it is known how much is left to `chance` (N,), for counts their mean, that does not count.

    What a fit says of a step it was told of, y, gives what it would have said without it: x - y = (1 - s) (x - that), with the
    share s that the step had in y (Allen 1974).

    >>> time = torch.arange(200.0).view(1, -1, 1)
    >>> torch.manual_seed(0) and smoothing(torch.sin(time / 10)), smoothing(torch.randn(1, 200, 1))
    (0, 0)
    """
    steps = x.shape[1]
    most = min(FARTHEST, (steps - 1) // 4)
    if most < 2 or not x.shape[2]:
        return 0
    middle = slice(most, steps - most)  # where no window is cut short
    spread = x.var((0, 1)).clamp(min=1e-12)
    errors = []
    for reach in range(2, most + 1):
        fit = parabolas(steps, reach).to(x)
        left = (x - torch.einsum("ts,wsn->wtn", fit, x)) / (1 - fit.diagonal().view(-1, 1))
        errors.append((left[:, middle].square().mean((0, 1)) / spread).mean())
    least = int(torch.stack(errors).argmin())
    bare, most_left = 0.0, ROUGH
    if chance is not None:
        bare, most_left = float((chance / spread).mean().clamp(max=1)), BY_CHANCE
    return least + 2 if least and errors[least] - bare < most_left * (1 - bare) else 0


@functools.cache
def parabolas(steps: int, reach: int) -> Float[Tensor, "T T"]:
    """What makes of a series the value at each step of the parabola that fits it best, by least squares, over the 2 `reach` + 1 steps around it (Savitzky
    & Golay 1964); near the ends, over the first or last as many.

    >>> (parabolas(9, 3) @ torch.arange(9.0).square()).round().int().tolist()
    [0, 1, 4, 9, 16, 25, 36, 49, 64]
    """
    size = min(2 * reach + 1, steps)
    found = torch.zeros(steps, steps, dtype=torch.float64)
    for t in range(steps):
        first = min(max(t - reach, 0), steps - size)
        time = (torch.arange(first, first + size, dtype=torch.float64) - t) / size
        powers = time.unsqueeze(1) ** torch.arange(min(3, size))
        found[t, first : first + size] = torch.linalg.pinv(powers)[0]
    return found.float()
