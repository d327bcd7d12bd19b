"""The contract between a family and the house: a model is a generator of phases, and what it can do is its methods."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from reverie.core.distributions import Distribution
from reverie.core.errors import BadInput
from reverie.core.recipe import TrainingConfig
from reverie.core.space import Space


class Batch(NamedTuple):
    """Examples in model units, as the loader hands them to a model."""

    x: Tensor  # (B, *shape), 0 where unobserved
    observed: Tensor | None = None  # (B, *shape) bool, True = measured; None: every entry was
    given: Tensor | None = None  # (B,) labels the model is conditioned on; of recordings, whose each is
    inputs: Tensor | None = None  # (B, T, K) what acts on a series from outside at each step, world units

    def rows(self, index: Tensor) -> "Batch":
        """Those examples alone."""
        return Batch(*(None if part is None else part[index] for part in self))  # type: ignore[arg-type]

    def to(self, device: torch.device | str) -> "Batch":
        """On that device."""
        return Batch(*(None if part is None else part.to(device) for part in self))  # type: ignore[arg-type]

    def copies(self, n: int) -> "Batch":
        """All examples n times, one copy of the batch after the other."""
        if n == 1:
            return self
        return Batch(*(None if part is None else part.repeat(n, *[1] * (part.dim() - 1)) for part in self))  # type: ignore[arg-type]


class Phase(NamedTuple):
    """One learner's turn: a loss, or gradients where the model knows them in closed form."""

    learner: str  # whose parameters move: a key of Model.learners()
    loss: Tensor | None  # () what is differentiated
    report: Tensor | None = None  # () what is told, in nats per example, where it is not the loss itself
    gradients: Sequence[Tensor | None] | None = (
        None  # of what is lowered, for each parameter of the learner; None: it rests
    )
    rests: Tensor | None = None  # (members,) which of them, along the first axis of every parameter, stay as they are


class Estimate(NamedTuple):
    """A number that says how sure it is, in what unit, which way is better, and how it was made."""

    value: Any  # float, or (B,) Tensor for a value per example
    error: Any  # its standard error, same shape; 0 where exact
    unit: str
    better: Literal["lower", "higher", "near"]
    method: str = "exact"
    ess: Any = None  # effective sample size of an importance-weighted value, same shape
    pareto_k: Any = None  # how heavy the tail of its weights is, same shape; above 0.7 the error is not to be trusted


class Model(nn.Module, ABC):
    """A model of the world: how to learn it (`phases` or `solve`) and how to dream from it (`sample`).

    Every other ability is one of the protocols below; a missing method is a missing button.
    Subclasses are final: nobody inherits from a concrete model.
    """

    Config: ClassVar[type]
    members: int = (
        1  # machines that learn side by side, each from examples of its own; where more, every parameter's first axis
    )
    inputs: int = 0  # what acts on a series from outside at each step, and must be given with it; 0: nothing does
    nuisance: int = 0  # of these the last, which only disturb what is seen
    classes: int = 0  # labels that everything it does is conditional on; 0: none
    kinds: ClassVar[tuple[str, ...]] = ("bit", "byte", "real")  # the spaces the family can model
    repairs_quickly: bool = True  # so that a report can afford some hundreds of repairs
    judged_by_dreams: bool = (
        False  # no loss of its tells how good it is: the best weights, by their dreams, are kept too
    )
    reducible: bool = False  # its nets may compute in bfloat16 while it learns: it calls them under `nets()`
    reduced: bool = False  # they do

    def __init__(self, config: Any, space: Space):
        super().__init__()
        self.config = config
        self.space = space

    @classmethod
    def recipe(cls, space: Space, count: int) -> tuple[Any, TrainingConfig]:
        """The family's default settings for `count` training examples of `space`, found by measurement."""
        return cls.Config(), TrainingConfig()

    def can(self, ability: type) -> bool:
        """Has it the methods of that protocol, and do they work?"""
        return isinstance(self, ability)

    def learners(self) -> dict[str, Iterable[nn.Parameter]]:
        """Named groups of parameters; together a partition of them. Empty: the model has `solve` instead."""
        return {"all": self.parameters()}

    def apart(self, learner: str) -> list[list[nn.Parameter]]:
        """The parameters of a learner in groups whose gradients are clipped each by itself."""
        return [list(self.learners()[learner])]

    def phases(self, batch: Batch, step: int) -> Iterator[Phase]:
        """The losses of one round, lazily: code after a `yield` sees the step taken."""
        raise NotImplementedError(f"{type(self).__name__} has no phases; it is solved in closed form")

    def nets(self) -> AbstractContextManager[Any]:
        """Under it nets compute in bfloat16 where the model is `reduced`; what they say is made `single` before a law is made of it."""
        if not self.reduced:
            return nullcontext()
        return torch.autocast(next(self.parameters()).device.type, torch.bfloat16)

    def explained(self) -> dict[str, str]:
        """What is told of a learner, in plain words; of those left out it is the loss."""
        return {}

    def labels(self, n: int, given: Tensor | None) -> Tensor | None:
        """`given` itself (n,), or n drawn labels where there are any to condition on and none is given; else None."""
        if given is not None:
            raise BadInput("this machine was not trained with labels; leave out what is given")
        return None

    def prepare(self, data: Any) -> None:
        """Sets what should begin near `data` (a Data). Called once, before the first round."""

    def solve(self, data: Any, config: TrainingConfig) -> None:
        """Fits to `data` (a Data) whatever needs no gradient: all of a model without learners, otherwise
        what is settled once the last round is done. Called once, on the weights that will be used."""

    @abstractmethod
    def sample(self, n: int, given: Tensor | None = None) -> Tensor:
        """(n, *shape) independent draws from p(x), model units."""


