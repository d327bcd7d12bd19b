"""Probabilistic PCA with a recognition model that can be made wrong on purpose: everything about it is a formula."""

import math

import torch
from torch import Tensor

from reverie.core.distributions import Gaussian
from reverie.core.space import Space
from reverie.models.latent import LatentModel
from reverie.nets.priors import StandardNormal

D, Z, NOISE = 6, 2, 0.5


class Known(LatentModel):
    """p(x|z) = N(Wz, s^2), q = the exact posterior, moved by `shift` and widened by `widen`."""

    def __init__(self, shift: float = 0.0, widen: float = 1.0):
        super().__init__(None, Space((D,), "real"))
        generator = torch.Generator().manual_seed(1)
        self.w = torch.randn(D, Z, generator=generator, dtype=torch.float64)
        # Orthogonal columns, so that the posterior factorises and a diagonal q can be exact.
        self.w = torch.linalg.qr(self.w)[0] * torch.tensor([2.0, 0.7], dtype=torch.float64)
        self.prior = StandardNormal(Z).double()
        self.variance = 1 / (1 + self.w.square().sum(0) / NOISE**2)
        self.shift, self.widen = shift, widen

    def encode(self, x: Tensor, observed: Tensor | None = None, given: Tensor | None = None) -> Gaussian:
        mean = x @ self.w / NOISE**2 * self.variance + self.shift
        return Gaussian(mean, (0.5 * self.variance.log() + math.log(self.widen)).expand_as(mean))

    def decode(self, z: Tensor, given: Tensor | None = None) -> Gaussian:
        return Gaussian(z @ self.w.T, torch.full((D,), math.log(NOISE), dtype=self.w.dtype))

    def exact(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        keep = torch.arange(D) if observed is None else observed.nonzero().flatten()
        covariance = self.w[keep] @ self.w[keep].T + NOISE**2 * torch.eye(len(keep), dtype=torch.float64)
        law = torch.distributions.MultivariateNormal(torch.zeros(len(keep), dtype=torch.float64), covariance)
        return -law.log_prob(x[:, keep])
