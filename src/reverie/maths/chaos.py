"""How fast neighbours part, and how many dimensions what moves fills."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from reverie.core.errors import BadInput

Step = Callable[[Tensor], Tensor]  # states (*batch, M) to the next ones
Jacobian = Callable[[Tensor], Tensor]  # states (*batch, M) to the derivatives of the next ones (*batch, M, M)


@torch.no_grad()
def lyapunov_spectrum(
    step: Step,
    jacobian: Jacobian,
    start: Float[Tensor, "*batch M"],
    steps: int,
    warm_up: int = 0,
    count: int | None = None,
    every: int = 1,
    dt: float = 1.0,
) -> Float[Tensor, "*batch count"]:
    """The `count` largest Lyapunov exponents of the orbit from each start, largest first: nats per step, or per unit of
    time where a step takes `dt` of it (Benettin, Galgani, Giorgilli & Strelcyn 1980).

    Small displacements are carried along for `warm_up` steps before any are counted, and made orthogonal again by QR at least
    `every` so many steps, in float64 whatever the orbit is in. NaN where an orbit leaves every bound. What lies more than 36 nats in `every`
    steps below the largest drowns in rounding: where the map forgets a direction, some number as low as that is told, or -inf.

    >>> half = torch.tensor([[0.5, 1.0], [0.0, 2.0]])
    >>> start = torch.ones(1, 2)
    >>> lyapunov_spectrum(lambda z: z, lambda z: half.expand(1, 2, 2), start, 40, warm_up=20).exp()
    tensor([[2.0000, 0.5000]])
    """
    if steps < 1 or warm_up < 0 or every < 1:
        raise BadInput(f"Lyapunov exponents need steps to look at, not {steps} after {warm_up}")
    z, size = start, start.shape[-1]
    count = size if count is None else count
    random = torch.randn(size, count, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    frame = torch.linalg.qr(random).Q.to(z.device).expand(*z.shape[:-1], size, count)
    total = frame.new_zeros(*z.shape[:-1], count)
    for t in range(warm_up + steps):
        frame = jacobian(z).to(frame) @ frame
        z = step(z)
        if t + 1 == warm_up or (t + 1) % every == 0 or t + 1 == warm_up + steps:
            frame, triangle = torch.linalg.qr(frame)
            if t >= warm_up:
                total += triangle.diagonal(dim1=-2, dim2=-1).abs().log()
    lost = ~z.isfinite().all(-1, keepdim=True)
    return (total / (steps * dt)).masked_fill(lost, torch.nan).sort(-1, descending=True).values.to(z.dtype)


def kaplan_yorke(spectrum: Float[Tensor, "*batch M"]) -> Float[Tensor, "*batch"]:
    """Dimension of the attractor by its exponents, largest first: how many of them sum to no less than 0, and the share of
    the next one that makes it 0 (Kaplan & Yorke 1979). NaN stays NaN.

    >>> kaplan_yorke(torch.tensor([[0.5, 0.0, -2.0], [-1.0, -2.0, -3.0]]))
    tensor([2.2500, 0.0000])
    """
    size = spectrum.shape[-1]
    sums = spectrum.cumsum(-1)
    whole = (sums >= 0).long().cumprod(-1).sum(-1, keepdim=True)  # the first at which the sum falls below 0
    before = torch.cat([torch.zeros_like(sums[..., :1]), sums], -1).gather(-1, whole)
    following = spectrum.gather(-1, whole.clamp(max=size - 1))
    dimension = torch.where(whole < size, whole + before / following.abs(), whole.to(spectrum))
    return dimension.masked_fill(spectrum.isnan().any(-1, keepdim=True), torch.nan).squeeze(-1)


@torch.no_grad()
def after(step: Step, start: Float[Tensor, "*batch M"], steps: int) -> Float[Tensor, "*batch M"]:
    """The state that many steps later; none before it is held."""
    for _ in range(steps):
        start = step(start)
    return start


@torch.no_grad()
def orbit(step: Step, start: Float[Tensor, "*batch M"], steps: int) -> Float[Tensor, "T *batch M"]:
    """The start and the `steps` states after it."""
    states = [start]
    for _ in range(steps):
        states.append(step(states[-1]))
    return torch.stack(states)


def kick(step: Step, start: Float[Tensor, "*batch M"], size: float, steps: int) -> Float[Tensor, "M T *batch M"]:
    """What becomes of moving one unit by `size` at the start, for each unit in turn: orbit less orbit without.

    >>> moved = kick(lambda z: z.roll(1, -1), torch.zeros(3), 1.0, 2)
    >>> moved[0]
    tensor([[1., 0., 0.],
            [0., 1., 0.],
            [0., 0., 1.]])
    """
    free = orbit(step, start, steps)
    pushes = size * torch.eye(start.shape[-1]).to(start)
    return torch.stack([orbit(step, start + push, steps) - free for push in pushes])
