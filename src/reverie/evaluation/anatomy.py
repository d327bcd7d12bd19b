"""What moves inside a recurrent machine that is left alone: exponents, fixed points and cycles, regions, and what a push does."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from reverie.core.errors import BadInput
from reverie.core.shallow import Shallow
from reverie.maths.chaos import lyapunov_spectrum
from reverie.maths.cycles import Census, cycles
from reverie.maths.sweeps import Regions, Sweep, regions, sweep
from reverie.models.innovations import Innovations
from reverie.nets.cells import PiecewiseLinear

SETTLE = 1000  # steps until an orbit is taken to be where it stays
KNOBS = re.compile(r"(A|W1|W2|h1|h2|input)\[(\d+)(?:,\s*(\d+))?\]")


class Alone(NamedTuple):
    """All members of a machine as maps z' = F(z) that depend on nothing else: inputs are held."""

    model: Innovations
    push: Float[Tensor, "S 1 M"]  # what the held inputs add in every step
    held: tuple[float, ...]  # their values

    def step(self, z: Float[Tensor, "S B M"]) -> Float[Tensor, "S B M"]:
        """One step of time."""
        return self.model.cell.step(z) + self.push

    def jacobian(self, z: Float[Tensor, "S B M"]) -> Float[Tensor, "S B M M"]:
        """dz'/dz."""
        return self.model.cell.jacobian(z)

    def member(self, i: int) -> Shallow:
        """One member as a piecewise linear map, in float64; BadInput where it is none."""
        if not isinstance(self.model.cell, PiecewiseLinear):
            raise BadInput("a GRU is not piecewise linear: its fixed points and cycles cannot be solved for")
        weights = self.model.cell.as_shallow().member(i)
        return weights._replace(h1=weights.h1 + self.push[i].double())

    def settled(self, starts: int, steps: int = SETTLE) -> Float[Tensor, "S starts M"]:
        """States after `steps` free steps from what may be seen first."""
        x = self.model.seen.first(self.model.gain.new_zeros(starts, self.model.space.shape[1])).sample()
        drive = self.push.expand(steps, -1, starts, -1)
        return self.model.cell.orbit(self.model.seen.start(x.unsqueeze(0), None), steps, None, drive)[-1]

    def seen(self, z: Float[Tensor, "T M"], member: int) -> Float[Tensor, "T N"]:
        """What a member expects to see at its states."""
        many = z.to(self.push).view(len(z), 1, 1, -1).expand(-1, len(self.push), -1, -1)
        return self.model.seen(many).mean[:, member, 0].cpu()


@torch.no_grad()
def alone(model: Innovations, held: Sequence[float] | None = None) -> Alone:
    """The members under constant inputs. BadInput for a machine with inputs of which no constant value is stated: driven by
    something that changes, it has no fixed points and no cycles of its own."""
    known = len(held) if held else 0
    if model.C is None:
        if known:
            raise BadInput(f"this machine has no inputs, and {known} were given; leave --input out")
        return Alone(model, model.gain.new_zeros(len(model.gain), 1, model.cell.latent), ())
    wanted = model.C.shape[1]
    if known != wanted:
        raise BadInput(
            f"this machine is driven by {wanted} inputs, and is a system of its own only while they do not change; "
            f"state their values: --input {' '.join(['0'] * wanted)}"
        )
    values = tuple(held or ())
    return Alone(model, model.gain.new_tensor([values]) @ model.C, values)


@torch.no_grad()
def exponents(
    system: Alone, starts: int = 4, steps: int = 2000, count: int | None = None
) -> Float[Tensor, "S starts count"]:
    """Lyapunov exponents of every member from each start, largest first, nats per step; NaN of orbits that leave every bound."""
    return lyapunov_spectrum(
        system.step, system.jacobian, system.settled(starts), steps, warm_up=50, count=count, every=5
    )


