"""Several members that learn side by side, each by itself."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from reverie.core.model import Model, Phase


def turn(model: Model, loss: Float[Tensor, " S"], nats: Float[Tensor, " S"], rested: Float[Tensor, " S"]) -> Phase:
    """Each member's own step down its loss. One that has nothing finite to say rests, which is counted, and the others learn on.

    Every parameter has its members along the first axis.
    """
    fine = loss.detach().isfinite()
    report = nats.detach()[fine].mean() if fine.any() else nats.detach().mean()
    if not torch.is_grad_enabled():
        return Phase("all", report)
    parameters = list(model.parameters())
    found: Sequence[Tensor | None] = [None] * len(parameters)
    if fine.any():
        found = torch.autograd.grad(loss[fine].sum(), parameters, allow_unused=True)
    for gradient in found:
        if gradient is not None:
            fine = fine & gradient.isfinite().flatten(1).all(1)
    if model.training:
        rested += (~fine).to(rested.dtype)
    return Phase("all", None, report, [None if g is None else _only(g, fine) for g in found], ~fine)


def _only(gradient: Tensor, fine: Tensor) -> Tensor:
    """The gradient, 0 for members that are not fine."""
    return torch.where(fine.view(-1, *[1] * (gradient.dim() - 1)), gradient, 0.0)
