"""From states to what is seen of them, p(x_t | z_t), and back: how what was seen pulls the states.

Members lie along the third axis from the end, (…, S, B, …), of states and of what is seen.
"""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from reverie.core.distributions import Factorised
from reverie.core.errors import BadInput
from reverie.core.space import Kind
from reverie.nets.modalities import Modality, RealModality, average, modality
from reverie.nets.recurrence import Forcing

ObservationName = Literal["auto", "identity", "gaussian", "poisson", "negative_binomial", "bold"]
FITTING: dict[str, tuple[ObservationName, ...]] = {
    "real": ("identity", "gaussian"),
    "count": ("poisson", "negative_binomial"),
}


class Observation(nn.Module, ABC):
    """p(x_t | z_t) of N channels, from the first R units of the state, which say where they are; the other units are never seen."""

    def __init__(self, members: int, latent: int, modality: Modality):
        super().__init__()
        self.members, self.channels, self.modality = members, modality.channels, modality
        self.reach = min(latent, modality.numbers)
        # What is not seen of the first state is guessed from what is.
        self.guess = nn.Parameter(torch.zeros(members, self.reach, latent - self.reach))

    @abstractmethod
    def location(self, z: Float[Tensor, "*T S B M"]) -> Float[Tensor, "*T S B _"]:
        """The numbers through which the channels are seen."""

    def forward(self, z: Float[Tensor, "*T S B M"]) -> Factorised:
        """p(x | z), events of N channels."""
        return self.modality.law(self.location(z))

    def linked(self, x: Tensor) -> Tensor:
        """x on the scale of locations, which are linear in the states."""
        return self.modality.linked(x)

    @abstractmethod
    def target(self, x: Tensor) -> Tensor:
        """x (…, N) on the scale on which it pulls the states."""

    def forcing(self, x: Tensor, weight: Tensor) -> Forcing:
        """What pulls the states: x (T, S or 1, B, N), 0 where not observed, with weight (T, …) 0 there."""
        return Forcing(self.target(x), weight)

    def first(self, like: Tensor) -> Factorised:
        """p(x_0) of examples like (…, N), before anything was seen."""
        return self.modality.first(like)

    def prepare(
        self, x: Float[Tensor, "W T N"], observed: Bool[Tensor, "W T N"] | None, nuisance: Tensor | None = None
    ) -> None:
        """Sets what should begin near the data, from windows of them and the nuisance regressors (W, T, J) of each."""

    def settle(self, error: Float[Tensor, "S N"]) -> None:
        """Sets the noise to what is left over, the mean square `error` of predictions; for those that have one."""
        self.modality.settle(error)

    @property
    def blurs(self) -> bool:
        """Does what is seen at a step depend on states before it? Then what was seen is not smoothed besides."""
        return False

    def felt(self, states: Float[Tensor, "T S B M"], before: Tensor | None = None) -> Float[Tensor, "T S B _"]:
        """What of the states of a path is seen at each step, after those `before` it: the states themselves."""
        return states

    def sources(
        self, x: Tensor, observed: Tensor | None, nuisance: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """What pulls the states while learning, of all that was seen: itself; where it is known; and states before it."""
        return x, observed, None

    def disturbed(self, law: Factorised, nuisance: Float[Tensor, "*T S B J"] | None) -> Factorised:
        """The law of x where nuisance regressors act."""
        return law

    def start(self, x: Tensor, observed: Tensor | None) -> Float[Tensor, "S B M"]:
        """The first state, from what was seen first: x (S or 1, B, N)."""
        weight = x.new_ones(1, *x.shape) if observed is None else observed.to(x.dtype).unsqueeze(0)
        nowhere = x.new_zeros(len(self.guess), x.shape[1], self.reach)
        seen = self.forcing(x.unsqueeze(0), weight).pulled(nowhere, 0)
        return torch.cat([seen, seen @ self.guess], -1)


class IdentityObservation(Observation):
    """x = z_1 … z_N + noise of one deviation a channel: the state is seen as it is, as in generalised teacher forcing."""

    def __init__(self, members: int, latent: int, channels: int):
        if latent < channels:
            raise BadInput(
                f"{latent} latent units cannot be {channels} channels; use a gaussian observation, or more units"
            )
        super().__init__(members, latent, RealModality(members, channels))

    def location(self, z: Tensor) -> Tensor:
        return z[..., : self.channels]

    def target(self, x: Tensor) -> Tensor:
        return x


class AffineObservation(Observation):
    """Something whose location is z_1 … z_R B + b; the states are pulled through the pseudo-inverse of B."""

    def __init__(self, members: int, latent: int, modality: Modality):
        super().__init__(members, latent, modality)
        self.readout = nn.Parameter(torch.eye(self.reach, modality.numbers).repeat(members, 1, 1))
        self.bias = nn.Parameter(torch.zeros(members, 1, modality.numbers))

    def location(self, z: Tensor) -> Tensor:
        return z[..., : self.reach] @ self.readout + self.bias

    def target(self, x: Tensor) -> Tensor:
        return self.linked(x) - self.bias.detach()

    def forcing(self, x: Tensor, weight: Tensor) -> Forcing:
        readout = self.readout.detach()
        return Forcing(self.target(x), weight, readout, torch.linalg.pinv(readout))

    @torch.no_grad()
    def prepare(self, x: Tensor, observed: Tensor | None, nuisance: Tensor | None = None) -> None:
        """The principal axes of the data, on the scale of locations: a state then has about unit variance in each."""
        known = torch.ones_like(x, dtype=torch.bool) if observed is None else observed
        bias = self.modality.prepare(x, known)
        located, known = self.linked(x), self.modality.spread(known)
        centred = torch.where(known, located - average(located, known), 0.0).flatten(0, 1)
        _, size, axes = torch.linalg.svd(centred, full_matrices=False)
        scale = (size / len(centred) ** 0.5).clamp(min=1e-3)
        self.readout.copy_((scale[:, None] * axes)[: self.reach].expand_as(self.readout))
        self.bias.copy_(bias.expand_as(self.bias))


def observation(name: ObservationName, kind: Kind, members: int, latent: int, channels: int) -> Observation:
    """The observation model of that name; by default the identity where there are enough units, an affine Gaussian where
    there are not, and Poisson for counts. BadInput where it does not fit such entries.

    >>> observation("auto", "real", 2, 3, 3)(torch.zeros(2, 5, 3)).mean.shape
    torch.Size([2, 5, 3])
    """
    fitting = FITTING[kind]
    if name == "auto":
        name = fitting[0] if kind == "count" or latent >= channels else "gaussian"
    if name not in fitting:
        raise BadInput(f"observation {name} does not fit {kind} entries; use auto, {' or '.join(fitting)}")
    if name == "identity":
        return IdentityObservation(members, latent, channels)
    return AffineObservation(members, latent, modality(kind, members, channels, spread=name == "negative_binomial"))
