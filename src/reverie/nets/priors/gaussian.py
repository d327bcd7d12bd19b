"""The contract of a prior, and the two that are one Gaussian."""

import copy
import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reverie.core.distributions import Distribution, Gaussian


class Prior(nn.Module, Distribution):
    """A distribution over z (Z,) that may have parameters, and knows its distance from a recognition model."""

    def follow(self, q: Distribution) -> None:
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

    def kl(self, q: Distribution, z: Float[Tensor, "*batch Z"]) -> Float[Tensor, "..."]:
        return q.kl_to_standard() if isinstance(q, Gaussian) else super().kl(q, z)

    def tempered(self, temperature: float) -> Gaussian:
        return Gaussian(self.zero, self.zero).tempered(temperature)


class LearnedGaussian(Prior):
    """N(m, C) with full covariance, that follows the aggregate of q(z|x) while the model learns.

    A standard normal prior leaves holes: the aggregate of q(z|x) over the data fills only a part of it, and
    dreams from the rest are no pictures of anything. Of all Gaussians, the one that costs the bound
    least has the aggregate's own mean and covariance. They are kept as running moments, which arrive there far
    sooner than gradients on a (Z, Z) matrix do.

    >>> LearnedGaussian(4).log_prob(torch.zeros(2, 4))
    tensor([-3.6758, -3.6758])
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
    def follow(self, q: Distribution) -> None:
        share = 1 / self.memory
        off = (q.mean if isinstance(q, Gaussian) else q.sample()) - self.loc  # a draw has the spread of q in it already
        second = off.T @ off / len(off)
        if isinstance(q, Gaussian):
            second = second + torch.diag(torch.exp(2 * q.log_scale).mean(0))
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
        if not c.isfinite().all():  # learning has diverged, which the loss will tell
            return
        eye = torch.eye(len(c), dtype=c.dtype)
        root = torch.linalg.cholesky(c + 1e-5 * c.diagonal().mean() * eye)
        self.whitening.copy_(torch.linalg.solve_triangular(root, eye, upper=False))

    def sample(self, n: int | None = None) -> Tensor:
        white = torch.randn(n or 1, len(self.loc), dtype=self.loc.dtype, device=self.loc.device)
        z = self.loc + torch.linalg.solve_triangular(self.whitening, white.T, upper=False).T
        return z[0] if n is None else z

    def log_prob(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        white = (x - self.loc) @ self.whitening.T
        log_det = self.whitening.diagonal().log().sum()
        return log_det - 0.5 * (white.square().sum(-1) + x.shape[-1] * math.log(2 * math.pi))

    def kl(self, q: Distribution, z: Float[Tensor, "*batch Z"]) -> Float[Tensor, "..."]:
        if not isinstance(q, Gaussian):
            return super().kl(q, z)
        distance = ((q.mean - self.loc) @ self.whitening.T).square().sum(1)
        spread = torch.exp(2 * q.log_scale) @ self.whitening.square().sum(0)
        log_det = self.whitening.diagonal().log().sum()
        return 0.5 * (distance + spread - len(self.loc)) - q.log_scale.sum(1) - log_det

    @torch.no_grad()
    def tempered(self, temperature: float) -> "LearnedGaussian":
        made = copy.deepcopy(self)
        made.covariance.mul_(temperature)
        made.whitening.div_(temperature**0.5)
        return made
