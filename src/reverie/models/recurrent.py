"""Recurrent networks that become the system they saw: run freely, they go on as it would."""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reverie.core.config import knob
from reverie.core.errors import BadInput
from reverie.core.model import Batch, Phase
from reverie.core.recipe import TrainingConfig
from reverie.core.shallow import Shallow
from reverie.core.space import Space
from reverie.models.innovations import Innovations, turn
from reverie.nets.bold import BoldObservation, bold
from reverie.nets.cells import CellName, cell, manifold_attraction
from reverie.nets.mixed import MixedObservation, observation_of
from reverie.nets.observations import Observation, ObservationName
from reverie.nets.recurrence import growth

FAR = 1e3  # a state that is nowhere near data of about unit variance
LONG = 5000  # free steps after which a member is known not to run away
GAINS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)  # of the filter, of which the best is kept
FARTHEST = 30  # steps over which what was seen is smoothed without being asked to
SMOOTH = 0.9  # share of its variance that a series must owe to the steps around for it to be smoothed
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
    forcing: Literal["fixed", "annealed", "adaptive", "sparse"] = knob(
        "fixed", "how what was seen pulls the states while learning"
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
        driving = config.inputs - config.nuisance
        self.C = nn.Parameter(0.1 * torch.randn(self.members, driving, latent)) if driving else None
        self.register_buffer("reach", torch.full((self.members,), max(config.smooth, 0)))
        self.register_buffer("diverged", torch.zeros(self.members, dtype=torch.bool))
        self.register_buffer("rested", torch.zeros(self.members))
        self.register_buffer("alpha", torch.full((self.members,), config.alpha))
        self.register_buffer("gain", torch.full((self.members,), config.alpha))

    @classmethod
    def recipe(cls, space: Space, count: int) -> tuple[RecurrentConfig, TrainingConfig]:
        return RecurrentConfig(), TrainingConfig(steps=20_000, batch=16, rate=2e-3, clip=10.0, average=0.0)

    def prepare(self, data: Any) -> None:
        told = data.train.batch(500)
        if (given := 0 if told.inputs is None else told.inputs.shape[-1]) != self.config.inputs:
            raise BadInput(
                f"{data.name} has {given} inputs, and --model.inputs is {self.config.inputs}; make them agree"
            )
        if isinstance(self.seen, BoldObservation):
            self.seen.prepare(told.x, told.observed, self.disturbing(told.inputs))
        else:
            self.seen.prepare(told.x, told.observed)
        if self.config.smooth < 0:  # with holes there are no parabolas, and what is pushed from outside may jump
            rough = told.observed is not None or self.inputs or self.seen.blurs
            real = told.x[..., self.seen.real] if isinstance(self.seen, MixedObservation) else told.x
            self.reach.fill_(0 if rough else smoothing(real))

    def phases(self, batch: Batch, step: int) -> Iterator[Phase]:
        # To each member its own share of the examples.
        hands = self.members if self.training and len(batch.x) % self.members == 0 else 1
        x, observed, inputs = self.by_time(batch.x, batch.observed, batch.inputs, hands)
        states, nats = self.learned(x, observed, inputs, step)
        loss = nats
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
        """The states that examples (T, S or 1, B, N) pull along in a round, and the nats of what was seen, smoothed or not."""
        pulling, reach = x, int(self.reach[0])
        if observed is not None and self.config.smooth > 0:
            raise BadInput("what has holes is not smoothed; leave --model.smooth out")
        if reach and observed is None:  # held-out examples may have holes where those to learn from have none
            fit = parabolas(len(x), reach).to(x)
            if isinstance(self.seen, MixedObservation):
                pulling = self.seen.smoothed(x, fit)
            else:
                pulling = torch.einsum("ts,s...->t...", fit, x)
                pulling = pulling.clamp(min=0) if self.space.kind == "count" else pulling
        sources, known, before = self.seen.sources(pulling, observed, self.disturbing(inputs))
        states = self.forced(sources, known, inputs, self.weight(x, known, step))
        return states, self.nats(states, x, observed, inputs, before).sum(0).mean(-1)

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
        told = data.valid.batch(200) if len(data.valid) else data.train.batch(200)
        x, observed, inputs = self.by_time(told.x, told.observed, told.inputs)
        start = self.seen.start(x[0], None if observed is None else observed[0])
        far = self.cell.orbit(start, LONG)[-1].abs().amax((1, 2))
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


@torch.no_grad()
def smoothing(x: Float[Tensor, "W T N"]) -> int:
    """The steps on both sides over which parabolas foretell each step of windows best when it is left out of their fit; 0
    where not even they foretell SMOOTH of the variance: what is left may then be no noise, but what moves the series.

    What a fit says of a step it was told of, y, gives what it would have said without it: x - y = (1 - s) (x - that), with the
    share s that the step had in y (Allen 1974).

    >>> time = torch.arange(200.0).view(1, -1, 1)
    >>> torch.manual_seed(0) and smoothing(torch.sin(time / 10)), smoothing(torch.randn(1, 200, 1))
    (2, 0)
    """
    steps = x.shape[1]
    most = min(FARTHEST, (steps - 1) // 4)
    if most < 2 or not x.shape[2]:
        return 0
    middle = slice(most, steps - most)  # where no window is cut short
    spread = x.var((0, 1)).clamp(min=1e-12)
    errors = []
    for reach in range(2, most + 1):
        fit = parabolas(steps, reach).to(x)
        left = (x - torch.einsum("ts,wsn->wtn", fit, x)) / (1 - fit.diagonal().view(-1, 1))
        errors.append((left[:, middle].square().mean((0, 1)) / spread).mean())
    least = int(torch.stack(errors).argmin())
    return least + 2 if errors[least] < 1 - SMOOTH else 0


@functools.cache
def parabolas(steps: int, reach: int) -> Float[Tensor, "T T"]:
    """What makes of a series the value at each step of the parabola that fits it best, by least squares, over the 2 `reach` + 1 steps around it (Savitzky
    & Golay 1964); near the ends, over the first or last as many.

    >>> (parabolas(9, 3) @ torch.arange(9.0).square()).round().int().tolist()
    [0, 1, 4, 9, 16, 25, 36, 49, 64]
    """
    size = min(2 * reach + 1, steps)
    found = torch.zeros(steps, steps, dtype=torch.float64)
    for t in range(steps):
        first = min(max(t - reach, 0), steps - size)
        time = (torch.arange(first, first + size, dtype=torch.float64) - t) / size
        powers = time.unsqueeze(1) ** torch.arange(min(3, size))
        found[t, first : first + size] = torch.linalg.pinv(powers)[0]
    return found.float()
