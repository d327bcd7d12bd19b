"""Recurrent networks that become the system they saw: run freely, they go on as it would."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from reverie.core.config import knob
from reverie.core.distributions import Gaussian
from reverie.core.errors import BadInput
from reverie.core.model import Batch, Phase
from reverie.core.recipe import TrainingConfig
from reverie.core.shallow import Shallow
from reverie.core.space import Space
from reverie.models.innovations import Innovations
from reverie.models.recognised import Recognition
from reverie.models.turns import turn
from reverie.nets.bold import bold
from reverie.nets.cells import CellName, cell, manifold_attraction
from reverie.nets.mixed import observation_of
from reverie.nets.observations import Observation, ObservationName
from reverie.nets.recurrence import growth
from reverie.nets.smoothing import parabolas, smoothing

FAR = 1e3  # a state that is nowhere near data of about unit variance
LONG = 5000  # free steps after which a member is known not to run away
AT_ONCE = 100  # of them
GAINS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)  # of the filter, of which the best is kept
EVERY = 10  # rounds between two looks at how errors grow


@dataclass(frozen=True)
class RecurrentConfig:
    cell: CellName = knob("shallow", "how a state becomes the next one")
    latent: int = knob(0, "units of the state; 0: as many as there are channels", low=0)
    hidden: int = knob(
        100, "hidden units; of a dendritic cell, branches; of an almost-linear one, rectified units", low=0
    )
    observation: ObservationName = knob("auto", "what is seen of a state")
    members: int = knob(1, "machines that learn side by side, each from windows of its own", low=1, high=1000)
    forcing: Literal["fixed", "annealed", "adaptive", "sparse", "recognised"] = knob(
        "fixed",
        "how what was seen pulls the states while learning; recognised: by draws of what a recogniser believes lies behind it",
    )
    alpha: float = knob(
        0.15, "share of the way that it pulls them (at first, where annealed or adaptive)", low=0.0, high=1.0
    )
    halving: float = knob(5000.0, "annealed: rounds in which alpha halves", low=1.0)
    interval: int = knob(20, "sparse: steps between two pulls, all the way", low=1)
    smooth: int = knob(
        -1,
        "while learning, steps on both sides over which what was seen is smoothed before it pulls, for noise that pulls makes "
        "what is learned too tame; 0: none, -1: as many as foretell each step best from those around it",
        low=-1,
    )
    process_noise: float = knob(
        0.0,
        "while learning, deviation of a noise that moves all units at each step, as what moves a recording from outside does; the "
        "machine learns to come back from where it is moved. About its error of one step is a good size",
        low=0.0,
    )
    heeded: int = knob(15, "recognised: steps on both sides that the recogniser heeds", low=0)
    inputs: int = knob(0, "external inputs at each step", low=0)
    nuisance: int = knob(
        0,
        "of these how many, the last, are nuisance regressors, as the movements of a head: they disturb what is seen (bold) and "
        "move no state",
        low=0,
    )
    remembering: int = knob(0, "units that are drawn towards remembering for ever", low=0)
    attraction: float = knob(0.1, "how strongly they are, at each step", low=0.0)


class Recurrent(Innovations):
    """z_t = F(z_{t-1}) + C s_t, x_t ~ p(x_t | z_t), learned by generalised teacher forcing: before each step what was seen pulls the
    state a share alpha of the way (Hess, Monfared, Brenner & Durstewitz 2023, arXiv 2306.04406).

    As a distribution it is the same machine in innovation form: each x_t is drawn from p(x_t | z_t) and then pulls the state by a
    gain, so that p(x) is a product over steps and exact. The gain is chosen on the validation windows once the learning is
    done. Several members are an equal mixture, of those that did not diverge.

    Under `process_noise` the states are moved at random besides while it learns (Jim, Giles & Horne 1996, IEEE Transactions on
    Neural Networks 7): what is driven by more than its own rule, as a heart is, is then dreamt well by `free_run(process_noise=True)`.

    Where it is `recognised` what pulls, the states learn from draws of a belief about them instead (`Recognition`), which suits counts and much
    noise; then `encode` tells the belief.

    >>> model = Recurrent(RecurrentConfig(members=2, hidden=5), Space((10, 3), "real"))
    >>> model.sample(4).shape, model.free_run(100).shape
    (torch.Size([4, 10, 3]), torch.Size([2, 1, 100, 3]))
    """

    Config = RecurrentConfig
    kinds = ("real", "count", "mixed")
    reach: Tensor  # (S,) steps on both sides over which what pulls is smoothed, the same for all
    rested: Tensor  # (S,) rounds in which a member did not learn, because its loss or gradient was not finite
    alpha: Tensor  # (S,) of forcing, while it adapts

    def __init__(self, config: RecurrentConfig, space: Space):
        super().__init__(config, space)
        if not space.is_series:
            raise BadInput(f"recurrent learns series (T, N), not examples of shape {space.shape}; give --data.window T")
        if config.cell == "gru" and (config.forcing == "adaptive" or config.remembering):
            raise BadInput("a GRU is not piecewise linear; use fixed forcing and no remembering units, or another cell")
        channels = space.shape[1]
        if config.nuisance and (config.observation != "bold" or config.nuisance > config.inputs):
            raise BadInput(
                f"{config.nuisance} nuisance regressors are some of the inputs, of which there are {config.inputs}, and belong to "
                "a bold observation"
            )
        self.inputs, self.members, self.nuisance = config.inputs, config.members, config.nuisance
        latent = config.latent or channels
        if config.remembering > latent:
            raise BadInput(f"{config.remembering} remembering units are more than the {latent} there are")
        self.cell = cell(config.cell, self.members, latent, config.hidden)
        if config.observation == "bold":
            self.seen: Observation = bold(space, self.members, latent, config.nuisance)
        else:
            self.seen = observation_of(space, config.observation, self.members, latent)
        self.recognition = None
        if config.forcing == "recognised":
            if self.seen.blurs or space.kind == "mixed":
                raise BadInput("beliefs pull of real numbers and of counts alone; take another --model.forcing")
            if config.process_noise:
                raise BadInput("beliefs are drawn, and so move the states already; set --model.process-noise to 0")
            self.recognition = Recognition(self.members, latent, channels, config.inputs, config.heeded)
            self.encode = self._encode  # an ability that no other has
        driving = config.inputs - config.nuisance
        self.C = nn.Parameter(0.1 * torch.randn(self.members, driving, latent)) if driving else None
        self.register_buffer("reach", torch.full((self.members,), max(config.smooth, 0)))
        self.register_buffer("diverged", torch.zeros(self.members, dtype=torch.bool))
        self.register_buffer("rested", torch.zeros(self.members))
        self.register_buffer("alpha", torch.full((self.members,), config.alpha))
        self.register_buffer("gain", torch.full((self.members,), config.alpha))

    @classmethod
    def recipe(cls, space: Space, count: int) -> tuple[RecurrentConfig, TrainingConfig]:
        return RecurrentConfig(), TrainingConfig(
            steps=20_000, batch=16, optimiser="soap", rate=2e-3, clip=10.0, average=0.0
        )

    def explained(self) -> dict[str, str]:
        if self.recognition is None:
            return {}
        return {"all": "A bound of how surprising a window is, of the machine whose states are drawn (nats)"}

    def prepare(self, data: Any) -> None:
        told = data.train.batch(500).to(self.gain.device)
        if (given := 0 if told.inputs is None else told.inputs.shape[-1]) != self.config.inputs:
            raise BadInput(
                f"{data.name} has {given} inputs, and --model.inputs is {self.config.inputs}; make them agree"
            )
        self.seen.prepare(told.x, told.observed, self.disturbing(told.inputs))
        if self.config.smooth < 0:  # with holes there are no parabolas, and what is pushed from outside may jump
            rough = told.observed is not None or self.inputs or self.seen.blurs
            chance = told.x.mean((0, 1)) if self.space.kind == "count" else None  # the variance of Poisson counts
            self.reach.fill_(0 if rough else smoothing(self.seen.modality.averaging(told.x), chance))
        if self.recognition is not None:
            self.recognition.recogniser.prepare(self.seen, int(self.reach[0]))

    def phases(self, batch: Batch, step: int) -> Iterator[Phase]:
        # To each member its own share of the examples.
        hands = self.members if self.training and len(batch.x) % self.members == 0 else 1
        x, observed, inputs = self.by_time(batch.x, batch.observed, batch.inputs, hands)
        states, nats = self.learned(x, observed, inputs, step)
        loss = nats
        if self.recognition is not None:  # as what is expected foretells alone, so it will be used
            loss = loss + self.nats(states, x, observed).sum(0).mean(-1)
        if self.config.remembering:
            drawn = manifold_attraction(self.cell.as_shallow(), self.config.remembering)
            loss = loss + self.config.attraction * len(x) * drawn
        if self.training and self.config.forcing == "adaptive" and step % EVERY == 0:
            fine = loss.detach().isfinite()
            self._adapt(states.detach()[:, fine], fine)
        yield turn(self, loss, nats, self.rested)

    def learned(
        self, x: Tensor, observed: Tensor | None, inputs: Tensor | None, step: int
    ) -> tuple[Float[Tensor, "T S B M"], Float[Tensor, " S"]]:
        """The states that examples (T, S or 1, B, N) pull along in a round, and the nats of what was seen, smoothed or not;
        with a recogniser, their bound."""
        if self.recognition is not None:
            return self.recognition(self, x, observed, inputs, self.config.alpha)
        pulling, reach = x, int(self.reach[0])
        if observed is not None and self.config.smooth > 0 and self.training:
            raise BadInput("what has holes is not smoothed; leave --model.smooth out")
        if reach and observed is None:  # held-out examples may have holes where those to learn from have none
            pulling = self.seen.modality.smoothed(x, parabolas(len(x), reach).to(x))
        sources, known, before = self.seen.sources(pulling, observed, self.disturbing(inputs))
        noise = self.config.process_noise if self.training else 0.0
        states = self.forced(sources, known, inputs, self.weight(x, known, step), noise)
        return states, self.nats(states, x, observed, inputs, before).sum(0).mean(-1)

    @torch.no_grad()
    def _encode(
        self,
        x: Float[Tensor, "B T N"],
        observed: Bool[Tensor, "B T N"] | None = None,
        inputs: Float[Tensor, "B T K"] | None = None,
    ) -> Gaussian:
        """q(z | x) of series of any length: (B, S, T, M), for each member in coordinates of its own, from what was seen before
        and after each step."""
        assert self.recognition is not None
        x, observed, inputs = self.by_time(x, observed, inputs)
        q = self.recognition.recogniser(self.seen.linked(x), observed, inputs)
        mean, log_scale = (part.permute(2, 1, 0, 3) for part in (q.mean, q.log_scale))
        return Gaussian(mean, log_scale, event_dims=3)

    def weight(self, x: Tensor, observed: Tensor | None, step: int) -> Tensor:
        """(T, S or 1, B or 1, N or 1) how far what was seen pulls at each step, while learning."""
        config, alpha = self.config, x.new_full((1, 1, 1, 1), self.config.alpha)
        if config.forcing == "annealed":
            alpha = alpha * 0.5 ** (step / config.halving)
        elif config.forcing == "adaptive":
            alpha = self.alpha.view(1, -1, 1, 1)
        weight = alpha.repeat(len(x), 1, 1, 1)
        if config.forcing == "sparse":
            weight = (torch.arange(len(x), device=x.device) % config.interval == 0).to(x).view(-1, 1, 1, 1)
        return weight if observed is None else weight * observed

    def _adapt(self, states: Tensor, fine: Tensor) -> None:
        """alpha = 1 - 1 / how much errors grow in a step, below which forced gradients would grow too (Hess et al. 2023); it
        rises at once and falls slowly."""
        weights = Shallow(*(part.detach()[fine] for part in self.cell.as_shallow()))
        wanted = 1 - 1 / growth(weights, states[:, :, :4]).clamp(min=1)
        self.alpha[fine] = torch.maximum(wanted, 0.9 * self.alpha[fine] + 0.1 * wanted).clamp(max=1)

    @torch.no_grad()
    def solve(self, data: Any, config: TrainingConfig) -> None:
        """Finds which members run away, and for each the gain and the noise under which the validation windows are likeliest."""
        told = (data.valid if len(data.valid) else data.train).batch(200).to(self.gain.device)
        x, observed, inputs = self.by_time(told.x, told.observed, told.inputs)
        if self.recognition is not None:
            self.seen.guess.copy_(self.recognition.guess(self, x, observed, inputs))
        start = self.seen.start(x[0], None if observed is None else observed[0])
        for _ in range(LONG // AT_ONCE):  # the states of all steps at once would be gigabytes
            start = self.cell.orbit(start, AT_ONCE)[-1]
        far = start.abs().amax((1, 2))
        self.diverged.copy_(~(far < FAR))  # what is no number is far too
        pull = torch.ones_like(x[:, :, :1, :1]) if observed is None else observed.to(x.dtype)
        tried = [self._tried(gain * pull, x, observed, inputs) for gain in GAINS]
        nats = torch.stack([torch.nan_to_num(found, math.inf) for found, _ in tried])  # (gains, S)
        best = nats.argmin(0)
        self.gain.copy_(torch.tensor(GAINS).to(x)[best])
        error = torch.stack([left for _, left in tried])[best, torch.arange(self.members)]
        self.seen.settle(torch.nan_to_num(error, FAR, FAR))

    def _tried(
        self, weight: Tensor, x: Tensor, observed: Tensor | None, inputs: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """(S,) nats of the windows, and (S, N) the mean square error of predictions, where x pulls with `weight`."""
        later = self.foretold(x, observed, inputs, weight)
        r = self.disturbing(inputs)
        square = (x[1:] - self.seen.disturbed(later, None if r is None else r[1:]).mean).square()
        seen = torch.ones_like(x[1:]) if observed is None else observed[1:].to(x.dtype)
        error = (square * seen).sum((0, 2)) / seen.expand_as(square).sum((0, 2)).clamp(min=1)
        self.seen.settle(torch.nan_to_num(error, FAR, FAR))  # in place, so `later` knows it
        return self.judged(later, x, observed, inputs).sum(0).mean(-1), error
