"""Channels of different kinds that are seen of one state: real numbers, counts, categories and ordered ones together.

Every channel is seen through some numbers of a common location z_1 … z_R B + b: a real number or a count through one, a
category of L levels through L - 1. What a kind of channel is lies in a `Modality`; `MixedObservation` puts them side by side.
"""

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from reverie.core.counts import NegativeBinomial, Poisson
from reverie.core.distributions import Factorised, Gaussian
from reverie.core.errors import BadInput
from reverie.core.space import Column, Space
from reverie.core.table import Category, Ordered, Table
from reverie.nets.observations import FITTING, AffineObservation, Observation, ObservationName, moments, observation
from reverie.nets.recurrence import Forcing

DRAWS = 256  # standard normal states over which expectations are taken


class Modality(nn.Module, ABC):
    """n channels of one kind, each seen through `width` numbers of the location, (…, S, B, n * width), channel by channel."""

    def __init__(self, channels: int, width: int = 1):
        super().__init__()
        self.channels, self.width = channels, width

    @abstractmethod
    def law(self, location: Tensor) -> Factorised:
        """p(x | location), events of n channels."""

    @abstractmethod
    def linked(self, x: Tensor) -> Tensor:
        """x (…, n) on the scale of locations (…, n * width), before anything was learned; 0 is what is usual for categories."""

    @abstractmethod
    def target(self, x: Tensor, around: Float[Tensor, "S D w"]) -> Tensor:
        """The location (…, n * width) towards which x (…, n) pulls; `around` are the locations of D standard normal states."""

    @abstractmethod
    def trust(self, around: Float[Tensor, "S D w"]) -> Float[Tensor, "S n"]:
        """The share of what is not known of a location that one look takes away, were the states standard normal."""

    @abstractmethod
    def first(self, like: Tensor) -> Factorised:
        """p(x_0) of examples like (…, n), before anything was seen."""

    def prepare(self, x: Tensor, known: Tensor) -> Tensor | None:
        """Sets what should begin near the data (W, T, n); the bias (n * width,) that does, where it is not the mean of `linked`."""
        return None

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
    def prepare(self, x: Tensor, known: Tensor) -> None:
        log_mean, log_r = moments(x, known)
        self.first_log_mean.copy_(log_mean)
        self.first_log_r.copy_(log_r)


class _Levels(Modality):
    """Channels of L levels. One of level k pulls towards E[location | x = k], and its share is how much of the location's variance
    these explain (the correlation ratio): a readout that says little of the level pulls little."""

    first_log_p: Tensor  # (n, L) nats of each level

    def __init__(self, channels: int, levels: int, width: int):
        super().__init__(channels, width)
        self.levels = levels
        self.register_buffer("first_log_p", torch.full((channels, levels), 1 / levels).log())

    @abstractmethod
    def law(self, location: Tensor) -> Category: ...

    def target(self, x: Tensor, around: Tensor) -> Tensor:
        _, expected = self._expected(around)
        hot = F.one_hot(x.long().clamp(0, self.levels - 1), self.levels).to(around)  # (…, S or 1, B, n, L)
        return (hot.transpose(-3, -2) @ expected).transpose(-3, -2).flatten(-2)

    def trust(self, around: Tensor) -> Tensor:
        share, expected = self._expected(around)
        middle = around.unflatten(-1, (self.channels, self.width)).mean(1)
        explained = (share.unsqueeze(-1) * (expected - middle.unsqueeze(-2)).square()).sum((-1, -2))
        total = around.unflatten(-1, (self.channels, self.width)).var(1, correction=0).sum(-1)
        return explained / total.clamp(min=1e-12)

    def _expected(self, around: Tensor) -> tuple[Float[Tensor, "S n L"], Float[Tensor, "S n L w"]]:
        """P(x = k) and E[location | x = k], by Bayes' rule over the locations `around`."""
        log_p = self.law(around).log_p  # (S, D, n, L)
        place = around.unflatten(-1, (self.channels, self.width))
        weights = torch.softmax(log_p, 1)  # over states, so that even a level of no probability has a place
        return log_p.exp().mean(1), torch.einsum("sdnl,sdnw->snlw", weights, place)

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


