"""How parameters move, once their gradients are known."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from reverie.core.recipe import TrainingConfig

EPSILON = 1e-8
MEMORY = 100  # rounds that the covariances of Soap remember
LOOK = 4  # rounds between two gradients that they are told of, once they know MEMORY of them: telling costs as much as turning
TURN = 50  # rounds, at least, between two turns of a basis; half as many as a side is long where that is more, for they cost its cube


class Optimiser(ABC):
    """Moves parameters against their gradients; its state has a name for every number.

    Parameters without a gradient stay as they are.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]):
        self.parameters = list(parameters)

    @torch.no_grad()
    def step(self, rate: float, rests: Bool[Tensor, " members"] | None = None) -> None:
        """One step at the learning rate `rate`. Members that rest, along the first axis of every parameter, are moved by nothing: neither
        by what is remembered of their gradients nor by decay."""
        if rests is None or not rests.any():
            self.move(rate)
            return
        kept = [(tensor, tensor[rests]) for tensor in self.moving()]
        self.move(rate)
        for tensor, rows in kept:
            tensor[rests] = rows

    @abstractmethod
    def move(self, rate: float) -> None:
        """The step of all members."""

    def moving(self) -> Sequence[Tensor]:
        """What a step changes that has the shape of a parameter."""
        return self.parameters

    @abstractmethod
    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every number of the state by name."""

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Puts back what `tensors()` gave; raises KeyError or RuntimeError where names or shapes differ."""
        for name, tensor in self.tensors():
            if tensors[name].shape != tensor.shape:  # copy_ would spread a single number over all
                raise RuntimeError(f"{name} is {tuple(tensors[name].shape)}, not {tuple(tensor.shape)}")
            tensor.copy_(tensors[name])


class Descent(Optimiser):
    """Plain gradient descent, as the delta rule has it, with decoupled weight decay."""

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float = 0.0):
        super().__init__(parameters)
        self.decay = decay

    def move(self, rate: float) -> None:
        moved: list[Tensor] = [p for p in self.parameters if p.grad is not None]
        if not moved:
            return
        if self.decay:
            torch._foreach_mul_(moved, 1 - rate * self.decay)
        torch._foreach_add_(moved, [g for p in moved if (g := p.grad) is not None], alpha=-rate)

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        return iter(())


class Adam(Optimiser):
    """Adam with decoupled weight decay (Kingma & Ba 2014, arXiv 1412.6980; Loshchilov & Hutter 2017, arXiv 1711.05101).

    One call of the same fused kernel that torch.optim.AdamW ends in. What stands before it there, looked up
    and counted anew for every parameter in every step, is the thirtieth part of a round of a small network.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], beta1: float, beta2: float, decay: float):
        super().__init__(parameters)
        self.beta1, self.beta2, self.decay = beta1, beta2, decay
        self.mean = [torch.zeros_like(p) for p in self.parameters]
        self.square = [torch.zeros_like(p) for p in self.parameters]
        device = self.parameters[0].device if self.parameters else None
        self.count = torch.zeros(len(self.parameters), device=device)  # of the steps that each has made
        self.counts = self.count.unbind()

    def moving(self) -> Sequence[Tensor]:
        return [*self.parameters, *self.mean, *self.square]

    def move(self, rate: float) -> None:
        moved = [i for i, p in enumerate(self.parameters) if p.grad is not None]
        if not moved:
            return
        if len(moved) == len(self.parameters):
            self.count += 1
        else:
            self.count[moved] += 1
        torch._fused_adamw_(
            [self.parameters[i] for i in moved],
            [_alike(g, p) for p in self.parameters if (g := p.grad) is not None],
            [self.mean[i] for i in moved],
            [self.square[i] for i in moved],
            [],
            [self.counts[i] for i in moved],
            lr=rate,
            beta1=self.beta1,
            beta2=self.beta2,
            weight_decay=self.decay,
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
        )

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        yield "count", self.count
        for i, (mean, square) in enumerate(zip(self.mean, self.square, strict=True)):
            yield f"{i}.mean", mean
            yield f"{i}.square", square


class Soap(Optimiser):
    """Adam in the eigenbasis of Shampoo: what it remembers of squares is told along the directions in which gradients vary, not along
    single weights (Vyas et al. 2024, arXiv 2409.11321; Gupta, Koren & Singer 2018, arXiv 1802.09568), with decoupled weight decay.

    A weight is a matrix of its first axis and all others, for each of `members` that lie along the first axis by itself; a vector is moved by Adam, and so
    is a matrix along a side of more than `longest`. Each side turns into the basis of its covariance, which one step of orthogonal iteration follows
    every TURN rounds or more, and before that in those of a power of two; the first round only looks, and moves nothing.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        beta1: float,
        beta2: float,
        decay: float,
        members: int = 1,
        longest: int = TrainingConfig.longest,
    ):
        super().__init__(parameters)
        self.beta1, self.beta2, self.decay = beta1, beta2, decay
        self.count = torch.zeros(len(self.parameters), dtype=torch.long)  # of the rounds of each
        self.preconditioned = [_Preconditioned(p, members, longest) for p in self.parameters]

    def moving(self) -> Sequence[Tensor]:
        return [*self.parameters, *(t for one in self.preconditioned for _, t in one.tensors())]

    def move(self, rate: float) -> None:
        for i, (parameter, one) in enumerate(zip(self.parameters, self.preconditioned, strict=True)):
            if parameter.grad is None:
                continue
            self.count[i] += 1
            step = one.step(parameter.grad, int(self.count[i]), self.beta1, self.beta2)
            if self.decay:
                parameter.mul_(1 - rate * self.decay)
            parameter.sub_(step.view_as(parameter), alpha=rate)

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        yield "count", self.count
        for i, one in enumerate(self.preconditioned):
            for name, tensor in one.tensors():
                yield f"{i}.{name}", tensor


