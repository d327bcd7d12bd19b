"""What layers of stochastic bits make together: chains of them, up from the data or down to it, and how the data are shown."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from reverie.core.distributions import Bernoulli, Placed
from reverie.core.errors import BadInput
from reverie.core.sequential import HOLES, Conditional, Place, Sequential
from reverie.core.space import Space
from reverie.nets.beliefs import Belief, Law, SigmoidLaw, Walked
from reverie.nets.likelihoods import BernoulliHead, Head, Likelihood, head

# A uniform number in float32 may be 0 or, of a normal one, 1; a bit drawn by it would have nearly no chance, and importance weights that are wrong by as much.
WITHIN = (2.0**-25, 1 - 2.0**-24)


class Chain(Placed):
    """All latent bits (..., Z), layer by layer from the data up, each layer given the one before it in the chain.

    Recognition walks from what is seen upwards, `start` (B, inputs); the prior from nothing downwards, `start` (1, 0).
    With `soft`, layers are given the chances of those before them rather than their bits.
    """

    def __init__(self, beliefs: Sequence[Belief], start: Tensor, down: bool, soft: bool = False):
        self.beliefs, self.start, self.down, self.soft = beliefs, start, down, soft
        self.sizes = [belief.size for belief in beliefs]  # in the order of the chain

    @property
    def _batch(self) -> tuple[int, ...]:
        return () if self.down else (len(self.start),)

    def _split(self, z: Tensor) -> list[Tensor]:
        """In the order of the chain."""
        parts = z.split(self.sizes[::-1] if self.down else self.sizes, -1)
        return list(parts[::-1] if self.down else parts)

    def _join(self, parts: list[Tensor]) -> Tensor:
        return torch.cat(parts[::-1] if self.down else parts, -1)

    def laws(
        self, rows: int, bits: list[Tensor] | None = None, u: list[Tensor] | None = None
    ) -> Iterator[tuple[Law, Tensor]]:
        """The law of each layer and its bits (rows, size): those given, or those that `u` becomes, or fresh draws.

        There are as many rows as in `start`, or some number of copies of them, one after the other.
        """
        h, copies = self.start, rows // len(self.start)
        for i, belief in enumerate(self.beliefs):
            law = belief(h, copies)
            if bits is not None:
                z = bits[i]
            else:
                z = law.place((u[i] if u is not None else h.new_empty(rows, belief.size).uniform_()).clamp(*WITHIN))
            yield law, z
            h, copies = (law.mean if self.soft else z), 1

    def place(self, noise: Tensor) -> Tensor:
        u = torch.special.ndtr(noise.reshape(-1, sum(self.sizes)))
        return self._join([z for _, z in self.laws(len(u), u=self._split(u))]).view(noise.shape)

    def sample(self, n: int | None = None) -> Tensor:
        z = self._join([z for _, z in self.laws((n or 1) * len(self.start))])
        return z.view(*(() if n is None else (n,)), *self._batch, z.shape[1])

    def log_prob(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        nats = sum((law.log_prob(z) for law, z in self.laws(len(flat), self._split(flat))), flat.new_zeros(len(flat)))
        return nats.view(x.shape[:-1])

    @property
    def mean(self) -> Tensor:
        """The chances of all bits, each layer's when those before it are at theirs."""
        parts = [self.start]
        for belief in self.beliefs:
            parts.append(belief(parts[-1]).mean)
        return self._join(parts[1:]).view(*self._batch, -1)

    def tempered(self, temperature: float) -> "Chain":
        return Chain([belief.tempered(temperature) for belief in self.beliefs], self.start, self.down, self.soft)


class Thought:
    """The laws of some layers for N rows, each with what was drawn or seen there."""

    def __init__(self, laws: Sequence[tuple[Any, Any]]):
        self.laws = laws

    @cached_property
    @torch.no_grad()
    def nats(self) -> Float[Tensor, " N"]:
        """The log-probability of all of it."""
        return torch.stack([law.log_prob(z) for law, z in self.laws]).sum(0)

    @torch.no_grad()
    def pull(self, weight: Float[Tensor, " N"]) -> list[Tensor]:
        """The gradient of the weighted sum of `nats`, for each parameter of the layers in turn."""
        return [gradient for law, z in self.laws for gradient in law.pull(z, weight)]


