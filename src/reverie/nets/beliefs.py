"""Layers of stochastic bits: p(z | h) of a layer z, given the numbers h beside it.

A belief is the layer, with its weights; called with h it gives the law of z, which draws, tells log-probabilities, and knows the gradient
of them in closed form: two matrix products, no graph.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from reverie.core.bits import bits_log_prob, chance_log_prob

Kind = Literal["sigmoid", "darn", "nade"]
BLOCK = 32  # bits

Bit = Callable[[int, Tensor], Tensor]  # which bit, its logit (N,) -> what it is (N,)


class Law(ABC):
    """The law of one layer for N rows, which may be several copies of the rows of h (n, inputs), one copy after the other."""

    def __init__(self, h: Float[Tensor, "n inputs"], base: Float[Tensor, "n size"], copies: int):
        self.h = h
        # Logits, as far as they depend on h.
        self.base = base if copies == 1 else base.expand(copies, -1) if len(base) == 1 else base.repeat(copies, 1)

    def _by_input(self, error: Float[Tensor, "N size"]) -> Float[Tensor, "size inputs"]:
        """What an error in the logits means for weights on h."""
        if len(error) != len(self.h):  # all copies have the same h: one product does for all
            error = error.view(-1, len(self.h), error.shape[1]).sum(0)
        return error.T @ self.h

    @abstractmethod
    def place(self, u: Float[Tensor, "N size"]) -> Float[Tensor, "N size"]:
        """The draw that u, uniform between 0 and 1, becomes."""

    @abstractmethod
    def log_prob(self, z: Float[Tensor, "N size"]) -> Float[Tensor, " N"]:
        """Nats."""

    @abstractmethod
    def pull(self, z: Float[Tensor, "N size"], weight: Float[Tensor, " N"]) -> list[Tensor]:
        """The gradient of sum_n weight_n log p(z_n | h_n) with respect to the parameters of the belief, in their order."""

    @property
    @abstractmethod
    def mean(self) -> Float[Tensor, "N size"]:
        """The chance of each bit; of laws in which bits depend on those before them, when these are at their means."""


class Walked(Law):
    """A law whose bits come one after another."""

    @abstractmethod
    def walk(self, bit: Bit) -> Tensor:
        """(N, size) what comes of asking `bit` for each bit in turn."""

    @torch.no_grad()
    def place(self, u: Tensor) -> Tensor:
        return self.walk(lambda i, logit: (u[:, i] < torch.sigmoid(logit)).to(u.dtype))

    @cached_property
    @torch.no_grad()
    def mean(self) -> Tensor:
        return self.walk(lambda i, logit: torch.sigmoid(logit))


class Belief(nn.Module, ABC):
    """p(z|h) for z (N, size) and h (N, inputs); with `inputs` 0, p(z)."""

    size: int
    outward: tuple[str, ...] = ("weight", "bias")  # the parameters that logits are linear in

    @abstractmethod
    def forward(self, h: Float[Tensor, "n inputs"], copies: int = 1) -> Law:
        """The law of `copies` times n rows."""

    @torch.no_grad()
    def tempered(self, temperature: float) -> "Belief":
        """The layer with every logit divided by the temperature."""
        made = copy.deepcopy(self)
        for name in self.outward:
            getattr(made, name).div_(temperature)
        return made


def _weights(size: int, inputs: int, start: float) -> nn.Parameter:
    """(size, inputs), normal, so that their sum over inputs of 0 or 1 has a standard deviation of about `start`."""
    return nn.Parameter(start * torch.randn(size, inputs) / max(inputs, 1) ** 0.5)


class Sigmoid(Belief):
    """Independent bits, P(z_i = 1) = sigmoid(b_i + W_i h): a layer of a sigmoid belief network (Neal 1992).

    >>> layer = Sigmoid(3, 2)
    >>> layer(torch.zeros(1, 3)).place(torch.tensor([[0.4, 0.6]]))
    tensor([[1., 0.]])
    """

    def __init__(self, inputs: int, size: int, start: float = 1.0):
        super().__init__()
        self.size = size
        self.weight = _weights(size, inputs, start)
        self.bias = nn.Parameter(torch.zeros(size))

    def forward(self, h: Tensor, copies: int = 1) -> Law:
        return SigmoidLaw(h, F.linear(h, self.weight, self.bias), copies)


class SigmoidLaw(Law):
    @cached_property
    def mean(self) -> Tensor:
        return torch.sigmoid(self.base)

    def place(self, u: Tensor) -> Tensor:
        return torch.lt(u, self.mean, out=torch.empty_like(u))

    def log_prob(self, z: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return bits_log_prob(self.base, z)
        return chance_log_prob(self.base, self.mean, z)

    def pull(self, z: Tensor, weight: Tensor) -> list[Tensor]:
        error = torch.sub(z, self.mean).mul_(weight.unsqueeze(1))
        return [self._by_input(error), error.sum(0)]


class Darn(Belief):
    """Bits one after another, P(z_i = 1) = sigmoid(b_i + W_i h + V_i z_<i): a fully visible sigmoid belief network beside h, the
    layer of a deep autoregressive network (Gregor, Danihelka, Mnih, Blundell & Wierstra 2014, arXiv 1310.8499)."""

    outward = ("weight", "bias", "before")

    def __init__(self, inputs: int, size: int, start: float = 1.0):
        super().__init__()
        self.size = size
        self.weight = _weights(size, inputs, start)
        self.bias = nn.Parameter(torch.zeros(size))
        self.before = nn.Parameter(torch.zeros(size, size))  # what lies above the diagonal is never used

    def forward(self, h: Tensor, copies: int = 1) -> Law:
        return DarnLaw(h, F.linear(h, self.weight, self.bias), copies, self.before)


class DarnLaw(Walked):
    def __init__(self, h: Tensor, base: Tensor, copies: int, before: Tensor):
        super().__init__(h, base, copies)
        self.before = before

    def _logits(self, z: Tensor) -> Tensor:
        return self.base + z @ self.before.tril(-1).T

    def walk(self, bit: Bit) -> Tensor:
        """Block by block: one product tells a block of all bits before it, and only within it they are told one by one."""
        z = torch.zeros_like(self.base)
        for start in range(0, z.shape[1], BLOCK):
            block = slice(start, start + BLOCK)
            logits = torch.addmm(self.base[:, block], z[:, :start], self.before[block, :start].T)
            within = self.before[block, block].T.contiguous()
            for i in range(logits.shape[1]):
                z[:, start + i] = bit(start + i, logits[:, i])
                logits[:, i + 1 :].addr_(z[:, start + i], within[i, i + 1 :])
        return z

    def log_prob(self, z: Tensor) -> Tensor:
        return bits_log_prob(self._logits(z), z)

    def pull(self, z: Tensor, weight: Tensor) -> list[Tensor]:
        error = torch.sub(z, torch.sigmoid(self._logits(z))).mul_(weight.unsqueeze(1))
        return [self._by_input(error), error.sum(0), (error.T @ z).tril_(-1)]


class Nade(Belief):
    """Bits one after another through hidden units that they share, P(z_i = 1) = sigmoid(b_i + W_i h + V_i sigmoid(c + U h + R_<i z_<i))
    (Larochelle & Murray 2011; beside h as in Bornschein & Bengio 2015, arXiv 1406.2751). As many hidden units as bits."""

    outward = ("weight", "bias", "write")

    def __init__(self, inputs: int, size: int, start: float = 1.0):
        super().__init__()
        self.size = size
        self.weight = _weights(size, inputs, start)
        self.bias = nn.Parameter(torch.zeros(size))
        self.hidden = _weights(size, inputs, start)
        self.hidden_bias = nn.Parameter(torch.zeros(size))
        self.read = nn.Parameter(torch.randn(size, size) * 0.5 / size**0.5)  # R, a row for each bit
        self.write = nn.Parameter(torch.zeros(size, size))  # V, a row for each bit

    def forward(self, h: Tensor, copies: int = 1) -> Law:
        base = F.linear(h, self.weight, self.bias)
        hidden = F.linear(h, self.hidden, self.hidden_bias).repeat(copies, 1)
        return NadeLaw(h, base, copies, hidden, self.read, self.write)


class NadeLaw(Walked):
    def __init__(self, h: Tensor, base: Tensor, copies: int, hidden: Tensor, read: Tensor, write: Tensor):
        super().__init__(h, base, copies)
        self.hidden, self.read, self.write = hidden, read, write

    def walk(self, bit: Bit) -> Tensor:
        return self._walk(bit)[0]

    def _walk(self, bit: Bit) -> tuple[Tensor, Tensor, Tensor]:
        """The bits, their logits, and what the hidden units receive in the end."""
        inner, z, logits = self.hidden.clone(), torch.empty_like(self.base), torch.empty_like(self.base)
        for i in range(z.shape[1]):
            logits[:, i] = torch.addmv(self.base[:, i], torch.sigmoid(inner), self.write[i])
            z[:, i] = bit(i, logits[:, i])
            inner.addr_(z[:, i], self.read[i])
        return z, logits, inner

    @torch.no_grad()
    def log_prob(self, z: Tensor) -> Tensor:
        return bits_log_prob(self._walk(lambda i, logit: z[:, i])[1], z)

    @torch.no_grad()
    def pull(self, z: Tensor, weight: Tensor) -> list[Tensor]:
        _, logits, inner = self._walk(lambda i, logit: z[:, i])
        error = torch.sub(z, torch.sigmoid(logits)).mul_(weight.unsqueeze(1))
        to_read, to_write = torch.empty_like(self.read), torch.empty_like(self.write)
        to_inner = torch.zeros_like(inner)  # what bits after i ask of the hidden units
        for i in range(z.shape[1] - 1, -1, -1):
            to_read[i] = z[:, i] @ to_inner
            inner.addr_(z[:, i], self.read[i], alpha=-1)
            s = torch.sigmoid(inner)
            to_write[i] = error[:, i] @ s
            to_inner += torch.outer(error[:, i], self.write[i]).mul_(s).mul_(1 - s)
        return [self._by_input(error), error.sum(0), self._by_input(to_inner), to_inner.sum(0), to_read, to_write]


KINDS: dict[Kind, type[Sigmoid] | type[Darn] | type[Nade]] = {"sigmoid": Sigmoid, "darn": Darn, "nade": Nade}
