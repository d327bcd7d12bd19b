"""Distributions over the counts 0, 1, 2 …

Written as an entropy-like part and a deviance (Loader 2000, "Fast and accurate computation of binomial
probabilities"), because differences of log-gammas lose every digit of float32 at counts of a million.
"""

import math
from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from reverie.core.distributions import Factorised, Noisy
from reverie.core.errors import BadInput

MOST_LEVELS = 4096  # counts that a denoising enumerates for an entry, at most
NORMAL_FROM = 2.0**24  # a rate from which a Poisson is drawn as a rounded normal, its skewness below 3e-4


class Counts(Factorised):
    """Independent counts with one peak; whatever is not a whole number from 0 on has no probability, log 0 = -inf."""

    @property
    @abstractmethod
    def mode(self) -> Tensor:
        """(*batch, *event) the peak."""

    @property
    @abstractmethod
    def reach(self) -> Tensor:
        """(*batch, *event) how far from the peak all draws lie, but for some e^-30 of them."""

    @abstractmethod
    def log_mass(self, k: Tensor) -> Tensor:
        """Nats of each count k >= 1."""

    @abstractmethod
    def log_mass_zero(self) -> Tensor:
        """Nats of no count at all."""

    def terms(self, x: Tensor) -> Tensor:
        possible = (x >= 0) & (x.frac() == 0)
        nats = torch.where(x > 0, self.log_mass(torch.where(possible, x, 1.0).clamp(min=1)), self.log_mass_zero())
        return torch.where(possible, nats, -math.inf)

    def denoise(self, y: Tensor, noise: float) -> Tensor:
        """Exact, by enumeration: BadInput where the counts that could be meant are more than a few thousand."""
        low, joint = self._joint(y, noise)
        weights = torch.softmax(joint, 0).movedim(0, -1)
        return low + torch.multinomial(weights.flatten(0, -2), 1).view(low.shape)

    def blurred(self, noise: float) -> Factorised:
        return Noisy(self, noise, lambda y: self._joint(y, noise)[1])

    def _joint(self, y: Tensor, noise: float) -> tuple[Tensor, Tensor]:
        """The least count (*shape) that could be meant, and the nats (K, *shape) of it and of those after it, and of y."""
        # Prior and likelihood both fall off on either side of their two peaks, so nothing else is likely.
        reach = self.reach.clamp(max=8 * noise)
        low = (torch.minimum(y, self.mode) - reach).floor().clamp(min=0)
        levels = int((torch.maximum(y, self.mode) + reach - low).max()) + 2
        if levels > MOST_LEVELS:
            raise BadInput(
                f"noisy counts that may be any of {levels} values cannot be denoised, {MOST_LEVELS} can; use noise 0"
            )
        k = low + torch.arange(levels, device=y.device, dtype=y.dtype).view(-1, *[1] * low.dim())
        return low, self.terms(k) - 0.5 * ((y - k) / noise).square() - math.log(noise * math.sqrt(2 * math.pi))


class Poisson(Counts):
    """Counts with mean and variance exp(`log_rate`), (*batch, *event).

    >>> Poisson(torch.zeros(1, 3)).log_prob(torch.tensor([[0.0, 1.0, 2.0]]))
    tensor([-3.6931])
    """

    def __init__(self, log_rate: Tensor, event_dims: int = 1):
        self.log_rate, self.event_dims = log_rate, event_dims

    @property
    def mean(self) -> Tensor:
        return self.log_rate.exp()

    @property
    def mode(self) -> Tensor:
        return self.mean.floor()

    @property
    def reach(self) -> Tensor:
        return 8 * self.mean.sqrt() + 40

    def sample(self, n: int | None = None) -> Tensor:
        rate = self.mean.detach()
        return _poisson(rate if n is None else rate.expand(n, *rate.shape))

    def log_mass(self, k: Tensor) -> Tensor:
        log_k = k.log()
        less = self.log_rate - log_k
        return -k * (torch.expm1(less) - less) - _excess(log_k)

    def log_mass_zero(self) -> Tensor:
        return -self.log_rate.exp()


