"""A prior of any shape: a normalising flow."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reverie.core.distributions import Gaussian
from reverie.nets.flows import CouplingFlow, FlowedGaussian
from reverie.nets.priors.gaussian import Prior


class FlowPrior(Prior):
    """z = m + s f(noise), with a neural spline flow f (Durkan et al. 2019, arXiv 1906.04032) and learned m and s.

    Couplings rather than masked autoregression, because a prior both draws and is evaluated: either takes one pass
    of each network, where an autoregressive flow needs Z of them for one of the two. It starts as the
    standard normal.

    `mean` is where the flow takes noise of zero: in the middle of the prior, but not its expectation.

    >>> FlowPrior(latent=4).sample(3).shape
    torch.Size([3, 4])
    """

    def __init__(self, latent: int, layers: int = 6, width: int = 128):
        super().__init__()
        self.loc, self.log_scale = nn.Parameter(torch.zeros(latent)), nn.Parameter(torch.zeros(latent))
        self.flow = CouplingFlow(latent, layers=layers, width=width)

    def _now(self) -> FlowedGaussian:
        return FlowedGaussian(Gaussian(self.loc, self.log_scale), self.flow, self.loc.new_empty(0))

    @property
    def mean(self) -> Tensor:
        return self._now().mean

    def sample(self, n: int | None = None) -> Tensor:
        return self._now().sample(n)

    def log_prob(self, x: Float[Tensor, "*batch Z"], observed: Tensor | None = None) -> Float[Tensor, "*batch"]:
        return self._now().log_prob(x)
