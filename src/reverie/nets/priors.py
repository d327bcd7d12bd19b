"""What a model takes for granted before it sees anything: p(z)."""

import math
import warnings
from abc import abstractmethod
from typing import Literal

import torch
from sklearn import mixture
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from reverie.core.distributions import Distribution, Gaussian


class Prior(nn.Module, Distribution):
    """A distribution over z (Z,) that may have parameters, and knows its distance from a recognition model."""

    @abstractmethod
    def kl(self, q: Gaussian, z: Tensor) -> Tensor:
        """KL(q || p) in nats for q of a batch: (B, Z) where it is a sum over latents, otherwise (B,).

        `z` (B, Z) is a draw from q, used where there is no closed form (the estimate is then unbiased).
        """

    def follow(self, q: Gaussian) -> None:
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
        self.covariance.copy_(torch.cov(z.double().T))
        self._factorise()

    def _factorise(self) -> None:
        # A covariance C = LL' has A = L^-1.
        c = self.covariance.double()
        root = torch.linalg.cholesky(c + 1e-5 * c.diagonal().mean() * torch.eye(len(c), dtype=c.dtype, device=c.device))
        eye = torch.eye(len(c), dtype=c.dtype, device=c.device)
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
    """A learned Gaussian while the model learns; then a mixture of K Gaussians with full covariance, fitted to the
    aggregate of q(z|x) by expectation maximisation: a second look at the prior (Dai & Wipf 2019,
    arXiv 1903.05789; Ghosh et al. 2020, arXiv 1903.12436). The bound stays a bound: only p(z) has changed.
    """

    log_weight: Tensor
    loc: Tensor
    whitening: Tensor
    fitted: Tensor

    def __init__(self, latent: int, components: int):
        super().__init__()
        self.start = LearnedGaussian(latent)
        self.register_buffer("log_weight", torch.full((components,), -math.log(components)))
        self.register_buffer("loc", torch.zeros(components, latent))
        self.register_buffer("whitening", torch.zeros(components, latent, latent))
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))

    @property
    def mean(self) -> Tensor:
        return self.log_weight.exp() @ self.loc if self.fitted else self.start.mean

    def fit(self, z: Tensor, floor: float, seed: int = 0) -> None:
        """Fits the mixture to draws z (N, Z) from the aggregate posterior, `floor` added to every variance.

        Where there are too few draws for that many components, fewer are used (2 Z draws for each, at least).
        """
        components = max(1, min(len(self.loc), len(z) // (2 * z.shape[1])))
        # One thread: more are slower on matrices of this size, and add up in an order of their own.
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # an unfinished fit is a prior like any other
            em = mixture.GaussianMixture(
                components, reg_covar=floor, max_iter=40, random_state=seed, init_params="kmeans"
            ).fit(z.double().cpu().numpy())
        self.log_weight.fill_(-math.inf)
        self.log_weight[:components] = torch.from_numpy(em.weights_).log()
        self.loc[:components] = torch.from_numpy(em.means_)
        self.whitening.copy_(torch.eye(z.shape[1]))
        self.whitening[:components] = torch.from_numpy(em.precisions_cholesky_).mT  # it keeps A', upper triangular
        self.fitted.fill_(True)

    def sample(self, n: int | None = None) -> Tensor:
        if not self.fitted:
            return self.start.sample(n)
        chosen = torch.multinomial(self.log_weight.exp(), n or 1, replacement=True)
        white = torch.randn_like(self.loc[chosen])
        z = torch.empty_like(white)
        for k in chosen.unique().tolist():  # one solve for a component, not for a draw
            of_k = chosen == k
            z[of_k] = torch.linalg.solve_triangular(self.whitening[k], white[of_k].T, upper=False).T
        z = z + self.loc[chosen]
        return z[0] if n is None else z

    def log_prob(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        if not self.fitted:
            return self.start.log_prob(x)
        white = torch.einsum("kij,...kj->...ki", self.whitening, x.unsqueeze(-2) - self.loc)
        log_det = self.whitening.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        parts = self.log_weight + log_det - 0.5 * white.square().sum(-1)
        return torch.logsumexp(parts, -1) - 0.5 * x.shape[-1] * math.log(2 * math.pi)

    def follow(self, q: Gaussian) -> None:
        self.start.follow(q)

    def kl(self, q: Gaussian, z: Tensor) -> Tensor:
        return q.log_prob(z) - self.log_prob(z) if self.fitted else self.start.kl(q, z)


def prior(name: Literal["normal", "gaussian", "mixture"], latent: int, components: int) -> Prior:
    """The prior of that name over `latent` numbers."""
    if name == "normal":
        return StandardNormal(latent)
    return LearnedGaussian(latent) if name == "gaussian" else FittedMixture(latent, components)
