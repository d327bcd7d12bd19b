"""How what was measured differs from what was there: y given x, entry by entry, and x given y.

By Bayes' rule p(x|y) is proportional to p(y|x) p(x), entry by entry where p(x) is factorised. Bits and bytes can be enumerated.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from reverie.core.errors import BadInput
from reverie.core.lattice import draw_levels

AT_ONCE = 2**19  # cells of a table of entries and values


@runtime_checkable
class Entries(Protocol):
    """What must be known of a factorised p(x): a `Factorised` distribution (core/distributions.py)."""

    event_dims: int
    discrete: bool | Tensor

    def terms(self, x: Tensor) -> Tensor: ...
    def sample(self, n: int | None = None) -> Tensor: ...
    def table(self, rows: slice) -> tuple[Tensor, Tensor]: ...
    def denoise(self, y: Tensor, noise: float) -> Tensor: ...
    def blurred(self, noise: float) -> Any: ...


class Corruption(ABC):
    """Every entry of x was spoiled on its own. Another kind needs `spoil` and `log_prob`; the rest follows for bits and bytes."""

    @abstractmethod
    def spoil(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """A draw y from p(y|x), model units."""

    @abstractmethod
    def log_prob(self, y: Float[Tensor, "*y"], x: Float[Tensor, "*x"]) -> Float[Tensor, "*shape"]:
        """log p(y|x) in nats, of each entry; y and x are broadcast to each other."""

    def denoise(self, p: Entries, y: Float[Tensor, "*batch_event"]) -> Float[Tensor, "*batch_event"]:
        """Draws x from p(x|y), exactly. Raises BadInput where that is neither a formula nor a sum over values."""
        return enumerated(p, y, self)

    def evidence(self, p: Entries, y: Float[Tensor, "*batch_event"]) -> Float[Tensor, "*batch_event"]:
        """log p(y) in nats, of each entry: p(y|x) p(x) summed over x. Raises BadInput as `denoise` does."""
        out = torch.empty_like(y, memory_format=torch.contiguous_format)
        for part, joint, _ in _joint(p, y, self, out):
            part.copy_(torch.logsumexp(joint, -1))
        return out


@dataclass(frozen=True)
class GaussianNoise(Corruption):
    """y = x + sigma e with e standard normal; sigma in model units.

    >>> GaussianNoise(0.5).log_prob(torch.zeros(1), torch.zeros(1))
    tensor([-0.2258])
    """

    sigma: float

    def __post_init__(self) -> None:
        if not 0 < self.sigma < math.inf:
            raise BadInput(f"the deviation of Gaussian noise must be a positive number, not {self.sigma}")

    def spoil(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return x + self.sigma * torch.randn_like(x)

    def log_prob(self, y: Float[Tensor, "*y"], x: Float[Tensor, "*x"]) -> Float[Tensor, "*shape"]:
        return -0.5 * ((y - x) / self.sigma).square() - math.log(self.sigma * math.sqrt(2 * math.pi))

    def denoise(self, p: Entries, y: Float[Tensor, "*batch_event"]) -> Float[Tensor, "*batch_event"]:
        return p.denoise(y, self.sigma)

    def evidence(self, p: Entries, y: Float[Tensor, "*batch_event"]) -> Float[Tensor, "*batch_event"]:
        blurred = p.blurred(self.sigma)
        return super().evidence(p, y) if blurred is None else blurred.terms(y)


@dataclass(frozen=True)
class PoissonNoise(Corruption):
    """Photon noise: k ~ Poisson(peak i) photons where the intensity is i = (x - low) / (high - low), 0 if x is below low;
    then y = low + (high - low) k / peak. With the defaults, a white pixel of bytes (x = 1) sends `peak` photons on average.

    y may be brighter than `high`; one that is not a whole number of photons counts as the nearest.

    >>> PoissonNoise(peak=2.0).log_prob(torch.tensor([0.0]), torch.tensor([0.0]))  # one photon where one is expected
    tensor([-1.])
    """

    peak: float
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.peak < math.inf:
            raise BadInput(f"the peak of Poisson noise must be a positive number of photons, not {self.peak}")
        _check_range(self.low, self.high)

    def spoil(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return self.low + (self.high - self.low) / self.peak * torch.poisson(self._rate(x))

    def log_prob(self, y: Float[Tensor, "*y"], x: Float[Tensor, "*x"]) -> Float[Tensor, "*shape"]:
        rate, photons = self._rate(x), torch.round(self._scaled(y)).clamp(min=0)
        # Where no photon comes, log 0 must not meet 0 photons.
        arrived = torch.where(photons > 0, photons * rate.log(), photons.new_zeros(()))
        return arrived - rate - torch.lgamma(photons + 1)

    def _rate(self, x: Tensor) -> Tensor:
        return self._scaled(x).clamp(min=0)

    def _scaled(self, x: Tensor) -> Tensor:
        return (x - self.low) * (self.peak / (self.high - self.low))


@dataclass(frozen=True)
class SaltAndPepper(Corruption):
    """With probability `share`, an entry is replaced by `low` or by `high`, which are equally likely.

    `log_prob` is of the values that y can take: low, high and x. The extremes are -1 and 1 for bytes, 0 and 1 for bits.

    >>> SaltAndPepper(0.5).log_prob(torch.tensor([-1.0, 0.2, 1.0]), torch.tensor(0.2)).exp()
    tensor([0.2500, 0.5000, 0.2500])
    """

    share: float
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise BadInput(f"the share of salt and pepper must lie between 0 and 1, not at {self.share}")
        _check_range(self.low, self.high)

    def spoil(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        u = torch.rand_like(x)
        replaced = torch.where(u < self.share / 2, self.low, self.high).to(x)
        return torch.where(u < self.share, replaced, x)

    def log_prob(self, y: Float[Tensor, "*y"], x: Float[Tensor, "*x"]) -> Float[Tensor, "*shape"]:
        kept, replaced = (y == x).to(x.dtype), self._extreme(y).to(x.dtype)
        return torch.log((1 - self.share) * kept + self.share / 2 * replaced)

    def denoise(self, p: Entries, y: Float[Tensor, "*batch_event"]) -> Float[Tensor, "*batch_event"]:
        # Either y was x all along, or nothing was learned: no need to enumerate.
        trust = torch.sigmoid(self._kept(p, y) - math.log(self.share / 2))
        draw = p.sample()
        # One p for many examples: as many draws of it as there are of them.
        draw = draw if draw.shape == y.shape else p.sample(y.numel() // draw.numel()).view_as(y)
        return torch.where(self._extreme(y) & (torch.rand_like(y) >= trust), draw, y)

    def evidence(self, p: Entries, y: Float[Tensor, "*batch_event"]) -> Float[Tensor, "*batch_event"]:
        replaced = y.new_tensor(math.log(self.share / 2))
        untouched = math.log1p(-self.share) + p.terms(y)
        return torch.where(self._extreme(y), torch.logaddexp(self._kept(p, y), replaced), untouched)

    def _kept(self, p: Entries, y: Tensor) -> Tensor:
        """log probability of being y and staying it: of a density none is left for a single value."""
        discrete = torch.as_tensor(p.discrete, device=y.device)
        return math.log1p(-self.share) + torch.where(discrete, p.terms(y), y.new_tensor(-math.inf))

    def _extreme(self, y: Tensor) -> Tensor:
        return (y == self.low) | (y == self.high)


def as_corruption(noise: float | Corruption) -> Corruption | None:
    """A number is the deviation of Gaussian noise, 0 is none.

    >>> as_corruption(0.1), as_corruption(0.0)
    (GaussianNoise(sigma=0.1), None)
    """
    if isinstance(noise, Corruption):
        return noise
    return GaussianNoise(noise) if noise else None


def enumerated(p: Entries, y: Float[Tensor, "*batch_event"], corruption: Corruption) -> Float[Tensor, "*batch_event"]:
    """Draws x from p(x|y) by trying every value an entry can take; p has one row, or as many as y has examples.

    Raises BadInput where there are infinitely many values, or where y can come from none of them.
    """
    out = torch.empty_like(y, memory_format=torch.contiguous_format)
    for part, joint, values in _joint(p, y, corruption, out):
        if not joint.amax(-1).isfinite().all():
            raise BadInput(f"an entry that was seen is impossible under {corruption}; say what was observed, or how")
        part.copy_(values[draw_levels(joint).squeeze(-1)])
    return out


def _joint(p: Entries, y: Tensor, corruption: Corruption, out: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Some of the examples at a time: where in `out` they belong, log p(y|x) + log p(x) (rows, *event, levels), and the values.

    What is kept of them is written into one tensor, because small results between large tables would leave no room to use again.
    """
    flat, into = (t.view(-1, *y.shape[y.dim() - p.event_dims :]) for t in (y.contiguous(), out))
    rows = max(1, AT_ONCE // (256 * math.prod(flat.shape[1:])))
    for i in range(0, len(flat), rows):
        table, values = p.table(slice(i, i + rows))
        yield into[i : i + rows], table + corruption.log_prob(flat[i : i + rows].unsqueeze(-1), values), values


def _check_range(low: float, high: float) -> None:
    if not low < high:
        raise BadInput(f"the darkest value {low} must lie below the brightest {high}")
