"""From what an encoder puts out to q(z|x)."""

from abc import ABC, abstractmethod
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from reverie.core.distributions import Gaussian, Reparameterised
from reverie.nets.flows import CouplingFlow, FlowedGaussian


class Posterior(nn.Module, ABC):
    """Encoder output (B, code) to q(z|x) over z (B, Z).

    `code`: how many numbers the encoder must put out for each example. The first Z of them are a location of z, in
    the units of z: a path beside the encoder may add to them.
    """

    code: int

    @abstractmethod
    def forward(self, code: Float[Tensor, "B code"]) -> Reparameterised:
        """q(z|x) of a batch."""


class DiagonalGaussian(Posterior):
    """N(mu(x), diag sigma(x)^2), code (mu, log sigma) with log sigma cut to [-7, 3].

    >>> import torch
    >>> DiagonalGaussian(latent=2)(torch.zeros(3, 4)).sample(5).shape
    torch.Size([5, 3, 2])
    """

    def __init__(self, latent: int):
        super().__init__()
        self.code = 2 * latent

    def forward(self, code: Float[Tensor, "B code"]) -> Gaussian:
        loc, log_scale = code.chunk(2, -1)
        return Gaussian(loc, log_scale.clamp(-7, 3))


class FlowPosterior(Posterior):
    """mu(x) + sigma(x) f(noise; h(x)): a Gaussian whose noise is bent by a flow, code (mu, log sigma, h).

    Of the kind that Rezende & Mohamed (2015, arXiv 1505.05770) and Kingma et al. (2016, arXiv 1606.04934) put in place of
    the Gaussian, so that q(z|x) may be skewed, bent or have dependent latents. Theirs draw fast and say what their own
    draws weigh; spline couplings, unlike an inverse autoregressive flow, also say fast what any other z does, which is
    what frozen() is for. It starts as the diagonal Gaussian, and its `mean` is where noise of zero goes.

    >>> import torch
    >>> FlowPosterior(latent=2, features=8)(torch.zeros(3, 12)).sample(5).shape
    torch.Size([5, 3, 2])
    """

    def __init__(self, latent: int, features: int = 32, layers: int = 4, width: int = 64):
        super().__init__()
        self.gaussian = DiagonalGaussian(latent)
        self.code = self.gaussian.code + features
        self.flow = CouplingFlow(latent, features, layers, width)

    def forward(self, code: Float[Tensor, "B code"]) -> FlowedGaussian:
        outer, features = code.tensor_split([self.gaussian.code], -1)
        return FlowedGaussian(self.gaussian(outer), self.flow, features)


def posterior(name: Literal["gaussian", "flow"], latent: int) -> Posterior:
    """The family of q(z|x) of that name, over `latent` numbers.

    >>> posterior("gaussian", 16).code, posterior("flow", 16).code
    (32, 64)
    """
    return DiagonalGaussian(latent) if name == "gaussian" else FlowPosterior(latent)
