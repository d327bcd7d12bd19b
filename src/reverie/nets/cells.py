"""Recurrent cells: how a state becomes the next one, for several members side by side.

Every piecewise linear cell says its equation in `step`, and once more as a map of its parameters in `as_shallow`; orbits, gradients,
Jacobians and regions come from the second, and tests hold both against each other.
"""

from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from reverie.core.errors import BadInput
from reverie.core.shallow import Shallow
from reverie.nets.recurrence import Forcing, lasting, orbit

CellName = Literal["shallow", "clipped", "plrnn", "dendritic", "almost_linear", "gru"]
KEPT = 0.9  # what a unit keeps of itself from step to step, at the start
SMALL = 0.03  # what others give to it, about: together less than it loses, so that no new cell runs away


class Cell(nn.Module, ABC):
    """z' = F(z): states (S, B, M) of S members, each with parameters of its own along the first axis."""

    def __init__(self, members: int, latent: int):
        super().__init__()
        self.members, self.latent = members, latent

    @abstractmethod
    def step(self, z: Float[Tensor, "S B M"]) -> Float[Tensor, "S B M"]:
        """One step of time, as the paper writes it."""

    @abstractmethod
    def as_shallow(self) -> Shallow:
        """The same map as a shallow PLRNN; BadInput for a cell that is not piecewise linear."""

    def orbit(
        self,
        start: Float[Tensor, "S B M"],
        steps: int,
        forcing: Forcing | None = None,
        drive: Float[Tensor, "T S B M"] | None = None,
    ) -> Float[Tensor, "T S B M"]:
        """The states after each step, differentiable."""
        return orbit(self.as_shallow(), start, steps, forcing, drive)

    def jacobian(self, z: Float[Tensor, "S B M"]) -> Float[Tensor, "S B M M"]:
        """dz'/dz."""
        return self.as_shallow().jacobian(z)

    def regions(self, z: Float[Tensor, "S B M"]) -> Bool[Tensor, "S B L"]:
        """Which rectified units are on: within a region the map is linear."""
        return self.as_shallow().regions(z)


class PiecewiseLinear(Cell):
    """One with a diagonal A, what each unit keeps of itself, and a bias h."""

    def __init__(self, members: int, latent: int):
        super().__init__(members, latent)
        self.a = nn.Parameter(torch.full((members, latent), KEPT))
        self.h = nn.Parameter(torch.zeros(members, latent))

    def linear(self, z: Tensor) -> Tensor:
        """A z + h."""
        return self.a.unsqueeze(1) * z + self.h.unsqueeze(1)

    def thresholds(self, *shape: int) -> nn.Parameter:
        """As far apart as standardised data are."""
        return nn.Parameter(torch.randn(self.members, *shape))

    def small(self, latent: int, hidden: int) -> nn.Parameter:
        """(S, M, L) weights of hidden units, of which there may be many."""
        return nn.Parameter(SMALL * torch.randn(self.members, latent, hidden) * latent**0.5 / max(hidden, 1))

    def selection(self, first: int = 0) -> Tensor:
        """(S, M - first, M) which picks the units from `first` on."""
        return torch.eye(self.latent).to(self.a)[first:].expand(len(self.a), -1, -1)


class ShallowCell(PiecewiseLinear):
    """z' = A z + W1 relu(W2 z + h2) + h1, the shallow PLRNN with L = `hidden` (Hess et al. 2023, arXiv 2306.04406).

    >>> ShallowCell(2, 3, 5).step(torch.zeros(2, 7, 3)).shape
    torch.Size([2, 7, 3])
    """

    def __init__(self, members: int, latent: int, hidden: int):
        super().__init__(members, latent)
        self.W1 = self.small(latent, hidden)
        self.W2 = nn.Parameter(torch.randn(members, hidden, latent) / latent**0.5)
        self.h2 = self.thresholds(hidden)

    def step(self, z: Tensor) -> Tensor:
        return self.linear(z) + torch.relu(z @ self.W2.mT + self.h2.unsqueeze(1)) @ self.W1.mT

    def as_shallow(self) -> Shallow:
        return Shallow(torch.diag_embed(self.a), self.W1, self.W2, self.h, self.h2)


class ClippedCell(ShallowCell):
    """z' = A z + W1 (relu(W2 z + h2) - relu(W2 z)) + h1: where |A| < 1, no orbit leaves for infinity (Hess et al. 2023)."""

    def step(self, z: Tensor) -> Tensor:
        inner = z @ self.W2.mT
        return self.linear(z) + (torch.relu(inner + self.h2.unsqueeze(1)) - torch.relu(inner)) @ self.W1.mT

    def as_shallow(self) -> Shallow:
        double, h2 = torch.cat([self.W2, self.W2], 1), torch.cat([self.h2, torch.zeros_like(self.h2)], 1)
        return Shallow(torch.diag_embed(self.a), torch.cat([self.W1, -self.W1], 2), double, self.h, h2)


class PLRNNCell(PiecewiseLinear):
    """z' = A z + W relu(z) + h, W without a diagonal (Durstewitz 2017; Koppe, Toutounji, Kirsch, Lis & Durstewitz 2019,
    arXiv 1902.07186)."""

    def __init__(self, members: int, latent: int, hidden: int):
        super().__init__(members, latent)
        self.W = self.small(latent, latent)

    @property
    def between(self) -> Tensor:
        """(S, M, M) W, whose diagonal A has taken over."""
        return self.W * (1 - torch.eye(self.latent).to(self.W))

    def step(self, z: Tensor) -> Tensor:
        return self.linear(z) + torch.relu(z) @ self.between.mT

    def as_shallow(self) -> Shallow:
        return Shallow(torch.diag_embed(self.a), self.between, self.selection(), self.h, torch.zeros_like(self.h))


