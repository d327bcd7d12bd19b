"""THE loop. A model is a generator of phases; the loop steps each one, and is itself a generator."""

import copy
import functools
import math
import os
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor

from reverie.core.errors import BadInput
from reverie.core.model import Batch, Model, Phase, Watches
from reverie.core.recipe import TrainingConfig
from reverie.data import Data
from reverie.optimisers import optimiser

FOLLOW = 10  # rounds between two steps of the averaged weights: as good as every round, at a tenth of the cost

WATCH = 16  # rounds between two looks at held-out examples, of a model that keeps an eye on its learning


class Report(NamedTuple):
    """What one round did."""

    step: int  # rounds done so far
    losses: dict[str, float]  # by learner, nats per example where it is a likelihood
    rate: float  # of the optimisers
    watched: dict[str, float] = {}  # noqa: RUF012  what the model saw of its own learning, in the rounds in which it looked


class Diverged(ArithmeticError):
    """A loss is not finite; the message names the learner and the round."""


class State:
    """All that changes while a model learns: its weights, their running average, the optimisers, the round.

    `tensors()` and `restore()` carry it across a stop, exactly.
    """

    def __init__(self, model: Model, config: TrainingConfig):
        self.model = model
        self.config = config
        self.parameters = {name: list(group) for name, group in model.learners().items()}
        self.apart = {name: model.apart(name) for name in self.parameters}
        # A model that is solved has nothing to average, and may change its size when it is.
        self.average = copy.deepcopy(model).requires_grad_(False).eval() if self.parameters else model.eval()
        if self.parameters:
            reduce(model, config)
        self.step = 0
        self.optimisers = {name: optimiser(config, group, model.members) for name, group in self.parameters.items()}

    def tensors(self) -> dict[str, Tensor]:
        """Every number of the state by name."""
        out = {f"average.{k}": v for k, v in self.average.state_dict().items()}
        if self.parameters:
            out |= {f"model.{k}": v for k, v in self.model.state_dict().items()}
        for name, mover in self.optimisers.items():
            out |= {f"optimiser.{name}.{k}": v for k, v in mover.tensors()}
        return out

    def restore(self, tensors: dict[str, Tensor], step: int) -> None:
        """Puts back what `tensors()` gave; raises KeyError or RuntimeError where names or shapes differ."""
        for part, module in (("model.", self.model), ("average.", self.average))[0 if self.parameters else 1 :]:
            module.load_state_dict({k.removeprefix(part): v for k, v in tensors.items() if k.startswith(part)})
        for name, mover in self.optimisers.items():
            start = f"optimiser.{name}."
            mover.restore({k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)})
        self.step = step

    def follow(self) -> None:
        """Moves the averaged weights towards the present ones, where weights are averaged."""
        share = self.config.average
        if not share or (self.step % FOLLOW and self.step < self.config.steps):
            return
        # Early on, no longer memory than the run itself has had.
        rounds = self.config.planned(self.step - 1)
        self._move(min(0.5 ** (FOLLOW / (share * rounds)), self.step / (self.step + 3 * FOLLOW)))

    def settle(self) -> None:
        """Brings `average` up to date before it is used, where it is but a copy of the present weights."""
        if self.parameters and not self.config.average:
            self._move(0.0)

    def _move(self, keep: float) -> None:
        with torch.no_grad():
            now: list[Tensor] = list(self.model.parameters())
            then: list[Tensor] = list(self.average.parameters())
            torch._foreach_lerp_(then, now, 1 - keep)
            for a, b in zip(self.average.buffers(), self.model.buffers(), strict=True):
                a.copy_(b)


def reduce(model: Model, config: TrainingConfig) -> None:
    """Lets the nets of the model compute in the precision of the settings; BadInput where they cannot."""
    if config.precision == "bfloat16" and not model.reducible:
        raise BadInput(f"a {type(model).__name__} learns in float32 alone; leave --training.precision out")
    for part in model.modules():
        if isinstance(part, Model):
            part.reduced = config.precision == "bfloat16"


