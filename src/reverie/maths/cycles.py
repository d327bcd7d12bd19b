"""Where a piecewise linear map stands still, and where it returns to after k steps."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor

from reverie.core.errors import BadInput
from reverie.core.shallow import Shallow

EXACT = 1e-9  # share of a state's length by which a cycle may miss itself in one step
AT_ONCE = 256  # guesses that are followed side by side


class Cycle(NamedTuple):
    """k states that follow one another for ever; a fixed point where k is 1."""

    points: Float[Tensor, "k M"]
    regions: Bool[Tensor, "k L"]  # which hidden units are on at each
    eigenvalues: Complex[Tensor, " M"]  # of the derivative of all k steps together, largest modulus first
    residual: float  # |F^k(z) - z| of the first point, in float64

    @property
    def period(self) -> int:
        """Steps until it closes."""
        return len(self.points)

    @property
    def unstable(self) -> int:
        """In how many directions neighbours leave."""
        return int((self.eigenvalues.abs() > 1).sum())

    @property
    def kind(self) -> str:
        """stable, saddle or unstable."""
        return ("stable", "unstable")[self.unstable > 0] if self.unstable in (0, len(self.eigenvalues)) else "saddle"


class Census(NamedTuple):
    """The cycles that were found, shortest first."""

    cycles: list[Cycle]
    complete: tuple[int, ...]  # periods of which there are no others: every sequence of regions was looked at


def cycles(
    weights: Shallow,
    periods: Iterable[int] = (1,),
    start: Float[Tensor, "n M"] | None = None,
    rounds: int = 20,
    patience: int = 10,
    enumerable: int = 2**14,
    seed: int = 0,
) -> Census:
    """Fixed points (period 1) and cycles of the `periods` asked for of a map (a Shallow of one member), stable or not.

    In a sequence of linear regions the cycle is the solution of linear equations; it exists where its points lie in
    those regions. With up to `enumerable` sequences all are tried. Otherwise by SCYFI's heuristic: where the points
    lie elsewhere, the regions they do lie in are tried next, `rounds` times, then a new guess is made (Eisenmann,
    Monfared, Göring & Durstewitz 2023, arXiv 2310.17561). A guess is drawn unit by unit, or is the regions of an
    orbit from near `start`, states that matter, or once it has settled. It ends when `patience` batches of guesses
    brought nothing new.

    >>> relu = Shallow(*(torch.tensor(n) for n in ([[[0.5]]], [[[-1.0]]], [[[1.0]]], [[1.0]], [[0.0]])))
    >>> [(one.points.squeeze().tolist(), one.kind) for one in cycles(relu).cycles]  # z' = z / 2 - relu(z) + 1
    [(0.6666666666666666, 'stable')]
    """
    periods = sorted(set(periods))
    if len(weights.A) != 1 or not periods or periods[0] < 1:
        raise BadInput(
            f"cycles are looked for in one member, not {len(weights.A)}, of periods from 1 on, not {periods}"
        )
    weights = Shallow(*(part.detach().cpu() for part in weights)).member(0)  # few numbers, and many small questions
    start = None if start is None else start.cpu()
    random = torch.Generator().manual_seed(seed)
    found: list[Cycle] = []
    tried: set[bytes] = set()
    complete = []
    for k in periods:
        if 2 ** (k * weights.W2.shape[1]) <= enumerable:
            complete.append(k)
            for codes in _all_sequences(weights, k):
                _add(found, tried, weights, codes[_solved(weights, codes)[1]])
        else:
            _heuristic(found, tried, weights, k, start, rounds, patience, random)
    return Census(found, tuple(complete))


def _heuristic(
    found: list[Cycle],
    tried: set[bytes],
    weights: Shallow,
    k: int,
    start: Tensor | None,
    rounds: int,
    patience: int,
    random: torch.Generator,
) -> None:
    idle = 0
    while idle < patience:
        before = len(found)
        codes = _guesses(weights, k, start, random)
        for _ in range(rounds):
            visited, closed = _solved(weights, codes)
            _add(found, tried, weights, codes[closed])
            # What is found, and what leads nowhere, makes place.
            going = ~closed & (visited != codes).any(-1).any(-1)
            codes = visited[going]
            if not len(codes):
                break
        idle = 0 if len(found) > before else idle + 1


def _all_sequences(weights: Shallow, k: int) -> Iterator[Tensor]:
    """(n, k, L) every sequence of regions, part by part."""
    units = weights.W2.shape[1]
    for part in torch.arange(2 ** (k * units)).split(4096):
        yield (part[:, None] >> torch.arange(k * units) & 1).bool().view(len(part), k, units)


def _guesses(weights: Shallow, k: int, start: Tensor | None, random: torch.Generator) -> Tensor:
    """(n, k, L) regions to begin with: a third by coins, a third by orbits from anywhere, a third by orbits that settled."""
    size, units, third = weights.A.shape[-1], weights.W2.shape[1], AT_ONCE // 3
    coins = torch.rand(third, k, units, generator=random) < torch.rand(third, 1, 1, generator=random)
    if start is None:
        reach = 10 ** (3 * torch.rand(2 * third, 1, generator=random, dtype=torch.float64) - 1)
        z = reach * torch.randn(2 * third, size, generator=random, dtype=torch.float64)
    else:
        rows = torch.randint(len(start), (2 * third,), generator=random)
        middle, width = start.double().mean(0), start.double().std(0, correction=0)
        z = start.double()[rows] + width * torch.randn(2 * third, size, generator=random, dtype=torch.float64)
        z[: third // 2] = middle + 2 * (z[: third // 2] - middle)
    settled = z[third:]
    for _ in range(100 + int(torch.randint(k, (), generator=random))):
        settled = weights.step(settled[None])[0]
    z = torch.cat([z[:third], settled])
    return torch.cat([coins, _visited(weights, z[z.isfinite().all(-1)], k)[0]])


def _visited(weights: Shallow, z: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The regions (n, k, L) of an orbit of k steps from z (n, M), and where it ends."""
    codes = []
    for _ in range(k):
        codes.append(weights.regions(z[None])[0])
        z = weights.step(z[None])[0]
    return torch.stack(codes, 1), z


