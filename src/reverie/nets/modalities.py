"""What kinds of channels there are, each seen through some numbers, its location: a real number or a count through one, a
category of L levels through L - 1. observations.py says where the location comes from, mixed.py puts several kinds side by side.
"""

import functools
import math
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from reverie.core.counts import NegativeBinomial, Poisson
from reverie.core.distributions import Factorised, Gaussian
from reverie.core.table import Category, Ordered


class Modality(nn.Module, ABC):
    """n channels of one kind, each seen through `width` numbers of the location, (…, S, B, n * width), channel by channel."""

    def __init__(self, channels: int, width: int = 1):
        super().__init__()
        self.channels, self.width, self.numbers = channels, width, channels * width

    @abstractmethod
    def law(self, location: Tensor) -> Factorised:
        """p(x | location), events of n channels."""

    @abstractmethod
    def linked(self, x: Tensor) -> Tensor:
        """x (…, n) on the scale of locations (…, n * width), before anything was learned; 0 is what is usual for categories."""

    def averaging(self, x: Float[Tensor, "... n"]) -> Float[Tensor, "... _"]:
        """The channels that have a mean over steps."""
        return x

    def smoothed(self, x: Tensor, weights: Float[Tensor, "T T"]) -> Tensor:
        """x (T, …, n), each step a weighted mean of steps around it."""
        return torch.einsum("ts,s...->t...", weights, x)

    @abstractmethod
    def target(self, x: Tensor, around: Float[Tensor, "S D w"]) -> Tensor:
        """The location (…, n * width) towards which x (…, n) pulls; `around` are the locations of D standard normal states."""

    @abstractmethod
    def trust(self, around: Float[Tensor, "S D w"]) -> Float[Tensor, "S n"]:
        """The share of what is not known of a location that one look takes away, were the states standard normal."""

    @abstractmethod
    def first(self, like: Tensor) -> Factorised:
        """p(x_0) of examples like (…, n), before anything was seen."""

    def spread(self, x: Shaped[Tensor, "... n"]) -> Shaped[Tensor, "... w"]:
        """What is said of channels, said of every number of their locations."""
        return x if self.width == 1 else x.repeat_interleave(self.width, -1)

    def prepare(self, x: Float[Tensor, "W T n"], known: Bool[Tensor, "W T n"]) -> Float[Tensor, " w"]:
        """Sets what should begin near the data; the location that does: the mean of `linked`, if nothing better is known."""
        return average(self.linked(x), self.spread(known))

    def settle(self, error: Float[Tensor, "S n"]) -> None:
        """Sets the noise to the mean square error of predictions, where there is one."""


class RealModality(Modality):
    """x = location + noise of one deviation a channel. A look at it tells the location as well as it can be told: it is
    trusted in full, as where all channels are real."""

    def __init__(self, members: int, channels: int):
        super().__init__(channels)
        self.log_scale = nn.Parameter(torch.zeros(members, 1, channels))

    def law(self, location: Tensor) -> Gaussian:
        return Gaussian(location, self.log_scale)

    def linked(self, x: Tensor) -> Tensor:
        return x

    def target(self, x: Tensor, around: Tensor) -> Tensor:
        return x

    def trust(self, around: Tensor) -> Tensor:
        return torch.ones_like(around[:, 0])

    def first(self, like: Tensor) -> Gaussian:
        return Gaussian(torch.zeros_like(like), torch.zeros_like(like))  # what is real was standardised

    @torch.no_grad()
    def settle(self, error: Tensor) -> None:
        self.log_scale.copy_(0.5 * error.clamp(min=1e-12).log().unsqueeze(1))