class Shown(nn.Module):
    """p(x | z_1): one layer of weights, and the likelihood of the data."""

    def __init__(self, inputs: int, space: Space, name: Likelihood, logistics: int, start: float):
        super().__init__()
        self.likelihood = head(space, name, logistics)
        self.weight = nn.Parameter(start * torch.randn(self.likelihood.outputs, inputs) / inputs**0.5)
        self.bias = nn.Parameter(self.likelihood.start.clone())

    def forward(self, h: Tensor) -> Conditional:
        return self.likelihood(F.linear(h, self.weight, self.bias))

    def located(self) -> Float[Tensor, "D inputs"]:
        """What each input adds to where an entry of x is expected: to its logit, or its location."""
        return self.likelihood.located(self.weight)

    def law(self, h: Tensor, observed: Tensor | None) -> "ShownBits | ShownLaw":
        raw = F.linear(h, self.weight, self.bias)
        if isinstance(self.likelihood, BernoulliHead) and observed is None:
            return ShownBits(h, raw, 1)
        return ShownLaw(self.likelihood, h, raw, observed)


class ShownInTurn(nn.Module):
    """p(x | z_1) of bits one after another, in the order of the flattened example."""

    def __init__(self, belief: Belief, space: Space):
        super().__init__()
        if space.kind != "bit":
            raise BadInput(
                f"only bits can be shown one after another, not {space.kind} entries; take --model.shown sigmoid"
            )
        self.belief, self.shape = belief, space.shape

    @property
    def weight(self) -> Tensor:
        return self.belief.weight  # type: ignore[return-value]

    @property
    def bias(self) -> Tensor:
        return self.belief.bias  # type: ignore[return-value]

    def located(self) -> Float[Tensor, "D inputs"]:
        """What each input adds to the logit of a bit, those before it being left alone."""
        return self.weight

    def forward(self, h: Tensor) -> "BitsInTurn":
        return BitsInTurn(self.belief, h, self.shape)

    def law(self, h: Tensor, observed: Tensor | None) -> "BitsInTurn":
        if observed is not None:
            raise BadInput(HOLES)
        return self.forward(h)


class BitsInTurn(Sequential):
    """Bits (N, *shape) of which each is given those before it."""

    def __init__(self, belief: Belief, h: Tensor, shape: tuple[int, ...], copies: int = 1):
        law = belief(h, copies)
        assert isinstance(law, Walked)
        self.belief, self.h, self.shape, self.copies, self.bits = belief, h, shape, copies, law

    def whole(self, x: Tensor) -> Tensor:
        return self.bits.log_prob(x.flatten(1))

    @torch.no_grad()
    def walk(self, place: Place) -> Tensor:
        def bit(i: int, logit: Tensor) -> Tensor:
            at = (..., *(slice(j, j + 1) for j in map(int, np.unravel_index(i, self.shape))))
            return place(at, Bernoulli(logit.view(-1, *[1] * len(self.shape)), len(self.shape))).flatten()

        return self.bits.walk(bit).unflatten(1, self.shape)

    def repeated(self, n: int) -> "BitsInTurn":
        return BitsInTurn(self.belief, self.h, self.shape, n * self.copies)

    def pull(self, x: Tensor, weight: Tensor) -> list[Tensor]:
        """As of a `Law`."""
        return self.bits.pull(x.flatten(1), weight)


class ShownBits(SigmoidLaw):
    """p(x|h) of bits, all of which were observed: as of a layer, but for the shape of x."""

    def log_prob(self, z: Tensor) -> Tensor:
        return super().log_prob(z.flatten(1))

    def pull(self, z: Tensor, weight: Tensor) -> list[Tensor]:
        return super().pull(z.flatten(1), weight)


class ShownLaw:
    """p(x|h) of what was observed, with its gradient: of the likelihood by autograd, of the weights by hand."""

    def __init__(self, likelihood: Head, h: Tensor, raw: Tensor, observed: Tensor | None):
        self.likelihood, self.h, self.raw, self.observed = likelihood, h, raw.detach().requires_grad_(), observed

    @torch.enable_grad()
    def log_prob(self, x: Tensor) -> Tensor:
        nats = self.likelihood(self.raw).log_prob(x, self.observed)
        (self.error,) = torch.autograd.grad(nats.sum(), self.raw)
        return nats.detach()

    def pull(self, x: Tensor, weight: Tensor) -> list[Tensor]:
        error = self.error * weight.unsqueeze(1)
        return [error.T @ self.h, error.sum(0)]
