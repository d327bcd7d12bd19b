"""What a model takes for granted before it sees anything: p(z)."""

import math
from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

from reverie.core.distributions import Distribution, Gaussian


class Prior(nn.Module, Distribution):
    """A distribution over z (Z,) that may have parameters, and knows its distance from a recognition model."""

    @abstractmethod
    def kl(self, q: Gaussian, z: Tensor) -> Tensor:
        """KL(q || p) in nats for q of a batch: (B, Z) where it is a sum over latents, otherwise (B,).

        `z` (B, Z) is a draw from q, used where there is no closed form (the estimate is then unbiased).
        """


class StandardNormal(Prior):
    """N(0, I).

    >>> StandardNormal(4).sample(3).shape
    torch.Size([3, 4])
    """

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


class GaussianMixture(Prior):
    """A mixture of K Gaussians with full covariance, learned with the rest of the model.

    A standard normal prior leaves holes: the aggregate of q(z|x) over the data fills only a part of it, and
    dreams from the rest are no pictures of anything. This prior moves to where the data are. Each component
    is stored as its mean and a lower-triangular A, whose inverse takes white noise to z - mean.
    With one component the KL is a closed form.
    """

    def __init__(self, latent: int, components: int):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(components))
        self.loc = nn.Parameter(torch.randn(components, latent) * (0.1 if components > 1 else 0.0))
        self.below = nn.Parameter(torch.zeros(components, latent, latent))
        self.log_diagonal = nn.Parameter(torch.zeros(components, latent))

    @property
    def whitening(self) -> Tensor:
        """(K, Z, Z), A: lower triangular with a positive diagonal."""
        return torch.tril(self.below, -1) + torch.diag_embed(self.log_diagonal.exp())

    @property
    def mean(self) -> Tensor:
        return torch.softmax(self.logits, 0) @ self.loc

    def sample(self, n: int | None = None) -> Tensor:
        chosen = torch.multinomial(torch.softmax(self.logits, 0), n or 1, replacement=True)
        white = torch.randn_like(self.loc[chosen])
        z = torch.empty_like(white)
        # One solve per component, not per draw: K small matrices rather than n.
        for k in chosen.unique().tolist():
            of_k = chosen == k
            z[of_k] = torch.linalg.solve_triangular(self.whitening[k], white[of_k].T, upper=False).T
        z = z + self.loc[chosen]
        return z[0] if n is None else z

    def log_prob(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        if observed is not None:
            raise NotImplementedError("the mixture prior has no marginals of single latents")
        white = torch.einsum("kij,...kj->...ki", self.whitening, x.unsqueeze(-2) - self.loc)
        parts = self.log_diagonal.sum(-1) - 0.5 * white.square().sum(-1)
        mixed = torch.logsumexp(parts + torch.log_softmax(self.logits, 0), -1)
        return mixed - 0.5 * x.shape[-1] * math.log(2 * math.pi)

    def kl(self, q: Gaussian, z: Tensor) -> Tensor:
        if len(self.logits) > 1:
            return q.log_prob(z) - self.log_prob(z)
        whitening = self.whitening[0]
        distance = ((q.mean - self.loc) @ whitening.T).square().sum(1)
        spread = torch.exp(2 * q.log_scale) @ whitening.square().sum(0)
        log_dets = q.log_scale.sum(1) + self.log_diagonal.sum()
        return 0.5 * (distance + spread - q.mean.shape[1]) - log_dets


def prior(name: Literal["normal", "mixture"], latent: int, components: int) -> Prior:
    """The prior of that name over `latent` numbers."""
    return StandardNormal(latent) if name == "normal" else GaussianMixture(latent, components)
