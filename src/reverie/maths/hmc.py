"""Hamiltonian Monte Carlo for many chains at once (Duane, Kennedy, Pendleton & Roweth 1987; Neal 2011, arXiv 1206.1901).

A density is given by terms whose weighted sum is log p up to a constant. Their gradients are kept apart, so that a
chain on an annealing path, where only the weights change, starts each move with the gradient it ended the last one with.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

Terms = Callable[[Tensor], Sequence[Tensor]]  # z (N, Z) -> K terms of log p, each (N,) nats


class State(NamedTuple):
    """Where each of N chains is, and what the density says there."""

    z: Tensor  # (N, Z)
    terms: Tensor  # (K, N) nats
    slopes: Tensor  # (K, N, Z) gradient of each term

    @classmethod
    def at(cls, density: Terms, z: Float[Tensor, "N Z"]) -> "State":
        """All chains in one batch; no graph survives, and no parameter collects a gradient.

        >>> State.at(lambda z: [-0.5 * z.square().sum(1)], torch.tensor([[1.0, 2.0]])).slopes
        tensor([[[-1., -2.]]])
        """
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            terms = density(z)
            # One backward pass a term. Stacked first, each pass would run through all of the terms.
            slopes = [
                torch.autograd.grad(term.sum(), z, retain_graph=k < len(terms) - 1)[0] for k, term in enumerate(terms)
            ]
        return cls(z.detach(), torch.stack([term.detach() for term in terms]), torch.stack(slopes))

    def log_p(self, weights: Sequence[float]) -> Float[Tensor, " N"]:
        """Nats, up to a constant."""
        return _mixed(weights, self.terms)

    def force(self, weights: Sequence[float]) -> Float[Tensor, "N Z"]:
        """The gradient of log p."""
        return _mixed(weights, self.slopes)


def _mixed(weights: Sequence[float], parts: Tensor) -> Tensor:
    return sum((weight * part for weight, part in zip(weights, parts, strict=True)), start=parts.new_zeros(()))


def leapfrog(
    density: Terms,
    state: State,
    momentum: Float[Tensor, "N Z"],
    step: Float[Tensor, "N #Z"],
    leaps: int,
    weights: Sequence[float] = (1.0,),
) -> tuple[State, Float[Tensor, "N Z"]]:
    """The state and the momentum (N, Z) after `leaps` steps, of a particle whose energy is -log p(z) + |momentum|^2 / 2.

    Reversible and volume preserving. `step` is a size for each chain, or for each of its coordinates
    too, which amounts to a diagonal mass matrix. Takes one gradient a leap.
    """
    momentum = momentum + 0.5 * step * state.force(weights)
    for leap in range(1, leaps + 1):
        state = State.at(density, state.z + step * momentum)
        # Between two leaps, the half kick that ends one and the half kick that begins the next are one.
        momentum = momentum + (step if leap < leaps else 0.5 * step) * state.force(weights)
    return state, momentum


def transition(
    density: Terms,
    state: State,
    momentum: Float[Tensor, "N Z"],
    log_u: Float[Tensor, " N"],
    step: Float[Tensor, "N #Z"],
    leaps: int,
    weights: Sequence[float] = (1.0,),
) -> tuple[State, Float[Tensor, " N"]]:
    """One move that leaves p invariant and is reversible, and the probability (N,) with which each chain accepted it.

    The draws are the caller's: `momentum` from N(0, I), `log_u` the logarithm of a uniform number. A trajectory
    that runs off to where the density is not a number is refused.

    >>> def normal(z):
    ...     return [-0.5 * z.square().sum(1)]
    >>> state = State.at(normal, torch.zeros(1000, 1))
    >>> for _ in range(20):
    ...     noise, log_u = torch.randn(1000, 1), torch.rand(1000).log()
    ...     state, accepted = transition(normal, state, noise, log_u, torch.full((1000, 1), 0.8), leaps=3)
    >>> abs(float(state.z.std()) - 1) < 0.1
    True
    """
    proposal, after = leapfrog(density, state, momentum, step, leaps, weights)
    kinetic = 0.5 * (momentum.square() - after.square()).sum(1)
    log_ratio = proposal.log_p(weights) - state.log_p(weights) + kinetic
    moves = log_u < log_ratio  # never where it is NaN
    row = moves.unsqueeze(1)
    new = State(
        torch.where(row, proposal.z, state.z),
        torch.where(moves, proposal.terms, state.terms),
        torch.where(row, proposal.slopes, state.slopes),
    )
    return new, log_ratio.nan_to_num(nan=-torch.inf).clamp(max=0).exp()
