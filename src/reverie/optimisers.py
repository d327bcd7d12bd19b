"""How parameters move, once their gradients are known."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from reverie.core.recipe import TrainingConfig

EPSILON = 1e-8


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


def _alike(gradient: Tensor, parameter: Tensor) -> Tensor:
    """The gradient laid out in memory as the parameter is: the fused kernel reads both from end to end, whatever their strides."""
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


def optimiser(config: TrainingConfig, parameters: Sequence[nn.Parameter]) -> Optimiser:
    """The one that the settings name."""
    if config.optimiser == "sgd":
        return Descent(parameters, config.decay)
    return Adam(parameters, config.beta1, config.beta2, config.decay)
