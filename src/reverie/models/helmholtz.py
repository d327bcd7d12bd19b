"""The Helmholtz machine (Dayan, Hinton, Neal & Zemel 1995) and the ways in which it learns by dreaming."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from reverie.core.config import knob
from reverie.core.errors import BadInput
from reverie.core.model import Batch, Estimate, Phase
from reverie.core.recipe import TrainingConfig
from reverie.core.sequential import Conditional
from reverie.core.space import Space
from reverie.maths.bounds import perceived
from reverie.models.latent import LatentModel, Method
from reverie.nets.beliefs import KINDS, Kind
from reverie.nets.chains import Chain, Shown, ShownInTurn, Thought
from reverie.nets.likelihoods import Likelihood
from reverie.nets.senses import Senses

EXACT = 16  # latent bits, up to which surprise is a sum over all of their states


@dataclass(frozen=True)
class HelmholtzConfig:
    layers: tuple[int, ...] = knob((200, 200), "bits of each latent layer, the one next to the data first")
    generation: Kind = knob(
        "sigmoid", "layers of the dreamer: independent bits; or one after another, linearly or as NADE"
    )
    recognition: Kind = knob("sigmoid", "the same, of the recogniser")
    top: Kind = knob("sigmoid", "the same, of the topmost layer of the dreamer")
    shown: Kind = knob("sigmoid", "the same, of the data if they are bits; anything else is shown by the likelihood")
    rule: Literal["wake-sleep", "reweighted", "vimco"] = knob(
        "reweighted",
        "how it learns: wake-sleep; reweighted wake-sleep; or VIMCO, the gradient of the bound of many draws",
    )
    recognise: Literal["wake", "sleep", "both"] = knob(
        "both", "where the recogniser learns under reweighted: from the world, from dreams, or from both"
    )
    draws: int = knob(10, "draws of z for each example; of wake-sleep, they are averaged", low=1)
    likelihood: Likelihood = knob("auto", "p(x|z), of those that fit the kind of data; auto takes the usual one")
    logistics: int = knob(1, "logistic densities in the likelihood of a byte", low=1, high=1000)
    classes: int = knob(0, "labels to condition on, as many as the data have; 0: none", low=0)
    positive: Literal["none", "shown", "all"] = knob(
        "none", "which of the dreamer's weights are kept from falling below zero: those that show the data, or all"
    )
    mean_field: bool = knob(False, "recognition passes chances upwards rather than bits")
    start: float = knob(1.0, "scale of the weights at the start; 0: all of them zero", low=0.0)
    busy: float = knob(
        0.5,
        "how many of the bits of each layer below the topmost are on at the start, in dreams",
        low=0.001,
        high=0.999,
    )
    rates: tuple[float, ...] = knob(
        (),
        "factors on the gradients of what links the data to the first layer, both ways, of what links each layer to the "
        "next, and of the topmost layer's own, for --training.optimiser sgd; none: all 1",
    )
    repair: Method = knob(
        "metropolis", "pseudo-Gibbs; Metropolis-within-Gibbs, right whatever q is; or importance resampling"
    )
    sweeps: int = knob(50, "rounds of pseudo-Gibbs in a repair of what is missing", low=0)


class Helmholtz(LatentModel):
    """Layers of stochastic bits, dreamt from the top down and recognised from the bottom up.

    - `wake-sleep` (Hinton, Dayan, Frey & Neal 1995): awake, the dreamer learns to explain the world as it was recognised;
      asleep, the recogniser learns to tell what a dream was made of. Both by the delta rule.
    - `reweighted` (Bornschein & Bengio 2015, arXiv 1406.2751): the same, each of many draws counting as much as its importance weight.
    - `vimco` (Mnih & Rezende 2016, arXiv 1602.06725): both climb the bound of many draws.

    Every gradient is in closed form. What is told of the dreamer is the bound's free energy awake, and of the recogniser how
    many nats of a dream's causes it misses asleep (awake, where it does not learn asleep).

    >>> machine = Helmholtz(HelmholtzConfig(layers=(4, 2)), Space((1, 3, 3), "bit"))
    >>> machine.sample(5).shape
    torch.Size([5, 1, 3, 3])
    """

    Config = HelmholtzConfig
    kinds = ("bit", "byte", "real", "count", "mixed")
    doubt = 1.0
    linear_start = False  # its latents are bits

    def __init__(self, config: HelmholtzConfig, space: Space):
        super().__init__(config, space, config.classes)
        if not config.layers or min(config.layers) < 1:
            raise BadInput(f"layers is {config.layers}; a machine needs at least one layer of at least one bit")
        if config.rates and len(config.rates) != len(config.layers) + 1:
            raise BadInput(
                f"rates has {len(config.rates)} factors; {len(config.layers) + 1} are needed, those next to the data first"
            )
        if config.mean_field and config.recognition != "sigmoid":
            raise BadInput("mean-field recognition has independent bits; take --model.recognition sigmoid")
        self.method, self.sweeps = config.repair, config.sweeps
        self.senses = Senses(space, config.classes)
        sizes = [math.prod(self.senses.shape), *config.layers]
        up, across = KINDS[config.recognition], KINDS[config.generation]
        self.recogniser = nn.ModuleList(up(a, b, config.start) for a, b in itertools.pairwise(sizes))
        layers = [KINDS[config.top](0, sizes[-1], config.start)]
        layers += [across(a, b, config.start) for a, b in zip(sizes[:1:-1], sizes[-2:0:-1], strict=True)]
        for layer in layers[1:]:
            nn.init.constant_(layer.bias, math.log(config.busy / (1 - config.busy)))
        self.dreamer = nn.ModuleList(layers)  # from the top down
        causes = sizes[1] + config.classes
        self.shown: Shown | ShownInTurn
        if config.shown == "sigmoid":
            self.shown = Shown(causes, space, config.likelihood, config.logistics, config.start)
        else:
            self.shown = ShownInTurn(KINDS[config.shown](causes, space.dims, config.start), space)
        with torch.no_grad():
            for weight in self._kept_positive():
                weight.abs_()

    @classmethod
    def recipe(cls, space: Space, count: int) -> tuple[HelmholtzConfig, TrainingConfig]:
        """Of small pictures three layers can be looked at unit by unit, and explained as much as two wide ones on digits."""
        layers = (64, 32, 16) if space.dims <= 144 else (200, 200)
        logistics = 3 if space.kind == "byte" else 1
        return HelmholtzConfig(layers=layers, logistics=logistics), TrainingConfig(rate=3e-3, average=0.02)

    def learners(self) -> dict[str, Any]:
        return {
            "dreamer": [*self.dreamer.parameters(), *self.shown.parameters()],
            "recogniser": list(self.recogniser.parameters()),
        }

    @property
    def prior(self) -> Chain:  # type: ignore[override]
        return Chain(list(self.dreamer), self.shown.bias.new_zeros(1, 0), down=True)  # type: ignore[arg-type]

    def encode(
        self,
        x: Float[Tensor, "B *shape"],
        observed: Bool[Tensor, "B *shape"] | None = None,
        given: Int[Tensor, " B"] | None = None,
    ) -> Chain:
        self.need_labels(given)
        seen = self.senses(x, observed, given).flatten(1)
        return Chain(list(self.recogniser), seen, down=False, soft=self.config.mean_field)  # type: ignore[arg-type]

    def decode(self, z: Float[Tensor, "B Z"], given: Int[Tensor, " B"] | None = None) -> Conditional:
        self.need_labels(given)
        return self.shown(self._causes(z[:, : self.config.layers[0]], given))

    def _causes(self, z: Tensor, given: Tensor | None) -> Tensor:
        if not self.classes or given is None:
            return z
        return torch.cat([z, F.one_hot(given, self.classes).to(z.dtype)], 1)

    def explained(self) -> dict[str, str]:
        rule, recognise = self.config.rule, self.config.recognise
        if rule == "vimco" or (rule == "reweighted" and recognise == "wake"):
            recogniser = "Awake: how sure the recogniser is of the causes that it sees (-log q, nats)"
        else:
            recogniser = "Asleep: how much of the true causes of a dream the recogniser misses (-log q, nats)"
        return {"dreamer": "Awake: the free energy of examples (nats)", "recogniser": recogniser}

    @property
    def units(self) -> tuple[int, ...]:
        return self.config.layers

    @torch.no_grad()
    def receptive(self, layer: int) -> Float[Tensor, "units *shape"]:
        """Weights of recognition; of a higher layer, those of the layer below weighted by its own and summed, as if all below it
        were linear (Lee, Ekanadham & Ng 2008)."""
        if self.space.columns:
            raise BadInput("a column of a table may be seen as several numbers; units have no field of one for each")
        layers: list[Any] = list(self.recogniser)
        first, *above = layers[: layer + 1]
        field = first.weight[:, : self.space.dims]
        for belief in above:
            field = belief.weight @ field
        return field.unflatten(1, self.space.shape)

    @torch.no_grad()
    def projective(self, layer: int) -> Float[Tensor, "units *shape"]:
        """Weights of generation, to logits of bits or to locations of other numbers; of a higher layer, as if all below
        it were linear."""
        layers: list[Any] = list(self.dreamer)
        field = self.shown.located()[:, : self.units[0]]
        for belief in layers[:0:-1][:layer]:
            field = field @ belief.weight
        return field.T.unflatten(1, self.space.shape)

    @torch.no_grad()
    def fantasies(self, layer: int, n: int) -> tuple[Float[Tensor, "units *shape"], Float[Tensor, " units"]]:
        """The mean of p(x|z) over those of n dreams in which a unit was on, NaN where there was none; the share of these."""
        labels, z = self.labels(n, None), self.prior.sample(n)
        made = [
            self.decode(part, given).mean
            for part, given in zip(z.split(1024), [None] * n if labels is None else labels.split(1024), strict=False)
        ]
        on = z.split(self.units, 1)[layer]
        often = on.mean(0)
        return torch.einsum("nu,n...->u...", on, torch.cat(made)) / (n * often).view(
            -1, *[1] * len(self.space.shape)
        ), often

    @torch.no_grad()
    def prepare(self, data: Any) -> None:
        """Before the first round: bits are shown as often as they are on in the data."""
        if self.space.kind == "bit" and self.config.start:
            x, observed = data.train.x(10_000), data.train.observed(10_000)
            on = x.mean(0) if observed is None else x.sum(0) / observed.sum(0).clamp(min=1)
            self.shown.bias.copy_(torch.logit(on.flatten(), eps=0.01))

    def _surprise(self, x: Tensor, observed: Tensor | None, draws: int, given: Tensor | None) -> Estimate:
        told = isinstance(self.shown, ShownInTurn) and observed is not None and not bool(observed.all())
        if sum(self.config.layers) > EXACT or told:  # of bits shown in turn a hole is filled by a draw
            return super()._surprise(x, observed, draws, given)
        nats = -self._evidence(x, observed, given)
        return Estimate(nats, torch.zeros_like(nats), "nats", "lower", "exact")

    def states(self) -> Float[Tensor, "S Z"]:
        """Every state of the latent bits."""
        bits = sum(self.config.layers)
        return (torch.arange(2**bits).unsqueeze(1) >> torch.arange(bits) & 1).to(self.shown.bias)

    def _evidence(self, x: Tensor, observed: Tensor | None, given: Tensor | None) -> Float[Tensor, " B"]:
        """log p(x), by a sum over all states."""
        total = x.new_full((len(x),), -torch.inf)
        for z in self.states().split(max(1, 4096 // max(len(x), 1))):
            many = Batch(x, observed, given).copies(len(z))
            law = self.decode(z.repeat_interleave(len(x), 0), many.given)
            nats = law.log_prob(many.x, many.observed).view(len(z), len(x)) + self.prior.log_prob(z).unsqueeze(1)
            total = torch.logaddexp(total, nats.logsumexp(0))
        return total

    def phases(self, batch: Batch, step: int) -> Iterator[Phase]:
        config = self.config
        up, down, log_w = self._awake(batch)
        k, n = log_w.shape
        if config.rule == "wake-sleep":
            bound, share = log_w.mean(), torch.full_like(log_w, 1 / k)
        else:
            bound, share = (log_w.logsumexp(0) - math.log(k)).mean(), torch.softmax(log_w, 0)
        yield self._phase("dreamer", -bound, down.pull(share.flatten() / -n))
        with torch.no_grad():
            for weight in self._kept_positive():
                weight.clamp_(min=0)
        missed = -up.nats.mean()
        if config.rule == "vimco":
            yield self._phase("recogniser", missed, up.pull((lift(log_w) - share).flatten() / -n))
            return
        awake = up.pull(share.flatten() / -n) if config.rule == "reweighted" and config.recognise != "sleep" else None
        if awake is not None and config.recognise == "wake":
            yield self._phase("recogniser", missed, awake)
            return
        dreamt = self._asleep(n, batch.given if self.classes else None)
        gradients = dreamt.pull(log_w.new_full((n,), -1 / n))
        if awake is not None:
            torch._foreach_lerp_(gradients, awake, 0.5)
        yield self._phase("recogniser", -dreamt.nats.mean(), gradients)

    @torch.no_grad()
    def _awake(self, batch: Batch) -> tuple[Thought, Thought, Float[Tensor, "K B"]]:
        """What is recognised in a batch, K times over, and how the dreamer explains it; the log-weights of that."""
        given, k = batch.given if self.classes else None, self.config.draws
        q = perceived(self, batch.x, batch.observed, given)
        up = Thought(list(q.laws(k * len(batch.x))))
        z = [bits for _, bits in up.laws]
        x, observed, labels, _ = Batch(batch.x, batch.observed, given).copies(k)
        down = Thought(
            [*self.prior.laws(len(z[0]), z[::-1]), (self.shown.law(self._causes(z[0], labels), observed), x)]
        )
        return up, down, (down.nats - up.nats).view(k, -1)

    @torch.no_grad()
    def _asleep(self, n: int, given: Tensor | None) -> Thought:
        """What the recogniser makes of the true causes of n dreams."""
        z = [bits for _, bits in self.prior.laws(n)][::-1]
        x = self.shown(self._causes(z[0], given)).sample()
        return Thought(list(self.encode(x, given=given).laws(n, z)))

    def _kept_positive(self) -> list[Tensor]:
        layers: list[Any] = {"none": [], "shown": [self.shown], "all": [*self.dreamer, self.shown]}[
            self.config.positive
        ]
        return [layer.weight for layer in layers]

    def _phase(self, learner: str, told: Tensor, gradients: list[Tensor]) -> Phase:
        if self.config.rates:
            layers: list[nn.Module] = [*self.recogniser] if learner == "recogniser" else [*self.dreamer, self.shown]
            rates = self.config.rates[:-1] if learner == "recogniser" else self.config.rates[::-1]
            factors = [rate for layer, rate in zip(layers, rates, strict=True) for _ in layer.parameters()]
            torch._foreach_mul_(gradients, factors)
        return Phase(learner, None, told, gradients)


def lift(log_w: Float[Tensor, "K B"]) -> Float[Tensor, "K B"]:
    """What VIMCO credits each draw with: how much higher the bound is than if the draw had
    weighed the geometric mean of the others."""
    k = len(log_w)
    if k == 1:
        raise BadInput("VIMCO compares draws; give --model.draws of 2 or more")
    others = (log_w.sum(0) - log_w) / (k - 1)
    hidden = log_w.unsqueeze(0).expand(k, -1, -1).clone()  # [i, j]: the weight of j where that of i is replaced
    hidden.diagonal().copy_(others.T)
    return log_w.logsumexp(0) - hidden.logsumexp(1)
