"""The variational autoencoder (Kingma & Welling 2013, arXiv 1312.6114; Rezende, Mohamed & Wierstra 2014)."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from reverie.core.bits import single
from reverie.core.config import knob
from reverie.core.distributions import Reparameterised
from reverie.core.errors import BadInput
from reverie.core.model import Batch, Phase
from reverie.core.recipe import TrainingConfig
from reverie.core.sequential import Conditional
from reverie.core.space import Space
from reverie.maths.bounds import perceived
from reverie.maths.objectives import surrogate
from reverie.models.latent import LatentModel, Method
from reverie.nets import conv, mlp
from reverie.nets.likelihoods import Likelihood
from reverie.nets.neighbours import told
from reverie.nets.posteriors import posterior
from reverie.nets.priors import FittedMixture, LearnedGaussian, Prior, VampPrior, prior
from reverie.nets.senses import Senses

NETS: dict[str, Callable[..., tuple[nn.Module, nn.Module]]] = {
    "mlp": mlp.autoencoder,
    "gated": partial(mlp.autoencoder, net=mlp.gated_mlp),
    "residual": partial(mlp.autoencoder, net=mlp.residual_mlp),
    "conv": conv.autoencoder,
}


@dataclass(frozen=True)
class VAEConfig:
    net: Literal["mlp", "gated", "residual", "conv"] = knob(
        "mlp", "perceptrons; gated ones; residual ones; or convolutions (pictures only)"
    )
    latent: int = knob(32, "size of z", low=1, high=65536)
    width: int = knob(512, "units of a hidden layer; of convolutions, channels at the finest scale", low=1, high=65536)
    depth: int = knob(2, "hidden layers; of convolutions, residual blocks at every scale", low=1, high=1000)
    skip: bool = knob(False, "a linear path beside the network, in the encoder and in the decoder")
    prior: Literal["normal", "gaussian", "fitted", "mixture", "vamp", "flow"] = knob(
        "fitted",
        "p(z): standard normal; one learned Gaussian; that, and a mixture fitted at the end; "
        "a learned mixture; one of encoded pseudo-inputs; a normalising flow",
    )
    components: int = knob(1000, "Gaussians of a mixture; of the fitted one, at most", low=1)
    closeness: float = knob(
        0.5, "how near dreams from the fitted mixture stay to training examples", low=0.0, high=0.99
    )
    posterior: Literal["gaussian", "flow"] = knob("gaussian", "q(z|x): a diagonal Gaussian; or one bent by a flow")
    likelihood: Likelihood = knob("auto", "p(x|z), of those that fit the kind of data; auto takes the usual one")
    logistics: int = knob(1, "logistic densities in the likelihood of a byte", low=1, high=1000)
    neighbours: int = knob(
        0,
        "how far a pixel is told of those before it, which z then need not explain; 0: it is told of none",
        low=0,
        high=64,
    )
    neighbour_width: int = knob(32, "channels of the net that tells it", low=1, high=4096)
    holes: bool = knob(False, "the encoder is told which entries were measured")
    hide: float = knob(
        0.0,
        "while learning, the encoder misses shares of the entries that are drawn from 0 to this, example by example",
        low=0.0,
        high=1.0,
    )
    classes: int = knob(0, "labels to condition on, as many as the data have; 0: none", low=0)
    objective: Literal["elbo", "stl", "iwae", "dreg"] = knob(
        "elbo",
        "what is raised: the evidence bound; its sticking-the-landing gradient; "
        "the bound of many draws; its doubly reparameterised gradient",
    )
    draws: int = knob(1, "draws of z for each example, which together make one bound of iwae and dreg", low=1)
    repeats: int = knob(1, "such bounds, which are averaged", low=1)
    beta: float = knob(1.0, "weight of the KL term in the loss; the bound itself has 1", low=0.0)
    free_bits: float = knob(0.0, "nats of KL that each latent may use for free", low=0.0)
    warmup: int = knob(0, "rounds over which the weight of the KL term rises from zero", low=0)
    repair: Method = knob(
        "gibbs", "pseudo-Gibbs; Metropolis-within-Gibbs, right whatever q is; or importance resampling"
    )
    sweeps: int = knob(50, "rounds of pseudo-Gibbs in a repair of what is missing", low=0)
    doubt: float = knob(1.0, "how many times less a repair trusts what was seen than p(x|z) does", low=1.0)


class VAE(LatentModel):
    """p(z) p(x|z) with a recognition model q(z|x), trained by a bound of the evidence,

        log p(x) >= E_q log p(x|z) - KL(q(z|x) || p(z)),

    or by a tighter one. Prior, posterior, likelihood, net and objective are chosen one by one.

    >>> vae = VAE(VAEConfig(latent=2, width=8, prior="vamp", components=5), Space((1, 4, 4), "bit"))
    >>> vae.sample(3).shape
    torch.Size([3, 1, 4, 4])
    """

    Config = VAEConfig
    kinds = ("bit", "byte", "real", "count", "mixed")
    prior: Prior
    reducible = True

    def __init__(self, config: VAEConfig, space: Space):
        super().__init__(config, space, config.classes)
        if config.free_bits and config.objective != "elbo":
            raise BadInput(f"free bits belong to --model.objective elbo; {config.objective} has none, set them to 0")
        if config.prior == "vamp" and config.posterior == "flow":
            raise BadInput("pseudo-inputs are encoded as Gaussians; take --model.posterior gaussian, or another --model.prior than vamp")  # fmt: skip
        if config.classes and config.prior == "vamp":
            raise BadInput("pseudo-inputs have no labels; take another --model.prior than vamp, or --model.classes 0")
        self.method, self.sweeps, self.doubt = config.repair, config.sweeps, config.doubt
        self.prior = prior(config.prior, config.latent, config.components, config.closeness, space)
        if isinstance(self.prior, VampPrior):
            self.prior.perceive = self.encode
        self.senses = Senses(space, config.classes, config.holes)
        self.posterior = posterior(config.posterior, config.latent)
        self.likelihood = told(space, config.likelihood, config.logistics, config.neighbours, config.neighbour_width)
        causes = config.latent + config.classes
        self.encoder, self.decoder = NETS[config.net](
            self.senses.shape, self.posterior.code, causes, self.likelihood.start, config.width, config.depth
        )
        if config.skip:
            self.encoder_skip = nn.Linear(math.prod(self.senses.shape), config.latent)
            self.decoder_skip = nn.Linear(causes, self.likelihood.shifts, bias=False)

    @classmethod
    def recipe(cls, space: Space, count: int) -> tuple[VAEConfig, TrainingConfig]:
        """Bytes of pictures: residual perceptrons with a linear path, a wide latent, and a prior that is fitted last.

        docs/recipe.md tells what was tried on the 400 portraits. Below
        5,000 pictures the loader moves, bends and lights them; above, the data speak for themselves.
        Tables: a small net beside a linear path, the bound of ten draws, which also suits holes, and an encoder that
        misses some cells, so that it is less sure of them.
        """
        if space.kind in ("mixed", "count") or (space.kind == "real" and len(space.shape) == 1 and space.dims > 2):
            config = VAEConfig(
                width=128,
                latent=min(10, space.dims),
                skip=True,
                prior="normal",
                objective="iwae",
                draws=10,
                hide=0.25,
                repair="importance",
            )
            return config, TrainingConfig(batch=64, steps=1000, rate=2e-3, decay=0.1, average=0.02)
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
        self,
        x: Float[Tensor, "B *shape"],
        observed: Bool[Tensor, "B *shape"] | None = None,
        given: Int[Tensor, " B"] | None = None,
    ) -> Reparameterised:
        seen = self.senses(x, observed, given)
        with self.nets():
            code = self.encoder(seen)
            if self.config.skip:
                code = code + F.pad(self.encoder_skip(seen.flatten(1)), (0, self.posterior.code - self.config.latent))
        return self.posterior(single(code))

    def decode(self, z: Float[Tensor, "B Z"], given: Int[Tensor, " B"] | None = None) -> Conditional:
        self.need_labels(given)
        if given is not None and self.classes:
            z = torch.cat([z, F.one_hot(given, self.classes).to(z.dtype)], 1)
        with self.nets():
            shift = self.decoder_skip(z) if self.config.skip else None
            return self.likelihood(self.decoder(z), shift)

    @torch.no_grad()
    def prepare(self, data: Any) -> None:
        """Before the first round: pseudo-inputs begin as training examples."""
        if isinstance(self.prior, VampPrior):
            self.prior.start(data.train.x(self.config.components).to(self.label_shares.device))

    @torch.no_grad()
    def solve(self, data: Any, config: TrainingConfig) -> None:
        """After the last round: the prior is fitted to what the encoder makes of training examples."""
        super().solve(data, config)
        if not isinstance(self.prior, (LearnedGaussian, FittedMixture)):
            return
        device = self.label_shares.device
        batches = data.batches(min(256, len(data.train)), seed=1, config=_gentler(config), device=str(device))
        z: list[Tensor] = []
        while sum(map(len, z)) < max(8192, 50 * self.config.latent):
            z.append(self._perceived(next(batches)).sample())
        self.prior.fit(torch.cat(z))
        if isinstance(self.prior, FittedMixture):
            known = self._examples(data, config.mirror and self.space.is_picture)
            self.prior.place(torch.cat([self._perceived(part).mean for part in known]))

    def _perceived(self, batch: Batch) -> Reparameterised:
        return perceived(self, batch.x, batch.observed, batch.given if self.classes else None)

    def _examples(self, data: Any, mirror: bool) -> Iterator[Batch]:
        """The training examples (and their mirror images) that become Gaussians of the fitted mixture."""
        most, device = self.config.components, self.label_shares.device
        x, observed, given = data.train.x(most), data.train.observed(most), data.train.labels
        ways: tuple[tuple[int, ...], ...] = ((), (-1,)) if mirror else ((),)
        for way in ways:
            for rows in torch.arange(min(len(x), most)).split(256):
                parts = (None if t is None else t[rows].to(device) for t in (x, observed, given))
                yield Batch(*(t if t is None or t.dim() == 1 else t.flip(way) for t in parts))  # type: ignore[arg-type]
            most -= len(x)

    def phases(self, batch: Batch, step: int) -> Iterator[Phase]:
        config = self.config
        q = self._perceived(self._partly_hidden(batch) if self.training and config.hide else batch)
        if self.training:
            self.prior.follow(q)
        weight = config.beta * (min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0)
        batch = batch if self.classes else batch._replace(given=None)
        found = surrogate(self, q, batch, config.objective, config.draws, config.repeats, weight, config.free_bits)
        yield Phase("all", found.loss, -found.bound)

    def _partly_hidden(self, batch: Batch) -> Batch:
        """What the encoder is shown: q(z | a part of x) makes a bound of log p(x) too, and knows of holes (Im, Ahn, Memisevic &
        Bengio 2015, arXiv 1511.06406)."""
        share = self.config.hide * torch.rand(len(batch.x), *[1] * (batch.x.dim() - 1), device=batch.x.device)
        shown = torch.rand_like(batch.x) >= share
        return batch._replace(observed=shown if batch.observed is None else shown & batch.observed)


def _gentler(config: TrainingConfig) -> TrainingConfig:
    """Half as much movement and no play of light: a network may learn from pictures that a dream should not show."""
    half: dict[str, Any] = {name: getattr(config, name) / 2 for name in ("zoom", "shift", "turn", "warp")}
    return dataclasses.replace(config, light=0.0, **half)
