"""What a model takes for granted before it sees anything: p(z)."""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from reverie.core.distributions import Distribution, Gaussian


class Prior(nn.Module, Distribution):
    """A distribution over z (Z,) that may have parameters, and knows its distance from a recognition model."""

    def follow(self, q: Any) -> None:
        """Called with q of every training batch, before `kl`: a prior without gradients may move towards it."""


class StandardNormal(Prior):
    """N(0, I).

    >>> StandardNormal(4).sample(3).shape
    torch.Size([3, 4])
    """

    zero: Tensor

    def __init__(self, latent: int):
        super().__init__()
        self.register_buffer("zero", torch.zeros(latent), persistent=False)

    @property
    def mean(self) -> Tensor:
        return self.zero

    def sample(self, n: int | None = None) -> Tensor:
        return Gaussian(self.zero, self.zero).sample(n)

    def log_prob(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        return Gaussian(self.zero, self.zero).log_prob(x, observed)

    def kl(self, q: Gaussian, z: Tensor) -> Tensor:
        return q.kl_to_standard()


class LearnedGaussian(Prior):
    """N(m, C) with full covariance, that follows the aggregate of q(z|x) while the model learns.

    A standard normal prior leaves holes: the aggregate of q(z|x) over the data fills only a part of it, and
    dreams from the rest are no pictures of anything. Of all Gaussians, the one that costs the bound
    least has the aggregate's own mean and covariance. They are kept as running moments, which arrive there far
    sooner than gradients on a (Z, Z) matrix do.
    """

    loc: Tensor
    covariance: Tensor
    whitening: Tensor
    rounds: Tensor

    memory = 200  # rounds of training that the moments reach back
    refresh = 10  # rounds between two factorisations

    def __init__(self, latent: int):
        super().__init__()
        self.register_buffer("loc", torch.zeros(latent))
        self.register_buffer("covariance", torch.eye(latent))
        self.register_buffer("whitening", torch.eye(latent))  # lower triangular A with A'A = C^-1
        self.register_buffer("rounds", torch.zeros((), dtype=torch.long))

    @property
    def mean(self) -> Tensor:
        return self.loc

    @torch.no_grad()
    def follow(self, q: Gaussian) -> None:
        share = 1 / self.memory
        off = q.mean - self.loc
        second = off.T @ off / len(off) + torch.diag(torch.exp(2 * q.log_scale).mean(0))
        self.loc.add_(off.mean(0), alpha=share)
        self.covariance.lerp_(second, share)
        self.rounds += 1
        if int(self.rounds) % self.refresh == 0:
            self._factorise()

    @torch.no_grad()
    def fit(self, z: Tensor) -> None:
        """Takes over the mean and the covariance of draws z (N, Z)."""
        self.loc.copy_(z.mean(0))
        self.covariance.copy_(torch.cov(z.cpu().double().T))
        self._factorise()

    def _factorise(self) -> None:
        # C = LL' has A = L^-1. In float64, which not every device has, because C may be close to singular.
        c = self.covariance.cpu().double()
        eye = torch.eye(len(c), dtype=c.dtype)
        root = torch.linalg.cholesky(c + 1e-5 * c.diagonal().mean() * eye)
        self.whitening.copy_(torch.linalg.solve_triangular(root, eye, upper=False))

    def sample(self, n: int | None = None) -> Tensor:
        white = torch.randn(n or 1, len(self.loc), device=self.loc.device)
        z = self.loc + torch.linalg.solve_triangular(self.whitening, white.T, upper=False).T
        return z[0] if n is None else z

    def log_prob(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        white = (x - self.loc) @ self.whitening.T
        log_det = self.whitening.diagonal().log().sum()
        return log_det - 0.5 * (white.square().sum(-1) + x.shape[-1] * math.log(2 * math.pi))

    def kl(self, q: Gaussian, z: Tensor) -> Tensor:
        distance = ((q.mean - self.loc) @ self.whitening.T).square().sum(1)
        spread = torch.exp(2 * q.log_scale) @ self.whitening.square().sum(0)
        log_det = self.whitening.diagonal().log().sum()
        return 0.5 * (distance + spread - len(self.loc)) - q.log_scale.sum(1) - log_det


class FittedMixture(Prior):
    """A learned Gaussian while the model learns; then a mixture with one Gaussian for each of K training examples.

    With m and C the mean and covariance of the aggregate of q(z|x), and c_k where the encoder puts example k,

        p(z) = 1/K sum_k N(z; m + a (c_k - m), (1 - a^2) C),

    a second look at the prior (Dai & Wipf 2019, arXiv 1903.05789; Norouzi, Fleet & Norouzi 2020, arXiv 2004.04795). At
    a = 0 it is the Gaussian; nearer 1, dreams resemble examples more and are less likely to resemble anything new. As
    in Silverman's smoothed bootstrap, a sum with weights a and sqrt(1 - a^2) keeps the covariance. The bound
    stays a bound: only p(z) has changed.
    """

    centres: Tensor
    count: Tensor

    def __init__(self, latent: int, components: int, closeness: float):
        super().__init__()
        self.start = LearnedGaussian(latent)
        self.closeness = closeness
        self.register_buffer("centres", torch.zeros(components, latent))  # a A (c_k - m), where A whitens C
        self.register_buffer("count", torch.zeros((), dtype=torch.long))  # how many of them are in use

    @property
    def mean(self) -> Tensor:
        return self.start.mean

    def follow(self, q: Gaussian) -> None:
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
        white = chosen + math.sqrt(1 - self.closeness**2) * torch.randn_like(chosen)
        z = self.mean + torch.linalg.solve_triangular(self.start.whitening, white.T, upper=False).T
        return z[0] if n is None else z

    def log_prob(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        if not self.count:
            return self.start.log_prob(x)
        variance = 1 - self.closeness**2
        white = ((x - self.mean) @ self.start.whitening.T).reshape(-1, x.shape[-1])
        distance = torch.cdist(white, self.centres[: int(self.count)]).square()
        parts = torch.logsumexp(-0.5 * distance / variance, 1).view(x.shape[:-1]) - self.count.log()
        log_det = self.start.whitening.diagonal().log().sum()
        return parts + log_det - 0.5 * x.shape[-1] * math.log(2 * math.pi * variance)

    def kl(self, q: Gaussian, z: Tensor) -> Tensor:
        return q.log_prob(z) - self.log_prob(z) if self.count else self.start.kl(q, z)


def prior(name: Literal["normal", "gaussian", "mixture"], latent: int, components: int, closeness: float) -> Prior:
    """The prior of that name over `latent` numbers."""
    if name == "normal":
        return StandardNormal(latent)
    return LearnedGaussian(latent) if name == "gaussian" else FittedMixture(latent, components, closeness)
