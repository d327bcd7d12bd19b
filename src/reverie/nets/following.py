"""What a machine knows of its states as it is told a series, step by step."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from reverie.nets.bold import BoldObservation
from reverie.nets.cells import Cell
from reverie.nets.observations import Observation


class Follower(ABC):
    """Told x_0, x_1 … in turn, it says of what states the next will be seen, from those told so far alone."""

    @abstractmethod
    def tell(self, x: Float[Tensor, "S B N"]) -> "Follower":
        """The next step."""

    @abstractmethod
    def ahead(self) -> Float[Tensor, "S B _"]:
        """What the step after the last told one will be seen of."""

    @abstractmethod
    def choose(self, particles: Int[Tensor, "S B"]) -> None:
        """Only some go on, by their places among all."""


class Plain(Follower):
    """Where a step tells of its own state."""

    def __init__(
        self, seen: Observation, cell: Cell, weight: Float[Tensor, "T members batch channels"], drive: Tensor | None
    ):
        self.seen, self.cell, self.drive, self.told = seen, cell, drive, 0
        self.pull = seen.forcing(weight.new_zeros(1, 1, 1, seen.channels), weight[:1])
        self.z: Tensor  # (S, B, M) the state of the next step

    def tell(self, x: Float[Tensor, "S B N"]) -> "Plain":
        z = self.z if self.told else self.seen.start(x, None)
        self.told += 1
        self.z = self.cell.step(self.pull._replace(target=self.seen.target(x).unsqueeze(0)).pulled(z, 0))
        if self.drive is not None:
            self.z = self.z + self.drive[self.told]
        return self

    def ahead(self) -> Float[Tensor, "S B M"]:
        return self.z

    def choose(self, particles: Tensor) -> None:
        if self.told:
            self.z = self.z.gather(1, particles.unsqueeze(-1).expand_as(self.z))


class Late(Follower):
    """Of blurred states. Each is pulled by its source as soon as the step is known that says most of it, `lag` steps later; from
    there the machine goes on by itself up to now.

    So what is foreseen depends on what was seen so far alone, and p(x) is a product over steps.
    """

    def __init__(
        self,
        seen: BoldObservation,
        cell: Cell,
        weight: Float[Tensor, "T members batch channels"],
        drive: Float[Tensor, "T S B M"] | None = None,
        nuisance: Float[Tensor, "T hands B J"] | None = None,
        observed: Bool[Tensor, "T hands B N"] | None = None,
    ):
        self.seen, self.cell, self.weight, self.drive, self.nuisance = seen, cell, weight, drive, nuisance
        guess, lower = seen.filter(len(weight), None if observed is None else observed[:, 0].flatten(1).T)
        self.observed = observed
        shape = () if observed is None else observed.shape[2:]
        # Time first: (E, T) and (T, T), or (…, B, N) where each series has holes of its own.
        self.guess, self.lower = (
            m.to(weight) if observed is None else m.movedim(0, -1).unflatten(-1, shape).to(weight)
            for m in (guess, lower)
        )
        self.pull = seen.forcing(weight.new_zeros(1, 1, 1, seen.channels), weight[:1])
        self.told = 0
        self.white: Tensor  # (T, S, B, N) what was told, made white
        self.z: Tensor  # (S, B, M) the last state that was reached by what pulls
        self.path: list[Tensor] = []  # (S, B, R) it and those before it, L of them

    @property
    def at(self) -> int:
        """The step of z."""
        return max(self.told - self.seen.lag, 0)

    def tell(self, x: Float[Tensor, "S B N"]) -> "Late":
        t, seen = self.told, self.seen
        known = seen.undisturbed(x, None if self.nuisance is None else self.nuisance[t])
        known = known if self.observed is None else known * self.observed[t]
        if t == 0:
            self.white = known.new_zeros(len(self.weight), *known.shape)
        self.white[t] = (known - self._sum(self.lower[t, :t])) / self.lower[t, t]
        if t <= seen.lag:
            y = torch.stack([self._sum(self.guess[e, : t + 1]) for e in range(seen.taps)])
            self.path = list(seen.units(y).unbind(0))
            self.z = seen.start(y[-1] + seen.bias.detach(), None)
        self.told = t + 1
        if t >= seen.lag and t + 1 < len(self.weight):
            self._pull(t - seen.lag)
        return self

    def _pull(self, at: int) -> None:
        """Takes z from step `at` to the next."""
        y = self._sum(self.guess[self.seen.taps - 1 + at, : self.told])
        pull = self.pull._replace(target=y.unsqueeze(0), weight=self.weight[at : at + 1])
        self.z = self.cell.step(pull.pulled(self.z, 0))
        if self.drive is not None:
            self.z = self.z + self.drive[at + 1]
        self.path = [*self.path[1:], self.z[..., : self.seen.reach]]

    def _sum(self, share: Tensor) -> Tensor:
        """Of what was told so far, white, each with its share (t,) or (t, B, N)."""
        white = self.white[: len(share)]
        return torch.einsum("t,t...->...", share, white) if share.dim() == 1 else (share.unsqueeze(1) * white).sum(0)

    def ahead(self, steps: int = 1, driven: int = 1) -> Float[Tensor, "S B R"]:
        """The states `steps` after what was told last, blurred; the inputs of the first `driven` of these are known."""
        free = self.told - 1 + steps - self.at
        drive = None
        if self.drive is not None:
            known = self.drive[self.at + 1 : self.told + driven]
            drive = torch.cat([known, known.new_zeros(max(free - len(known), 0), *known.shape[1:])])
            drive = drive.expand(-1, len(self.z), -1, -1)
        states = self.cell.orbit(self.z, free, None, drive)[..., : self.seen.reach].unbind(0) if free else ()
        path = [*self.path, *states][-self.seen.taps :]
        return torch.stack(path, -1) @ self.seen.kernel.flip(0)

    def choose(self, particles: Tensor) -> None:
        def chosen(part: Tensor) -> Tensor:
            return part.gather(-2, particles.unsqueeze(-1).expand(*part.shape[:-3], -1, -1, part.shape[-1]))

        if self.told:
            self.white, self.z, self.path = chosen(self.white), chosen(self.z), [chosen(part) for part in self.path]


def follower(seen: Observation, cell: Cell, weight: Tensor, drive: Tensor | None, nuisance: Tensor | None) -> Follower:
    """One that fits what is seen."""
    if isinstance(seen, BoldObservation):
        return Late(seen, cell, weight, drive, nuisance)
    return Plain(seen, cell, weight, drive)