class DendriticCell(PLRNNCell):
    """z' = A z + W sum_b alpha_b relu(z - h_b) + h with B = `hidden` branches (Brenner, Hess, Mikhaeil, Bereska, Monfared,
    Kuo & Durstewitz 2022, arXiv 2207.02542)."""

    def __init__(self, members: int, latent: int, hidden: int):
        super().__init__(members, latent, hidden)
        self.alpha = nn.Parameter(torch.randn(members, hidden) / hidden**0.5)
        self.branch = self.thresholds(hidden, latent)

    def step(self, z: Tensor) -> Tensor:
        each = torch.relu(z.unsqueeze(2) - self.branch.unsqueeze(1))  # (S, B, branches, M)
        return self.linear(z) + torch.einsum("sk,sbkm->sbm", self.alpha, each) @ self.between.mT

    def as_shallow(self) -> Shallow:
        branches = self.alpha.shape[1]
        weighed = (self.alpha[:, None, :, None] * self.between.unsqueeze(2)).flatten(2)  # (S, M, branches * M)
        every = self.selection().repeat(1, branches, 1)
        return Shallow(torch.diag_embed(self.a), weighed, every, self.h, -self.branch.flatten(1))


class AlmostLinearCell(PiecewiseLinear):
    """z' = A z + W [z_1 … z_{M-P}, relu(z_{M-P+1}) … relu(z_M)] + h: only P = `hidden` units are rectified (Brenner, Hemmer,
    Monfared & Durstewitz 2024, arXiv 2410.14240)."""

    def __init__(self, members: int, latent: int, hidden: int):
        super().__init__(members, latent)
        if hidden > latent:
            raise BadInput(
                f"an almost-linear cell of {latent} units cannot have {hidden} rectified ones; hidden is too large"
            )
        self.plain = latent - hidden
        self.W = self.small(latent, latent)

    def step(self, z: Tensor) -> Tensor:
        some = torch.cat([z[..., : self.plain], torch.relu(z[..., self.plain :])], -1)
        return self.linear(z) + some @ self.W.mT

    def as_shallow(self) -> Shallow:
        rectified = self.selection(self.plain)
        A = torch.diag_embed(self.a) + torch.cat(
            [self.W[..., : self.plain], torch.zeros_like(self.W[..., self.plain :])], 2
        )
        return Shallow(A, self.W[..., self.plain :], rectified, self.h, self.h.new_zeros(rectified.shape[:2]))


class GRUCell(Cell):
    """z' = (1 - u) n + u z with u = sig(W_u z + b_u), r = sig(W_r z + b_r), n = tanh(W_n (r z) + b_n): the gated recurrent unit
    without an input (Cho et al. 2014, arXiv 1406.1078). It is not piecewise linear; its loop over time is the plain one."""

    def __init__(self, members: int, latent: int, hidden: int):
        super().__init__(members, latent)
        self.W = nn.Parameter(torch.randn(members, 3, latent, latent) / latent**0.5)
        self.b = nn.Parameter(torch.zeros(members, 3, latent))

    def step(self, z: Tensor) -> Tensor:
        return self._step(z, *self.W.mT.unbind(1), *self.b.unsqueeze(2).unbind(1))

    @staticmethod
    def _step(z: Tensor, keep: Tensor, reset: Tensor, new: Tensor, *biases: Tensor) -> Tensor:
        u, r = torch.sigmoid(torch.baddbmm(biases[0], z, keep)), torch.sigmoid(torch.baddbmm(biases[1], z, reset))
        return torch.lerp(torch.tanh(torch.baddbmm(biases[2], r * z, new)), z, u)

    def orbit(
        self, start: Tensor, steps: int, forcing: Forcing | None = None, drive: Tensor | None = None
    ) -> Float[Tensor, "T S B M"]:
        parts = *self.W.mT.unbind(1), *self.b.unsqueeze(2).unbind(1)
        states, z, drive = [], start, lasting(drive, steps, start)
        for t in range(steps):
            z = self._step(z if forcing is None else forcing.pulled(z, t), *parts)
            z = z if drive is None else z + drive[t]
            states.append(z)
        return torch.stack(states)

    def as_shallow(self) -> Shallow:
        raise BadInput("a GRU is not piecewise linear; use another cell to take it apart")

    def jacobian(self, z: Float[Tensor, "S B M"]) -> Float[Tensor, "S B M M"]:
        """dz'/dz, by autograd."""
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            after = self.step(z)
            rows = [torch.autograd.grad(after[..., i].sum(), z, retain_graph=True)[0] for i in range(self.latent)]
        return torch.stack(rows, -2)


CELLS: dict[CellName, Any] = {
    "shallow": ShallowCell,
    "clipped": ClippedCell,
    "plrnn": PLRNNCell,
    "dendritic": DendriticCell,
    "almost_linear": AlmostLinearCell,
    "gru": GRUCell,
}


def cell(name: CellName, members: int, latent: int, hidden: int) -> Cell:
    """The cell of that name; `hidden` is its L, branches or rectified units, where it has such."""
    return CELLS[name](members, latent, hidden)


def manifold_attraction(weights: Shallow, units: int) -> Float[Tensor, " S"]:
    """How far the last `units` are from remembering for ever: |A - I|^2 + |W1|^2 + |h1|^2 over their rows (Schmidt, Koppe, Monfared,
    Beutelspacher & Durstewitz 2021, arXiv 1910.03471)."""
    rows = slice(weights.A.shape[1] - units, None)
    idle = weights.A[:, rows] - torch.eye(weights.A.shape[1]).to(weights.A)[rows]
    return sum(part.square().flatten(1).sum(1) for part in (idle, weights.W1[:, rows], weights.h1[:, rows]))  # type: ignore[return-value]