@functools.cache
def bfloat16_costs() -> float:
    """How many times as long this processor takes for a product of matrices in bfloat16 as in float32: it may be a quarter, and forty where
    it has no units for it."""

    def seconds(kind: torch.dtype) -> float:
        a, spent = torch.ones(256, 256, dtype=kind), []
        for _ in range(20):
            start = time.perf_counter()
            a @ a
            spent.append(time.perf_counter() - start)
        return min(spent)  # the first may hold a start, and on a busy machine most an interruption

    return seconds(torch.bfloat16) / seconds(torch.float32)


def training(state: State, data: Data, seed: int, fabric: Fabric) -> Iterator[Report]:
    """Trains from `state.step` to `state.config.steps`, one Report a round; `state` moves as the reports come.

    What happens in a round is a function of the seed and the round alone, so a run that was stopped
    and restored goes on as if it had not been. Raises Diverged before a loss that is not finite is stepped.
    """
    model, config = state.model, state.config
    if not state.parameters:
        if state.step < config.steps:
            state.average.solve(data, config)
            state.step = config.steps
            yield Report(state.step, {}, 0.0)
        return
    if not state.step:
        _seed(seed_of(seed, 0, 0))  # the same for all processes
        model.prepare(data)
        state._move(0.0)
    model.train()
    rank, world = fabric.global_rank, fabric.world_size
    batches = data.batches(config.batch * model.members, seed, state.step, config, rank, world, str(fabric.device))
    while state.step < state.config.steps:  # which may be settled again between two rounds
        _seed(seed_of(seed, state.step, rank))
        rate = rate_at(state.step, state.config)
        batch = next(batches)
        losses, watched = _round(state, batch, rate, fabric), {}
        state.step += 1
        if isinstance(model, Watches) and state.step % WATCH == 0 and len(data.valid):
            held = data.held(len(batch.x), config, str(fabric.device))
            watched = model.watch(batch, held, WATCH / state.config.planned(state.step - 1))
        state.follow()
        if state.step == state.config.steps:
            state.settle()
            _seed(seed_of(seed, state.step, 0))  # the same for all processes
            state.average.solve(data, config)
        yield Report(state.step, losses, rate, watched)


def _round(state: State, batch: Batch, rate: float, fabric: Fabric) -> dict[str, float]:
    losses: dict[str, float] = {}
    phases = state.model.phases(batch, state.step)
    while True:
        phase = next(phases, None)
        if phase is None:
            return losses
        learner = phase.learner
        value = told(phase)
        if not math.isfinite(value):
            raise Diverged(f"the loss of learner {learner!r} is {value} in round {state.step + 1}")
        losses[learner] = value
        parameters = state.parameters[learner]
        if phase.gradients is not None:
            for parameter, gradient in zip(parameters, phase.gradients, strict=True):
                parameter.grad = gradient
        elif phase.loss is not None:
            for parameter in parameters:
                parameter.grad = None  # what zero_grad does, at a tenth of its cost
            phase.loss.backward(inputs=parameters)
        if fabric.world_size > 1:
            _average_gradients(parameters, fabric)
        if state.config.clip:
            for group in state.apart[learner]:
                _clip(group, state.config.clip, state.model.members)
        rests = phase.rests
        if rests is not None and fabric.world_size > 1:  # all processes move the same weights
            counts = fabric.all_reduce(rests.float(), reduce_op="sum")
            assert isinstance(counts, Tensor)
            rests = counts > 0
        state.optimisers[learner].step(rate, rests)
        if fabric.world_size > 1:
            _average_buffers(state.model, fabric)


def _clip(parameters: list[Any], greatest: float, members: int) -> None:
    """Scales gradients down to the greatest norm, those of each member by themselves."""
    if members == 1:
        torch.nn.utils.clip_grad_norm_(parameters, greatest)
        return
    present = [p.grad for p in parameters if p.grad is not None and p.grad.numel()]
    norm = torch.stack([g.flatten(1).square().sum(1) for g in present]).sum(0).sqrt()
    share = (greatest / (norm + 1e-6)).clamp(max=1.0)
    for g in present:
        g.mul_(share.view(-1, *[1] * (g.dim() - 1)))


