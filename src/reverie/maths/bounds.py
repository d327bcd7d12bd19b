"""One kernel for every bound: the log-weights of importance sampling with the recognition model.

With z_1..z_k ~ q(z|x) and w_i = p(x|z_i) p(z_i) / q(z_i|x), each w_i is an unbiased estimate of p(x);
log mean w is the bound of Burda, Grosse & Salakhutdinov (2015, arXiv 1509.00519), the evidence bound at k = 1.
"""

import math
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reverie.core.distributions import Distribution
from reverie.core.model import Estimate


@runtime_checkable
class Explains(Protocol):
    """p(z), p(x|z) and q(z|x): what a latent-variable model must offer to be weighed."""

    @property
    def prior(self) -> Distribution: ...
    def encode(self, x: Tensor) -> Distribution: ...
    def decode(self, z: Tensor) -> Distribution: ...


def log_weights(
    model: Explains, x: Float[Tensor, "B *shape"], k: int, observed: Bool[Tensor, "B *shape"] | None = None
) -> Float[Tensor, "k B"]:
    """(k, B) nats: log p(x|z) + log p(z) - log q(z|x) for k draws z ~ q(z|x) of each example of x (B, *shape).

    Where `observed` is given, p(x|z) is that of the observed entries; q sees zeros for the others.
    """
    q = model.encode(x if observed is None else torch.where(observed, x, x.new_zeros(())))
    z = q.sample(k)
    seen = None if observed is None else observed.expand(k, *x.shape).flatten(0, 1)
    log_likelihood = model.decode(z.flatten(0, 1)).log_prob(x.expand(k, *x.shape).flatten(0, 1), seen)
    return log_likelihood.view(k, -1) + model.prior.log_prob(z) - q.log_prob(z)


@torch.no_grad()
def surprise(
    model: Explains,
    x: Float[Tensor, "B *shape"],
    k: int,
    observed: Bool[Tensor, "B *shape"] | None = None,
    at_once: int = 512,
) -> Estimate:
    """-log p(x), nats per example (B,), estimated by -log mean of k weights, which on average is never below it.

    Streamed: no more than about `at_once` decoded examples are held, however large k and B are. The
    standard error is that of the log of a mean (delta method): sqrt(1/ESS - 1/k), with the effective
    sample size ESS = (sum w)^2 / sum w^2.
    """
    parts = [
        _stream(model, x[i : i + at_once], k, None if observed is None else observed[i : i + at_once], at_once)
        for i in range(0, len(x), at_once)
    ]
    value, error, ess = (torch.cat(column) for column in zip(*parts, strict=True))
    return Estimate(value, error, "nats", "lower", f"IWAE-{k}", ess)


def _stream(model: Explains, x: Tensor, k: int, observed: Tensor | None, at_once: int) -> tuple[Tensor, Tensor, Tensor]:
    log_sum = x.new_full((len(x),), -math.inf)  # of w, and of w squared
    log_squares = log_sum.clone()
    done = 0
    while done < k:
        draws = min(k - done, max(1, at_once // len(x)))
        log_w = log_weights(model, x, draws, observed)
        log_sum = torch.logaddexp(log_sum, log_w.logsumexp(0))
        log_squares = torch.logaddexp(log_squares, (2 * log_w).logsumexp(0))
        done += draws
    ess = torch.exp(2 * log_sum - log_squares)
    return math.log(k) - log_sum, torch.sqrt((1 / ess - 1 / k).clamp(min=0)), ess