@runtime_checkable
class Encodes(Protocol):
    """Perceives: q(z given x). A model with `classes` also takes, and needs, the labels `given` (B,)."""

    def encode(self, x: Tensor) -> Distribution: ...


@runtime_checkable
class Decodes(Protocol):
    """Imagines: p(x given z), and the labels `given` (B,) where the model has `classes`."""

    def decode(self, z: Tensor, given: Tensor | None = None) -> Distribution: ...


@runtime_checkable
class Dreams(Protocol):
    """Knows by itself what it has in mind when it dreams: (n, *shape), without the grain of p(x|z)."""

    def dream(self, n: int, given: Tensor | None = None) -> Tensor: ...


@runtime_checkable
class Styled(Protocol):
    """Makes examples from points of a space of its own, without a law: it draws points, shows what they make, and seeks
    those that make given examples."""

    def styles(self, n: int) -> Tensor:
        """(n, *point) as they are behind n dreams."""
        ...

    def imagine(self, styles: Tensor) -> Tensor:
        """(n, *shape) what they make."""
        ...

    def invert(self, x: Tensor) -> Tensor:
        """(B, *point) of examples x (B, *shape)."""
        ...


@runtime_checkable
class Tempers(Protocol):
    """Dreams at a temperature: the machine in which every choice that makes a dream is made by its law to the
    power of 1 / temperature; 1 is the machine itself. BadInput for a temperature that cannot be."""

    def tempered(self, temperature: float) -> "Model": ...


@runtime_checkable
class Layered(Protocol):
    """Has layers of units that can be looked at one by one, layer 0 next to the data."""

    @property
    def units(self) -> tuple[int, ...]:
        """How many there are in each layer."""
        ...

    def receptive(self, layer: int) -> Tensor:
        """(units, *shape) what each of them looks for in an example."""
        ...

    def projective(self, layer: int) -> Tensor:
        """(units, *shape) what each of them adds to a dream."""
        ...

    def fantasies(self, layer: int, n: int) -> tuple[Tensor, Tensor]:
        """(units, *shape) the mean of those of n dreams in which that unit was on, NaN where there was none; (units,) the share of these."""
        ...


@runtime_checkable
class RunsFreely(Protocol):
    """Goes on by itself: (S, B, steps, N) the orbits of its S members, with `process_noise` those that what it cannot foresee
    moves; and what each of them expects some steps ahead, (S, B, T - steps, N), at every step of a series that it follows."""

    diverged: Tensor  # (S,) bool, members that run away

    def free_run(
        self, steps: int, start: Tensor | None = None, inputs: Tensor | None = None, process_noise: bool = False
    ) -> Tensor: ...

    def foresee(self, x: Tensor, steps: int, inputs: Tensor | None = None) -> Tensor: ...


@runtime_checkable
class Surprised(Protocol):
    """-log p(x) in nats per example; of the observed entries where `observed` is given.

    `draws`: how many importance samples an estimate may use; an exact model needs none. A model with
    `classes` also takes, and needs, the labels `given` (B,).
    """

    def surprise(self, x: Tensor, observed: Tensor | None = None, draws: int = 100) -> Estimate: ...


@runtime_checkable
class Watches(Protocol):
    """Keeps an eye on its own learning. Now and then it is shown the training examples of the round and as many held-out
    ones; it says what it sees, by name, and may correct itself. `share`: of the run, gone by since it was last asked."""

    def watch(self, batch: Batch, held: Batch, share: float) -> dict[str, float]: ...


@runtime_checkable
class Repairs(Protocol):
    """Draws (n, B, *shape) from p(clean x given its observed entries, each seen with Gaussian noise of
    standard deviation `noise` in model units). At noise 0 observed entries come back bit-equal."""

    def repair(self, x: Tensor, observed: Tensor | None, n: int, noise: float = 0.0) -> Tensor: ...
