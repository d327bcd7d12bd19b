"""What is missing given what was seen: draws from p(x_missing | x_observed) of a model with p(z), p(x|z) and q(z|x).

Three ways. Importance resampling needs no chain, and many draws where q(z|x_observed) is poor. Pseudo-Gibbs is right as far as q(z|x) is
the posterior. Metropolis-within-Gibbs is right whatever q, once its chains have forgotten where they began.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from reverie.core.corruption import Corruption, as_corruption
from reverie.core.distributions import Distribution, Factorised
from reverie.core.errors import BadInput
from reverie.core.sequential import Conditional, Sequential
from reverie.maths.bounds import Explains, perceived
from reverie.maths.convergence import r_hat

DEFENCE = 0.1  # share of the draws that come from p(z), so that nothing is lost where q(z|x_observed) has gone astray
DIRECTIONS = 2  # through z, along which chains are compared


class Repaired(NamedTuple):
    """Draws of whole examples given what was seen of them, and how far they can be trusted."""

    draws: Tensor  # (n, B, *shape) model units
    method: str
    acceptance: Tensor | None = None  # (B,) share of Metropolis proposals that were accepted
    r_hat: Tensor | None = None  # (B,) of the later half of the chains; 1: they agree; NaN: that is under 4 sweeps
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
        return law.evidence(self.y, self.observed, self.corruption)

    def fill(self, law: Conditional) -> Tensor:
        """(B, *shape) x ~ p(x | z, what was seen); of a sequential law nearly so (`Sequential.fill`)."""
        return law.fill(self.y, self.observed, self.corruption or 0.0)

    def complete(self, law: Sequential) -> tuple[Tensor, Tensor]:
        """x (B, *shape) and its weight (B,), nats."""
        return law.complete(self.y, self.observed, self.corruption or 0.0)

    def expected(self, law: Conditional) -> Tensor:
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
    One in ten is drawn from p(z) instead, and all are weighed as draws of that mixture (defensive sampling, Hesterberg 1995).
    About `at_once` decoded examples are held at a time, here and below, and at most k latents of one example.
    """
    parts, sizes = [], []
    for seen, z, x, log_w in _weighed(model, Seen.of(y, observed, given, noise), k, at_once):
        share = torch.softmax(log_w, 0)
        chosen = torch.multinomial(share.T, n, replacement=True).T  # (n, B)
        example = torch.arange(len(seen.y), device=y.device).repeat(n)
        if x is not None:
            filled = [x[chosen.flatten(), example]]
        else:
            drawn, filled = z[chosen.flatten(), example], []
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

    Of all answers a mean has the least expected squared error; it is smoother than anything likely. A missing entry enters by the mean
    of p(x|z), a corrupted one by a draw for each z. Where `mean` of p(x|z) is no mean (a category's likeliest level; a byte's location, cut
    to its range) this is none either.
    """
    means, sizes = [], []
    for seen, z, drawn, log_w in _weighed(model, Seen.of(y, observed, given, noise), k, at_once):
        share = torch.softmax(log_w, 0)
        total, few = torch.zeros_like(seen.y), max(1, at_once // len(seen.y))
        for i in torch.arange(k, device=y.device).split(few):
            if drawn is None:
                rows = seen.repeated(len(i))
                x = rows.expected(_law(model, z[i].flatten(0, 1), rows.given)).view(len(i), *seen.y.shape)
            total += torch.einsum("kb,kb...->b...", share[i], x if drawn is None else drawn[i])
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


def _weighed(model: Explains, seen: Seen, k: int, at_once: int) -> Iterator[tuple[Seen, Tensor, Tensor | None, Tensor]]:
    """A few examples at a time: what was seen of them, z (k, B, *Z) ~ q(z|x_observed), some ~ p(z), of a sequential p(x|z) also completed
    x (k, B, *shape), and the log-weights (k, B) of all that."""
    for i in torch.arange(len(seen.y), device=seen.y.device).split(max(1, at_once // k)):
        part, few = seen.rows(i), max(1, at_once // len(i))
        q = perceived(model, part.y, part.observed, part.given)
        draws, weights, completed = [], [], []
        for left in range(k, 0, -few):
            z = _defended(q.sample(min(left, few)), model.prior)
            rows = part.repeated(len(z))
            law = _law(model, z.flatten(0, 1), rows.given)
            if isinstance(law, Sequential):
                x, log_likelihood = rows.complete(law)
                completed.append(x.view(len(z), *part.y.shape))
            else:
                log_likelihood = rows.log_prob(law)
            draws.append(z)
            log_prior = model.prior.log_prob(z)
            proposed = torch.logaddexp(q.log_prob(z) + math.log1p(-DEFENCE), log_prior + math.log(DEFENCE))
            weights.append(log_likelihood.view(len(z), -1) + log_prior - proposed)
        yield part, torch.cat(draws), torch.cat(completed) if completed else None, torch.cat(weights)


def _defended(z: Tensor, prior: Distribution) -> Tensor:
    """z (n, B, *Z), but for a share of them that come from the prior."""
    fresh = torch.rand(z.shape[:2], device=z.device) < DEFENCE
    if count := int(fresh.sum()):
        z[fresh] = prior.sample(count).to(z)
    return z


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
    state = _State.at(model, seen, z)
    accepted, watched = z.new_zeros(len(z)), []
    # The same directions in every part and every run; what is random here must not move the draws.
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(DIRECTIONS, z[0].numel(), generator=generator, dtype=torch.float64).to(z)
    for sweep in range(sweeps):
        if sweep < warm:
            state = _State.at(model, seen, model.encode(state.x, None, seen.given).sample())
        else:
            state, accept = state.moved(model, seen)
            accepted += accept
        if sweep >= sweeps // 2:
            watched.append(torch.stack([state.likely(model, seen), *(directions @ state.z.flatten(1).T)]))
    none = z.new_zeros(0, 1 + DIRECTIONS, len(z))
    return state.x, accepted / max(1, sweeps - warm), torch.stack(watched) if watched else none


class _State(NamedTuple):
    """Where chains are."""

    z: Tensor  # (rows, *Z)
    law: Conditional  # p(x|z)
    x: Tensor  # (rows, *shape) a draw of p(x | z, what was seen), or nearly
    weight: Tensor | None  # (rows,) what a sequential law lacks for that, nats

    @classmethod
    def at(cls, model: Explains, seen: Seen, z: Tensor) -> "_State":
        law = _law(model, z, seen.given)
        if isinstance(law, Sequential):
            return cls(z, law, *seen.complete(law))
        return cls(z, law, seen.fill(law), None)

    def moved(self, model: Explains, seen: Seen) -> tuple["_State", Tensor]:
        """A Metropolis step: to z' ~ q(z|x) where it is accepted, (rows,) bool."""
        q = model.encode(self.x, None, seen.given)
        z = q.sample()
        if self.weight is None:  # z moves alone, then x given it
            there = _law(model, z, seen.given).log_prob(self.x) + model.prior.log_prob(z)
            here = self.law.log_prob(self.x) + model.prior.log_prob(self.z)
            log_ratio = there - q.log_prob(z) - here + q.log_prob(self.z)
            accept = torch.rand_like(log_ratio).log() < log_ratio
            return _State.at(model, seen, torch.where(_beside(accept, z), z, self.z)), accept
        # z and x move together, since x cannot be drawn from p(x | z, what was seen): it comes with a weight.
        new = _State.at(model, seen, z)
        assert new.weight is not None
        back = model.encode(new.x, None, seen.given).log_prob(self.z)
        here = self.weight + model.prior.log_prob(self.z) - back
        log_ratio = new.weight + model.prior.log_prob(z) - q.log_prob(z) - here
        accept = torch.rand_like(log_ratio).log() < log_ratio
        z, x = (torch.where(_beside(accept, a), a, b) for a, b in ((z, self.z), (new.x, self.x)))
        return _State(z, new.law, x, torch.where(accept, new.weight, self.weight)), accept

    def likely(self, model: Explains, seen: Seen) -> Tensor:
        """(rows,) nats, for watching: of z, and of x where it was spoiled, otherwise of what was seen of it."""
        law = self.weight
        if law is None:
            law = self.law.log_prob(self.x) if seen.corruption else self.law.log_prob(seen.y, seen.observed)
        return law + model.prior.log_prob(self.z)


def _beside(rows: Tensor, like: Tensor) -> Tensor:
    return rows.view(-1, *[1] * (like.dim() - 1))


def _law(model: Explains, z: Tensor, given: Tensor | None) -> Conditional:
    law = model.decode(z, given)
    if not isinstance(law, Conditional):
        raise BadInput(f"a {type(law).__name__} cannot fill in what was not seen; repair needs a p(x|z) of entries")
    return law
