"""Normalised distributions over an example or a latent, with what the house asks of them.

Leading dimensions are the batch, the last `event_dims` make one event. `log_prob` returns one number
of nats per event, of the observed coordinates only where `observed` is given (the others are
integrated out), and never lets an unobserved value reach a gradient.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from reverie.core.bits import bits_log_prob, coins
from reverie.core.corruption import Corruption, GaussianNoise, as_corruption, enumerated
from reverie.core.errors import BadInput
from reverie.core.lattice import draw_levels


class Distribution(ABC):
    """What the house asks of any distribution."""

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """(*batch, *event)"""

    @abstractmethod
    def sample(self, n: int | None = None) -> Tensor:
        """A draw (*batch, *event), or `n` of them (n, *batch, *event); differentiable where it can be."""

    @abstractmethod
    def log_prob(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        """(*batch) nats."""

    def kl(self, q: Any, z: Tensor) -> Tensor:
        """KL(q || self) in nats for q of a batch: (B, Z) where it is a sum over coordinates, otherwise (B,).

        `z` (B, Z) is a draw from q, used where there is no closed form (the estimate is then unbiased).
        """
        return q.log_prob(z) - self.log_prob(z)

    def tempered(self, temperature: float) -> Any:
        """The law in which every choice that a draw makes is made by its own law to the power of 1 / temperature, normalised."""
        raise BadInput(f"a {type(self).__name__} is known at temperature 1 alone")


class Placed(Distribution):
    """One whose draws are a function of standard normal noise of the same shape."""

    @abstractmethod
    def place(self, noise: Tensor) -> Tensor:
        """Noise (*more, *batch, *event) to draws of that shape."""


class Reparameterised(Placed):
    """One for which that function is differentiable."""

    @abstractmethod
    def frozen(self) -> "Reparameterised":
        """The same distribution, through which no gradient reaches its parameters."""

    def sample(self, n: int | None = None) -> Tensor:
        like = self.mean
        shape = like.shape if n is None else (n, *like.shape)
        return self.place(torch.randn(shape, dtype=like.dtype, device=like.device))


class Factorised(Distribution):
    """Independent coordinates: the log-probability of an event is a sum of terms."""

    event_dims: int
    discrete: bool | Tensor = True  # a term is the log of a probability, not of a density; for all entries, or (*event)

    @abstractmethod
    def terms(self, x: Tensor) -> Tensor:
        """(*batch, *event) nats of each coordinate on its own."""

    def log_prob(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        if observed is None:
            return self.terms(x).flatten(-self.event_dims).sum(-1)
        # A NaN or an impossible value behind the mask must not reach the gradient: replace it
        # before the terms are computed, and its term afterwards.
        terms = self.terms(torch.where(observed, x, self.mean.detach()))
        return torch.where(observed, terms, terms.new_zeros(())).flatten(-self.event_dims).sum(-1)

    def table(self, rows: slice) -> tuple[Tensor, Tensor]:
        """(rows, *event, levels) nats of every value an entry can take, and these (levels,); one row of p is for all."""
        raise BadInput(f"a {type(self).__name__} entry has too many values to try them all; take Gaussian noise")

    def denoise(self, y: Tensor, noise: float) -> Tensor:
        """Draws x from p(x | y), where y = x + Gaussian noise of standard deviation `noise` > 0."""
        return enumerated(self, y, GaussianNoise(noise))

    def blurred(self, noise: float) -> "Factorised | None":
        """The law of x + Gaussian noise of standard deviation `noise`, where it has a name."""
        return None

    def evidence(self, y: Tensor, observed: Tensor | None, corruption: Corruption | None) -> Tensor:
        """(*batch) log p(y) in nats of the entries that were observed, as they are or spoiled."""
        if corruption is None:
            return self.log_prob(y, observed)
        # An unobserved entry is asked about at a value that it can have, and does not count.
        terms = corruption.evidence(self, y if observed is None else torch.where(observed, y, self.sample()))
        seen = terms if observed is None else torch.where(observed, terms, terms.new_zeros(()))
        return seen.flatten(-self.event_dims).sum(-1)

    def fill(self, y: Tensor, observed: Tensor | None, noise: float | Corruption) -> Tensor:
        """Draws x given its observed entries `y`: exact (noise 0), with Gaussian noise (its deviation), or spoiled otherwise."""
        corruption = as_corruption(noise)
        if observed is None:
            return y if corruption is None else corruption.denoise(self, y)
        # What stands where nothing was seen may be impossible, so it is never asked about.
        x = self.sample()
        y = torch.where(observed, y, x)
        return y if corruption is None else torch.where(observed, corruption.denoise(self, y), x)


class Noisy(Factorised):
    """The law of x + Gaussian noise of standard deviation `noise`, where what x may be is known from `joint`: y to (values, *shape of
    terms), the nats of each value that x can have and of y together."""

    discrete = False

    def __init__(self, p: Factorised, noise: float, joint: Callable[[Tensor], Tensor]):
        self.p, self.noise, self.joint, self.event_dims = p, noise, joint, p.event_dims

    @property
    def mean(self) -> Tensor:
        return self.p.mean

    def sample(self, n: int | None = None) -> Tensor:
        x = self.p.sample(n)
        return x + self.noise * torch.randn_like(x)

    def terms(self, x: Tensor) -> Tensor:
        return torch.logsumexp(self.joint(x), 0)


class Gaussian(Reparameterised, Factorised):
    """Diagonal normal with mean (*batch, *event) and log standard deviation broadcastable to it.

    >>> Gaussian(torch.zeros(2, 3), torch.zeros(3)).log_prob(torch.zeros(2, 3))
    tensor([-2.7568, -2.7568])
    """

    discrete = False

    def __init__(self, mean: Tensor, log_scale: Tensor, event_dims: int = 1):
        self.loc, self.log_scale, self.event_dims = mean, log_scale, event_dims

    @property
    def mean(self) -> Tensor:
        return self.loc

    def place(self, noise: Tensor) -> Tensor:
        return self.loc + self.scale * noise

    def frozen(self) -> "Gaussian":
        return Gaussian(self.loc.detach(), self.log_scale.detach(), self.event_dims)

    @cached_property
    def scale(self) -> Tensor:
        """The standard deviation."""
        return self.log_scale.exp()

    def terms(self, x: Tensor) -> Tensor:
        error = (x - self.loc) * torch.exp(-self.log_scale)
        return -0.5 * error.square() - self.log_scale - 0.5 * math.log(2 * math.pi)

    def log_prob(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        if observed is not None:
            return super().log_prob(x, observed)
        # What is the same for all examples is summed once, not for each of them.
        error = (x - self.loc) * torch.exp(-self.log_scale)
        event = error.shape[error.dim() - self.event_dims :]
        scales = self.log_scale.expand(torch.broadcast_shapes(self.log_scale.shape, event))
        squares, scales = (part.flatten(-self.event_dims).sum(-1) for part in (error.square(), scales))
        return -0.5 * squares - scales - 0.5 * math.log(2 * math.pi) * math.prod(event)

    def kl_to_standard(self) -> Tensor:
        """(*batch, *event) nats of KL to the standard normal, coordinate by coordinate."""
        return 0.5 * (self.loc.square() + self.scale.square() - 1) - self.log_scale

    def denoise(self, y: Tensor, noise: float) -> Tensor:
        variance = torch.exp(2 * self.log_scale)
        trust = variance / (variance + noise**2)
        return Gaussian(self.loc + trust * (y - self.loc), 0.5 * torch.log(trust * noise**2), self.event_dims).sample()

    def tempered(self, temperature: float) -> "Gaussian":
        return Gaussian(self.loc, self.log_scale + 0.5 * math.log(temperature), self.event_dims)

    def blurred(self, noise: float) -> "Gaussian":
        return Gaussian(self.loc, 0.5 * torch.log(torch.exp(2 * self.log_scale) + noise**2), self.event_dims)


class Bernoulli(Factorised):
    """Bits, by their logits (*batch, *event).

    >>> Bernoulli(torch.zeros(1, 4)).log_prob(torch.ones(1, 4)) / math.log(2)
    tensor([-4.])
    """

    def __init__(self, logits: Tensor, event_dims: int = 1):
        self.logits, self.event_dims = logits, event_dims

    @property
    def mean(self) -> Tensor:
        return torch.sigmoid(self.logits)

    def sample(self, n: int | None = None) -> Tensor:
        p = self.mean if n is None else self.mean.expand(n, *self.logits.shape)
        return coins(p)

    def terms(self, x: Tensor) -> Tensor:
        logits, x = torch.broadcast_tensors(self.logits, x)
        return -F.binary_cross_entropy_with_logits(logits, x, reduction="none")

    def log_prob(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        if observed is None and x.shape == self.logits.shape:
            return bits_log_prob(self.logits.flatten(-self.event_dims), x.flatten(-self.event_dims))
        return super().log_prob(x, observed)

    def tempered(self, temperature: float) -> "Bernoulli":
        return Bernoulli(self.logits / temperature, self.event_dims)

    def table(self, rows: slice) -> tuple[Tensor, Tensor]:
        logits = rows_of(self.logits, rows)
        return F.logsigmoid(torch.stack([-logits, logits], -1)), torch.arange(2, device=logits.device).to(logits)

    def denoise(self, y: Tensor, noise: float) -> Tensor:
        # log N(y; 1, s) - log N(y; 0, s) = (y - 1/2) / s^2
        return coins(torch.sigmoid(self.logits + (y - 0.5) / noise**2))


class Lattice(Factorised):
    """A table: every coordinate has a probability for each of the `values` (levels,) of its lattice.

    `logits` (*batch, *event, levels), not necessarily normalised.

    >>> uniform = Lattice(torch.zeros(1, 2, 256), torch.arange(256) / 127.5 - 1)
    >>> uniform.log_prob(uniform.sample()) / math.log(2)
    tensor([-16.])
    """

    def __init__(self, logits: Tensor, values: Tensor, event_dims: int = 1):
        self.log_p = torch.log_softmax(logits, -1)
        self.values, self.event_dims = values, event_dims

    @property
    def mean(self) -> Tensor:
        return self.log_p.exp() @ self.values

    def sample(self, n: int | None = None) -> Tensor:
        x = self.values[draw_levels(self.log_p, n or 1)].movedim(-1, 0)
        return x[0] if n is None else x

    def terms(self, x: Tensor) -> Tensor:
        x = x.expand(torch.broadcast_shapes(x.shape, self.log_p.shape[:-1]))
        log_p = self.log_p.expand(*x.shape, -1)
        return log_p.gather(-1, self.levels(x).unsqueeze(-1)).squeeze(-1)

    def tempered(self, temperature: float) -> "Lattice":
        return Lattice(self.log_p / temperature, self.values, self.event_dims)

    def table(self, rows: slice) -> tuple[Tensor, Tensor]:
        return rows_of(self.log_p, rows), self.values

    def levels(self, x: Tensor) -> Tensor:
        """The index of each entry of x in `values`."""
        step = self.values[1] - self.values[0]
        return torch.round((x - self.values[0]) / step).long().clamp(0, len(self.values) - 1)


def rows_of(parameter: Tensor, rows: slice) -> Tensor:
    return parameter if len(parameter) == 1 else parameter[rows]
