"""Rows of tables: columns of different kinds, each with a distribution of its own."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from reverie.core.distributions import Factorised, Gaussian, Lattice, Noisy
from reverie.core.lattice import draw_levels


class Category(Lattice):
    """One of L categories, by its number 0 … L - 1; `logits` (*batch, *event, L). Any other number has no probability.

    Categories cannot be averaged: `mean` is the number of the most probable one.

    >>> Category(torch.tensor([[[0.1, 0.3, 0.6]]]).log()).mean
    tensor([[2.]])
    """

    def __init__(self, logits: Tensor, event_dims: int = 1):
        values = torch.arange(logits.shape[-1], device=logits.device, dtype=logits.dtype)
        super().__init__(logits, values, event_dims)

    @property
    def mean(self) -> Tensor:
        return self.log_p.argmax(-1).to(self.log_p.dtype)

    def tempered(self, temperature: float) -> "Category":
        return Category(self.log_p / temperature, self.event_dims)

    def terms(self, x: Tensor) -> Tensor:
        known = (x >= 0) & (x < len(self.values)) & (x.frac() == 0)
        return torch.where(known, super().terms(torch.where(known, x, 0.0)), -math.inf)

    def levels(self, x: Tensor) -> Tensor:
        return x.long()

    def _joint(self, y: Tensor, noise: float) -> Tensor:
        """(L, *shape) nats of each level and of y, which is its number and Gaussian noise."""
        seen = Gaussian(y.unsqueeze(-1), y.new_tensor(math.log(noise))).terms(self.values)
        return (self.log_p + seen).movedim(-1, 0)

    def denoise(self, y: Tensor, noise: float) -> Tensor:
        return self.values[draw_levels(self._joint(y, noise).movedim(0, -1)).squeeze(-1)]

    def blurred(self, noise: float) -> Factorised:
        return Noisy(self, noise, lambda y: self._joint(y, noise))


class Ordered(Category):
    """One of L ordered categories, by its number: the number of thresholds that lie below the location and a logistic error, P(x <= k) =
    sigmoid(threshold_k - location), the cumulative logit (McCullagh 1980).

    `location` (*batch, *event), `thresholds` (…, L - 1) rising and broadcastable to it. Of two levels it is logistic
    regression. `mean` is the number of the median one.

    >>> Ordered(torch.tensor([[0.0]]), torch.tensor([[-1.0986, 1.0986]])).log_p.exp()
    tensor([[[0.2500, 0.5000, 0.2500]]])
    """

    def __init__(self, location: Tensor, thresholds: Tensor, event_dims: int = 1):
        above = thresholds - location.unsqueeze(-1)  # how far each threshold lies above
        ends = above.new_full((*above.shape[:-1], 1), math.inf)
        # A bin's mass is S(b) - S(a) = S(b) S(-a) (1 - exp(a - b)): no term is a difference of numbers close to each other.
        upto, beyond = F.logsigmoid(torch.cat([above, ends], -1)), F.logsigmoid(torch.cat([ends, -above], -1))
        inside = torch.log(-torch.expm1(-torch.diff(thresholds, dim=-1)))
        inside = F.pad(inside.expand(*above.shape[:-1], -1), (1, 1))
        super().__init__(upto + beyond + inside[..., : thresholds.shape[-1] + 1], event_dims)

    @property
    def mean(self) -> Tensor:
        return (self.log_p.exp().cumsum(-1)[..., :-1] < 0.5).sum(-1).to(self.log_p.dtype)


class Table(Factorised):
    """Rows (*batch, D): each of the `parts`, of one event dimension, has the columns `columns` (n,) of them, and each column one part.

    `mean` of a category is its most probable number; a draw draws every column.

    >>> from reverie.core.counts import Poisson
    >>> parts = [Poisson(torch.zeros(1, 1)), Category(torch.zeros(1, 2, 4))]
    >>> row = Table(parts, [torch.tensor([1]), torch.tensor([0, 2])])
    >>> row.terms(torch.tensor([[3.0, 0.0, 1.0]]))  # log 1/4, -1, log 1/4
    tensor([[-1.3863, -1.0000, -1.3863]])
    """

    event_dims = 1

    def __init__(self, parts: Sequence[Factorised], columns: Sequence[Tensor]):
        self.parts, self.columns = parts, columns
        self.order = torch.argsort(torch.cat(list(columns)))

    @property
    def discrete(self) -> Tensor:  # type: ignore[override]
        """(D,) bool: which columns have probabilities, not densities."""
        kinds = [
            torch.as_tensor(part.discrete).expand(len(c)) for part, c in zip(self.parts, self.columns, strict=True)
        ]
        return torch.cat(kinds)[self.order.cpu()].to(self.order.device)

    def _each(self, of: Callable[[Factorised, Tensor], Tensor]) -> Tensor:
        """What `of` says of each part and its columns, in the order of the table."""
        return torch.cat([of(part, c) for part, c in zip(self.parts, self.columns, strict=True)], -1)[..., self.order]

    @property
    def mean(self) -> Tensor:
        return self._each(lambda part, _: part.mean)

    def sample(self, n: int | None = None) -> Tensor:
        return self._each(lambda part, _: part.sample(n))

    def terms(self, x: Tensor) -> Tensor:
        return self._each(lambda part, c: part.terms(x[..., c]))

    def tempered(self, temperature: float) -> "Table":
        return Table([part.tempered(temperature) for part in self.parts], self.columns)

    def denoise(self, y: Tensor, noise: float) -> Tensor:
        return self._each(lambda part, c: part.denoise(y[..., c], noise))

    def blurred(self, noise: float) -> "Table | None":
        parts = [part.blurred(noise) for part in self.parts]
        return None if None in parts else Table([part for part in parts if part is not None], self.columns)
