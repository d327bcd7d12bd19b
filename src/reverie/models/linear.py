"""Probabilistic principal components: the machine whose every ability is exact."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reverie.core.bytes import Binned
from reverie.core.config import knob
from reverie.core.corruption import Corruption, GaussianNoise, as_corruption
from reverie.core.distributions import Factorised, Gaussian
from reverie.core.errors import BadInput
from reverie.core.model import Estimate, Model
from reverie.core.recipe import TrainingConfig
from reverie.core.space import Space
from reverie.nets.priors import StandardNormal

PART = 8192  # training examples in memory at once


@dataclass(frozen=True)
class LinearConfig:
    latent: int = knob(0, "size of z; 0 takes the size under which the validation examples are likeliest", low=0)


class Linear(Model):
    """p(z) = N(0, I), p(x|z) = N(W z + mu, s^2 I), fitted in closed form (Tipping & Bishop 1999).

    Then p(x) = N(mu, C) with C = W W' + s^2 I, and perceiving, surprise and repair are exact formulas.
    Bytes are scored by `Binned` masses, which never flatter.

    >>> Linear(LinearConfig(latent=2), Space((5,), "real")).sample(3).shape
    torch.Size([3, 5])
    """

    Config = LinearConfig
    kinds = ("byte", "real")
    mu: Tensor
    axes: Tensor
    variances: Tensor
    noise: Tensor

    def __init__(self, config: LinearConfig, space: Space):
        super().__init__(config, space)
        dims = space.dims
        latent = min(config.latent, dims)
        # float64: C is close to singular where training pictures are few.
        self.register_buffer("mu", torch.zeros(dims, dtype=torch.float64))
        self.register_buffer("axes", torch.zeros(dims, latent, dtype=torch.float64))  # orthonormal columns
        self.register_buffer("variances", torch.ones(latent, dtype=torch.float64))  # of x along them
        self.register_buffer("noise", torch.ones((), dtype=torch.float64))  # s^2
        self.prior = StandardNormal(latent)

    def learners(self) -> dict[str, Any]:
        return {}

    @torch.no_grad()
    def solve(self, data: Any, config: TrainingConfig) -> None:
        if data.train.holes or data.valid.holes:
            raise BadInput(f"{data.name} has missing entries, which linear cannot learn from; use --model vae")
        n, dims = len(data.train), self.space.dims
        if n < 2:
            raise BadInput(f"{data.name} has {n} training examples; linear needs at least 2")
        mu, singular, axes = _spread(data.train, self.mu)
        spectrum = singular.square() / n
        latent = self.config.latent or self._choose(data.valid.x().flatten(1).to(mu) - mu, spectrum, axes)
        latent = min(latent, n - 1, dims - 1)
        self.mu, self.axes, self.variances = mu, axes[:, :latent].clone(), spectrum[:latent].clone()
        self.noise = self._left_over(spectrum, latent, dims)
        self.variances = self.variances.clamp(min=float(self.noise))
        self.prior = StandardNormal(latent).to(mu.device)
        self.config = LinearConfig(latent)

    def _left_over(self, spectrum: Tensor, latent: int, dims: int) -> Tensor:
        """s^2: the mean variance of the directions left out, and for bytes no less than rounding makes."""
        least = (2 / 255) ** 2 / 12 if self.space.kind == "byte" else 1e-12
        return (spectrum[latent:].sum() / (dims - latent)).clamp(min=least)

    def _choose(self, valid: Tensor, spectrum: Tensor, axes: Tensor) -> int:
        """The number of components under which the centred examples `valid` (n, D) are likeliest; all are tried."""
        dims = valid.shape[1]
        seen = (valid @ axes).square().mean(0)  # mean square along each axis
        total = valid.square().sum(1).mean()
        best, best_nats = 1, math.inf
        for latent in range(1, min(len(spectrum) - 1, dims - 1) + 1):
            left = self._left_over(spectrum, latent, dims)
            variances = spectrum[:latent].clamp(min=float(left))
            quadratic = (seen[:latent] / variances).sum() + (total - seen[:latent].sum()) / left
            nats = 0.5 * float(variances.log().sum() + (dims - latent) * left.log() + quadratic)
            if nats < best_nats:
                best, best_nats = latent, nats
        return best

    @property
    def weights(self) -> Tensor:
        """(D, Z), W."""
        return self.axes * (self.variances - self.noise).clamp(min=0).sqrt()

    def _likelihood(self, mean: Tensor, scale: Tensor) -> Factorised:
        density = Gaussian(mean, scale.log(), len(self.space.shape))
        return Binned(density) if self.space.kind == "byte" else density

    def encode(self, x: Tensor, observed: Tensor | None = None, given: Tensor | None = None) -> Gaussian:
        """p(z|x), exact: diagonal in the basis of principal axes. Where not all was observed it is that of an example which has the
        mean there, and no longer p(z | what was seen)."""
        centred = x.flatten(1).double() - self.mu
        if observed is not None:
            centred = torch.where(observed.flatten(1), centred, 0.0)
        mean = (centred @ self.weights) / self.variances
        return Gaussian(mean.to(x.dtype), (0.5 * (self.noise / self.variances).log()).to(x.dtype).expand_as(mean))

    def decode(self, z: Tensor, given: Tensor | None = None) -> Factorised:
        mean = z.double() @ self.weights.T + self.mu
        mean = mean.to(z.dtype).view(len(z), *self.space.shape)
        return self._likelihood(mean, self.noise.sqrt().to(z.dtype))

    @torch.no_grad()
    def sample(self, n: int, given: Tensor | None = None) -> Float[Tensor, "n *shape"]:
        return self.decode(self.prior.sample(n)).sample()

    @torch.no_grad()
    def surprise(
        self, x: Float[Tensor, "B *shape"], observed: Bool[Tensor, "B *shape"] | None = None, draws: int = 100
    ) -> Estimate:
        if observed is None:
            nats = self._surprise_whole(x.flatten(1).double() - self.mu)
            seen: float | Tensor = float(self.space.dims)
        else:
            rows = zip(x.flatten(1).double() - self.mu, observed.flatten(1), strict=True)
            nats = torch.stack([self._surprise_part(c[o], o) for c, o in rows])
            seen = observed.flatten(1).sum(1).double()
        if self.space.kind == "byte":
            nats = nats - seen * math.log(Binned.width)
        return Estimate(nats.to(x.dtype), torch.zeros_like(nats, dtype=x.dtype), "nats", "lower", "exact")

    def _surprise_whole(self, centred: Tensor) -> Tensor:
        along = (centred @ self.axes).square()
        across = (centred.square().sum(1) - along.sum(1)).clamp(min=0)
        dims, latent = self.axes.shape
        log_det = self.variances.log().sum() + (dims - latent) * self.noise.log()
        quadratic = (along / self.variances).sum(1) + across / self.noise
        return 0.5 * (dims * math.log(2 * math.pi) + log_det + quadratic)

    def _surprise_part(self, centred: Tensor, observed: Tensor) -> Tensor:
        # Marginal of a Gaussian: the same W without the rows of the missing entries; Woodbury keeps it Z by Z.
        part = self.weights[observed]
        inner = torch.eye(part.shape[1]).to(part) * self.noise + part.T @ part
        root = torch.linalg.cholesky(inner)
        along = torch.linalg.solve_triangular(root, (part.T @ centred).unsqueeze(1), upper=False).square().sum()
        count = len(centred)
        log_det = (count - part.shape[1]) * self.noise.log() + 2 * root.diagonal().log().sum()
        return 0.5 * (count * math.log(2 * math.pi) + log_det + (centred.square().sum() - along) / self.noise)

    @torch.no_grad()
    def repair(
        self,
        x: Float[Tensor, "B *shape"],
        observed: Bool[Tensor, "B *shape"] | None,
        n: int,
        noise: float | Corruption = 0.0,
    ) -> Float[Tensor, "n B *shape"]:
        """Exact draws from the Gaussian conditional: z given what was seen, then x given z and what was seen. Raises BadInput for noise
        that is not Gaussian."""
        corruption = as_corruption(noise)
        if not isinstance(corruption, GaussianNoise | None):
            raise BadInput("a linear machine knows Gaussian noise alone; give --noise as a number, or train a vae")
        noise = 0.0 if corruption is None else corruption.sigma
        flat = torch.ones_like(x, dtype=torch.bool) if observed is None else observed
        results = [self._repair_one(row, known, n, noise) for row, known in zip(x, flat, strict=True)]
        return torch.stack(results, 1)

    def _repair_one(self, x: Tensor, observed: Tensor, n: int, noise: float) -> Tensor:
        known = observed.flatten()
        part, variance = self.weights[known], self.noise + noise**2
        precision = torch.eye(part.shape[1]).to(part) + part.T @ part / variance
        root = torch.linalg.cholesky(precision)
        centred = x.flatten()[known].double() - self.mu[known]
        mean = torch.cholesky_solve((part.T @ centred / variance).unsqueeze(1), root).squeeze(1)
        deviation = torch.linalg.solve_triangular(
            root.T, torch.randn(len(mean), n, dtype=mean.dtype, device=mean.device), upper=True
        )  # root^-T e has covariance precision^-1
        z = mean + deviation.T
        return self.decode(z.to(x.dtype)).fill(x.expand(n, *x.shape), observed, noise)


def _spread(split: Any, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The mean (D,) of the examples of a split, the singular values of what they are beside it, and its right singular vectors (D, most).

    Of the triangle that is left of a 1 and each example (QR), part by part, so that all of them need not be in memory.
    """
    left = like.new_zeros(0, len(like) + 1)
    for x in split.parts(PART):
        rows = x.flatten(1).to(like)
        left = torch.linalg.qr(torch.cat([left, torch.cat([rows.new_ones(len(rows), 1), rows], 1)]), mode="r").R
    _, singular, axes = torch.linalg.svd(left[1:, 1:], full_matrices=False)
    return left[0, 1:] / left[0, 0], singular, axes.T
