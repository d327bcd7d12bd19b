"""Annealed importance sampling, and the same run backwards: log p(x) between two estimates.

A path of densities leads from a start that can be drawn from, p(z) or q(z|x), to p(z, x):

    log f_t(z) = (1 - beta_t) log start(z) + beta_t log p(z, x),    0 = beta_0 < ... < beta_T = 1.

A chain z_0 ~ start, z_t ~ a move that leaves f_t invariant, has the weight w = prod_t f_t(z_{t-1}) / f_{t-1}(z_{t-1}),
with E w = p(x) (Neal 2001, physics/9803008). A chain that starts from an exact draw of p(z|x) and makes the same
reversible moves in the opposite order has E 1/w = 1 / p(x) (Grosse, Ghahramani & Adams 2015, arXiv 1511.02543). By
Jensen's inequality, -log mean w is on average too large for -log p(x), and log mean 1/w too small. For models with a
decoder: Wu, Burda, Salakhutdinov & Grosse 2017 (arXiv 1611.04273).

Both statements need moves that do not depend on the chain that makes them. A step size adapted along
the chain would, and bias the weights; so the sizes come from a short pilot run with draws of its own, for each example and
each temperature, and are frozen. Whatever sizes the pilot finds, every move is then an ordinary Metropolis move. It takes
a random share of its size, without looking at the chain, lest trajectories come back to where they began
(Neal 2011, arXiv 1206.1901, section 3.2); on the same example that halved the gap once more.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from reverie.core.distributions import Distribution
from reverie.core.errors import BadInput
from reverie.core.model import Estimate
from reverie.maths.bounds import Explains, error_of_log_mean, perceived, seeded
from reverie.maths.hmc import State, transition

PILOT = 100  # temperatures of the pilot run
WARMUP = 40  # its moves at the first of them, where the size of a step is not yet known
RATE = 1.0  # how fast it follows the acceptance, which along the path falls a little behind
# 0.65 is best for one long chain (Beskos et al. 2013, arXiv 1001.4460). A chain on a path has to keep up with a density that
# moves: on probabilistic PCA with 30 latents the gap at 0.9 was half of that at 0.65, for the same work.
ACCEPTANCE = 0.9


@runtime_checkable
class Generative(Protocol):
    """p(z) of a continuous z (Z,), and p(x|z): all that annealing from the prior needs."""

    @property
    def prior(self) -> Distribution: ...
    def decode(self, z: Tensor) -> Distribution: ...


class Bidirectional(NamedTuple):
    """Examples simulated from a model, and their surprise from both sides."""

    x: Tensor  # (n, *shape) model units
    forward: Estimate  # (n,) on average too high
    reverse: Estimate  # (n,) on average too low
    gap: Estimate  # (n,) forward - reverse: on average, no less than what either is off by


@dataclass(frozen=True)
class Annealing:
    """Annealed importance sampling: `chains` for each example, along a path of `steps` temperatures.

    The draws belong to the seed and the content of an example (in float32), so its estimate does not depend on its place,
    its neighbours or `at_once`; two equal examples get the same one. Call it on a model in evaluation mode.

    >>> from reverie.core.space import Space
    >>> from reverie.models.linear import Linear, LinearConfig
    >>> model, x = Linear(LinearConfig(latent=2), Space((5,), "real")), torch.zeros(3, 5)
    >>> found = Annealing(steps=20, leaps=3).forward(model, x)
    >>> bool((found.value - model.surprise(x).value).abs().max() < 0.1)
    True
    >>> found.method
    'AIS-20x16'
    """

    steps: int = 1000  # temperatures after the first; 1 is importance sampling without moves
    chains: int = 16
    leaps: int = 10  # leapfrog steps of a move, each a gradient of the decoder
    sharpness: float = 4.0  # of the sigmoid in which beta rises, slowly at both ends; 0: beta rises linearly
    guided: bool = False  # start from q(z|x) instead of p(z)
    at_once: int = 512  # chains held at a time, though at least those of one example
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("chains", 2), ("leaps", 1), ("sharpness", 0), ("at_once", 1)):
            if getattr(self, name) < least:
                raise BadInput(f"{name}={getattr(self, name)} is too low for annealing; give at least {least}")

    @property
    def betas(self) -> list[float]:
        """steps + 1 inverse temperatures from 0 to 1."""
        return _betas(self.steps, self.sharpness)

    def forward(
        self, model: Generative, x: Float[Tensor, "B *shape"], observed: Bool[Tensor, "B *shape"] | None = None
    ) -> Estimate:
        """-log p(x) in nats per example (B,); on average never below the truth.

        exp(-value) is an unbiased estimate of p(x). Of the observed entries only, where `observed` is given. The error is that
        of the log of a mean over chains (delta method), and can be trusted where `ess` is not close to 1.
        Raises BadInput where the latent is discrete, where the model is told labels, or `guided` and there is no encoder.
        """
        return self._estimates(model, x, observed)[0]

    def reverse(
        self,
        model: Generative,
        x: Float[Tensor, "B *shape"],
        z: Float[Tensor, "B Z"],
        observed: Bool[Tensor, "B *shape"] | None = None,
    ) -> Estimate:
        """-log p(x) in nats per example (B,); on average never above the truth, if z (B, Z) is an exact draw from p(z|x).

        There is one where x was itself drawn from p(x|z). All chains start from it, so the error tells how they spread
        after that, not what another z would have given.
        """
        return self._estimates(model, x, observed, z, forward=False)[0]

    @torch.no_grad()
    def bidirectional(
        self, model: Generative, n: int, observed: Bool[Tensor, "n *shape"] | None = None
    ) -> Bidirectional:
        """Simulates n examples from the model and estimates the surprise of each from both sides.

        The gap says how good `forward` is with these settings, on what the model itself makes.
        Where `observed` (n, *shape) is given, those entries alone are looked at.
        """
        with seeded(self.seed, model.prior.mean.device):
            z = model.prior.sample(n)
            x = torch.cat([model.decode(part).sample() for part in z.split(self.at_once)])
        forward, reverse = self._estimates(model, x, observed, z)
        error = torch.hypot(forward.error, reverse.error)
        gap = Estimate(forward.value - reverse.value, error, "nats", "lower", f"bidirectional {forward.method}")
        return Bidirectional(x, forward, reverse, gap)

    @torch.no_grad()
    def _estimates(
        self, model: Generative, x: Tensor, observed: Tensor | None, z: Tensor | None = None, forward: bool = True
    ) -> list[Estimate]:
        """Forwards if asked to, and then, where z is given, in reverse."""
        observed = torch.ones_like(x, dtype=torch.bool) if observed is None else observed
        if observed.shape != x.shape or (z is not None and len(z) != len(x)):
            raise BadInput(f"{len(x)} examples need an `observed` of their shape {tuple(x.shape)} and a z for each")
        if getattr(model, "classes", 0):
            raise BadInput("annealing knows no labels; take a machine without --model.classes")
        if not len(x):
            raise BadInput("there are no examples to anneal to; give at least one")
        size = max(1, self.at_once // self.chains)
        above, below = [], []
        for i in range(0, len(x), size):
            path = _Path(model, x[i : i + size], observed[i : i + size], self.chains, self.guided)
            steps = self._pilot(path)
            if forward:
                above.append(self._log_weights(path, steps))
            if z is not None:
                below.append(self._log_weights(path, steps, z[i : i + size]))
        method, found = f"AIS-{self.steps}x{self.chains}", []
        if above:
            value, error, ess = _minus_log_mean(torch.cat(above, 1))
            found.append(Estimate(value, error, "nats", "lower", method, ess))
        if below:
            value, error, ess = _minus_log_mean(-torch.cat(below, 1))
            found.append(Estimate(-value, error, "nats", "lower", f"reverse {method}", ess))
        return found

    def _log_weights(self, path: "_Path", steps: Tensor, z: Tensor | None = None) -> Tensor:
        """(chains, B) nats: log w of every chain. Backwards from z (B, Z) where it is given."""
        if z is None:
            noise = _Noise("forward", self.seed, path.x, path.observed, self.chains)
            state = State.at(path, path.start(noise))
            order = range(1, self.steps + 1)
        else:
            noise = _Noise("reverse", self.seed, path.x, path.observed, self.chains, z)
            state = State.at(path, z.expand(self.chains, *z.shape).flatten(0, 1))
            order = range(self.steps, 0, -1)
        betas, log_w = self.betas, torch.zeros_like(state.terms[0])
        for t in order:
            if z is not None and t < self.steps:
                state, _ = self._move(path, noise, state, steps[t - 1], betas[t])
            log_w = log_w + (betas[t] - betas[t - 1]) * state.terms[1]
            if z is None and t < self.steps:
                state, _ = self._move(path, noise, state, steps[t - 1], betas[t])
        return log_w.view(self.chains, -1)

    def _move(
        self, path: "_Path", noise: "_Noise", state: State, log_step: Tensor, beta: float
    ) -> tuple[State, Tensor]:
        """One move of every chain at inverse temperature beta, with the log step size (B,) of each example."""
        momentum, log_u, share = noise.draw(state.z)
        step = (log_step.exp().repeat(self.chains) * share).unsqueeze(1) * path.scale
        return transition(path, state, momentum, log_u, step, self.leaps, (1.0, beta))

    def _pilot(self, path: "_Path") -> Tensor:
        """(steps - 1, B) log step sizes of the moves at temperatures 1 ... steps - 1, from a coarse run of its own."""
        noise = _Noise("pilot", self.seed, path.x, path.observed, self.chains)
        state = State.at(path, path.start(noise))
        log_step = state.z.new_full((len(path.x),), math.log(0.5))
        found = []
        for t, beta in enumerate(_betas(PILOT, self.sharpness)[1:-1]):
            for _ in range(1 if t else WARMUP):
                state, accepted = self._move(path, noise, state, log_step, beta)
                log_step = log_step + RATE * (accepted.view(self.chains, -1).mean(0) - ACCEPTANCE)
            found.append(log_step)
        table = torch.stack(found)
        place = (torch.arange(1, self.steps) * (PILOT / self.steps) - 1).clamp(0, PILOT - 2)
        below = place.long().clamp(max=PILOT - 3)
        share = (place - below).to(table).unsqueeze(1)
        return torch.lerp(table[below], table[below + 1], share)


def _betas(steps: int, sharpness: float) -> list[float]:
    """A sigmoid from -sharpness to sharpness (Grosse et al. 2015), moved and scaled to run from 0 to 1."""
    t = torch.linspace(-1, 1, steps + 1, dtype=torch.float64)
    rise = torch.tanh(0.5 * sharpness * t) / math.tanh(0.5 * sharpness) if sharpness > 0 else t
    return (0.5 * (1 + rise)).tolist()


def _minus_log_mean(log_w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """-log mean w over the chains of log_w (chains, B); its standard error; and the effective sample size. Each (B,)."""
    chains = len(log_w)
    log_sum = log_w.logsumexp(0)
    ess = torch.exp(2 * log_sum - (2 * log_w).logsumexp(0))
    return math.log(chains) - log_sum, error_of_log_mean(ess, chains), ess


class _Path:
    """The two terms of log f_beta(z) = log start(z) + beta gain(z) for every chain of every example of a chunk.

    Chain c of example b is row c * B + b of z.
    """

    def __init__(self, model: Generative, x: Tensor, observed: Tensor, chains: int, guided: bool):
        self.model, self.observed, self.chains = model, observed, chains
        self.x = torch.where(observed, x, x.new_zeros(()))
        self.q: Distribution | None = None
        self.rows = self.x.expand(chains, *x.shape).flatten(0, 1)
        self.seen = None if observed.all() else observed.expand(chains, *x.shape).flatten(0, 1)
        if guided:
            if not isinstance(model, Explains):
                raise BadInput(f"{type(model).__name__} has no encoder to be guided by; anneal from the prior")
            self.q = self._perceived(slice(None))
        with seeded(0, x.device):
            # One step size for all latents suits none of them where the prior is wide in one and narrow in another.
            self.scale = model.prior.sample(1024).std(0)

    def __call__(self, z: Tensor) -> tuple[Tensor, Tensor]:
        log_prior = self.model.prior.log_prob(z)
        log_likelihood = self.model.decode(z).log_prob(self.rows, self.seen)
        if self.q is None:
            return log_prior, log_likelihood
        log_q = self.q.log_prob(z.view(self.chains, -1, z.shape[1])).flatten()
        return log_q, log_prior + log_likelihood - log_q

    def _perceived(self, rows: slice) -> Distribution:
        assert isinstance(self.model, Explains)
        return perceived(self.model, self.x[rows], None if self.seen is None else self.observed[rows], None)

    def start(self, noise: "_Noise") -> Tensor:
        """(N, Z) draws from which the chains of every example start."""
        draws = []
        for i, generator in enumerate(noise.generators):
            with seeded(int(torch.randint(2**62, (), generator=generator)), self.x.device):
                q = self.model.prior if self.q is None else self._perceived(slice(i, i + 1))
                draws.append(q.sample(self.chains).view(self.chains, 1, -1))
        z = torch.cat(draws, 1).flatten(0, 1)
        if not z.is_floating_point() or torch.equal(z, z.round()):
            raise BadInput(f"{type(self.model).__name__} has a discrete latent; annealing needs a continuous one")
        return z


class _Noise:
    """Random numbers that belong to an example: a generator for each, seeded by its content (and the z it starts from)."""

    def __init__(self, purpose: str, seed: int, x: Tensor, observed: Tensor, chains: int, z: Tensor | None = None):
        parts = [torch.where(observed, x, x.new_zeros(())), observed, *([] if z is None else [z])]
        # As float32, so that float64 draws the same; plus zero, so that -0 and 0 do.
        content = torch.cat([part.float().flatten(1) + 0.0 for part in parts], 1).cpu().numpy()
        digests = [hashlib.sha256(f"{purpose} {seed} ".encode() + row.tobytes()).digest() for row in content]
        self.generators = [Generator().manual_seed(int.from_bytes(digest[:7])) for digest in digests]
        self.chains = chains

    def draw(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """For a move of every chain: a momentum (N, Z) from N(0, I), the log (N,) of a uniform number, and another (N,)."""
        shape = (self.chains, like.shape[1] + 2)
        normal = torch.stack([torch.randn(shape, generator=g, dtype=torch.float64) for g in self.generators], 1)
        normal = normal.flatten(0, 1)
        log_u, share = torch.special.log_ndtr(normal[:, -2]), torch.special.ndtr(normal[:, -1])
        momentum, log_u, share = (part.to(like.dtype).to(like.device) for part in (normal[:, :-2], log_u, share))
        return momentum, log_u, share
