"""The floor under every score: pictures with no structure at all."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reverie.core.config import knob
from reverie.core.corruption import Corruption, as_corruption
from reverie.core.distributions import Factorised, Gaussian, Lattice
from reverie.core.model import Estimate, Model
from reverie.core.recipe import TrainingConfig
from reverie.core.space import Space


class Factored(Model):
    """A model without a latent: p(x) itself is factorised, so every ability is exact."""

    kinds = ("bit", "byte", "real")

    @abstractmethod
    def density(self) -> Factorised:
        """p(x), with a batch of one: (1, *shape)."""

    def learners(self) -> dict[str, Any]:
        return {}

    @torch.no_grad()
    def sample(self, n: int, given: Tensor | None = None) -> Float[Tensor, "n *shape"]:
        return self.density().sample(n)[:, 0]

    @torch.no_grad()
    def surprise(
        self, x: Float[Tensor, "B *shape"], observed: Bool[Tensor, "B *shape"] | None = None, draws: int = 100
    ) -> Estimate:
        nats = -self.density().log_prob(x, observed)
        return Estimate(nats, torch.zeros_like(nats), "nats", "lower", "exact")

    @torch.no_grad()
    def repair(
        self,
        x: Float[Tensor, "B *shape"],
        observed: Bool[Tensor, "B *shape"] | None,
        n: int,
        noise: float | Corruption = 0.0,
    ) -> Float[Tensor, "n B *shape"]:
        density, corruption = self.density(), as_corruption(noise)
        known = x.expand(n, *x.shape)
        if observed is None:
            return known.clone() if corruption is None else corruption.denoise(density, known)
        drawn = density.sample(n * len(x)).view(n, *x.shape)
        if corruption is not None:  # what stands where nothing was seen may be impossible, and is not asked about
            known = corruption.denoise(density, torch.where(observed, known, drawn))
        return torch.where(observed, known, drawn)


@dataclass(frozen=True)
class NoiseConfig:
    """Noise has nothing to set."""


class Noise(Factored):
    """The article's truly random picture: every byte independent and uniform, exactly 8 bits/dim;
    every bit a fair coin; every real number standard normal.

    >>> noise = Noise(NoiseConfig(), Space((1, 2, 2), "byte"))
    >>> noise.surprise(noise.sample(3)).value / (4 * torch.log(torch.tensor(2.0)))
    tensor([8., 8., 8.])
    """

    Config = NoiseConfig
    zeros: Tensor
    values: Tensor

    def __init__(self, config: NoiseConfig, space: Space):
        super().__init__(config, space)
        self.register_buffer("zeros", torch.zeros(1, *space.shape), persistent=False)
        if space.lattice is not None:
            self.register_buffer("values", space.lattice, persistent=False)

    def density(self) -> Factorised:
        event_dims = len(self.space.shape)
        if self.space.lattice is None:
            return Gaussian(self.zeros, self.zeros, event_dims)
        return Lattice(self.zeros.unsqueeze(-1).expand(*self.zeros.shape, len(self.values)), self.values, event_dims)


PART = 8192  # training examples in memory at once


@dataclass(frozen=True)
class IndependentConfig:
    prior_count: float = knob(0.5, "imagined examples spread evenly over all values of an entry", low=1e-6)


class Independent(Factored):
    """Every entry on its own: the histogram of each byte or bit over the training set, each real number Gaussian.

    Bytes are smoothed by a Gaussian kernel over neighbouring values, whose width is the one under
    which training examples best predict each other (leave-one-out).
    """

    Config = IndependentConfig
    table: Tensor
    values: Tensor
    widths = (0.5, 1.0, 2.0, 4.0, 8.0, 12.0, 16.0, 24.0, 32.0)  # in bytes

    def __init__(self, config: IndependentConfig, space: Space):
        super().__init__(config, space)
        if space.lattice is None:
            self.register_buffer("table", torch.zeros(1, *space.shape, 2))  # mean, log standard deviation
        else:
            self.register_buffer("values", space.lattice, persistent=False)
            self.register_buffer("table", torch.zeros(1, *space.shape, len(space.lattice)))

    def density(self) -> Factorised:
        event_dims = len(self.space.shape)
        if self.space.lattice is None:
            return Gaussian(self.table[..., 0], self.table[..., 1], event_dims)
        return Lattice(self.table, self.values, event_dims)

    @torch.no_grad()
    def solve(self, data: Any, config: TrainingConfig) -> None:
        if self.space.lattice is None:
            x = data.train.x().to(self.table.device)
            observed = data.train.observed()
            seen = torch.ones_like(x) if observed is None else observed.to(x)
            mean = (seen * x).sum(0) / seen.sum(0)
            spread = ((seen * (x - mean).square()).sum(0) / seen.sum(0)).sqrt().clamp(min=1e-6)
            self.table.copy_(torch.stack([mean, spread.log()], -1))
            return
        levels = len(self.values)
        counts = torch.zeros(self.space.dims, levels, device=self.table.device)
        for x in data.train.parts(PART):
            level = Lattice(self.table, self.values).levels(x.to(self.table.device)).flatten(1).T
            counts.scatter_add_(1, level, torch.ones_like(level, dtype=counts.dtype))
        smooth = max(self._kernels(levels), key=lambda kernel: self._leave_one_out(counts, kernel))
        self.table.copy_(torch.log(self._smoothed(counts, smooth)).view_as(self.table))

    def _kernels(self, levels: int) -> list[Tensor]:
        if levels == 2:  # the two values of a bit have no neighbours to learn from
            return [torch.eye(2, device=self.table.device)]
        steps = torch.arange(levels, device=self.table.device)
        kernels = [torch.exp(-0.5 * ((steps[:, None] - steps) / width).square()) for width in self.widths]
        return [kernel / kernel.sum(1, keepdim=True) for kernel in kernels]

    def _smoothed(self, counts: Tensor, kernel: Tensor) -> Tensor:
        """(D, levels) probabilities."""
        mass = counts @ kernel + self.config.prior_count / counts.shape[1]
        return mass / mass.sum(1, keepdim=True)

    def _leave_one_out(self, counts: Tensor, kernel: Tensor) -> float:
        """Summed log-probability of every training entry under the others."""
        prior = self.config.prior_count
        without = counts @ kernel - kernel.diagonal() + prior / counts.shape[1]
        others = counts.sum(1, keepdim=True) - 1 + prior
        return float((counts * torch.log((without / others).clamp(min=1e-12))).sum())
