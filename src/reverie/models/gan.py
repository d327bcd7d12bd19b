"""A generator that is taught by a critic: dreams without a likelihood."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from reverie.core.bits import single
from reverie.core.config import knob
from reverie.core.corruption import Corruption
from reverie.core.errors import BadInput
from reverie.core.lattice import snap
from reverie.core.model import Batch, Model, Phase
from reverie.core.recipe import TrainingConfig
from reverie.core.space import Space
from reverie.data.augment import altered
from reverie.maths.games import GAMES, critic_loss
from reverie.models.inversion import invert, nearest
from reverie.nets.adversaries import Critic, Generator, PointCritic, PointGenerator
from reverie.nets.style import StyleGenerator, crossed, truncated

PACE = 5.0  # the share of altered pictures can go from 0 to 1 in a fifth of the run
STARTS = 64  # dreams from which an inversion chooses where to begin
AT_ONCE = 256  # examples whose styles are sought side by side
SMALL = 400  # entries of a picture
FEW = 5000  # examples, which a critic soon knows by heart
MEMORY = 0.005  # half-life of what is remembered of the critic's judgements, as a share of the run


@dataclass(frozen=True)
class GANConfig:
    latent: int = knob(64, "size of z", low=1)
    net: Literal["auto", "mlp", "conv"] = knob("auto", "both nets; auto: convolutions for pictures, else perceptrons")
    width: int = knob(16, "channels of the finest scale, doubled at each halving; units of a perceptron's layer", low=1)
    depth: int = knob(1, "residual blocks at each scale; layers of a perceptron", low=1)
    fold: int = knob(
        1,
        "pictures: pixels along each side of the square that is one place to the critic, a power of two",
        low=1,
        high=64,
    )
    game: Literal["relativistic", "classic", "hinge"] = knob(
        "relativistic", "what is played: which of a pair is real; real or dreamt, one by one; the same with margins"
    )
    style: bool = knob(False, "pictures: a mapping network, and a style at every layer of the generator")
    style_width: int = knob(64, "numbers in a style", low=1)
    mapping: int = knob(2, "layers of the mapping network", low=1)
    mixing: float = knob(0.5, "share of dreams in training whose fine layers have another style", low=0.0, high=1.0)
    noise: bool = knob(False, "a styled generator adds noise at every block")
    psi: float = knob(1.0, "dreams for the eye keep to that share of a style's distance from the mean", low=0.0)
    gamma_real: float = knob(1.0, "penalty on the critic's slopes at real examples (R1)", low=0.0)
    gamma_fake: float = knob(1.0, "penalty on the critic's slopes at dreams (R2)", low=0.0)
    augment: float = knob(
        0.0,
        "pictures: greatest share that is altered before the critic sees it, real and dreamt alike",
        low=0.0,
        high=0.9,
    )
    inversion: int = knob(200, "steps of descent by which the styles of a given example are sought", low=1)
    overfit: float = knob(
        0.5, "how far the critic may know training examples by heart before more are altered", high=1.0
    )


class GAN(Model):
    """x = G(z), z ~ N(0, I), taught by a critic D that is shown pairs of a real and a dreamt example,

        D lowers E softplus(-(D(x) - D(G(z)))) + γ/2 E|∇D(x)|² + γ/2 E|∇D(G(z))|²,
        G lowers E softplus(-(D(G(z)) - D(x))),

    one step each, on examples of their own: half of every batch (Huang, Gokaslan, Kuleshov & Tompkin 2024, arXiv
    2501.05441). Where examples have holes, the dreams that are held against them have the same (Bora, Price & Dimakis 2018,
    ICLR, AmbientGAN). Bytes are numbers from -1 to 1 until they are sampled.

    >>> gan = GAN(GANConfig(latent=2, width=8), Space((1, 6, 5), "byte"))
    >>> gan.sample(3).shape
    torch.Size([3, 1, 6, 5])
    """

    Config = GANConfig
    kinds = ("byte", "real")
    repairs_quickly = False  # a descent for each draw
    judged_by_dreams = True
    reducible = True
    strength: Tensor
    judged: Tensor
    looks: Tensor

    def __init__(self, config: GANConfig, space: Space):
        super().__init__(config, space)
        if space.kind not in self.kinds:
            raise BadInput(f"a gan dreams bytes or real numbers, not {space.kind}s; take a vae, or data that are not binarised")  # fmt: skip
        if config.net == "conv" and not space.is_picture:
            raise BadInput(f"convolutions are for pictures, not for {space.shape}; take --model.net mlp")
        if config.fold & (config.fold - 1):
            raise BadInput(f"a gan folds by powers of two, not by {config.fold}; take --model.fold 2 or 4")
        if config.fold > 1 and not space.is_picture:
            raise BadInput(f"only pictures are folded, not {space.shape}; leave --model.fold out")
        if config.augment and not space.is_picture:
            raise BadInput(f"only pictures are altered, not {space.shape}; leave --model.augment out")
        self.game = GAMES[config.game]
        self.register_buffer("strength", torch.zeros(()))  # the share of pictures that is altered
        self.register_buffer("judged", torch.zeros(3))  # running means of D: training examples, held-out ones, dreams
        self.register_buffer("looks", torch.zeros(()))
        shape, latent, width, depth = space.shape, config.latent, config.width, config.depth
        self.critic: Critic | PointCritic
        self.generator: Generator | PointGenerator | StyleGenerator
        if not space.is_picture or config.net == "mlp":
            if config.style:
                raise BadInput(
                    "styles are for convolutions; leave --model.style out, or take --model.net conv and pictures"
                )
            self.critic, self.generator = PointCritic(shape, width, depth), PointGenerator(shape, latent, width, depth)
            return
        self.critic = Critic(shape, width, depth, config.fold)
        if config.style:
            more = config.style_width, config.mapping, config.noise, config.fold
            self.generator = StyleGenerator(shape, latent, width, depth, *more)
        else:
            self.generator = Generator(shape, latent, width, depth, config.fold)

    @classmethod
    def recipe(cls, space: Space, count: int) -> tuple[GANConfig, TrainingConfig]:
        """Adam without memory of the gradient, which is another one after every step of the other side. Large pictures are
        folded, so that minutes are enough for some thousand rounds; of few pictures the mirror images are shown too, and they are altered."""
        adam = TrainingConfig(beta1=0.0, beta2=0.99, batch=32, rate=1e-3, final=0.1, average=0.05)
        if space.is_picture:
            few, large = count < FEW, space.dims > SMALL
            # The penalty that a critic needs grows with the picture, and is larger where it would soon know all by heart.
            gamma = (3.0 if large else 1.0) * (3.0 if few else 1.0)
            config = GANConfig(fold=2 if large else 1, augment=0.8 if few else 0.0, gamma_real=gamma, gamma_fake=gamma)
            return config, replace(adam, mirror=few)
        return GANConfig(latent=16, width=128, depth=3), replace(adam, batch=64)

    def learners(self) -> dict[str, Iterable[nn.Parameter]]:
        return {"critic": self.critic.parameters(), "generator": self.generator.parameters()}

    def phases(self, batch: Batch, step: int) -> Iterator[Phase]:
        rows = torch.arange(len(batch.x), device=batch.x.device)
        half = (len(rows) + 1) // 2  # of an odd number both see the one in the middle
        shown = batch.rows(rows[:half])
        with torch.no_grad():
            real, dreams = self._shown(shown), self._shown(shown._replace(x=self._dreamt(half)))
        config = self.config
        loss, played = critic_loss(self.game, self.judge, real, dreams, config.gamma_real, config.gamma_fake)
        yield Phase("critic", loss, played)
        shown = batch.rows(rows[-half:])
        dreams = self._shown(shown._replace(x=self._dreamt(half)))
        yield Phase("generator", self.game.generator(self.judge(self._shown(shown)), self.judge(dreams)))

    @torch.no_grad()
    def watch(self, batch: Batch, held: Batch, share: float) -> dict[str, float]:
        """How far the critic has the training examples by heart, which sets the share of pictures that is altered; that
        share; and how much dreams differ from each other, as a share of how much real examples do.

        By heart: (D(train) - D(held out)) / (D(train) - D(dreams)), in running means; 0 where held-out examples pass for
        training ones, 1 where they pass for dreams (Karras et al. 2020, arXiv 2006.06676, r_v).
        """
        dreams = batch._replace(x=self._dreamt(len(batch.x)))
        now = torch.stack([self.judge(self._shown(part)).mean() for part in (batch, held, dreams)])
        self.judged.lerp_(now, max(1 - 0.5 ** (share / MEMORY), 1 / (1 + self.looks.item())))
        self.looks += 1
        train, new, dreamt = self.judged.tolist()
        heart = min(max((train - new) / (train - dreamt), 0.0), 1.0) if train > dreamt else 0.0
        step = share * PACE if heart > self.config.overfit else -share * PACE
        self.strength.add_(step).clamp_(0, self.config.augment)
        variety = _gaps(dreams.x) / max(_gaps(batch.x), 1e-12)
        return {"by heart": heart, "altered": self.strength.item(), "variety": variety}

    def _dreamt(self, n: int) -> Float[Tensor, "n *shape"]:
        """As training has them: not on the lattice, and some of two styles."""
        styles = self.styles(n)
        if self.config.mixing and self.generator.layers > 1:
            styles = crossed(styles, self.styles(n), self.config.mixing)
        with self.nets():
            return single(self.generator(styles))

    def judge(self, x: Float[Tensor, "B *shape"]) -> Float[Tensor, " B"]:
        """How real the critic takes each example to be."""
        with self.nets():
            return single(self.critic(x))

    def _shown(self, batch: Batch) -> Tensor:
        """What the critic sees of examples, or of dreams with the holes of examples that they are held against."""
        if batch.observed is not None:  # holes would be moved too
            return torch.where(batch.observed, batch.x, 0.0)
        return altered(batch.x, self.strength.item()) if self.space.is_picture else batch.x

    def styles(self, n: int, psi: float = 1.0, cutoff: int | None = None) -> Float[Tensor, "n L S"]:
        """n draws, (n, L, S) a style for each layer of the generator, the first `cutoff` of them (None: all) drawn to the
        mean style: at `psi` 1 not at all, at 0 wholly."""
        z = torch.randn(n, self.config.latent, device=next(self.parameters()).device)
        styles = self.generator.styles(z)
        return styles if psi == 1 else truncated(styles, self.generator.centre().to(z), psi, cutoff)

    @torch.no_grad()
    def imagine(self, styles: Float[Tensor, "B L S"]) -> Float[Tensor, "B *shape"]:
        """What the generator makes of these styles, model units, on the lattice of the space where it has one."""
        x = self.generator(styles)
        return snap(x) if self.space.kind == "byte" else x

    @torch.no_grad()
    def sample(
        self, n: int, given: Tensor | None = None, psi: float = 1.0, cutoff: int | None = None
    ) -> Float[Tensor, "n *shape"]:
        self.labels(n, given)
        return self.imagine(self.styles(n, psi, cutoff))

    def dream(self, n: int, given: Tensor | None = None) -> Float[Tensor, "n *shape"]:
        """(n, *shape), at the `psi` of the settings."""
        return self.sample(n, given, self.config.psi)

    def mix(self, a: Float[Tensor, "B L S"], b: Float[Tensor, "B L S"], layers: int) -> Float[Tensor, "B *shape"]:
        """(B, *shape): the first, coarse `layers` have the styles of a, the others those of b."""
        return self.imagine(torch.cat([a[:, :layers], b[:, layers:]], 1))

    @torch.no_grad()
    def invert(
        self,
        x: Float[Tensor, "B *shape"],
        observed: Bool[Tensor, "B *shape"] | None = None,
        starts: Float[Tensor, "B L S"] | None = None,
    ) -> Float[Tensor, "B L S"]:
        """(B, L, S) styles that make examples like x, as far as it was observed, sought by descent from `starts`; without
        these, from the nearest of some dreams, always the same ones. Nothing here depends on chance."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            if starts is None:
                starts = self._nearest(x, observed)
            found = []
            for i in range(0, len(x), AT_ONCE):
                part = slice(i, i + AT_ONCE)
                seen = None if observed is None else observed.expand_as(x)[part]
                sought = starts[part], x[part], seen, self.config.inversion
                found.append(invert(self.generator, self.critic.features, *sought))
        return torch.cat(found)

    def _nearest(self, x: Tensor, observed: Tensor | None) -> Float[Tensor, "B L S"]:
        """Of some dreams, the styles of the one that is most like x."""
        styles = self.styles(STARTS)
        return styles[nearest(self.generator(styles), x, observed)]

    def repair(
        self,
        x: Float[Tensor, "B *shape"],
        observed: Bool[Tensor, "B *shape"] | None,
        n: int,
        noise: float | Corruption = 0.0,
    ) -> Float[Tensor, "n B *shape"]:
        """(n, B, *shape), model units: what the generator makes that is like what was seen, each sought from other starts. They
        are good guesses; no one says that they come as often as they should. Under noise nothing that was seen is kept."""
        starts = torch.cat([self._nearest(x, observed) for _ in range(n)])
        many = Batch(x, observed).copies(n)
        draws = self.imagine(self.invert(many.x, many.observed, starts)).view(n, *x.shape)
        if noise:
            return draws
        return x.expand_as(draws).clone() if observed is None else torch.where(observed, x, draws)


def _gaps(x: Tensor) -> float:
    """The mean distance of one example from the next."""
    return (x - x.roll(1, 0)).flatten(1).norm(dim=1).mean().item()
