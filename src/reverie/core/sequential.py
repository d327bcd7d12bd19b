"""Examples whose entries come one after another, each given those before it: what may be asked of such a law."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from reverie.core.corruption import Corruption, as_corruption
from reverie.core.distributions import Distribution, Factorised
from reverie.core.errors import BadInput

# Where some entries are in an example, their law given all entries before them -> what they are to be
Place = Callable[[Any, Factorised], Tensor]

HOLES = (
    "entries that are told of those before them cannot be learned from examples with holes; fill the holes, or take "
    "independent entries (--model.neighbours 0 of vae and ladder, --model.shown sigmoid of helmholtz)"
)


class Sequential(Distribution):
    """p(x) = prod_i p(x_i | x_<i), for B rows (B, *event); a place i may have several entries, independent given what is before.

    All of an example is weighed at once; it is drawn place by place.
    """

    @abstractmethod
    def whole(self, x: Tensor) -> Tensor:
        """(B,) log p(x) in nats, of examples without holes."""

    @abstractmethod
    def walk(self, place: Place) -> Tensor:
        """(B, *event) what comes of asking `place` what to put at each place in turn."""

    @abstractmethod
    def repeated(self, n: int) -> "Sequential":
        """All rows, n times over."""

    def log_prob(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        """(B,) nats. Of the `observed` entries alone it is an estimate, by one draw of what is between them: unbiased before the logarithm."""
        if observed is None:
            return self.whole(x)
        if torch.is_grad_enabled():
            raise BadInput(HOLES)
        return self.complete(x, observed)[1]

    def complete(self, y: Tensor, observed: Tensor | None, noise: float | Corruption = 0.0) -> tuple[Tensor, Tensor]:
        """x (B, *event) and nats (B,): a draw of each place given all before it and what was seen of it, y, and sum_i log p(y_i | x_<i).

        exp(nats) p(x | this way of drawing) = p(x, y), so it is the weight that makes such draws draws from p(x|y).
        """
        corruption, parts = as_corruption(noise), []

        def place(at: Any, law: Factorised) -> Tensor:
            seen, here = y[at], None if observed is None else observed[at]
            parts.append(law.evidence(seen, here, corruption))
            return law.fill(seen, here, corruption or 0.0)

        x = self.walk(place)
        return x, torch.stack(parts).sum(0)

    def fill(self, y: Tensor, observed: Tensor | None, noise: float | Corruption) -> Tensor:
        """The draw of `complete`: it heeds what was seen before each place, and at it, but not what was seen after it."""
        return self.complete(y, observed, noise)[0]

    @torch.no_grad()
    def sample(self, n: int | None = None) -> Tensor:
        if n is not None:
            return self.repeated(n).sample().unflatten(0, (n, -1))
        return self.walk(lambda at, law: law.sample())

    @property
    def mean(self) -> Tensor:
        """What is expected at each place if all before it is as was expected."""
        return self.walk(lambda at, law: law.mean)

    def tempered(self, temperature: float) -> "Sequential":
        return Tempered(self, temperature)


class Tempered(Sequential):
    """Each place, given those before it, at another temperature."""

    def __init__(self, law: Sequential, temperature: float):
        self.law, self.temperature = law, temperature

    def whole(self, x: Tensor) -> Tensor:
        return self.complete(x, None)[1]

    def walk(self, place: Place) -> Tensor:
        return self.law.walk(lambda at, law: place(at, law.tempered(self.temperature)))

    def repeated(self, n: int) -> Sequential:
        return Tempered(self.law.repeated(n), self.temperature)


Conditional = Factorised | Sequential  # what a p(x|z) may be for its missing entries to be drawn
