"""How a model is trained: the knobs of the loop, and of what the loader does to training pictures."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

from reverie.core.config import knob
from reverie.core.errors import BadInput


@dataclass(frozen=True)
class TrainingConfig:
    """Optimisation, the same for every family; a family's `recipe` sets its own defaults."""

    steps: int = knob(2000, "rounds of training; --minutes sets it from a measured speed", low=1)
    batch: int = knob(
        128, "examples in a round, over all processes together (of each member, where a model has several)", low=1
    )
    optimiser: Literal["adam", "soap", "sgd"] = knob(
        "adam", "Adam; Adam in the directions along which gradients vary; or plain gradient descent"
    )
    rate: float = knob(1e-3, "peak learning rate", low=0.0)
    warmup: float = knob(0.02, "share of the run over which the rate rises from zero", low=0.0, high=1.0)
    final: float = knob(0.02, "the rate at the end, as a share of the peak (cosine in between)", low=0.0, high=1.0)
    beta1: float = knob(0.9, "Adam's memory of the gradient", low=0.0, high=0.9999)
    beta2: float = knob(0.99, "Adam's memory of its square", low=0.0, high=0.99999)
    longest: int = knob(
        1024,
        "soap leaves the sides of matrices that are longer as they are: to turn them costs more than it brings",
        low=1,
    )
    decay: float = knob(0.0, "decoupled weight decay", low=0.0)
    clip: float = knob(0.0, "greatest norm of a learner's gradient; 0 lets every norm pass", low=0.0)
    precision: Literal["float32", "bfloat16"] = knob(
        "float32",
        "of nets while they learn; bfloat16 is coarser, and faster on GPUs and on processors with AMX or AVX512-BF16",
    )
    average: float = knob(0.01, "half-life of the averaged weights, as a share of the run; 0 keeps the last", low=0.0)
    mirror: bool = knob(False, "pictures: flip half of them left to right")
    zoom: float = knob(0.0, "pictures: standard deviation of the log size", low=0.0, high=1.0)
    shift: float = knob(0.0, "pictures: standard deviation of a shift, in half pictures", low=0.0, high=1.0)
    turn: float = knob(0.0, "pictures: standard deviation of a rotation, radians", low=0.0, high=3.2)
    warp: float = knob(0.0, "pictures: standard deviation of a smooth warp, in half pictures", low=0.0, high=1.0)
    light: float = knob(0.0, "pictures: standard deviation of brightness, contrast and gradients of light", low=0.0)
    settled: tuple[int, ...] = knob(
        (),
        "R N …: what a share of the run means was a share of N rounds up to round R, before --minutes settled again how many there are",
    )

    def __post_init__(self) -> None:
        until, rounds = self.settled[::2], self.settled[1::2]
        whole = len(until) == len(rounds) and all(type(n) is int and n >= 1 for n in self.settled)
        if not whole or list(until) != sorted(set(until)):
            raise BadInput(f"settled is {self.settled}, not pairs of a round and a number of rounds, by rising rounds")

    def planned(self, step: int) -> int:
        """How many rounds the run was to have when round `step` (from 0 on) was made."""
        known = zip(self.settled[::2], self.settled[1::2], strict=True)
        return next((rounds for until, rounds in known if step < until), self.steps)

    def settled_again(self, step: int, steps: int) -> "TrainingConfig":
        """The same up to round `step`, and from there on a run of so many rounds in all."""
        return dataclasses.replace(self, steps=steps, settled=(*self.settled, step, self.steps))