class CountModality(Modality):
    """Counts whose log mean is the location: Poisson, or negative binomial with a learned r a channel.

    A count k pulls as log(k + 1/2). One look at a count of mean m tells a log mean of variance v with the information
    m, or 1 / (1 / m + 1 / r): its share is v m / (1 + v m).
    """

    first_log_mean: Tensor
    first_log_r: Tensor

    def __init__(self, members: int, channels: int, spread: bool):
        super().__init__(channels)
        self.register_buffer("first_log_mean", torch.zeros(channels))
        self.register_buffer("first_log_r", torch.zeros(channels))
        self.log_r = nn.Parameter(torch.full((members, 1, channels), 10.0).log()) if spread else None

    def law(self, location: Tensor) -> Factorised:
        location = location.clamp(-30, 30)  # where float32 would overflow
        return Poisson(location) if self.log_r is None else NegativeBinomial(location, self.log_r.clamp(-7, 12))

    def linked(self, x: Tensor) -> Tensor:
        return torch.log(x + 0.5)

    def smoothed(self, x: Tensor, weights: Tensor) -> Tensor:
        """A mean of n counts pulls as if the log of it + 1/2n had been seen: with a half for all of them, as single counts have, low rates
        would seem higher than they are, and what is learned would be bent."""
        share = weights.square().sum(1).view(-1, *[1] * (x.dim() - 1))  # 1 / n
        return super().smoothed(x, weights).clamp(min=0) + 0.5 * (share - 1)

    def target(self, x: Tensor, around: Tensor) -> Tensor:
        return self.linked(x)

    def trust(self, around: Tensor) -> Tensor:
        log_information = around.clamp(-30, 30).mean(1)
        if self.log_r is not None:
            log_information = -torch.logaddexp(-log_information, -self.log_r.clamp(-7, 12).squeeze(1))
        told = around.var(1, correction=0) * log_information.exp()
        return told / (1 + told)

    def first(self, like: Tensor) -> NegativeBinomial:
        return NegativeBinomial(self.first_log_mean.expand_as(like), self.first_log_r.expand_as(like))

    @torch.no_grad()
    def prepare(self, x: Tensor, known: Tensor) -> Tensor:
        log_mean, log_r = moments(x, known)
        self.first_log_mean.copy_(log_mean)
        self.first_log_r.copy_(log_r)
        return super().prepare(x, known)


def average(x: Float[Tensor, "W T w"], known: Bool[Tensor, "W T w"]) -> Float[Tensor, " w"]:
    """The mean over steps of all windows, of what is known."""
    x, known = x.flatten(0, 1), known.flatten(0, 1)
    return (x * known).sum(0) / known.sum(0).clamp(min=1)


def moments(x: Float[Tensor, "W T N"], known: Tensor) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """Log mean and log r of counts, by their moments: variance = mean + mean^2 / r."""
    weight = known.to(x.dtype)
    mean = average(x, known).clamp(min=1e-3)
    spread = ((x - mean).square() * weight).sum((0, 1)) / weight.sum((0, 1)).clamp(min=1)
    return mean.log(), (mean.square() / (spread - mean).clamp(min=1e-6)).log().clamp(-7, 12)


class _Levels(Modality):
    """Channels of L levels. Its share c is how much of the location's variance E[location | x = k] explains (the correlation
    ratio): what says little of the level pulls little.

    A level pulls towards E[location] + (E[location | x = k] - E[location]) / c: on average over levels that is the location
    itself, where E[location | x = k] would be drawn to the middle, and a machine that is pulled there learns to overshoot. Where a readout is
    weak it is the working response of logistic regression.
    """

    first_log_p: Tensor  # (n, L) nats of each level

    def __init__(self, channels: int, levels: int, width: int):
        super().__init__(channels, width)
        self.levels = levels
        self.register_buffer("first_log_p", torch.full((channels, levels), 1 / levels).log())

    @abstractmethod
    def law(self, location: Tensor) -> Category: ...

    def target(self, x: Tensor, around: Tensor) -> Tensor:
        expected, trust = self._told(around)
        middle = around.mean(1).unflatten(-1, (self.channels, 1, self.width))
        wanted = middle + (expected - middle) / trust.clamp(min=1e-6)[..., None, None]
        hot = F.one_hot(x.long().clamp(0, self.levels - 1), self.levels).to(around)  # (…, S or 1, B, n, L)
        return (hot.transpose(-3, -2) @ wanted).transpose(-3, -2).flatten(-2)

    def trust(self, around: Tensor) -> Tensor:
        return self._told(around)[1]

    def _told(self, around: Tensor) -> tuple[Float[Tensor, "S n L w"], Float[Tensor, "S n"]]:
        """E[location | x = k], by Bayes' rule over the locations `around`, and the share of their variance that this explains."""
        log_p = self.law(around).log_p  # (S, D, n, L)
        place = around.unflatten(-1, (self.channels, self.width))
        weights = torch.softmax(log_p, 1)  # over states, so that even a level of no probability has a place
        expected = torch.einsum("sdnl,sdnw->snlw", weights, place)
        apart = (expected - place.mean(1).unsqueeze(2)).square().sum(-1)
        explained = (log_p.exp().mean(1) * apart).sum(-1)
        return expected, explained / place.var(1, correction=0).sum(-1).clamp(min=1e-12)

    def first(self, like: Tensor) -> Category:
        return Category(self.first_log_p.expand(*like.shape, -1))

    @torch.no_grad()
    def prepare(self, x: Tensor, known: Tensor) -> Tensor:
        hot = F.one_hot(x.long().clamp(0, self.levels - 1), self.levels) * known.unsqueeze(-1)
        share = hot.sum((0, 1)).to(x.dtype) + 0.5
        self.first_log_p.copy_((share / share.sum(-1, keepdim=True)).log())
        return self._begin()

    @abstractmethod
    def _begin(self) -> Tensor:
        """Sets what makes the levels as frequent as `first_log_p` says; the bias (n * width,) that does."""


