"""What every p(x|z) p(z) model with a recognition model q(z|x) inherits."""

from abc import abstractmethod
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from reverie.core.corruption import Corruption, GaussianNoise
from reverie.core.distributions import Distribution, Placed
from reverie.core.errors import BadInput
from reverie.core.model import Batch, Estimate
from reverie.core.sequential import Conditional
from reverie.maths import bounds
from reverie.maths.imputation import Repaired, importance_resampling, metropolis_within_gibbs, pseudo_gibbs
from reverie.maths.matheron import Linearised
from reverie.models.labelled import Labelled

Method = Literal["gibbs", "metropolis", "importance"]
DENOISING = 10  # rounds of pseudo-Gibbs from a noisy picture, which is near its clean one from the start
RESAMPLED = 1000  # latents that an importance repair chooses from


class LatentModel(Labelled):
    """Gives sample, surprise and repair to a model that has `prior`, `encode` and `decode`.

    With `classes` > 0 all of it is conditional on a label, `given` (B,), which is told to encoder and decoder.
    """

    prior: Distribution
    sweeps: int  # of pseudo-Gibbs in a repair
    doubt: float  # how many times less a repair trusts what was seen than p(x|z) does
    method: Method = "gibbs"  # by which it repairs
    linear_start = True  # a repair begins at dreams that agree with what was seen

    @abstractmethod
    def encode(self, x: Tensor, observed: Tensor | None = None, given: Tensor | None = None) -> Placed:
        """q(z|x) for x (B, *shape), of what was observed of it."""

    @abstractmethod
    def decode(self, z: Tensor, given: Tensor | None = None) -> Conditional:
        """p(x|z) for z (B, ...)."""

    @torch.no_grad()
    def sample(self, n: int, given: Int[Tensor, " n"] | None = None) -> Float[Tensor, "n *shape"]:
        return self._joint(n, self.labels(n, given))[1].view(n, *self.space.shape)

    def tempered(self, temperature: float) -> "LatentModel":
        """The machine that dreams at another temperature; 1 is this one. A bit's logit is divided by it, a Gaussian's variance
        multiplied: every choice on the way from p(z) to x is made by its law, given those before it, to the power of 1 / temperature."""
        return self if temperature == 1 else Tempered(self, temperature)

    def _surprise(self, x: Tensor, observed: Tensor | None, draws: int, given: Tensor | None) -> Estimate:
        return bounds.surprise(self, x, draws, observed, given)

    def repair(
        self,
        x: Float[Tensor, "B *shape"],
        observed: Bool[Tensor, "B *shape"] | None,
        n: int,
        noise: float | Corruption = 0.0,
        given: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "n B *shape"]:
        """(n, B, *shape), model units: the draws of `repaired`, in the way that this machine prefers."""
        return self.repaired(x, observed, n, noise, given).draws

    @torch.no_grad()
    def repaired(
        self,
        x: Float[Tensor, "B *shape"],
        observed: Bool[Tensor, "B *shape"] | None,
        n: int,
        noise: float | Corruption = 0.0,
        given: Int[Tensor, " B"] | None = None,
        method: Method | None = None,
    ) -> Repaired:
        """n draws each from p(x | what was seen), and how far they can be trusted (maths/imputation.py).

        - `gibbs`: where something is missing, n dreams are moved to agree with what was seen (`maths/matheron.py`), and
          `sweeps` rounds of pseudo-Gibbs follow; where it is only noisy, ten from what was seen;
        - `metropolis`: from there on by Metropolis-within-Gibbs, right whatever q(z|x) is;
        - `importance`: by the weights of a thousand draws from q(z|x_observed).

        `noise`: what was seen is the truth plus Gaussian noise of that standard deviation, or spoiled as a
        Corruption says. Labels that are not given are drawn from what the seen entries say of them.
        """
        method = method or self.method
        if self.classes and given is None and method == "importance":
            return self._by_importance(x, observed, n, noise)
        if self.classes and given is None:  # a label for each draw: examples are repeated rather than draws
            many = self.with_labels(x, observed, n)
            found = self.repaired(many.x, many.observed, 1, noise, many.given, method)
            return Repaired(
                found.draws.view(n, *x.shape),
                found.method,
                *(  # of all draws of an example, the worst but for what is a share of them
                    None if part is None else worst(part.view(n, -1))
                    for part, worst in (
                        (found.acceptance, lambda a: a.mean(0)),
                        (found.r_hat, lambda r: r.amax(0)),
                        (found.ess, lambda e: e.amin(0)),
                    )
                ),
            )
        given = self.labels(len(x), given)
        if method == "importance":
            return importance_resampling(self, x, observed, n, RESAMPLED, noise, given)
        start = None
        if observed is not None and self.space.kind in ("bit", "byte", "real") and self.linear_start:
            sigma = noise.sigma if isinstance(noise, GaussianNoise) else noise if isinstance(noise, float) else 0.0
            start = self._agreeing(x, observed, n, sigma, given)
        sweeps = DENOISING if observed is None else self.sweeps
        if method == "metropolis":
            return metropolis_within_gibbs(self, x, observed, n, max(sweeps, 50), 10, noise, given, start)
        return pseudo_gibbs(self, x, observed, n, sweeps, noise, given, start)

    def _by_importance(self, x: Tensor, observed: Tensor | None, n: int, noise: float | Corruption) -> Repaired:
        """Of labels that are drawn: an example asks for as many draws under a label as it won, all of them from the same weights."""
        many = self.with_labels(x, observed, n)
        assert many.given is not None
        labels = many.given.view(n, len(x))
        draws, ess, method = x.new_empty(n, *x.shape), x.new_full((len(x),), torch.inf), ""
        for y in labels.unique().tolist():
            won = labels == y
            rows = won.any(0).nonzero().flatten()
            few = Batch(x, observed, labels.new_full((len(x),), y)).rows(rows)
            found = self.repaired(few.x, few.observed, int(won.sum(0).max()), noise, few.given, "importance")
            for i, row in enumerate(rows.tolist()):
                draws[won[:, row], row] = found.draws[: int(won[:, row].sum()), i]
            assert found.ess is not None
            ess[rows], method = torch.minimum(ess[rows], found.ess.to(ess)), found.method
        return Repaired(draws, method, ess=ess)

    def _agreeing(
        self, x: Tensor, observed: Tensor, n: int, noise: float, given: Tensor | None
    ) -> Float[Tensor, "n B Z"]:
        """Dreams that agree with what was seen, as far as x is linear in z."""
        y = torch.where(observed, x, x.new_zeros(()))
        many = max(1024, 4 * self.prior.mean.numel())
        linear = Linearised.of(*self._joint(many, self.labels(many, None)))
        labels = None if given is None else given.repeat(n)
        z, dreams = (part.view(n, len(y), -1) for part in self._joint(n * len(y), labels))
        return linear.moved(z, dreams, y.flatten(1), observed.flatten(1), noise, self.doubt)

    def _joint(self, n: int, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """n draws from p(z, x | labels): (n, Z) and (n, D)."""
        z = self.prior.sample(n)
        parts = zip(z.split(1024), [None] * n if labels is None else labels.split(1024), strict=False)
        return z, torch.cat([self.decode(part, given).sample().flatten(1) for part, given in parts])


class Tempered(LatentModel):
    """A machine at a temperature, below 1 surer of what it dreams and above 1 less sure; it recognises as it did at 1.

    >>> from reverie.core.space import Space
    >>> from reverie.models.vae import VAE, VAEConfig
    >>> vae = VAE(VAEConfig(latent=2, width=8, prior="normal"), Space((1, 4, 4), "bit"))
    >>> vae.tempered(0.25).prior.sample(1000).std() < 0.6
    tensor(True)
    """

    coldest, hottest = 0.01, 100.0

    def __init__(self, model: LatentModel, temperature: float):
        if not self.coldest <= temperature <= self.hottest:
            raise BadInput(
                f"the temperature is {temperature}; give one from {self.coldest:g} to {self.hottest:g}, "
                "where 1 is the machine as it learned"
            )
        super().__init__(model.config, model.space, model.classes)
        self.model, self.temperature, self.label_shares = model, temperature, model.label_shares
        self.sweeps, self.doubt, self.method, self.linear_start = (
            model.sweeps, model.doubt, model.method, model.linear_start,
        )  # fmt: skip

    @property
    def prior(self) -> Distribution:  # type: ignore[override]
        law: Distribution = self.model.prior.tempered(self.temperature)
        return law

    def encode(self, x: Tensor, observed: Tensor | None = None, given: Tensor | None = None) -> Placed:
        return self.model.encode(x, observed, given)

    def decode(self, z: Tensor, given: Tensor | None = None) -> Conditional:
        law: Conditional = self.model.decode(z, given).tempered(self.temperature)
        return law