def told(phase: Phase) -> float:
    """What a phase says of itself, in nats per example."""
    number = phase.loss if phase.report is None else phase.report
    if number is None:
        raise ValueError(f"a phase of {phase.learner!r} has neither a loss nor a report")
    return float(number.detach())


def _average_buffers(model: Model, fabric: Fabric) -> None:
    """What a model keeps beside its parameters, such as running moments, is the same in all processes; of a count, the greatest."""
    for moving, way in ((True, "mean"), (False, "max")):
        kept = [b for b in model.buffers() if b.is_floating_point() == moving and b.numel()]
        if kept:
            whole = torch.cat([b.flatten() if moving else b.flatten().long() for b in kept])
            flat: Any = fabric.all_reduce(whole, reduce_op=way)
            for b, part in zip(kept, flat.split([b.numel() for b in kept]), strict=True):
                b.copy_(part.view_as(b))


def _average_gradients(parameters: list[Any], fabric: Fabric) -> None:
    """The mean over those processes that have one: a machine for each label learns where its label was drawn."""
    held = torch.tensor([float(p.grad is not None) for p in parameters], device=fabric.device)
    counts: Any = fabric.all_reduce(held, reduce_op="sum")
    present = [(p, count) for p, count in zip(parameters, counts.tolist(), strict=True) if count]
    for p, _ in present:
        if p.grad is None:
            p.grad = torch.zeros_like(p)
    flat: Any = fabric.all_reduce(torch.cat([p.grad.flatten() for p, _ in present]), reduce_op="sum")
    for (p, count), part in zip(present, flat.split([p.numel() for p, _ in present]), strict=True):
        p.grad.copy_(part.view_as(p) / count)


def _seed(number: int) -> None:
    # torch.manual_seed costs 0.2 ms a call, a hundred times what seeding the one generator in use does.
    if torch.cuda.is_available():
        torch.manual_seed(number)
    else:
        torch.default_generator.manual_seed(number)


def rate_at(step: int, config: TrainingConfig) -> float:
    """The learning rate of round `step`: a linear rise, then a cosine down to the final share."""
    steps = config.planned(step)
    rise = config.warmup * steps
    if step < rise:
        return config.rate * (step + 1) / rise
    done = (step - rise) / max(steps - rise, 1)
    return config.rate * (config.final + (1 - config.final) * 0.5 * (1 + math.cos(math.pi * done)))


def seed_of(seed: int, step: int, rank: int) -> int:
    """One 63-bit seed for each round and process (splitmix64, Steele, Lea & Flood 2014)."""
    x = (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + rank * 0x94D049BB133111EB) % 2**64
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> shift)) * factor % 2**64
    return (x ^ (x >> 31)) >> 1


@torch.no_grad()
def validate(model: Model, data: Data, step: int, seed: int, limit: int = 256) -> dict[str, float]:
    """The losses by learner on (the first `limit` of) the validation examples, nothing being learned."""
    if not len(data.valid) or not model.learners():
        return {}
    device = next(model.parameters()).device
    batch = data.valid.batch(limit).to(device)
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(seed, step, 0))
        return {phase.learner: told(phase) for phase in model.phases(batch, step)}


def fabric_for(accelerator: str = "auto", devices: int = 1, nodes: int = 1) -> Fabric:
    """A launched Fabric; refuses the case in which several processes would each train alone."""
    try:
        fabric = Fabric(
            accelerator=accelerator,
            devices=devices,
            num_nodes=nodes,
            strategy="ddp" if devices * nodes > 1 else "auto",
        )
    except (RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())[:120]
        raise BadInput(
            f"--accelerator {accelerator} with {devices} devices cannot be had here ({said}); leave it out"
        ) from error
    asked = int(os.environ.get("WORLD_SIZE", "1"))
    if asked > 1 and fabric.world_size == 1:
        raise BadInput(
            f"{asked} processes were started, but this one was told of 1 device; "
            f"pass --devices and --nodes so that their product is {asked}"
        )
    fabric.launch()
    return fabric
