"""Which linear regions an orbit runs through, and what becomes of it as a parameter moves."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from reverie.core.errors import BadInput
from reverie.core.shallow import Shallow
from reverie.maths.chaos import after, lyapunov_spectrum, orbit
from reverie.maths.cycles import cycles

TRANSIENT = 3.0  # nats by which displacements may seem to grow though none does: on a torus, in skewed coordinates
APERIODIC, DIVERGED = 0, -1  # in place of a period


class Regions(NamedTuple):
    """The linear regions an orbit visited, the most visited first, and its symbolic code."""

    on: Bool[Tensor, "R L"]  # which hidden units are on in each
    code: Int[Tensor, " T"]  # the region of each state
    visits: Int[Tensor, " R"]
    passages: Int[Tensor, "R R"]  # how often the second followed the first


def regions(weights: Shallow, states: Float[Tensor, "T M"]) -> Regions:
    """Of an orbit of a map (a Shallow of one member).

    >>> fold = Shallow(*(torch.tensor(n) for n in ([[[1.0]]], [[[-2.0]]], [[[1.0]]], [[1.0]], [[0.0]])))
    >>> regions(fold, torch.tensor([[-1.0], [0.5], [2.0]])).code.tolist()
    [1, 0, 0]
    """
    on, which, visits = torch.unique(weights.regions(states[None])[0], dim=0, return_inverse=True, return_counts=True)
    order = visits.argsort(descending=True, stable=True)
    code = order.argsort()[which]
    count = len(on)
    passages = torch.bincount(code[:-1] * count + code[1:], minlength=count * count).view(count, count)
    return Regions(on[order], code, visits[order], passages)


class Sweep(NamedTuple):
    """What was found at each of V values of a parameter, from each of B starts."""

    values: Float[Tensor, " V"]
    states: Float[Tensor, "V B T M"]  # once settled
    periods: Int[Tensor, "V B"]  # 1: a fixed point; APERIODIC; DIVERGED
    lyapunov: Float[Tensor, "V B"]  # the largest exponent, nats per step
    fixed: list[tuple[int, ...]]  # for each value, in how many directions each of its fixed points is unstable
    changes: dict[int, str]  # at i: something is different between values i and i + 1, and what


def sweep(
    weights: Shallow,
    values: Float[Tensor, " V"],
    start: Float[Tensor, "B M"],
    settle: int = 2000,
    keep: int = 400,
    longest: int = 64,
    chaotic: float = 1e-3,
) -> Sweep:
    """Runs the map at every value side by side (member i of `weights` is the map at values[i]), and flags bifurcations:
    between which values attractors, or the number or stability of the fixed points, change.

    `longest`: period told from no period. `chaotic`: exponent, nats per step, above which an orbit without period is called
    chaotic, where `keep` steps are enough to tell it from the few nats by which displacements seem to grow on a torus. A cycle whose basin holds none of the starts is not seen here; `cycles` looks for it.
    """
    if len(values) != len(weights.A):
        raise BadInput(f"a sweep needs one map for each value, not {len(weights.A)} for {len(values)}")
    if keep < 2 * longest or settle < 1:
        raise BadInput(f"to tell a period of {longest} at least {2 * longest} settled steps are needed, not {keep}")
    weights = Shallow(*(part.detach().cpu().double() for part in weights))
    values, start = values.cpu(), start.cpu()
    z = after(weights.step, start.double().expand(len(values), *start.shape), settle)
    lyapunov = lyapunov_spectrum(weights.step, weights.jacobian, z, keep, count=1).squeeze(-1)
    states = orbit(weights.step, z, keep - 1).movedim(0, 2)  # (V, B, T, M)
    periods = _periods(states, longest)
    fixed = [_unstable(weights.member(i), z[i]) for i in range(len(values))]
    chaotic = max(chaotic, TRANSIENT / keep)
    kinds = [_kinds(*row, chaotic) for row in zip(periods, lyapunov, strict=True)]
    changes = {}
    for i in range(len(values) - 1):
        said = [f"{a} → {b}" for a, b in ((kinds[i], kinds[i + 1]), (_told(fixed[i]), _told(fixed[i + 1]))) if a != b]
        if said:
            changes[i] = "; ".join(said)
    return Sweep(values, states, periods, lyapunov, fixed, changes)


def _periods(states: Tensor, longest: int) -> Tensor:
    """The least k after which the orbit (…, T, M) is where it was."""
    scale = 1e-6 * (1 + states.abs().amax((-2, -1)))
    periods = torch.full(states.shape[:-2], APERIODIC)
    for k in range(longest, 0, -1):
        closed = (states[..., k:, :] - states[..., :-k, :]).abs().amax((-2, -1)) < scale
        periods[closed] = k
    lost = ~states.isfinite().all(-1).all(-1) | (states.abs().amax((-2, -1)) > 1e12)
    return periods.masked_fill(lost, DIVERGED)


def _kinds(periods: Tensor, lyapunov: Tensor, chaotic: float) -> str:
    """The attractors that the starts came to, as a text that is the same for the same ones."""
    kinds = set()
    for period, exponent in zip(periods.tolist(), lyapunov.tolist(), strict=True):
        if period == DIVERGED:
            kinds.add("divergence")
        elif period == APERIODIC:
            kinds.add("chaos" if exponent > chaotic else "torus or long cycle")
        else:
            kinds.add("fixed point" if period == 1 else f"{period}-cycle")
    return ", ".join(sorted(kinds))


def _unstable(weights: Shallow, near: Tensor) -> tuple[int, ...]:
    inside = near[near.isfinite().all(-1)]
    return tuple(sorted(one.unstable for one in cycles(weights, start=inside if len(inside) else None).cycles))


def _told(fixed: tuple[int, ...]) -> str:
    return f"fixed points unstable in {', '.join(map(str, fixed))}" if fixed else "no fixed point"