class NegativeBinomial(Counts):
    """Counts with mean m = exp(`log_mean`) (*batch, *event) and variance m + m^2 / r, r = exp(`log_r`) broadcastable to it.

    A Poisson whose rate is Gamma distributed with shape r; for large r, a Poisson.

    >>> NegativeBinomial(torch.zeros(1, 1), torch.zeros(1)).log_prob(torch.tensor([[3.0]])).exp()  # 1 / 2^4
    tensor([0.0625])
    """

    def __init__(self, log_mean: Tensor, log_r: Tensor, event_dims: int = 1):
        self.log_mean, self.log_r, self.event_dims = log_mean, log_r, event_dims

    @property
    def mean(self) -> Tensor:
        return self.log_mean.exp()

    @property
    def mode(self) -> Tensor:
        return (self.mean - torch.exp(self.log_mean - self.log_r)).clamp(min=0).floor()

    @property
    def reach(self) -> Tensor:
        length = 1 + torch.exp(self.log_mean - self.log_r)  # over which the tail falls by a factor of e
        return 8 * (self.mean * length).sqrt() + 40 * length

    def sample(self, n: int | None = None) -> Tensor:
        shape = self.log_mean.shape if n is None else (n, *self.log_mean.shape)
        r = self.log_r.detach().exp().expand(shape)
        gamma = torch.distributions.Gamma(r, torch.ones_like(r), validate_args=False).sample()
        return _poisson(gamma * torch.exp(self.log_mean - self.log_r).detach())

    def log_mass(self, k: Tensor) -> Tensor:
        log_k, log_r = k.log(), self.log_r
        more = log_k - self.log_mean
        log_n = torch.logaddexp(log_k, log_r)
        # n KL(k / n || m / (r + m)) with n = k + r
        deviance = log_r.exp() * _log_mean_exp(log_k, log_r, log_n, -more)
        deviance = deviance + k * _log_mean_exp(log_r, log_k, log_n, more)
        return _excess(log_n) - _excess(log_r) - _excess(log_k) + log_r - log_n - deviance

    def log_mass_zero(self) -> Tensor:
        return -self.log_r.exp() * F.softplus(self.log_mean - self.log_r, threshold=40)


def _poisson(rate: Tensor) -> Tensor:
    """Poisson draws; torch's own count in integers, which overflow at large rates."""
    large = torch.round(rate + rate.sqrt() * torch.randn_like(rate))
    return torch.where(rate < NORMAL_FROM, torch.poisson(rate.clamp(max=NORMAL_FROM)), large)


def _excess(log_a: Tensor) -> Tensor:
    """log Gamma(a + 1) - a log a + a: half of log 2 pi a, nearly, by Stirling's series where a > 10."""
    small, log_large = log_a.clamp(max=math.log(10)), log_a.clamp(min=math.log(10))
    a, inverse = small.exp(), torch.exp(-log_large)
    series = inverse * (1 / 12 - inverse.square() * (1 / 360 - inverse.square() / 1260))
    stirling = 0.5 * (log_large + math.log(2 * math.pi)) + series
    return torch.where(log_a < math.log(10), torch.lgamma(a + 1) - a * (small - 1), stirling)


def _log_mean_exp(log_a: Tensor, log_b: Tensor, log_sum: Tensor, d: Tensor) -> Tensor:
    """log((a e^d + b) / (a + b)), to full relative precision near d = 0 and finite far from it; `log_sum` = log(a + b)."""
    change = torch.exp(log_a - log_sum) * torch.expm1(d.clamp(max=80))
    far = torch.logaddexp(log_a + d, log_b) - log_sum
    return torch.where((d < 80) & (change > -0.5), torch.log1p(change.clamp(min=-0.5)), far)