class _Preconditioned:
    """What Soap remembers of one parameter, as matrices (S, rows, columns) of S members: mean and square are those of the turned gradient."""

    def __init__(self, parameter: Tensor, members: int, longest: int):
        first, *others = [n for n in parameter.shape[members > 1 :] if n != 1] or [1]
        self.shape = (members, first, math.prod(others))
        self.mean, self.square = (parameter.detach().new_zeros(self.shape) for _ in range(2))
        sides = [n if others and 1 < n <= longest else 0 for n in self.shape[1:]]
        self.covariance, self.basis = ([self.mean.new_zeros(members, n, n) for n in sides] for _ in range(2))

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        yield "turned.mean", self.mean
        yield "turned.square", self.square
        for kind, pair in (("covariance", self.covariance), ("basis", self.basis)):
            for side, tensor in zip(("left", "right"), pair, strict=True):
                yield f"{kind}.{side}", tensor

    def step(self, gradient: Tensor, count: int, beta1: float, beta2: float) -> Tensor:
        """What to go against, the rate apart, in the round of that number."""
        g = gradient.reshape(self.shape)
        if count < MEMORY or count % LOOK == 0:
            share = 1 / count if count < MEMORY else LOOK / MEMORY
            for covariance, (one, other) in zip(self.covariance, ((g, g.mT), (g.mT, g)), strict=True):
                if covariance.shape[1]:
                    covariance.baddbmm_(one, other, beta=1 - share, alpha=share)
        self._turn(count)
        left, right = self.basis
        g = left.mT @ g if left.shape[1] else g
        g = g @ right if right.shape[1] else g
        self.mean.lerp_(g, 1 - beta1)
        self.square.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        if count == 1 and (left.shape[1] or right.shape[1]):
            return torch.zeros_like(g)  # a basis of one gradient says too little
        size = (self.square / (1 - beta2**count)).sqrt_().add_(EPSILON)
        step = self.mean / size.mul_(1 - beta1**count)
        step = left @ step if left.shape[1] else step
        return step @ right.mT if right.shape[1] else step

    def _turn(self, count: int) -> None:
        """The bases whose round it is follow the covariances, the greatest eigenvalue first; what is remembered of gradients turns with
        them, and what is remembered of squares follows its direction."""
        for axis, (covariance, basis) in enumerate(zip(self.covariance, self.basis, strict=True), 1):
            size = covariance.shape[1]
            pause = max(TURN, size // 2)
            if not size or (count % pause and (count > pause or count & (count - 1))):
                continue
            if count == 1:  # what is no number is not turned, but moves the weights, by which the loop stops
                basis.copy_(torch.linalg.eigh(covariance.nan_to_num(0, 0, 0)).eigenvectors.flip(-1))
                continue
            ahead = covariance @ basis
            order = (basis * ahead).sum(1).argsort(-1, descending=True)
            self.square.copy_(torch.take_along_dim(self.square, order.unsqueeze(3 - axis), axis))
            turned = torch.linalg.qr(torch.take_along_dim(ahead, order.unsqueeze(1), 2)).Q
            turn = turned.mT @ basis
            self.mean.copy_(turn @ self.mean if axis == 1 else self.mean @ turn.mT)
            basis.copy_(turned)


def _alike(gradient: Tensor, parameter: Tensor) -> Tensor:
    """The gradient laid out in memory as the parameter is: the fused kernel reads both from end to end, whatever their strides."""
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


def optimiser(config: TrainingConfig, parameters: Sequence[nn.Parameter], members: int = 1) -> Optimiser:
    """The one that the settings name; where there are several `members`, they lie along the first axis of every parameter."""
    if config.optimiser == "sgd":
        return Descent(parameters, config.decay)
    if config.optimiser == "soap":
        return Soap(parameters, config.beta1, config.beta2, config.decay, members, config.longest)
    return Adam(parameters, config.beta1, config.beta2, config.decay)
