"""From states to what is seen of them, p(x_t | z_t), and back: how what was seen pulls the states.

Members lie along the third axis from the end, (…, S, B, …), of states and of what is seen.
"""

import math
from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from reverie.core.counts import NegativeBinomial, Poisson
from reverie.core.distributions import Factorised, Gaussian
from reverie.core.errors import BadInput
from reverie.core.space import Kind
from reverie.nets.recurrence import Forcing

ObservationName = Literal["auto", "identity", "gaussian", "poisson", "negative_binomial", "bold"]
FITTING: dict[str, tuple[ObservationName, ...]] = {
    "real": ("identity", "gaussian"),
    "count": ("poisson", "negative_binomial"),
}


class Observation(nn.Module, ABC):
    """p(x_t | z_t) of N channels, from the first R units of the state; the other units are never seen."""

    def __init__(self, members: int, latent: int, channels: int):
        super().__init__()
        self.members, self.channels = members, channels
        self.reach = min(latent, channels)
        # What is not seen of the first state is guessed from what is.
        self.guess = nn.Parameter(torch.zeros(members, self.reach, latent - self.reach))

    @abstractmethod
    def forward(self, z: Float[Tensor, "*T S B M"]) -> Factorised:
        """p(x | z), events of N channels."""

    def linked(self, x: Tensor) -> Tensor:
        """x on the scale of locations, which are linear in the states."""
        return x

    @abstractmethod
    def target(self, x: Tensor) -> Tensor:
        """x (…, N) on the scale on which it pulls the states."""

    def smooth(self, x: Float[Tensor, "W T N"]) -> Float[Tensor, "W T _"]:
        """The channels that have a mean over steps."""
        return x

    def smoothed(self, x: Tensor, weights: Float[Tensor, "T T"]) -> Tensor:
        """x (T, …), each step a weighted mean of steps around it."""
        return torch.einsum("ts,s...->t...", weights, x)

    def forcing(self, x: Tensor, weight: Tensor) -> Forcing:
        """What pulls the states: x (T, S or 1, B, N), 0 where not observed, with weight (T, …) 0 there."""
        return Forcing(self.target(x), weight)

    @abstractmethod
    def first(self, like: Tensor) -> Factorised:
        """p(x_0) of examples like (…, N), before anything was seen."""

    def prepare(
        self, x: Float[Tensor, "W T N"], observed: Bool[Tensor, "W T N"] | None, nuisance: Tensor | None = None
    ) -> None:
        """Sets what should begin near the data, from windows of them and the nuisance regressors (W, T, J) of each."""

    def settle(self, error: Float[Tensor, "S N"]) -> None:
        """Sets the noise to what is left over, the mean square `error` of predictions; for those that have one."""

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


class Noisy(Observation):
    """Something real with Gaussian noise of one deviation a channel."""

    def __init__(self, members: int, latent: int, channels: int):
        super().__init__(members, latent, channels)
        self.log_scale = nn.Parameter(torch.zeros(members, 1, channels))

    def first(self, like: Tensor) -> Gaussian:
        return Gaussian(torch.zeros_like(like), torch.zeros_like(like))  # what is real was standardised

    @torch.no_grad()
    def settle(self, error: Tensor) -> None:
        self.log_scale.copy_(0.5 * error.clamp(min=1e-12).log().unsqueeze(1))


class IdentityObservation(Noisy):
    """x = z_1 … z_N + noise of one deviation a channel: the state is seen as it is, as in generalised teacher forcing."""

    def __init__(self, members: int, latent: int, channels: int):
        if latent < channels:
            raise BadInput(
                f"{latent} latent units cannot be {channels} channels; use a gaussian observation, or more units"
            )
        super().__init__(members, latent, channels)

    def forward(self, z: Tensor) -> Gaussian:
        return Gaussian(z[..., : self.channels], self.log_scale)

    def target(self, x: Tensor) -> Tensor:
        return x


