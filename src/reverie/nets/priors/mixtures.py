"""Priors that are mixtures of Gaussians."""

import copy
import math
from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reverie.core.distributions import Distribution, Gaussian
from reverie.nets.priors.gaussian import LearnedGaussian, Prior


def log_mixture(
    z: Float[Tensor, "*batch Z"], parts: Gaussian, log_weight: Float[Tensor, " K"]
) -> Float[Tensor, "*batch"]:
    """log sum_k w_k N(z; m_k, diag s_k^2) in nats, `parts` with m and log s of (K, Z).

    The square is written out, so that one matrix product does the work and nothing is as large as (*batch, K, Z). Its
    terms are of the order of (m / s)^2 and nearly cancel, which float32 would not survive; float64 costs
    about as much time here, because most of it goes to the exponentials.
    """
    wide = z.dtype if z.device.type == "mps" else torch.float64  # that device has no float64
    loc, log_scale, x = parts.loc.to(wide), parts.log_scale.to(wide), z.to(wide)
    precision = torch.exp(-2 * log_scale)
    constant = -0.5 * (precision * loc.square()).sum(1) - log_scale.sum(1) - 0.5 * z.shape[-1] * math.log(2 * math.pi)
    powers, factors = torch.cat([x.square(), x], -1), torch.cat([-0.5 * precision, precision * loc], 1)
    return torch.logsumexp(powers @ factors.T + (constant + log_weight), -1).to(z.dtype)


class MixturePrior(Prior):
    """A mixture of K Gaussians with diagonal covariances, whatever they are made of."""

    @abstractmethod
    def parts(self) -> tuple[Gaussian, Tensor]:
        """The Gaussians, of mean (K, Z), and the logs of their weights (K,)."""

    @property
    def mean(self) -> Tensor:
        parts, log_weight = self.parts()
        return log_weight.exp() @ parts.loc

    def sample(self, n: int | None = None) -> Tensor:
        parts, log_weight = self.parts()
        chosen = torch.multinomial(log_weight.exp(), n or 1, replacement=True)
        z = Gaussian(parts.loc[chosen], parts.log_scale[chosen]).sample()
        return z[0] if n is None else z

    def log_prob(self, x: Float[Tensor, "*batch Z"], observed: Tensor | None = None) -> Float[Tensor, "*batch"]:
        return log_mixture(x, *self.parts())

    def tempered(self, temperature: float) -> "Mixture":
        parts, log_weight = self.parts()
        return Mixture(parts.tempered(temperature), torch.log_softmax(log_weight / temperature, 0))


class Mixture(MixturePrior):
    """Of Gaussians that are given, of mean (K, Z), and their log weights (K,)."""

    def __init__(self, given: Gaussian, log_weight: Tensor):
        super().__init__()
        self.given = given, log_weight

    def parts(self) -> tuple[Gaussian, Tensor]:
        return self.given


class LearnedMixture(MixturePrior):
    """K Gaussians whose places, diagonal scales and weights are learned by gradient, with everything else.

    It starts near the standard normal: averaged over the places that a Gaussian may start from, it is exactly that.

    >>> LearnedMixture(latent=2, components=10).sample(3).shape
    torch.Size([3, 2])
    """

    apart = 0.5  # standard deviation of the places at the start

    def __init__(self, latent: int, components: int):
        super().__init__()
        self.loc = nn.Parameter(self.apart * torch.randn(components, latent))
        self.log_scale = nn.Parameter(torch.full((components, latent), 0.5 * math.log(1 - self.apart**2)))
        self.logits = nn.Parameter(torch.zeros(components))

    def parts(self) -> tuple[Gaussian, Tensor]:
        return Gaussian(self.loc, self.log_scale), torch.log_softmax(self.logits, 0)


class FittedMixture(Prior):
    """A learned Gaussian while the model learns; then a mixture with one Gaussian for each of K training examples.

    With m and C the mean and covariance of the aggregate of q(z|x), and c_k where the encoder puts example k,

        p(z) = 1/K sum_k N(z; m + a (c_k - m), (1 - a^2) C),

    a second look at the prior (Dai & Wipf 2019, arXiv 1903.05789; Norouzi, Fleet & Norouzi 2020, arXiv 2004.04795). At
    a = 0 it is the Gaussian; nearer 1, dreams resemble examples more and are less likely to resemble anything new. As
    in Silverman's smoothed bootstrap, a sum with weights a and sqrt(1 - a^2) keeps the covariance where the centres have it. Latents that the
    encoder hardly uses, whose centres lie together, are dreamt narrower by sqrt(1 - a^2). The bound
    stays a bound: only p(z) has changed.

    >>> prior = FittedMixture(latent=2, components=3, closeness=0.5)
    >>> prior.fit(torch.randn(100, 2))
    >>> prior.place(torch.randn(3, 2))
    >>> prior.sample(4).shape
    torch.Size([4, 2])
    """

    centres: Tensor
    count: Tensor

    def __init__(self, latent: int, components: int, closeness: float):
        super().__init__()
        self.start = LearnedGaussian(latent)
        self.closeness = closeness
        self.variance = 1 - closeness**2  # of each Gaussian where the covariance C is white
        self.register_buffer("centres", torch.zeros(components, latent))  # a A (c_k - m), where A whitens C
        self.register_buffer("count", torch.zeros((), dtype=torch.long))  # how many of them are in use

    @property
    def mean(self) -> Tensor:
        return self.start.mean

    def follow(self, q: Distribution) -> None:
        self.start.follow(q)

    def fit(self, z: Tensor) -> None:
        """Takes over the mean and the covariance of draws z (N, Z)."""
        self.start.fit(z)

    def place(self, c: Tensor) -> None:
        """Puts a Gaussian at each of the (K, Z) encoded examples; about their own mean, so that the prior keeps its own."""
        self.centres[: len(c)] = self.closeness * (c - c.mean(0)) @ self.start.whitening.T
        self.count.fill_(len(c))

    def sample(self, n: int | None = None) -> Tensor:
        if not self.count:
            return self.start.sample(n)
        chosen = self.centres[torch.randint(int(self.count), (n or 1,), device=self.centres.device)]
        white = chosen + math.sqrt(self.variance) * torch.randn_like(chosen)
        z = self.mean + torch.linalg.solve_triangular(self.start.whitening, white.T, upper=False).T
        return z[0] if n is None else z

    def log_prob(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        if not self.count:
            return self.start.log_prob(x)
        white = ((x - self.mean) @ self.start.whitening.T).reshape(-1, x.shape[-1])
        distance = torch.cdist(white, self.centres[: int(self.count)]).square()
        parts = torch.logsumexp(-0.5 * distance / self.variance, 1).view(x.shape[:-1]) - self.count.log()
        log_det = self.start.whitening.diagonal().log().sum()
        return parts + log_det - 0.5 * x.shape[-1] * math.log(2 * math.pi * self.variance)

    def kl(self, q: Distribution, z: Float[Tensor, "*batch Z"]) -> Float[Tensor, "..."]:
        return super().kl(q, z) if self.count else self.start.kl(q, z)

    def tempered(self, temperature: float) -> Prior:
        if not self.count:
            return self.start.tempered(temperature)
        made = copy.copy(self)  # all Gaussians weigh the same, at every temperature
        made.variance = temperature * self.variance
        return made
