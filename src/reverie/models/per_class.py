"""A machine for each label."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from reverie.core import abilities
from reverie.core.corruption import Corruption
from reverie.core.errors import BadInput
from reverie.core.model import Batch, Estimate, Model, Phase, Repairs, Surprised, Tempers
from reverie.core.recipe import TrainingConfig
from reverie.core.space import Space
from reverie.models.labelled import Labelled


class PerClass(Labelled):
    """p(x|y) by a machine of one family for each label, which learns from the examples of that label alone; an example is then
    classified by the machine that it surprises least (Hinton, Dayan, Frey & Neal 1995).

    >>> from reverie.models.noise import Noise, NoiseConfig
    >>> PerClass(Noise, NoiseConfig(), Space((1, 2, 2), "byte"), 3).sample(5).shape
    torch.Size([5, 1, 2, 2])
    """

    def __init__(self, family: type[Model], config: Any, space: Space, classes: int):
        super().__init__(config, space, classes)
        if getattr(config, "classes", 0):
            raise BadInput("a machine for each class is told no labels; leave --model.classes out")
        if getattr(config, "members", 1) > 1:
            raise BadInput("a machine for each class has one member; leave --model.members out")
        if getattr(config, "inputs", 0):
            raise BadInput("machines of different classes are driven by no inputs; leave --model.inputs out")
        self.machines: Any = nn.ModuleList(family(config, space) for _ in range(classes))
        self.repairs_quickly = bool(self.machines[0].repairs_quickly)
        self.judged_by_dreams = bool(self.machines[0].judged_by_dreams)
        self.reducible = bool(self.machines[0].reducible)

    def can(self, ability: type) -> bool:
        """What its machines can do, where it is theirs to do."""
        theirs = ability not in (Surprised, Repairs) or self.machines[0].can(ability)
        return super().can(ability) and theirs

    def learners(self) -> dict[str, Any]:
        each = [machine.learners() for machine in self.machines]
        return {name: [p for learners in each for p in learners[name]] for name in each[0]}

    def apart(self, learner: str) -> list[list[nn.Parameter]]:
        return [list(machine.learners()[learner]) for machine in self.machines]

    def explained(self) -> dict[str, str]:
        told: dict[str, str] = self.machines[0].explained()
        return told

    def prepare(self, data: Any) -> None:
        for y, machine in enumerate(self.machines):
            machine.prepare(data.of_label(y))

    def solve(self, data: Any, config: TrainingConfig) -> None:
        super().solve(data, config)
        for y, machine in enumerate(self.machines):
            machine.solve(data.of_label(y), config)
        if any(machine.config != self.machines[0].config for machine in self.machines):
            raise BadInput("the machines of different classes chose different sizes; say which, with --model.latent")
        self.config = self.machines[0].config

    def phases(self, batch: Batch, step: int) -> Iterator[Phase]:
        """Those of all machines side by side: each learns from its own examples, and rests where there are none."""
        given = batch.given
        if given is None:
            raise BadInput("a machine for each class needs labels to learn from")
        rows = {y: torch.nonzero(given == y).flatten() for y in range(self.classes)}
        walks = {}
        for y, few in rows.items():
            if len(few):
                walks[y] = self.machines[y].phases(batch.rows(few)._replace(given=None), step)
        while True:
            turns = {y: phase for y, walk in walks.items() if (phase := next(walk, None)) is not None}
            if not turns:
                return
            yield self._together(turns, {y: len(rows[y]) / len(given) for y in turns})

    def _together(self, turns: dict[int, Phase], share: dict[int, float]) -> Phase:
        (learner,) = {phase.learner for phase in turns.values()}
        told = [(phase.loss if phase.report is None else phase.report, share[y]) for y, phase in turns.items()]
        report = torch.stack([number.detach() * part for number, part in told if number is not None]).sum()
        losses = [phase.loss for phase in turns.values() if phase.loss is not None]
        if losses:
            return Phase(learner, torch.stack(losses).sum(), report)
        gradients: list[Tensor | None] = []
        for y, machine in enumerate(self.machines):
            mine = turns[y].gradients if y in turns else None
            gradients += mine if mine is not None else [None] * len(list(machine.learners()[learner]))
        return Phase(learner, None, report, gradients)

    @torch.no_grad()
    def sample(self, n: int, given: Int[Tensor, " n"] | None = None) -> Float[Tensor, "n *shape"]:
        return self._by(given, n, lambda machine, rows: machine.sample(len(rows)))

    @torch.no_grad()
    def dream(self, n: int, given: Int[Tensor, " n"] | None = None) -> Float[Tensor, "n *shape"]:
        """What the machines have in mind, without the grain of p(x|z)."""
        return self._by(given, n, lambda machine, rows: abilities.dream(machine, len(rows)))

    def tempered(self, temperature: float) -> "PerClass":
        """The machines, each at another temperature; labels are as frequent as before."""
        if not all(isinstance(machine, Tempers) for machine in self.machines):
            raise BadInput(f"a {type(self.machines[0]).__name__} cannot dream at another temperature")
        made = copy.deepcopy(self)
        made.machines = nn.ModuleList(machine.tempered(temperature) for machine in self.machines)
        return made

    def _by(self, given: Tensor | None, n: int, made: Any) -> Tensor:
        labels = self.labels(n, given)
        assert labels is not None
        out = torch.empty(n, *self.space.shape, device=labels.device)
        for y in labels.unique().tolist():
            rows = torch.nonzero(labels == y).flatten()
            out[rows] = made(self.machines[y], rows)
        return out

    def _surprise(self, x: Tensor, observed: Tensor | None, draws: int, given: Tensor | None) -> Estimate:
        assert given is not None
        value, error, method = x.new_empty(len(x)), x.new_empty(len(x)), ""
        for y in given.unique().tolist():
            rows, machine = torch.nonzero(given == y).flatten(), self.machines[y]
            if not isinstance(machine, Surprised):
                raise BadInput(f"a {type(machine).__name__} has no surprise to classify by")
            few = Batch(x, observed).rows(rows)
            found = machine.surprise(few.x, few.observed, draws)
            value[rows], error[rows], method = found.value, found.error, found.method
        return Estimate(value, error, "nats", "lower", method)

    @torch.no_grad()
    def repair(
        self,
        x: Float[Tensor, "B *shape"],
        observed: Bool[Tensor, "B *shape"] | None,
        n: int,
        noise: float | Corruption = 0.0,
        given: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "n B *shape"]:
        """(n, B, *shape), model units; labels that are not given are drawn from what the seen entries say of them."""
        if given is None:
            many = self.with_labels(x, observed, n)
            return self.repair(many.x, many.observed, 1, noise, many.given).view(n, *x.shape)
        out = x.new_empty(n, *x.shape)
        for y in given.unique().tolist():
            rows, machine = torch.nonzero(given == y).flatten(), self.machines[y]
            if not isinstance(machine, Repairs):
                raise BadInput(f"a {type(machine).__name__} cannot repair")
            few = Batch(x, observed).rows(rows)
            out[:, rows] = machine.repair(few.x, few.observed, n, noise)  # type: ignore[arg-type]
        return out
