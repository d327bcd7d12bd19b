"""Conditioning by samples: draws of (z, x) together, moved to where x agrees with what was seen.

For jointly Gaussian z and x, z + K (y - x) with K = Cov(z, x) Cov(x, x)^-1 is a draw from p(z | x = y) whenever
(z, x) is one from p(z, x) (Matheron's rule; Hoffman & Ribak 1991; in filtering, Evensen 1994). Nothing need be differentiable.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class Linearised(NamedTuple):
    """x = slope z + intercept + a rest of variance `rest`, by least squares over draws; precision is that of z."""

    precision: Tensor  # (Z, Z)
    slope: Tensor  # (D, Z)
    rest: Tensor  # (D,) variance: of p(x|z), and of what is not linear in it

    @classmethod
    def of(cls, z: Float[Tensor, "N Z"], x: Float[Tensor, "N D"]) -> "Linearised":
        """From N draws of both; more than Z are needed."""
        z, x = z - z.mean(0), x - x.mean(0)
        covariance = z.T @ z / len(z)
        covariance.diagonal().add_(1e-6 * covariance.diagonal().mean())
        precision = torch.cholesky_inverse(torch.linalg.cholesky(covariance))
        slope = (x.T @ z / len(z)) @ precision
        rest = (x - z @ slope.T).square().sum(0) / max(len(z) - z.shape[1], 1)
        return cls(precision, slope, rest.clamp(min=1e-8))

    def moved(
        self,
        z: Float[Tensor, "n B Z"],
        x: Float[Tensor, "n B D"],
        y: Float[Tensor, "B D"],
        observed: Bool[Tensor, "B D"],
        noise: float = 0.0,
        doubt: float = 1.0,
    ) -> Float[Tensor, "n B Z"]:
        """Draws (z, x) from p(z, x) to draws of z given the observed entries of y.

        Each of those is taken to have Gaussian noise of deviation `noise`, and `doubt` times the variance that p(x|z)
        gives it: 1 is Bayes' rule; more is for a model that is surer of new examples than it has reason to be
        (Grünwald & van Ommen 2017, arXiv 1412.3730).
        """
        out = torch.empty_like(z)
        extra = ((doubt - 1) * self.rest + noise**2).clamp(min=0).sqrt()
        masks, which = torch.unique(observed, dim=0, return_inverse=True)
        for i, seen in enumerate(masks):
            rows = which == i
            slope, variance = self.slope[seen], doubt * self.rest[seen] + noise**2
            scaled = slope.T / variance
            root = torch.linalg.cholesky(self.precision + scaled @ slope)
            error = y[rows][:, seen] - x[:, rows][:, :, seen]
            error = error + extra[seen] * torch.randn_like(error)
            out[:, rows] = z[:, rows] + torch.cholesky_solve((error @ scaled.T).flatten(0, 1).T, root).T.view_as(
                z[:, rows]
            )
        return out