class Anatomy(NamedTuple):
    """One member, taken apart."""

    member: int
    orbit: Float[Tensor, "T M"]  # of states, once settled
    census: Census | None  # fixed points and cycles; None where it is not piecewise linear
    visited: Regions | None  # by the orbit
    pushed: Float[Tensor, "M T"]  # how far a small push of each unit has moved the state after each step, over its size


@torch.no_grad()
def taken_apart(
    system: Alone, member: int, periods: Sequence[int] = (1,), steps: int = 5000, seed: int = 0, after: int = 100
) -> Anatomy:
    """Its orbit, the cycles of the `periods`, the linear regions it visits and what becomes of pushes, in the geometric mean over
    a hundred states of the orbit."""
    z = system.settled(1)
    drive = system.push.expand(steps, -1, 1, -1)
    orbit = system.model.cell.orbit(z, steps, None, drive)[:, member, 0]
    here = orbit[:: max(1, steps // 100)]

    pushed = _growth(system, here.expand(len(system.push), -1, -1), member, after)
    if not isinstance(system.model.cell, PiecewiseLinear):
        return Anatomy(member, orbit, None, None, pushed)
    weights = system.member(member)
    finite = orbit[orbit.isfinite().all(1)].double()
    census = cycles(weights, periods, start=finite if len(finite) else None, seed=seed)
    return Anatomy(member, orbit, census, regions(weights, orbit.double()), pushed)


def _growth(system: Alone, z: Tensor, member: int, steps: int) -> Tensor:
    """(M, steps + 1) lengths of the columns of dz_t/dz_0, in the geometric mean over states z (S, B, M)."""
    frame = torch.eye(z.shape[-1]).to(z).expand(*z.shape[:2], -1, -1)
    found = [torch.ones(z.shape[-1]).to(z)]
    for _ in range(steps):
        frame, z = system.jacobian(z) @ frame, system.step(z)
        found.append(frame[member].norm(dim=-2).clamp(min=1e-30).log().mean(0).exp())
    return torch.stack(found, 1)


def swept(
    system: Alone,
    member: int,
    name: str,
    values: Float[Tensor, " V"],
    starts: int = 4,
    settle: int = 1000,
    keep: int = 2000,
) -> Sweep:
    """What becomes of a member as one of its parameters takes the `values`: A[i,j], W1[i,j], W2[i,j], h1[i], h2[i] or input[i]."""
    weights = system.member(member)
    part, index = _place(system, weights, name)
    many = Shallow(*(p.repeat(len(values), *[1] * (p.dim() - 1)) for p in weights))
    values = values.double()
    if part == "input":
        assert system.model.C is not None
        along = system.model.C[member, index[0]].double()
        many = many._replace(h1=many.h1 + (values - system.held[index[0]])[:, None] * along)
    else:
        getattr(many, part)[(slice(None), *index)] = values + _pushed(system, member, part, index)
    return sweep(many, values, system.settled(starts)[member], settle, keep)


def current(system: Alone, member: int, name: str) -> float:
    """The value that the member's parameter has."""
    weights = system.member(member)
    part, index = _place(system, weights, name)
    if part == "input":
        return system.held[index[0]]
    return float(getattr(weights, part)[(0, *index)]) - _pushed(system, member, part, index)


def _pushed(system: Alone, member: int, part: str, index: tuple[int, ...]) -> float:
    """What held inputs add to a parameter, in the map that they make of a member."""
    return float(system.push[member, 0, index[0]]) if part == "h1" else 0.0


def _place(system: Alone, weights: Shallow, name: str) -> tuple[str, tuple[int, ...]]:
    found = KNOBS.fullmatch(name.strip())
    if not found:
        raise BadInput(f"no parameter {name!r}; one of A[i,j], W1[i,j], W2[i,j], h1[i], h2[i], input[i]")
    part, index = found[1], tuple(int(i) for i in found.groups()[1:] if i is not None)
    shape = (len(system.held),) if part == "input" else tuple(getattr(weights, part).shape[1:])
    if len(index) != len(shape) or any(i >= size for i, size in zip(index, shape, strict=True)):
        raise BadInput(f"{name}: {part} has the shape {shape}")
    return part, index
