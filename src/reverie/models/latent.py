"""What every p(x|z) p(z) model with a recognition model q(z|x) inherits."""

from abc import abstractmethod

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reverie.core.distributions import Distribution, Factorised
from reverie.core.model import Estimate, Model
from reverie.maths import bounds
from reverie.maths.matheron import Linearised

DENOISING = 10  # rounds of pseudo-Gibbs from a noisy picture, which is near its clean one from the start


class LatentModel(Model):
    """Gives sample, surprise and repair to a model that has `prior`, `encode` and `decode`."""

    prior: Distribution
    sweeps: int  # of pseudo-Gibbs in a repair
    doubt: float  # how many times less a repair trusts what was seen than p(x|z) does

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
        self, x: Float[Tensor, "B *shape"], observed: Bool[Tensor, "B *shape"] | None, n: int, noise: float = 0.0
    ) -> Float[Tensor, "n B *shape"]:
        """(n, B, *shape), model units: n draws each from p(x | what was seen).

        Where something is missing, n dreams are moved to agree with what was seen (`maths/matheron.py`), and what they
        show fills the gaps, then come `sweeps` rounds of pseudo-Gibbs; where it is only noisy, ten from what was seen
        (Rezende, Mohamed & Wierstra 2014, arXiv 1401.4082): z ~ q(z|x), then x ~ p(x|z, what was seen), which
        draws from the right distribution as far as q(z|x) is the true posterior. With `noise` > 0
        the observed entries are read as clean ones plus Gaussian noise of that standard deviation.
        """
        seen = x if observed is None else torch.where(observed, x, x.new_zeros(()))
        y = seen.expand(n, *x.shape).flatten(0, 1)
        known = None if observed is None else observed.expand(n, *x.shape).flatten(0, 1)
        state = y if observed is None else self.decode(self._agreeing(seen, observed, n, noise)).fill(y, known, noise)
        for _ in range(DENOISING if observed is None else self.sweeps):
            state = self.decode(self.encode(state).sample()).fill(y, known, noise)
        return state.view(n, *x.shape)

    def _agreeing(self, y: Tensor, observed: Tensor, n: int, noise: float) -> Tensor:
        """(n * B, Z) dreams that agree with what was seen, as far as x is linear in z."""
        linear = Linearised.of(*self._joint(max(1024, 4 * self.prior.mean.numel())))
        z, x = (part.view(n, len(y), -1) for part in self._joint(n * len(y)))
        return linear.moved(z, x, y.flatten(1), observed.flatten(1), noise, self.doubt).flatten(0, 1)

    def _joint(self, n: int) -> tuple[Tensor, Tensor]:
        """n draws from p(z, x): (n, Z) and (n, D)."""
        z = self.prior.sample(n)
        return z, torch.cat([self.decode(part).sample().flatten(1) for part in z.split(1024)])