def _pieces(weights: Shallow, codes: Tensor) -> tuple[Tensor, Tensor]:
    """z' = J z + b in each of the regions (..., L): (..., M, M) and (..., M)."""
    on = codes.double()
    slopes = weights.A[0] + (weights.W1[0] * on.unsqueeze(-2)) @ weights.W2[0]
    return slopes, (on * weights.h2[0]) @ weights.W1[0].mT + weights.h1[0]


def _solved(weights: Shallow, codes: Tensor) -> tuple[Tensor, Tensor]:
    """The regions (n, k, L) that the cycles which the regions `codes` call for really run through, and whether they close (n,)."""
    k = codes.shape[1]
    size = weights.A.shape[-1]
    total = torch.eye(size, dtype=torch.float64).expand(len(codes), size, size)
    shift = torch.zeros(len(codes), size, 1, dtype=torch.float64)
    for t in range(k):
        slope, constant = _pieces(weights, codes[:, t])
        total, shift = slope @ total, slope @ shift + constant.unsqueeze(-1)
    z = torch.linalg.solve_ex(torch.eye(size, dtype=torch.float64) - total, shift).result.squeeze(-1)
    visited, end = _visited(weights, z, k)
    near = torch.linalg.vector_norm(end - z, dim=-1) <= 1e-6 * (1 + torch.linalg.vector_norm(z, dim=-1))
    # A point on the border of two regions belongs to both; a singular equation gives NaN, which is near nothing.
    return visited, ((visited == codes).all(-1).all(-1) & z.isfinite().all(-1)) | near


def _add(found: list[Cycle], tried: set[bytes], weights: Shallow, codes: Tensor) -> None:
    """Puts the cycles in the regions `codes` to the others, where they are verified and not yet there."""
    for code in codes:
        if code.numpy().tobytes() in tried:
            continue
        # The same cycle may begin at any of its points.
        tried.update(code.roll(t, 0).numpy().tobytes() for t in range(len(code)))
        points = _points(weights, code)
        if points is None or _repeats(points) or any(_same(points, old.points) for old in found):
            continue
        total = torch.eye(points.shape[-1], dtype=torch.float64)
        end = points[:1]
        for slope in _pieces(weights, weights.regions(points[None])[0])[0]:
            total, end = slope @ total, weights.step(end[None])[0]
        values = torch.linalg.eigvals(total)
        values = values[values.abs().argsort(descending=True)]
        residual = float(torch.linalg.vector_norm(end - points[:1]))
        found.append(Cycle(points, weights.regions(points[None])[0], values, residual))


def _points(weights: Shallow, code: Tensor) -> Tensor | None:
    """(k, M) the cycle in the regions (k, L), all points solved for at once so that no error grows along it; None
    where it is not there."""
    slopes, constants = _pieces(weights, code)
    k, size = constants.shape
    system = torch.eye(k * size, dtype=torch.float64).view(k, size, k, size)
    for t in range(k):
        system[(t + 1) % k, :, t] -= slopes[t]
    solution, failed = torch.linalg.solve_ex(system.view(k * size, -1), constants.roll(1, 0).reshape(-1))
    points = solution.view(k, size)
    miss = torch.linalg.vector_norm(weights.step(points[None])[0] - points.roll(-1, 0), dim=-1)
    length = 1 + torch.linalg.vector_norm(points, dim=-1).max()
    return points if not failed and bool((miss <= EXACT * length).all()) else None


def _same(one: Tensor, other: Tensor) -> bool:
    """Is it the same cycle, wherever it begins?"""
    if one.shape != other.shape:
        return False
    distance = torch.linalg.vector_norm(other - one[0], dim=-1)
    turned = other.roll(-int(distance.argmin()), 0)
    return torch.allclose(one, turned, rtol=1e-6, atol=1e-6 * float(1 + one.abs().max()))


def _repeats(points: Tensor) -> bool:
    """Does it close before its end?"""
    k = len(points)
    scale = 1e-7 * float(1 + points.abs().max())
    return any(k % m == 0 and float((points - points.roll(m, 0)).abs().max()) < scale for m in range(1, k))
