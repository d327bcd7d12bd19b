"""A ladder of latents for pictures (Sønderby et al. 2016, arXiv 1602.02282; Child 2021, arXiv 2011.10650)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from reverie.core.config import knob
from reverie.core.distributions import Gaussian, Reparameterised
from reverie.core.errors import BadInput
from reverie.core.model import Batch, Estimate, Phase
from reverie.core.recipe import TrainingConfig
from reverie.core.sequential import Conditional
from reverie.core.space import Space
from reverie.maths import bounds
from reverie.maths.bounds import Weighed
from reverie.maths.objectives import bound_of
from reverie.models.latent import LatentModel, Method
from reverie.nets.neighbours import told
from reverie.nets.topdown import Ladder


@dataclass(frozen=True)
class LadderConfig:
    groups: tuple[int, ...] = knob(
        (2, 4, 4), "latent groups at each scale, coarsest first; each scale has twice the height and width of the last"
    )
    fold: int = knob(2, "pixels along each side of the square that is one place at the finest scale", low=1, high=64)
    width: int = knob(64, "channels", low=1, high=65536)
    latent: int = knob(8, "channels of z in each group", low=1, high=65536)
    logistics: int = knob(1, "logistic densities in the likelihood of a byte", low=1, high=1000)
    neighbours: int = knob(
        0,
        "how far a pixel is told of those before it, which z then need not explain; 0: it is told of none",
        low=0,
        high=64,
    )
    neighbour_width: int = knob(32, "channels of the net that tells it", low=1, high=4096)
    classes: int = knob(0, "labels to condition on, as many as the data have; 0: none", low=0)
    objective: Literal["elbo", "iwae"] = knob("elbo", "what is raised: the evidence bound, or that of many draws")
    draws: int = knob(1, "draws of z for each example", low=1)
    warmup: int = knob(0, "rounds over which the weight of the KL term rises from zero", low=0)
    free_bits: float = knob(0.0, "nats of KL that each group may use for free", low=0.0)
    repair: Method = knob(
        "gibbs", "pseudo-Gibbs; Metropolis-within-Gibbs, right whatever q is; or importance resampling"
    )
    sweeps: int = knob(50, "rounds of pseudo-Gibbs in a repair of what is missing", low=0)


class TopDown(Reparameterised):
    """The latents of all groups, flattened (B, Z): each group is Gaussian, given those above it and, with
    `seen` (what a picture showed at each scale), given the picture. Without it, this is the prior, at a `temperature`."""

    def __init__(self, net: Ladder, n: int, seen: list[Tensor] | None = None, temperature: float = 1.0):
        self.net, self.n, self.seen, self.temperature = net, n, seen, temperature

    @property
    def size(self) -> int:
        """Z, numbers in the latents of all groups."""
        return sum(map(math.prod, self.net.events))

    def sample(self, n: int | None = None) -> Tensor:
        batch = () if self.seen is None else (self.n,)
        z = self.place(torch.randn(n or 1, *(batch or (1,)), self.size, device=self.net.start.device))
        z = z if batch else z[:, 0]
        return z[0] if n is None else z

    def place(self, noise: Tensor) -> Tensor:
        z, _ = self._walk(noise, None)
        return z

    def log_prob(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        return self._walk(None, x)[1]

    @property
    def mean(self) -> Tensor:
        """Where zero noise leads: the mean of each group, given those above it. (Z,) of the prior, (B, Z) of a posterior."""
        like = self.net.start.new_zeros(self.n, self.size)
        return self.place(like) if self.seen is not None else self.place(like[:1])[0]

    def tempered(self, temperature: float) -> "TopDown":
        return TopDown(self.net, self.n, self.seen, temperature)

    def frozen(self) -> "Reparameterised":
        raise NotImplementedError("a ladder has no frozen posterior; use the objectives elbo or iwae")

    def _walk(self, noise: Tensor | None, z: Tensor | None) -> tuple[Tensor, Tensor]:
        """z (*more, B, Z) itself, or that which noise becomes, and its log-probability (*more, B)."""
        start = noise if z is None else z
        assert start is not None
        down = descend(self.net, start.reshape(-1, self.size), self.seen, z is not None, self.temperature)
        log_prob = down.log_prior if self.seen is None else down.log_q
        return down.z.view(start.shape), log_prob.view(start.shape[:-1])


class Down(NamedTuple):
    """What a way down the ladder has met."""

    z: Tensor  # (N, Z)
    log_prior: Tensor  # (N,)
    log_q: Tensor  # (N,)
    kl: Tensor  # (N, groups)
    h: Tensor  # the state at the end of it


def descend(net: Ladder, start: Tensor, seen: list[Tensor] | None, placed: bool, temperature: float = 1.0) -> Down:
    """Down the ladder with `start` (N, Z): z itself where it is `placed`, otherwise noise that becomes z.

    What is `seen` has N rows, or a number of them that N is a multiple of: then they are repeated.
    """
    n = len(start)
    views = [t.repeat(n // len(t), 1, 1, 1) for t in seen or []]
    down = net.climb(n)
    parts = start.split([math.prod(event) for event in net.events], 1)
    zs: list[Tensor] = []
    log_prior, log_q, kls = start.new_zeros(n), start.new_zeros(n), []
    for part, event, (scale, rung) in zip(parts, net.events, down.rungs(), strict=True):
        p_mean, p_scale, h = rung.prior(down.h)
        p = Gaussian(p_mean, p_scale, 3).tempered(temperature)
        view = views[scale] if views else None
        q = p if view is None else Gaussian(*rung.posterior(down.h, view), 3)
        z = part.view(n, *event) if placed else q.place(part.view(n, *event))
        log_prior = log_prior + p.log_prob(z)
        if view is not None:
            log_q = log_q + q.log_prob(z)
            ratio = torch.exp(2 * (q.log_scale - p.log_scale))
            distance = ((q.loc - p.loc) * torch.exp(-p.log_scale)).square()
            kls.append((0.5 * (ratio + distance - 1) - q.log_scale + p.log_scale).flatten(1).sum(1))
        zs.append(z.flatten(1))
        down.h = rung.onward(h, z)
    return Down(torch.cat(zs, 1), log_prior, log_q, torch.stack(kls, 1) if kls else log_q[:, None], down.h)


class LadderVAE(LatentModel):
    """p(z) = prod_g p(z_g | z_<g), p(x|z), and q(z|x) = prod_g q(z_g | z_<g, x), which walks down the same ladder.

    >>> ladder = LadderVAE(LadderConfig(groups=(1, 1), width=8, latent=2), Space((1, 6, 5), "bit"))
    >>> ladder.sample(3).shape
    torch.Size([3, 1, 6, 5])
    """

    Config = LadderConfig
    kinds = ("bit", "byte")
    doubt = 1.0
    linear_start = False  # its latents are too many
    reducible = True

    def __init__(self, config: LadderConfig, space: Space):
        super().__init__(config, space, config.classes)
        if not space.is_picture:
            raise BadInput(f"a ladder needs pictures (C, H, W), not examples of shape {space.shape}; use --model vae")
        if not config.groups or min(config.groups) < 1:
            raise BadInput(f"groups is {config.groups}; each scale needs at least one group of latents")
        if config.free_bits and config.objective != "elbo":
            raise BadInput(f"free bits belong to --model.objective elbo; {config.objective} has none, set them to 0")
        self.method, self.sweeps = config.repair, config.sweeps
        self.likelihood = told(space, "auto", config.logistics, config.neighbours, config.neighbour_width)
        shape = (space.shape[0], space.shape[1], space.shape[2])
        self.net = Ladder(
            shape, config.groups, config.width, config.latent, self.likelihood.start, config.classes, config.fold
        )

    @classmethod
    def recipe(cls, space: Space, count: int) -> tuple[LadderConfig, TrainingConfig]:
        return LadderConfig(), TrainingConfig(clip=200.0)

    @property
    def prior(self) -> TopDown:  # type: ignore[override]
        return TopDown(self.net, 1)

    def encode(
        self, x: Float[Tensor, "B *shape"], observed: Tensor | None = None, given: Tensor | None = None
    ) -> TopDown:
        self.need_labels(given)
        with self.nets():
            return TopDown(self.net, len(x), self.net.seen(x, given))

    def decode(self, z: Float[Tensor, "B Z"], given: Tensor | None = None) -> Conditional:
        self.need_labels(given)
        with self.nets():
            return self.likelihood(self.net.finish(descend(self.net, z, None, placed=True).h, given))

    def weigh(
        self, q: TopDown, noise: Tensor, x: Tensor, observed: Tensor | None = None, given: Tensor | None = None
    ) -> tuple[Weighed, Tensor]:
        """The log-weights of the draws that noise (k, B, Z) becomes, and their KL (k, B, groups): all in one way down."""
        k, n = noise.shape[:2]
        xs, seen, labels = (None if t is None else t.expand(k, *t.shape).flatten(0, 1) for t in (x, observed, given))
        assert xs is not None
        with self.nets():
            down = descend(self.net, noise.flatten(0, 1), q.seen, placed=False)
            law = self.likelihood(self.net.finish(down.h, labels))
        log_likelihood = law.log_prob(xs, seen)
        terms = (t.view(k, n) for t in (log_likelihood, down.log_prior, down.log_q))
        return Weighed(down.z.view(noise.shape), *terms), down.kl.view(k, n, -1)

    def _surprise(self, x: Tensor, observed: Tensor | None, draws: int, given: Tensor | None) -> Estimate:
        def log_w(q: TopDown, noise: Tensor, x: Tensor, observed: Tensor | None, given: Tensor | None) -> Tensor:
            return self.weigh(q, noise, x, observed, given)[0].log_w

        return bounds.surprise(self, x, draws, observed, given, weigher=log_w)

    def phases(self, batch: Batch, step: int) -> Iterator[Phase]:
        config = self.config
        given = batch.given if self.classes else None
        x = batch.x if batch.observed is None else torch.where(batch.observed, batch.x, batch.x.new_zeros(()))
        q = self.encode(x, given=given)
        noise = torch.randn(config.draws, len(batch.x), q.size, device=batch.x.device)
        found, kl = self.weigh(q, noise, batch.x, batch.observed, given)
        weight = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
        if config.objective == "iwae":
            bound = bound_of(found.log_w[None]).mean()
            loss = -bound_of((found.log_likelihood + weight * (found.log_prior - found.log_q))[None]).mean()
        else:
            likelihood, each = found.log_likelihood.mean(), kl.mean((0, 1))
            bound = likelihood - each.sum()
            loss = weight * each.clamp(min=config.free_bits).sum() - likelihood
        yield Phase("all", loss, -bound.detach())
