"""A prior of any shape: a normalising flow."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reverie.nets.flows import CouplingFlow
from reverie.nets.priors.gaussian import Prior, StandardNormal


class FlowPrior(Prior):
    """z = m + s f^-1(noise), with a neural spline flow f (Durkan et al. 2019, arXiv 1906.04032) and learned m and s.

    Couplings rather than masked autoregression, because a prior both draws and is evaluated: either takes one pass
    of each network, where an autoregressive flow needs Z of them for one of the two. f leads towards the noise, so that
    training needs no spline inverted. It starts as the standard normal.

    `mean` is where noise of zero lies: in the middle of the prior, but not its expectation.

    >>> FlowPrior(latent=4).sample(3).shape
    torch.Size([3, 4])
    """

    def __init__(self, latent: int, layers: int = 4, width: int = 128):
        super().__init__()
        self.loc, self.log_scale = nn.Parameter(torch.zeros(latent)), nn.Parameter(torch.zeros(latent))
        self.flow = CouplingFlow(latent, layers=layers, width=width)
        self.noise = StandardNormal(latent)

    @property
    def mean(self) -> Tensor:
        return self._from(self.noise.mean)

    def sample(self, n: int | None = None) -> Tensor:
        return self._from(self.noise.sample(n))

    def log_prob(self, x: Float[Tensor, "*batch Z"], observed: Tensor | None = None) -> Float[Tensor, "*batch"]:
        noise, log_det = self.flow((x - self.loc) * torch.exp(-self.log_scale))
        return self.noise.log_prob(noise) + log_det - self.log_scale.sum()

    def _from(self, noise: Tensor) -> Tensor:
        return self.loc + self.log_scale.exp() * self.flow(noise, inverse=True)[0]
