"""The variational autoencoder (Kingma & Welling 2013, arXiv 1312.6114; Rezende, Mohamed & Wierstra 2014)."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reverie.core.config import knob
from reverie.core.distributions import Factorised, Gaussian
from reverie.core.errors import BadInput
from reverie.core.model import Batch, Phase
from reverie.core.recipe import TrainingConfig
from reverie.core.space import Space
from reverie.maths.bounds import perceived
from reverie.maths.objectives import surrogate
from reverie.models.latent import LatentModel
from reverie.nets import conv, mlp
from reverie.nets.likelihoods import head
from reverie.nets.priors import FittedMixture, LearnedGaussian, Prior, prior


@dataclass(frozen=True)
class VAEConfig:
    net: Literal["mlp", "residual", "conv"] = knob("mlp", "perceptrons; residual ones; or convolutions (pictures only)")
    latent: int = knob(32, "size of z", low=1, high=65536)
    width: int = knob(512, "units of a hidden layer; of convolutions, channels at the finest scale", low=1, high=65536)
    depth: int = knob(2, "hidden layers; of convolutions, residual blocks at every scale", low=1, high=1000)
    skip: bool = knob(False, "a linear path beside the network, in the encoder and in the decoder")
    prior: Literal["normal", "gaussian", "fitted"] = knob(
        "fitted", "p(z): standard normal; one learned Gaussian; or that, and a mixture fitted at the end"
    )
    components: int = knob(1000, "training examples that become Gaussians of the mixture prior, at most", low=1)
    closeness: float = knob(0.5, "how near dreams from the mixture stay to training examples", low=0.0, high=0.99)
    logistics: int = knob(1, "logistic densities in the likelihood of a byte", low=1, high=1000)
    objective: Literal["elbo", "stl", "iwae", "dreg"] = knob(
        "elbo",
        "what is raised: the evidence bound; its sticking-the-landing gradient; the bound of many draws; its doubly reparameterised gradient",
    )
    draws: int = knob(1, "draws of z for each example, which together make one bound of iwae and dreg", low=1)
    repeats: int = knob(1, "such bounds, which are averaged", low=1)
    beta: float = knob(1.0, "weight of the KL term in the loss; the bound itself has 1", low=0.0)
    free_bits: float = knob(0.0, "nats of KL that each latent may use for free", low=0.0)
    warmup: int = knob(0, "rounds over which the weight of the KL term rises from zero", low=0)
    sweeps: int = knob(50, "rounds of pseudo-Gibbs in a repair of what is missing", low=0)
    doubt: float = knob(1.0, "how many times less a repair trusts what was seen than p(x|z) does", low=1.0)


class VAE(LatentModel):
    """p(z) p(x|z) with a recognition model q(z|x) = N(mu(x), diag sigma(x)^2), trained by the evidence bound

        log p(x) >= E_q log p(x|z) - KL(q(z|x) || p(z)).

    >>> vae = VAE(VAEConfig(latent=2, width=8), Space((1, 4, 4), "bit"))
    >>> vae.sample(3).shape
    torch.Size([3, 1, 4, 4])
    """

    Config = VAEConfig
    prior: Prior

    def __init__(self, config: VAEConfig, space: Space):
        super().__init__(config, space)
        if config.free_bits and config.objective != "elbo":
            raise BadInput(f"free bits belong to --model.objective elbo; {config.objective} has none, set them to 0")
        self.prior = prior(config.prior, config.latent, config.components, config.closeness)
        self.sweeps, self.doubt = config.sweeps, config.doubt
        self.likelihood = head(space, components=config.logistics)
        builders: dict[str, Callable[..., tuple[nn.Module, nn.Module]]] = {
            "mlp": mlp.autoencoder,
            "residual": partial(mlp.autoencoder, residual=True),
            "conv": conv.autoencoder,
        }
        self.encoder, self.decoder = builders[config.net](
            space.shape, 2 * config.latent, config.latent, self.likelihood.outputs, config.width, config.depth
        )
        if config.skip:
            self.encoder_skip = nn.Linear(space.dims, config.latent)
            self.decoder_skip = nn.Linear(config.latent, self.likelihood.shifts, bias=False)

    @classmethod
    def recipe(cls, space: Space, count: int) -> tuple[VAEConfig, TrainingConfig]:
        """Bytes of pictures: residual perceptrons with a linear path, a wide latent, and a prior that is fitted last.

        docs/recipe.md tells what was tried on the 400 portraits. Below
        5,000 pictures the loader moves, bends and lights them; above, the data speak for themselves.
        """
        if not space.is_picture or space.kind != "byte":
            return VAEConfig(), TrainingConfig()
        config = VAEConfig(net="residual", skip=True, depth=1, latent=max(16, min(384, space.dims // 5)), warmup=300)
        if count >= 5000:
            return config, TrainingConfig(clip=200.0)
        # So few examples make a machine too sure of new ones; hence the doubt, and few sweeps, which would undo it.
        return dataclasses.replace(config, sweeps=1, doubt=30.0), TrainingConfig(
            batch=64,
            clip=200.0,
            average=0.02,
            decay=0.3,
            mirror=True,
            zoom=0.1,
            shift=0.06,
            turn=0.06,
            warp=0.05,
            light=0.12,
        )

    def encode(
        self, x: Float[Tensor, "B *shape"], observed: Tensor | None = None, given: Tensor | None = None
    ) -> Gaussian:
        mean, log_scale = self.encoder(x).chunk(2, -1)
        if self.config.skip:
            mean = mean + self.encoder_skip(x.flatten(1))
        return Gaussian(mean, log_scale.clamp(-7, 3))

    def decode(self, z: Float[Tensor, "B Z"], given: Tensor | None = None) -> Factorised:
        raw = self.decoder(z)
        if self.config.skip:
            return self.likelihood(raw, self.decoder_skip(z))
        return self.likelihood(raw)

    @torch.no_grad()
    def solve(self, data: Any, config: TrainingConfig) -> None:
        """After the last round: the prior is fitted to what the encoder makes of training examples."""
        super().solve(data, config)
        if not isinstance(self.prior, (LearnedGaussian, FittedMixture)):
            return
        device = next(self.parameters()).device
        batches = data.batches(min(256, len(data.train)), seed=1, config=_gentler(config), device=str(device))
        z: list[Tensor] = []
        while sum(map(len, z)) < max(8192, 50 * self.config.latent):
            z.append(self.encode(next(batches).x).sample())
        self.prior.fit(torch.cat(z))
        if isinstance(self.prior, FittedMixture):
            x = data.train.x(self.config.components).to(device)
            x = torch.cat([x, x.flip(-1)]) if config.mirror else x
            self.prior.place(torch.cat([self.encode(part).mean for part in x[: self.config.components].split(256)]))

    def phases(self, batch: Batch, step: int) -> Iterator[Phase]:
        config = self.config
        q = perceived(self, batch.x, batch.observed, batch.given if self.classes else None)
        if self.training:
            self.prior.follow(q)
        weight = config.beta * (min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0)
        batch = batch if self.classes else batch._replace(given=None)
        found = surrogate(self, q, batch, config.objective, config.draws, config.repeats, weight, config.free_bits)
        yield Phase("all", found.loss, -found.bound)


def _gentler(config: TrainingConfig) -> TrainingConfig:
    """Half as much movement and no play of light: a network may learn from pictures that a dream should not show."""
    half: dict[str, Any] = {name: getattr(config, name) / 2 for name in ("zoom", "shift", "turn", "warp")}
    return dataclasses.replace(config, light=0.0, **half)
