"""What every p(x|z) p(z) model with a recognition model q(z|x) inherits."""

from abc import abstractmethod

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reverie.core.distributions import Distribution, Factorised
from reverie.core.model import Estimate, Model
from reverie.maths import bounds


class LatentModel(Model):
    """Gives sample, surprise and repair to a model that has `prior`, `encode` and `decode`."""

    prior: Distribution

    @abstractmethod
    def encode(self, x: Tensor) -> Distribution:
        """q(z|x) for x (B, *shape)."""

    @abstractmethod
    def decode(self, z: Tensor) -> Factorised:
        """p(x|z) for z (B, ...)."""

    @torch.no_grad()
    def sample(self, n: int, given: Tensor | None = None) -> Float[Tensor, "n *shape"]:
        return self.decode(self.prior.sample(n)).sample()

    def surprise(
        self, x: Float[Tensor, "B *shape"], observed: Bool[Tensor, "B *shape"] | None = None, draws: int = 100
    ) -> Estimate:
        return bounds.surprise(self, x, draws, observed)

    @torch.no_grad()
    def repair(
        self,
        x: Float[Tensor, "B *shape"],
        observed: Bool[Tensor, "B *shape"] | None,
        n: int,
        noise: float = 0.0,
        sweeps: int | None = None,
    ) -> Float[Tensor, "n B *shape"]:
        """Pseudo-Gibbs (Rezende, Mohamed & Wierstra 2014, arXiv 1401.4082): z ~ q(z|x), then x ~ p(x|z, what was
        seen), `sweeps` times over, in n independent chains. (n, B, *shape), model units. Chains start from a dream
        where something is missing (50 sweeps unless told), from what was seen where it is only noisy (10 sweeps).

        It draws from p(x | what was seen) as far as q(z|x) is the true posterior. With `noise` > 0
        the observed entries are read as clean ones plus Gaussian noise of that standard deviation.
        """
        seen = x if observed is None else torch.where(observed, x, x.new_zeros(()))
        y = seen.expand(n, *x.shape).flatten(0, 1)
        known = None if observed is None else observed.expand(n, *x.shape).flatten(0, 1)
        state = y if known is None else self.decode(self.prior.sample(len(y))).fill(y, known, noise)
        for _ in range(sweeps or (10 if known is None else 50)):
            state = self.decode(self.encode(state).sample()).fill(y, known, noise)
        return state.view(n, *x.shape)