@functools.cache
def standard(size: int) -> Float[Tensor, "D R"]:
    """Standard normal states, always the same ones, each with its opposite and of unit variance."""
    half = torch.randn(DRAWS // 2, size, generator=torch.Generator("cpu").manual_seed(0), device="cpu")
    return torch.cat([half, -half]) / half.square().mean(0).sqrt()


class MixedObservation(AffineObservation):
    """Channels of different kinds, all seen of one location z_1 … z_R B + b, given the state independent of each other (Kramer,
    Bommer, Tombolini, Koppe & Durstewitz 2022, arXiv 2111.02922).

    What was seen pulls the state through the pseudo-inverse of the joint readout B (multimodal teacher forcing without a second network;
    compare Brenner, Hess, Koppe & Durstewitz 2024, arXiv 2212.07892). A count, or a label, says less of its location than a real number
    does: each channel pulls by the share of its location's variance that one look at it explains (`Modality.trust`), as a
    share of the greatest such. So real channels alone are pulled as by an affine Gaussian, to the last bit; a channel whose
    readout is near nothing pulls nothing; and alpha stays what it is everywhere, how far the most telling channel pulls.

    >>> columns = (Column("volts", "real"), Column("spikes", "count"), Column("state", "category", 3))
    >>> seen = MixedObservation(1, 2, columns)
    >>> seen.width, seen(torch.zeros(1, 5, 2)).sample().shape
    (4, torch.Size([1, 5, 3]))
    """

    order: Tensor

    def __init__(self, members: int, latent: int, columns: Sequence[Column], spread: bool = False):
        groups: dict[tuple[str, int], list[int]] = {}
        for i, column in enumerate(columns):
            if column.levels == 1:
                raise BadInput(f"channel {column.name!r} has one level and never changes; leave it out")
            groups.setdefault((column.kind, column.levels), []).append(i)
        parts = [_modality(kind, levels, members, len(of), spread) for (kind, levels), of in groups.items()]
        self.widths = [part.channels * part.width for part in parts]
        super().__init__(members, latent, sum(self.widths))
        self.width, self.channels = sum(self.widths), len(columns)
        self.parts: Sequence[Modality] = nn.ModuleList(parts)  # type: ignore[assignment]
        self.sizes = [part.channels for part in parts]
        order = [i for of in groups.values() for i in of]
        self.register_buffer("order", torch.tensor(order), persistent=False)
        self.wide = [part.width for part in parts for _ in range(part.channels)]  # of each channel, in that order

    def forward(self, z: Tensor) -> Table:
        located = self.location(z).split(self.widths, -1)
        return self._table([part.law(at) for part, at in zip(self.parts, located, strict=True)])

    def first(self, like: Tensor) -> Table:
        return self._table([part.first(seen) for part, seen in zip(self.parts, self._split(like), strict=True)])

    def _table(self, laws: Sequence[Factorised]) -> Table:
        return Table(laws, self.order.split(self.sizes))

    def _split(self, x: Tensor) -> Sequence[Tensor]:
        """Channels (…, N) by kind."""
        return x[..., self.order].split(self.sizes, -1)

    def linked(self, x: Tensor) -> Tensor:
        return torch.cat([part.linked(seen) for part, seen in zip(self.parts, self._split(x), strict=True)], -1)

    @torch.no_grad()
    def target(self, x: Tensor) -> Tensor:
        parts = zip(self.parts, self._split(x), self._around(), strict=True)
        wanted = [part.target(seen, around) for part, seen, around in parts]
        shape = torch.broadcast_shapes(*(one.shape[:-1] for one in wanted))  # with members, where any has some
        return torch.cat([one.expand(*shape, -1) for one in wanted], -1) - self.bias

    def forcing(self, x: Tensor, weight: Tensor) -> Forcing:
        forcing = super().forcing(x, weight[..., self.order] if weight.shape[-1] > 1 else weight)
        with torch.no_grad():
            parts = zip(self.parts, self._around(), strict=True)
            trust = torch.cat([part.trust(around) for part, around in parts], -1).unsqueeze(1)
            trust = trust / trust.amax(-1, keepdim=True).clamp(min=1e-12)
            wide = torch.tensor(self.wide, device=x.device)
            return forcing._replace(weight=(forcing.weight * trust).repeat_interleave(wide, -1))

    def _around(self) -> Sequence[Float[Tensor, "S D w"]]:
        """The locations of standard normal states, by kind."""
        return self.location(standard(self.reach).to(self.bias)).split(self.widths, -1)

    @torch.no_grad()
    def prepare(self, x: Float[Tensor, "W T N"], observed: Bool[Tensor, "W T N"] | None) -> None:
        known = torch.ones_like(x, dtype=torch.bool) if observed is None else observed
        pairs = zip(self.parts, self._split(x), self._split(known), strict=True)
        biases = [part.prepare(seen, there) for part, seen, there in pairs]
        wide = torch.tensor(self.wide, device=x.device)
        self.begin(self.linked(x), known[..., self.order].repeat_interleave(wide, -1))
        for place, bias in zip(self.bias.split(self.widths, -1), biases, strict=True):
            if bias is not None:
                place.copy_(bias.expand_as(place))

    def settle(self, error: Tensor) -> None:
        for part, of in zip(self.parts, self._split(error), strict=True):
            part.settle(of)


def observation_of(
    space: Space, name: ObservationName, members: int, latent: int
) -> Observation:
    """The observation model of that name for series of a space; where its channels are of different kinds the name is that of its counts."""
    if space.kind != "mixed":
        return observation(name, space.kind, members, latent, space.shape[-1])
    if name != "auto" and (name not in FITTING["count"] or not any(column.kind == "count" for column in space.columns)):
        raise BadInput(f"observation {name} is for series of one kind; where kinds differ it may be auto, or, of counts, {' or '.join(FITTING['count'])}")
    return MixedObservation(members, latent, space.columns, name == "negative_binomial")


def _modality(kind: str, levels: int, members: int, channels: int, spread: bool) -> Modality:
    if kind == "category":
        return CategoryModality(channels, levels)
    if kind == "ordered":
        return OrderedModality(members, channels, levels)
    return CountModality(members, channels, spread) if kind == "count" else RealModality(members, channels)
