"""Log-weights log p(x, z) - log q(z|x): the one quantity behind the evidence bound, its tighter kin, and surprise.

Burda, Grosse & Salakhutdinov (2015, arXiv 1509.00519); the evidence bound at k = 1.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from reverie.core.distributions import Distribution, Placed
from reverie.core.model import Estimate
from reverie.maths.pareto import pareto_k, tail_length

BLOCK = 64  # draws whose noise is made together, so that it does not depend on how many are weighed at a time


Q = TypeVar("Q", bound=Placed, covariant=True)


@runtime_checkable
class Explains(Protocol[Q]):
    """p(z), p(x|z) and q(z|x): what a latent-variable model must offer to be weighed."""

    @property
    def prior(self) -> Distribution: ...
    def encode(self, x: Tensor, observed: Tensor | None = None, given: Tensor | None = None) -> Q: ...
    def decode(self, z: Tensor, given: Tensor | None = None) -> Distribution: ...


# q(z|x), noise (k, B, *event), x, observed, given -> log-weights (k, B) of the draws that the noise becomes
Weigher = Callable[[Any, Tensor, Tensor, Tensor | None, Tensor | None], Tensor]


class Weighed(NamedTuple):
    """The three terms of the log-weights of draws z (k, B, Z), nats."""

    z: Tensor
    log_likelihood: Tensor  # (k, B) log p(x|z), of the observed entries
    log_prior: Tensor  # (k, B) log p(z)
    log_q: Tensor  # (k, B) log q(z|x)

    @property
    def log_w(self) -> Tensor:
        return self.log_likelihood + self.log_prior - self.log_q


def perceived(model: Explains[Q], x: Tensor, observed: Tensor | None, given: Tensor | None) -> Q:
    """q(z | what was observed of x, given)."""
    return model.encode(x if observed is None else torch.where(observed, x, x.new_zeros(())), observed, given)


def weigh(
    model: Explains,
    q: Distribution,
    z: Float[Tensor, "k B ..."],
    x: Float[Tensor, "B *shape"],
    observed: Bool[Tensor, "B *shape"] | None = None,
    given: Int[Tensor, " B"] | None = None,
) -> Weighed:
    """The terms of the log-weights of z, draws from q = q(z|x)."""
    k = len(z)
    seen, labels = (None if part is None else part.expand(k, *part.shape).flatten(0, 1) for part in (observed, given))
    law = model.decode(z.flatten(0, 1), labels)
    log_likelihood = law.log_prob(x.expand(k, *x.shape).flatten(0, 1), seen).view(k, -1)
    return Weighed(z, log_likelihood, model.prior.log_prob(z), q.log_prob(z))


def log_weights(
    model: Explains,
    x: Float[Tensor, "B *shape"],
    k: int,
    observed: Bool[Tensor, "B *shape"] | None = None,
    given: Int[Tensor, " B"] | None = None,
) -> Float[Tensor, "k B"]:
    """(k, B) nats: log p(x|z) + log p(z) - log q(z|x) for k draws z ~ q(z|x) of each example of x (B, *shape).

    Where `observed` is given, p(x|z) is that of the observed entries; q sees zeros for the others.
    """
    q = perceived(model, x, observed, given)
    return weigh(model, q, q.sample(k), x, observed, given).log_w


@torch.no_grad()
def surprise(
    model: Explains,
    x: Float[Tensor, "B *shape"],
    k: int,
    observed: Bool[Tensor, "B *shape"] | None = None,
    given: Int[Tensor, " B"] | None = None,
    seed: int = 0,
    at_once: int = 512,
    weigher: Weigher | None = None,
) -> Estimate:
    """-log p(x), nats per example (B,), estimated by -log mean of k weights, which on average is never below it.

    Streamed over examples and draws: no more than about `at_once` decoded examples are held, however large k and B
    are. The noise of an example is a function of `seed` and of its own content, so its estimate depends neither on its
    neighbours nor on `at_once`; but for a p(x|z) that is told of neighbouring entries and draws those that were not observed: then the
    estimate is a function of `seed` and of all examples with their holes. The standard error is that of the log of a mean (delta method):
    sqrt((k/ESS - 1) / (k - 1)), with the effective sample size ESS = (sum w)^2 / sum w^2, NaN where k is 1; it can be trusted where the tail
    of the weights is light, `pareto_k` < 0.7 (Vehtari, Simpson, Gelman, Yao & Gabry 2015, arXiv 1507.02646).
    A model that places and weighs draws in one go gives its own `weigher`.
    """
    if weigher is None:
        weigher = lambda q, noise, *example: weigh(model, q, q.place(noise), *example).log_w  # noqa: E731
    share = max(1, at_once // k)
    parts = []
    with seeded(seed, x.device):
        for i in range(0, len(x), share):
            part, seen, labels = (None if t is None else t[i : i + share] for t in (x, observed, given))
            assert part is not None
            q = perceived(model, part, seen, labels)
            mean = q.mean
            noise = _noise(part, seen, labels, tuple(mean.shape[1:]), k, seed, at_once)
            parts.append(_stream((weigher(q, e.to(mean), part, seen, labels) for e in noise), k))
    value, error, ess, tail = (torch.cat(column) for column in zip(*parts, strict=True))
    return Estimate(value, error, "nats", "lower", f"IWAE-{k}", ess, tail)


def _noise(
    x: Tensor, observed: Tensor | None, given: Tensor | None, event: tuple[int, ...], k: int, seed: int, at_once: int
) -> Iterator[Tensor]:
    """(draws, B, *event) standard normal, chunk by chunk up to k draws: the same stream whatever the chunks."""
    generators = []
    for i in range(len(x)):
        row = x[i] if observed is None else torch.where(observed[i], x[i], x.new_full((), torch.nan))
        # Plus zero, so that -0 and 0 are one number.
        content = (row.float() + 0.0).cpu().numpy().tobytes() + (
            b"" if given is None else bytes(str(int(given[i])), "ascii")
        )
        digest = blake2b(content, digest_size=8, key=seed.to_bytes(8, "little", signed=True)).digest()
        generators.append(torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1))
    blocks = max(1, at_once // len(x) // BLOCK)
    left = k
    while left > 0:
        sizes = [min(BLOCK, left - i * BLOCK) for i in range(min(blocks, -(-left // BLOCK)))]
        yield torch.stack([torch.cat([torch.randn(n, *event, generator=g) for n in sizes]) for g in generators], 1)
        left -= sum(sizes)


def _stream(weights: Iterator[Tensor], k: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """-log mean w, its error, the effective sample size and the tail index, each (B,), of (draws, B) log-weights."""
    log_sum = log_squares = tail = torch.empty(0)
    for i, log_w in enumerate(weights):
        if not i:
            log_sum = log_squares = log_w.new_full(log_w.shape[1:], -math.inf)  # of w, and of w squared
            tail = log_w.new_empty(0, log_w.shape[1])
        log_sum = torch.logaddexp(log_sum, log_w.logsumexp(0))
        log_squares = torch.logaddexp(log_squares, (2 * log_w).logsumexp(0))
        tail = torch.cat([tail, log_w])
        tail = tail.topk(min(len(tail), tail_length(k) + 1), dim=0).values
    ess = torch.exp(2 * log_sum - log_squares)
    return math.log(k) - log_sum, error_of_log_mean(ess, k), ess, pareto_k(tail.T)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Distributions draw from torch's own generator: it is seeded here, and put back afterwards."""
    others = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(others, device_type=device.type if others else "cuda"):
        # torch.manual_seed would seed every kind of device there might be, in a thousand times the time.
        (torch.manual_seed if others else torch.default_generator.manual_seed)(seed)
        yield


def error_of_log_mean(ess: Tensor, k: int) -> Tensor:
    """The standard error of the log of a mean of k weights with that effective sample size (delta method); NaN of a single one."""
    if k == 1:
        return torch.full_like(ess, math.nan)
    return ((k / ess - 1) / (k - 1)).clamp(min=0).sqrt()
