"""From what a decoder puts out to a normalised p(x|z): heads for each kind of space."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reverie.core.bits import single
from reverie.core.bytes import LogisticMixture
from reverie.core.counts import NegativeBinomial, Poisson
from reverie.core.distributions import Bernoulli, Factorised, Gaussian, Lattice
from reverie.core.errors import BadInput
from reverie.core.sequential import Conditional
from reverie.core.space import Column, Kind, Space
from reverie.core.student import StudentT
from reverie.core.table import Category, Table

Likelihood = Literal[
    "auto", "bernoulli", "logistic", "categorical", "gaussian", "student", "negative_binomial", "poisson"
]

# What fits each kind of space; the first is its default. In a table it is for the numbers.
FITTING: dict[Kind, tuple[Likelihood, ...]] = {
    "bit": ("bernoulli",),
    "byte": ("logistic", "categorical"),
    "real": ("gaussian", "student"),
    "count": ("negative_binomial", "poisson"),
    "mixed": ("gaussian", "student"),
}


class Head(nn.Module, ABC):
    """Raw decoder output to p(x|z); nothing is learned here (but for nets/neighbours.py)."""

    start: Tensor  # (outputs,) what the biases of a decoder do well to begin as
    shifts: int  # how many locations (means, log means, logits) a shift moves: one an entry, or a level of a category

    @property
    def outputs(self) -> int:
        """How many numbers the decoder must put out for one example."""
        return len(self.start)

    def located(self, weight: Float[Tensor, "outputs n"]) -> Float[Tensor, "D n"]:
        """Of weights to all outputs, those to the location of each entry."""
        raise BadInput("the columns of a table are shown in different ways; they have no location in common")

    @abstractmethod
    def forward(self, raw: Float[Tensor, "B *outputs"], shift: Float[Tensor, "B shifts"] | None = None) -> Conditional:
        """p(x|z) from `outputs` numbers for each example, in any shape, its locations moved by `shift` where given."""


class EntryHead(Head):
    """The same distribution for every entry of an example: raw output (B, channels * C, ...) for examples (C, ...).

    `start` has a number for each of the `channels` that the decoder must put out for each entry of x.
    """

    def __init__(self, shape: tuple[int, ...], start: Sequence[float]):
        super().__init__()
        self.channels = len(start)
        self.shape = shape
        self.event_dims = len(shape)
        self.shifts = math.prod(shape)
        self.start = torch.tensor(start).repeat_interleave(self.shifts)

    @abstractmethod
    def forward(self, raw: Float[Tensor, "B *outputs"], shift: Float[Tensor, "B shifts"] | None = None) -> Factorised:
        """Independent entries."""

    def located(self, weight: Tensor) -> Tensor:
        return weight[: self.shifts]

    def split(self, raw: Tensor, shift: Tensor | None = None, located: int = 1) -> Tensor:
        """(B, channels, *shape), with `shift` (B, D) added to the first `located` channels: those of location."""
        raw = single(raw).reshape(len(raw), self.channels, *self.shape)
        if shift is None:
            return raw
        shift = single(shift).view(len(raw), 1, *self.shape)
        return torch.cat([raw[:, :located] + shift, raw[:, located:]], 1)


class BernoulliHead(EntryHead):
    """Logits of bits."""

    def __init__(self, shape: tuple[int, ...]):
        super().__init__(shape, [0.0])

    def forward(self, raw: Tensor, shift: Tensor | None = None) -> Factorised:
        return Bernoulli(self.split(raw, shift).squeeze(1), self.event_dims)


class GaussianHead(EntryHead):
    """A learned scale for every entry and example, no less than e^-7: on a constant column the density would grow for ever."""

    def __init__(self, shape: tuple[int, ...]):
        super().__init__(shape, [0.0, 0.0])

    def forward(self, raw: Tensor, shift: Tensor | None = None) -> Factorised:
        mean, log_scale = self.split(raw, shift).unbind(1)
        return Gaussian(mean, log_scale.clamp(-7, 7), self.event_dims)


class StudentHead(EntryHead):
    """A learned scale and degrees of freedom for every entry and example; more than 2 of them, so that it has a variance."""

    def __init__(self, shape: tuple[int, ...]):
        # 9 degrees of freedom: near enough to a Gaussian, and free to leave it.
        super().__init__(shape, [0.0, 0.0, 2.0])

    def forward(self, raw: Tensor, shift: Tensor | None = None) -> Factorised:
        loc, log_scale, log_more = self.split(raw, shift).unbind(1)
        log_df = torch.log(2 + log_more.clamp(-5, 7).exp())
        return StudentT(loc, log_scale.clamp(-7, 7), log_df, self.event_dims)


class LogisticHead(EntryHead):
    """Bytes by a mixture of discretised logistics; at the start the components are spread over the range."""

    def __init__(self, shape: tuple[int, ...], components: int):
        spread = [(i + 0.5) / components - 0.5 for i in range(components)]
        super().__init__(shape, [*spread, *[-2.0] * components, *[0.0] * components])
        self.components = components

    def located(self, weight: Tensor) -> Tensor:
        """The mean over components."""
        return weight[: self.components * self.shifts].unflatten(0, (self.components, -1)).mean(0)

    def forward(self, raw: Tensor, shift: Tensor | None = None) -> Factorised:
        loc, log_scale, logits = self.split(raw, shift, self.components).chunk(3, 1)
        return LogisticMixture(loc, log_scale.clamp(-7, 3), logits, self.event_dims)


class ByteTableHead(EntryHead):
    """A free logit for each of the 256 bytes; a shift tilts them towards the bright ones."""

    values: Tensor

    def __init__(self, shape: tuple[int, ...]):
        super().__init__(shape, [0.0] * 256)
        self.register_buffer("values", torch.arange(256) / 127.5 - 1, persistent=False)

    def located(self, weight: Tensor) -> Tensor:
        """The tilt towards bright bytes that comes nearest to the weights."""
        tilt = self.values / self.values.square().sum()
        return torch.einsum("v,vdn->dn", tilt, weight.unflatten(0, (256, -1)))

    def forward(self, raw: Tensor, shift: Tensor | None = None) -> Factorised:
        logits = self.split(raw).movedim(1, -1)
        if shift is not None:
            logits = logits + shift.view(len(raw), *self.shape, 1) * self.values
        return Lattice(logits, self.values, self.event_dims)


class PoissonHead(EntryHead):
    """Log rates of counts, cut where float32 would overflow."""

    def __init__(self, shape: tuple[int, ...]):
        super().__init__(shape, [0.0])

    def forward(self, raw: Tensor, shift: Tensor | None = None) -> Factorised:
        return Poisson(self.split(raw, shift).squeeze(1).clamp(-30, 30), self.event_dims)


class NegativeBinomialHead(EntryHead):
    """Log mean and log dispersion of counts for every entry and example."""

    def __init__(self, shape: tuple[int, ...]):
        super().__init__(shape, [0.0, 0.0])

    def forward(self, raw: Tensor, shift: Tensor | None = None) -> Factorised:
        log_mean, log_r = self.split(raw, shift).unbind(1)
        return NegativeBinomial(log_mean.clamp(-30, 30), log_r.clamp(-7, 12), self.event_dims)


class CategoryHead(EntryHead):
    """A logit for each of the levels of `count` columns; a shift moves them one by one, for categories have no order."""

    def __init__(self, count: int, levels: int):
        super().__init__((count,), [0.0] * levels)
        self.shifts = self.outputs

    def forward(self, raw: Tensor, shift: Tensor | None = None) -> Factorised:
        logits = self.split(raw if shift is None else raw + shift)
        return Category(logits.movedim(1, -1))


class TableHead(Head):
    """A head for the columns of each kind, and for each number of levels; the decoder's output is cut up among them."""

    order: Tensor

    def __init__(self, columns: tuple[Column, ...], heavy: bool):
        super().__init__()
        groups: dict[tuple[str, int], list[int]] = {}
        for i, column in enumerate(columns):
            groups.setdefault((column.kind, column.levels), []).append(i)
        parts: list[EntryHead] = []
        for (kind, levels), members in groups.items():
            if levels:
                parts.append(CategoryHead(len(members), levels))
            elif kind == "count":
                parts.append(NegativeBinomialHead((len(members),)))
            else:
                parts.append((StudentHead if heavy else GaussianHead)((len(members),)))
        self.parts = nn.ModuleList(parts)
        self.sizes = [len(members) for members in groups.values()]
        self.register_buffer(
            "order", torch.tensor([i for members in groups.values() for i in members]), persistent=False
        )
        self.split_outputs, self.split_shifts = [p.outputs for p in parts], [p.shifts for p in parts]
        self.start, self.shifts = torch.cat([p.start for p in parts]), sum(self.split_shifts)

    def forward(self, raw: Tensor, shift: Tensor | None = None) -> Factorised:
        raws = raw.flatten(1).split(self.split_outputs, 1)
        shifts = [None] * len(raws) if shift is None else shift.split(self.split_shifts, 1)
        parts = [part(r, s) for part, r, s in zip(self.parts, raws, shifts, strict=True)]
        return Table(parts, self.order.split(self.sizes))


def head(space: Space, name: Likelihood = "auto", components: int = 1) -> Head:
    """The likelihood of that name, or the default one, for a space; `components` logistics in a byte's mixture.

    In a table `gaussian` and `student` are for its real columns; counts are negative binomial. Raises BadInput for a
    likelihood that is none of such entries.

    >>> head(Space((1, 8, 8), "byte"), components=5).outputs
    960
    """
    fitting = FITTING[space.kind]
    if name != "auto" and name not in fitting:
        raise BadInput(f"likelihood {name} does not fit {space.kind} entries; use auto, {' or '.join(fitting)}")
    name = fitting[0] if name == "auto" else name
    if space.columns and space.is_series:
        raise BadInput("series of columns of different kinds are learned by recurrent machines; use --model recurrent")
    if space.columns:
        return TableHead(space.columns, heavy=name == "student")
    if name == "logistic":
        return LogisticHead(space.shape, components)
    heads: dict[str, Callable[[tuple[int, ...]], Head]] = {
        "bernoulli": BernoulliHead,
        "categorical": ByteTableHead,
        "gaussian": GaussianHead,
        "student": StudentHead,
        "negative_binomial": NegativeBinomialHead,
        "poisson": PoissonHead,
    }
    return heads[name](space.shape)