class AffineObservation(Observation):
    """Something whose location is z_1 … z_R B + b; the states are pulled through the pseudo-inverse of B."""

    def __init__(self, members: int, latent: int, channels: int):
        super().__init__(members, latent, channels)
        self.readout = nn.Parameter(torch.eye(self.reach, channels).repeat(members, 1, 1))
        self.bias = nn.Parameter(torch.zeros(members, 1, channels))

    def location(self, z: Tensor) -> Tensor:
        """(…, S, B, N)."""
        return z[..., : self.reach] @ self.readout + self.bias

    def target(self, x: Tensor) -> Tensor:
        return self.linked(x) - self.bias.detach()

    def forcing(self, x: Tensor, weight: Tensor) -> Forcing:
        readout = self.readout.detach()
        return Forcing(self.target(x), weight, readout, torch.linalg.pinv(readout))

    @torch.no_grad()
    def prepare(self, x: Tensor, observed: Tensor | None, nuisance: Tensor | None = None) -> None:
        """The principal axes of the data: a state then has about unit variance in each."""
        self.begin(self.linked(x), torch.ones_like(x, dtype=torch.bool) if observed is None else observed)

    def begin(self, x: Tensor, known: Tensor) -> None:
        """The principal axes of x (W, T, N) on the scale of locations."""
        x, known = x.flatten(0, 1), known.flatten(0, 1)
        mean = (x * known).sum(0) / known.sum(0).clamp(min=1)
        centred = torch.where(known, x - mean, 0.0)
        _, size, axes = torch.linalg.svd(centred, full_matrices=False)
        scale = (size / len(x) ** 0.5).clamp(min=1e-3)
        self.readout.copy_((scale[:, None] * axes)[: self.reach].expand_as(self.readout))
        self.bias.copy_(mean.expand_as(self.bias))


class GaussianObservation(Noisy, AffineObservation):
    """x = z B + b + noise of one deviation a channel."""

    def forward(self, z: Tensor) -> Gaussian:
        return Gaussian(self.location(z), self.log_scale)


class CountObservation(AffineObservation):
    """Counts whose log mean is z B + b; a count k pulls the states as if log(k + 1/2) had been seen."""

    first_log_mean: Tensor
    first_log_r: Tensor

    def __init__(self, members: int, latent: int, channels: int):
        super().__init__(members, latent, channels)
        self.register_buffer("first_log_mean", torch.zeros(channels))
        self.register_buffer("first_log_r", torch.zeros(channels))

    def location(self, z: Tensor) -> Tensor:
        return super().location(z).clamp(-30, 30)  # where float32 would overflow

    def linked(self, x: Tensor) -> Tensor:
        return torch.log(x + 0.5)

    def smoothed(self, x: Tensor, weights: Tensor) -> Tensor:
        """A mean of n counts pulls as if the log of it + 1/2n had been seen: with a half for all of them, as single counts have, low rates
        would seem higher than they are, and what is learned would be bent."""
        share = weights.square().sum(1).view(-1, *[1] * (x.dim() - 1))  # 1 / n
        return super().smoothed(x, weights).clamp(min=0) + 0.5 * (share - 1)

    def first(self, like: Tensor) -> Factorised:
        return NegativeBinomial(self.first_log_mean.expand_as(like), self.first_log_r.expand_as(like))

    @torch.no_grad()
    def prepare(self, x: Tensor, observed: Tensor | None, nuisance: Tensor | None = None) -> None:
        super().prepare(x, observed)
        log_mean, log_r = moments(x, torch.ones_like(x) if observed is None else observed)
        self.first_log_mean.copy_(log_mean)
        self.first_log_r.copy_(log_r)


def moments(x: Float[Tensor, "W T N"], known: Tensor) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """Log mean and log r of counts, by their moments: variance = mean + mean^2 / r."""
    weight = known.to(x.dtype)
    mean = ((x * weight).sum((0, 1)) / weight.sum((0, 1)).clamp(min=1)).clamp(min=1e-3)
    spread = ((x - mean).square() * weight).sum((0, 1)) / weight.sum((0, 1)).clamp(min=1)
    return mean.log(), (mean.square() / (spread - mean).clamp(min=1e-6)).log().clamp(-7, 12)


class PoissonObservation(CountObservation):
    """Poisson counts."""

    def forward(self, z: Tensor) -> Poisson:
        return Poisson(self.location(z))


class NegativeBinomialObservation(CountObservation):
    """Counts that vary more than Poisson ones, by a learned r a channel."""

    def __init__(self, members: int, latent: int, channels: int):
        super().__init__(members, latent, channels)
        self.log_r = nn.Parameter(torch.full((members, 1, channels), math.log(10)))

    def forward(self, z: Tensor) -> NegativeBinomial:
        return NegativeBinomial(self.location(z), self.log_r.clamp(-7, 12))


OBSERVATIONS: dict[str, Any] = {
    "identity": IdentityObservation,
    "gaussian": GaussianObservation,
    "poisson": PoissonObservation,
    "negative_binomial": NegativeBinomialObservation,
}


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
    return OBSERVATIONS[name](members, latent, channels)
