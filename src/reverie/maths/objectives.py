"""What a recognition model may be trained by: surrogates whose gradients are those of a bound, or better ones.

All are made of log-weights. What is told is always the bound itself, whatever is differentiated.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from reverie.core.distributions import Reparameterised
from reverie.core.model import Batch
from reverie.maths.bounds import Explains, weigh

Objective = Literal["elbo", "stl", "iwae", "dreg"]


class Surrogate(NamedTuple):
    """What is differentiated, and what is told; both () nats per example."""

    loss: Tensor
    bound: Tensor  # of log p(x), detached


def bound_of(log_w: Float[Tensor, "M K B"]) -> Float[Tensor, " B"]:
    """The mean of M bounds of K draws each: IWAE-K at M = 1, the evidence bound at K = 1."""
    return (torch.logsumexp(log_w, 1) - math.log(log_w.shape[1])).mean(0)


def surrogate(
    model: Explains,
    q: Reparameterised,
    batch: Batch,
    objective: Objective,
    draws: int = 1,
    repeats: int = 1,
    weight: float = 1.0,
    free: float = 0.0,
) -> Surrogate:
    """The loss of `objective` for a batch and q = q(z|x) of it, with `draws` = K and `repeats` = M, its KL term weighed by `weight`.

    - `elbo`: the evidence bound (Kingma & Welling 2013, arXiv 1312.6114), its KL in closed form where there is
      one, averaged over M K draws; `free` nats of KL are free for each latent (Kingma et al. 2016, arXiv 1606.04934).
    - `stl`: the same bound without the score of q, whose gradient has no variance where q is the
      posterior (Roeder, Wu & Duvenaud 2017, arXiv 1703.09194).
    - `iwae`: the bound of K draws (Burda, Grosse & Salakhutdinov 2015, arXiv 1509.00519), averaged over M of
      them (Rainforth et al. 2018, arXiv 1802.04537); with holes in the data, MIWAE (Mattei & Frellsen 2019, arXiv 1812.02633).
    - `dreg`: the same bound with the doubly reparameterised gradient (Tucker, Lawson, Gu & Maddison 2018, arXiv 1810.04152).
    """
    if objective == "elbo":
        # As it was drawn, for a q that need not ask for the density of its own draw (nets/flows.py).
        each = [q.sample()] if repeats * draws == 1 else list(q.sample(repeats * draws))
        return _elbo(model, q, each, batch, weight, free)
    z = q.sample(repeats * draws)
    scales: list[Tensor] = []
    if objective == "dreg" and z.requires_grad:
        z.register_hook(lambda gradient: gradient * scales[0].view(*scales[0].shape, *[1] * (gradient.dim() - 2)))
    found = weigh(model, q if objective == "iwae" else q.frozen(), z, batch.x, batch.observed, batch.given)
    shape = repeats, draws, len(batch.x)
    told = bound_of(found.log_w.detach().view(shape)).mean()
    log_w = (found.log_likelihood + weight * (found.log_prior - found.log_q)).view(shape)
    if objective == "stl":
        return Surrogate(-log_w.mean(), found.log_w.detach().mean())
    if objective == "iwae":
        return Surrogate(-bound_of(log_w).mean(), told)
    share = torch.softmax(log_w.detach(), 1)
    # Through z, which leads to q alone, the gradient is weighed twice: once here and once by the hook.
    scales.append(share.flatten(0, 1))
    return Surrogate(-(share * log_w).sum(1).mean(), told)


def _elbo(
    model: Explains, q: Reparameterised, z: Sequence[Tensor], batch: Batch, weight: float, free: float
) -> Surrogate:
    if len(z) > 1:
        rows = (None if part is None else part.expand(len(z), *part.shape).flatten(0, 1) for part in batch)
        batch = Batch(*rows)  # type: ignore[arg-type]
    likelihood = model.decode(torch.cat(tuple(z)), batch.given).log_prob(batch.x, batch.observed).mean()
    kl = (
        model.prior.kl(q, z[0]).mean(0)
        if len(z) == 1
        else torch.stack([model.prior.kl(q, one) for one in z]).mean((0, 1))
    )
    whole = kl.sum()
    # Free bits are counted for each latent where the KL is a sum over them, otherwise for all together.
    allowance = free * (math.prod(z[0].shape[1:]) if kl.dim() == 0 else 1)
    charged = kl.clamp(min=allowance).sum() if free > 0 else whole
    loss = charged - likelihood if weight == 1 else weight * charged - likelihood
    return Surrogate(loss, (likelihood - whole).detach())
