"""What every p(x|z) p(z) model with a recognition model q(z|x) inherits."""

from abc import abstractmethod
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from reverie.core.distributions import Distribution, Factorised, Reparameterised
from reverie.core.errors import BadInput
from reverie.core.model import Estimate, Model
from reverie.core.space import Space
from reverie.maths import bounds
from reverie.maths.matheron import Linearised

DENOISING = 10  # rounds of pseudo-Gibbs from a noisy picture, which is near its clean one from the start


class LatentModel(Model):
    """Gives sample, surprise and repair to a model that has `prior`, `encode` and `decode`.

    With `classes` > 0 all of it is conditional on a label, `given` (B,); where a dream is not
    given one, it is drawn with the frequency that it has in the training examples (`label_shares`).
    """

    prior: Distribution
    sweeps: int  # of pseudo-Gibbs in a repair
    doubt: float  # how many times less a repair trusts what was seen than p(x|z) does
    label_shares: Tensor

    def __init__(self, config: Any, space: Space, classes: int = 0):
        super().__init__(config, space)
        self.classes = classes
        self.register_buffer("label_shares", torch.full((classes,), 1 / max(classes, 1)))

    @abstractmethod
    def encode(self, x: Tensor, observed: Tensor | None = None, given: Tensor | None = None) -> Reparameterised:
        """q(z|x) for x (B, *shape), of what was observed of it."""

    @abstractmethod
    def decode(self, z: Tensor, given: Tensor | None = None) -> Factorised:
        """p(x|z) for z (B, ...)."""

    def labels(self, n: int, given: Int[Tensor, " n"] | None) -> Int[Tensor, " n"] | None:
        if not self.classes:
            return super().labels(n, given)
        if given is None:
            return torch.multinomial(self.label_shares, n, replacement=True)
        if given.shape != (n,) or given.min() < 0 or given.max() >= self.classes:
            raise BadInput(f"{n} labels from 0 to {self.classes - 1} are needed, not {given.tolist()[:8]}")
        return given.to(self.label_shares.device)

    @torch.no_grad()
    def solve(self, data: Any, config: Any) -> None:
        labels = data.train.labels
        if self.classes and labels is not None:
            self.label_shares.copy_(torch.bincount(labels, minlength=self.classes) / len(labels))

    @torch.no_grad()
    def sample(self, n: int, given: Int[Tensor, " n"] | None = None) -> Float[Tensor, "n *shape"]:
        return self._joint(n, self.labels(n, given))[1].view(n, *self.space.shape)

    def surprise(
        self,
        x: Float[Tensor, "B *shape"],
        observed: Bool[Tensor, "B *shape"] | None = None,
        draws: int = 100,
        given: Int[Tensor, " B"] | None = None,
    ) -> Estimate:
        return bounds.surprise(self, x, draws, observed, given)

    @torch.no_grad()
    def repair(
        self,
        x: Float[Tensor, "B *shape"],
        observed: Bool[Tensor, "B *shape"] | None,
        n: int,
        noise: float = 0.0,
        given: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "n B *shape"]:
        """(n, B, *shape), model units: n draws each from p(x | what was seen).

        Where something is missing, n dreams are moved to agree with what was seen (`maths/matheron.py`), and what they
        show fills the gaps, then come `sweeps` rounds of pseudo-Gibbs; where it is only noisy, ten from what was seen
        (Rezende, Mohamed & Wierstra 2014, arXiv 1401.4082): z ~ q(z|x), then x ~ p(x|z, what was seen), which
        draws from the right distribution as far as q(z|x) is the true posterior. With `noise` > 0
        the observed entries are read as clean ones plus Gaussian noise of that standard deviation.
        """
        labels = self.labels(len(x), given)
        labels = None if labels is None else labels.repeat(n)
        seen = x if observed is None else torch.where(observed, x, x.new_zeros(()))
        y = seen.expand(n, *x.shape).flatten(0, 1)
        known = None if observed is None else observed.expand(n, *x.shape).flatten(0, 1)
        state = y
        if observed is not None:
            state = self.decode(self._agreeing(seen, observed, n, noise, labels), labels).fill(y, known, noise)
        for _ in range(DENOISING if observed is None else self.sweeps):
            z = self.encode(state, given=labels).sample()
            state = self.decode(z, labels).fill(y, known, noise)
        return state.view(n, *x.shape)

    def _agreeing(self, y: Tensor, observed: Tensor, n: int, noise: float, labels: Tensor | None) -> Tensor:
        """(n * B, Z) dreams that agree with what was seen, as far as x is linear in z."""
        many = max(1024, 4 * self.prior.mean.numel())
        linear = Linearised.of(*self._joint(many, self.labels(many, None)))
        z, x = (part.view(n, len(y), -1) for part in self._joint(n * len(y), labels))
        return linear.moved(z, x, y.flatten(1), observed.flatten(1), noise, self.doubt).flatten(0, 1)

    def _joint(self, n: int, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """n draws from p(z, x | labels): (n, Z) and (n, D)."""
        z = self.prior.sample(n)
        parts = zip(z.split(1024), [None] * n if labels is None else labels.split(1024), strict=False)
        return z, torch.cat([self.decode(part, given).sample().flatten(1) for part, given in parts])