class CategoryModality(_Levels):
    """p(x = k) is softmax(location C)_k. The rows of C are orthonormal and sum to 0 (Helmert): the L levels lie at the corners of a
    simplex in L - 1 dimensions, so that none of them is special and no number is idle."""

    def __init__(self, channels: int, levels: int):
        super().__init__(channels, levels, levels - 1)

    def law(self, location: Tensor) -> Category:
        return Category(location.unflatten(-1, (self.channels, self.width)) @ simplex(self.levels).to(location))

    def linked(self, x: Tensor) -> Tensor:
        # What log(k + 1/2) is to a count: log 3 between the level that was seen and any other.
        corner = math.log(3) * simplex(self.levels).T.to(x)
        return corner[x.long().clamp(0, self.levels - 1)].flatten(-2)

    def _begin(self) -> Tensor:
        return (self.first_log_p @ simplex(self.levels).T.to(self.first_log_p)).flatten()


class OrderedModality(_Levels):
    """P(x <= k) = sigmoid(threshold_k - location), the cumulative logit (McCullagh 1980). The first threshold is 0, for the location has a bias; the
    others follow at learned distances above 0. A level pulls into the interval between its thresholds, to where locations are expected there."""

    def __init__(self, members: int, channels: int, levels: int):
        super().__init__(channels, levels, 1)
        self.log_gaps = nn.Parameter(torch.zeros(members, 1, channels, levels - 2)) if levels > 2 else None

    def law(self, location: Tensor) -> Category:
        if self.log_gaps is None:
            return Ordered(location, location.new_zeros(1))
        return Ordered(location, F.pad(self.log_gaps.clamp(-7, 7).exp().cumsum(-1), (1, 0)))

    def linked(self, x: Tensor) -> Tensor:
        # Half the logit of the rank in the middle of the level: of two that are as frequent, log 3 apart.
        p = self.first_log_p.exp()
        middle = 0.5 * torch.logit(p.cumsum(-1) - 0.5 * p)
        hot = F.one_hot(x.long().clamp(0, self.levels - 1), self.levels).to(x)
        return (hot * middle).sum(-1)

    def _begin(self) -> Tensor:
        places = torch.logit(self.first_log_p.exp().cumsum(-1)[:, :-1])
        if self.log_gaps is not None:
            self.log_gaps.copy_(places.diff(dim=-1).log().expand_as(self.log_gaps))
        return -places[:, 0]


@functools.cache
def simplex(levels: int) -> Float[Tensor, "w L"]:
    """L points around 0 in L - 1 dimensions, all as far from each other, by columns; rows are orthonormal.

    >>> simplex(2)
    tensor([[ 0.7071, -0.7071]])
    """
    rows = torch.zeros(levels - 1, levels, dtype=torch.float64)
    for k in range(1, levels):
        rows[k - 1, :k], rows[k - 1, k] = 1.0, -k
    return (rows / rows.norm(dim=1, keepdim=True)).float()


def modality(kind: str, members: int, channels: int, levels: int = 0, spread: bool = False) -> Modality:
    """That of n channels of a kind; counts are negative binomial where they `spread` more than Poisson ones."""
    if kind == "category":
        return CategoryModality(channels, levels)
    if kind == "ordered":
        return OrderedModality(members, channels, levels)
    return CountModality(members, channels, spread) if kind == "count" else RealModality(members, channels)
