"""What is missing given what was seen: draws from p(x_missing | x_observed) of a model with p(z), p(x|z) and q(z|x).

Three ways. Importance resampling needs no chain, and many draws where q(z|x_observed) is poor. Pseudo-Gibbs is right as far as q(z|x) is
the posterior. Metropolis-within-Gibbs is right whatever q, once its chains have forgotten where they began.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from reverie.core.corruption import Corruption, as_corruption
from reverie.core.distributions import Factorised
from reverie.core.errors import BadInput
from reverie.maths.bounds import Explains, perceived
from reverie.maths.convergence import r_hat

DIRECTIONS = 2  # through z, along which chains are compared


class Repaired(NamedTuple):
    """Draws of whole examples given what was seen of them, and how far they can be trusted."""

    draws: Tensor  # (n, B, *shape) model units
    method: str
    acceptance: Tensor | None = None  # (B,) share of Metropolis proposals that were accepted
    r_hat: Tensor | None = (
        None  # (B,) of the later half of the chains; 1 where they agree, NaN if that is under 4 sweeps
    )
    ess: Tensor | None = None  # (B,) effective sample size of the importance weights


class Seen(NamedTuple):
    """What was seen of some examples, and how."""

    y: Tensor  # (B, *shape), 0 where unobserved
    observed: Tensor | None  # (B, *shape) bool
    given: Tensor | None  # (B,) labels
    corruption: Corruption | None

    @classmethod
    def of(cls, y: Tensor, observed: Tensor | None, given: Tensor | None, noise: float | Corruption) -> "Seen":
        """Whatever stands at unobserved entries, NaN say, is forgotten here."""
        y = y if observed is None else torch.where(observed, y, y.new_zeros(()))
        return cls(y, observed, given, as_corruption(noise))

    def rows(self, i: Tensor) -> "Seen":
        """Those of examples i, in that order."""
        y, observed, given = (None if part is None else part[i] for part in self[:3])
        assert y is not None
        return Seen(y, observed, given, self.corruption)

    def repeated(self, n: int) -> "Seen":
        """(n B) of them: all examples, n times over."""
        return self.rows(torch.arange(len(self.y), device=self.y.device).repeat(n))

    def log_prob(self, law: Factorised) -> Tensor:
        """(B,) nats of what was seen, under p(x|z)."""
        if self.corruption is None:
            return law.log_prob(self.y, self.observed)
        # An unobserved entry is asked about at a value that it can have, and does not count.
        y = self.y if self.observed is None else torch.where(self.observed, self.y, law.sample())
        terms = self.corruption.evidence(law, y)
        seen = terms if self.observed is None else torch.where(self.observed, terms, terms.new_zeros(()))
        return seen.flatten(1).sum(1)

    def fill(self, law: Factorised) -> Tensor:
        """(B, *shape) x ~ p(x | z, what was seen)."""
        return law.fill(self.y, self.observed, self.corruption or 0.0)

    def expected(self, law: Factorised) -> Tensor:
        """(B, *shape) the mean of p(x|z) where nothing was seen; what was seen, or a draw of what it was before it was spoiled."""
        known = self.y if self.corruption is None else self.fill(law)
        return known if self.observed is None else torch.where(self.observed, known, law.mean)


@torch.no_grad()
def importance_resampling(
    model: Explains,
    y: Float[Tensor, "B *shape"],
    observed: Bool[Tensor, "B *shape"] | None,
    n: int,
    k: int = 1000,
    noise: float | Corruption = 0.0,
    given: Int[Tensor, " B"] | None = None,
    at_once: int = 512,
) -> Repaired:
    """n draws of each example, from k of z ~ q(z|x_observed) by their self-normalised weights (sampling-importance-resampling,
    Rubin 1987; for missing entries Mattei & Frellsen 2019, arXiv 1812.02633). Right as k grows; `ess` says how many of the k count.

    About `at_once` decoded examples are held at a time, here and below, and at most k latents of one example.
    """
    parts, sizes = [], []
    for seen, z, log_w in _weighed(model, Seen.of(y, observed, given, noise), k, at_once):
        share = torch.softmax(log_w, 0)
        chosen = torch.multinomial(share.T, n, replacement=True).T  # (n, B)
        example = torch.arange(len(seen.y), device=y.device).repeat(n)
        drawn = z[chosen.flatten(), example]
        filled = []
        for i in torch.arange(len(drawn), device=y.device).split(at_once):
            rows = seen.rows(example[i])
            filled.append(rows.fill(_law(model, drawn[i], rows.given)))
        parts.append(torch.cat(filled).view(n, *seen.y.shape))
        sizes.append(1 / share.square().sum(0))
    return Repaired(torch.cat(parts, 1), f"importance resampling of {k}", ess=torch.cat(sizes))


@torch.no_grad()
def posterior_mean(
    model: Explains,
    y: Float[Tensor, "B *shape"],
    observed: Bool[Tensor, "B *shape"] | None,
    k: int = 1000,
    noise: float | Corruption = 0.0,
    given: Int[Tensor, " B"] | None = None,
    at_once: int = 512,
) -> tuple[Float[Tensor, "B *shape"], Float[Tensor, " B"]]:
    """E[x | what was seen] (B, *shape) in model units, and the effective sample size (B,) of the k weights it is a mean over.

    Of all answers it has the least expected squared error; it is smoother than anything likely. A missing entry enters by the mean
    of p(x|z), a corrupted one by a draw for each z.
    """
    means, sizes = [], []
    for seen, z, log_w in _weighed(model, Seen.of(y, observed, given, noise), k, at_once):
        share = torch.softmax(log_w, 0)
        total, few = torch.zeros_like(seen.y), max(1, at_once // len(seen.y))
        for part, weights in zip(z.split(few), share.split(few), strict=True):
            rows = seen.repeated(len(part))
            x = rows.expected(_law(model, part.flatten(0, 1), rows.given)).view(len(part), *seen.y.shape)
            total += torch.einsum("kb,kb...->b...", weights, x)
        if seen.corruption is None:  # weights sum to one up to rounding, but what was seen comes back as it is
            total = seen.y if seen.observed is None else torch.where(seen.observed, seen.y, total)
        means.append(total)
        sizes.append(1 / share.square().sum(0))
    return torch.cat(means), torch.cat(sizes)


@torch.no_grad()
def pseudo_gibbs(
    model: Explains,
    y: Float[Tensor, "B *shape"],
    observed: Bool[Tensor, "B *shape"] | None,
    n: int,
    sweeps: int = 50,
    noise: float | Corruption = 0.0,
    given: Int[Tensor, " B"] | None = None,
    start: Float[Tensor, "n B ..."] | None = None,
    at_once: int = 512,
) -> Repaired:
    """The ends of n chains for each example: z ~ q(z|x), then x ~ p(x | z, what was seen), `sweeps` times (Rezende, Mohamed & Wierstra
    2014, arXiv 1401.4082). They begin at the latents `start` (n, B, *Z), or at draws from q(z|x_observed).

    Where q is not the posterior the chains settle on another law than p(x_missing|x_observed), and no R-hat can tell.
    """
    seen = Seen.of(y, observed, given, noise)
    return _chains(model, seen, n, sweeps, sweeps, start, at_once)._replace(method=f"pseudo-Gibbs, {sweeps} sweeps")


@torch.no_grad()
def metropolis_within_gibbs(
    model: Explains,
    y: Float[Tensor, "B *shape"],
    observed: Bool[Tensor, "B *shape"] | None,
    n: int,
    sweeps: int = 100,
    warm: int = 10,
    noise: float | Corruption = 0.0,
    given: Int[Tensor, " B"] | None = None,
    start: Float[Tensor, "n B ..."] | None = None,
    at_once: int = 512,
) -> Repaired:
    """The ends of n chains for each example, as of `pseudo_gibbs`, but z' ~ q(z|x) is only a proposal, which is accepted with probability

        min(1, p(x|z') p(z') q(z|x) / (p(x|z) p(z) q(z'|x)))

    (Mattei & Frellsen 2018, arXiv 1802.04826): in the limit exact for every q that is nowhere zero. The first `warm` sweeps are
    pseudo-Gibbs, for a chain that begins far from where it belongs may hardly ever accept.

    >>> from reverie.core.space import Space
    >>> from reverie.models.vae import VAE, VAEConfig
    >>> vae = VAE(VAEConfig(latent=2, width=8), Space((4,), "bit"))
    >>> x, observed = torch.ones(3, 4), torch.tensor([True, True, False, True]).expand(3, 4)
    >>> found = metropolis_within_gibbs(vae, x, observed, n=5, sweeps=4)
    >>> found.draws.shape, found.acceptance.shape
    (torch.Size([5, 3, 4]), torch.Size([3]))
    """
    seen = Seen.of(y, observed, given, noise)
    found = _chains(model, seen, n, warm + sweeps, warm, start, at_once)
    return found._replace(method=f"Metropolis-within-Gibbs, {sweeps} sweeps after {warm} of pseudo-Gibbs")


def _weighed(model: Explains, seen: Seen, k: int, at_once: int) -> Iterator[tuple[Seen, Tensor, Tensor]]:
    """A few examples at a time: what was seen of them, z (k, B, *Z) ~ q(z|x_observed), and their log-weights (k, B)."""
    for i in torch.arange(len(seen.y), device=seen.y.device).split(max(1, at_once // k)):
        part, few = seen.rows(i), max(1, at_once // len(i))
        q = perceived(model, part.y, part.observed, part.given)
        draws, weights = [], []
        for left in range(k, 0, -few):
            z = q.sample(min(left, few))
            rows = part.repeated(len(z))
            log_likelihood = rows.log_prob(_law(model, z.flatten(0, 1), rows.given)).view(len(z), -1)
            draws.append(z)
            weights.append(log_likelihood + model.prior.log_prob(z) - q.log_prob(z))
        yield part, torch.cat(draws), torch.cat(weights)


def _chains(
    model: Explains, seen: Seen, n: int, sweeps: int, warm: int, start: Tensor | None, at_once: int
) -> Repaired:
    """All n B chains, `at_once` of them at a time; proposals are always accepted in the first `warm` sweeps."""
    b = len(seen.y)
    example = torch.arange(b, device=seen.y.device).repeat(n)
    parts = []
    for i in torch.arange(n * b, device=seen.y.device).split(at_once):
        rows = seen.rows(example[i])
        z = perceived(model, *rows[:3]).sample() if start is None else start.flatten(0, 1)[i]
        parts.append(_walk(model, rows, z, sweeps, warm))
    x, accepted, trace = zip(*parts, strict=True)
    each = r_hat(torch.cat(trace, -1).unflatten(-1, (n, b)).movedim(2, 0))  # (quantities, B)
    worst = each.nan_to_num(nan=-torch.inf, posinf=torch.inf).amax(0)
    return Repaired(
        torch.cat(x).view(n, *seen.y.shape),
        "",
        torch.cat(accepted).view(n, b).mean(0) if sweeps > warm else None,
        torch.where(worst == -torch.inf, torch.nan, worst),
    )


def _walk(model: Explains, seen: Seen, z: Tensor, sweeps: int, warm: int) -> tuple[Tensor, Tensor, Tensor]:
    """x (rows, *shape), the share accepted (rows,), and the later half of what is watched (steps, quantities, rows)."""
    law = _law(model, z, seen.given)
    x = seen.fill(law)
    accepted, watched = z.new_zeros(len(z)), []
    # The same directions in every part and every run; what is random here must not move the draws.
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(DIRECTIONS, z[0].numel(), generator=generator, dtype=torch.float64).to(z)
    for sweep in range(sweeps):
        q = model.encode(x, None, seen.given)
        proposal = q.sample()
        if sweep >= warm:
            there = _law(model, proposal, seen.given).log_prob(x) + model.prior.log_prob(proposal)
            here = law.log_prob(x) + model.prior.log_prob(z)
            log_ratio = there - q.log_prob(proposal) - here + q.log_prob(z)
            accept = torch.rand_like(log_ratio).log() < log_ratio
            accepted += accept
            proposal = torch.where(accept.view(-1, *[1] * (z.dim() - 1)), proposal, z)
        z = proposal
        law = _law(model, z, seen.given)
        x = seen.fill(law)
        if sweep >= sweeps // 2:
            likely = law.log_prob(x if seen.corruption else seen.y, None if seen.corruption else seen.observed)
            watched.append(torch.stack([likely + model.prior.log_prob(z), *(directions @ z.flatten(1).T)]))
    none = z.new_zeros(0, 1 + DIRECTIONS, len(z))
    return x, accepted / max(1, sweeps - warm), torch.stack(watched) if watched else none


def _law(model: Explains, z: Tensor, given: Tensor | None) -> Factorised:
    law = model.decode(z, given)
    if not isinstance(law, Factorised):
        raise BadInput(f"repair needs entries that are independent given z; those of a {type(law).__name__} are not")
    return law
