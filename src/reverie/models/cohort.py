"""Recurrent machines of many subjects that share all but a few numbers each."""

import copy
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reverie.core.config import knob
from reverie.core.errors import BadInput
from reverie.core.model import Batch, Phase
from reverie.core.recipe import TrainingConfig
from reverie.core.space import Space
from reverie.models.labelled import Labelled
from reverie.models.per_class import PerClass
from reverie.models.recurrent import Recurrent, RecurrentConfig
from reverie.models.turns import turn

STATE = ("gain", "diverged", "rested", "alpha")  # of each member, which is no parameter
OWN = ("gain", "diverged", "seen.")  # of what is not the cell's, what is set for each subject once the learning is done


@dataclass(frozen=True)
class CohortConfig(RecurrentConfig):
    classes: int = knob(0, "subjects, as many as the data have", low=0)
    vector: int = knob(2, "numbers in which subjects differ", low=1)


class Cohort(PerClass):
    """Of subject j every weight of the cell is P + v_j1 Q_1 + … + v_jK Q_K: P and the Q are shared, the vector v_j is its own
    (Brenner, Weber, Koppe & Durstewitz 2024, arXiv 2410.04814). So short series of many subjects teach one map of how they
    differ, and a new subject is fitted by its vector alone.

    Subjects are the labels of the data: `given` says whose series is dreamt, foreseen or judged, and p(x) is a mixture over them.

    >>> model = Cohort(CohortConfig(classes=3, hidden=5), Space((10, 2), "real"))
    >>> model.vectors.shape, model.sample(4).shape
    (torch.Size([1, 3, 2]), torch.Size([4, 10, 2]))
    """

    Config = CohortConfig
    kinds = ("real", "count", "mixed")
    tempered = None  # type: ignore[assignment]  # a recurrent machine has no temperature, so a cohort has none
    solved: Tensor  # bool, whether gains and noise of each subject have been set

    def __init__(self, config: CohortConfig, space: Space):
        if config.classes < 1:
            raise BadInput("a cohort needs to know how many subjects there are: --model.classes")
        if config.forcing == "adaptive" or config.remembering:
            raise BadInput("a cohort is forced by one share for all, and remembers nothing by force; leave both out")
        if config.forcing == "recognised":
            raise BadInput("a cohort learns without a recogniser; take another --model.forcing")
        if config.inputs:
            raise BadInput(
                "a cohort is driven by no inputs; leave --model.inputs out, or train a machine for each subject"
            )
        Labelled.__init__(self, config, space, config.classes)
        self.shared = Recurrent(config, space)
        self.members = config.members
        cell = dict(self.shared.cell.named_parameters())
        # A number of a vector moves the weights about as much as they differ among each other.
        self.change = nn.ParameterDict(
            {
                name: nn.Parameter(0.1 * part.detach().std() * torch.randn(len(part), config.vector, *part.shape[1:]))
                for name, part in cell.items()
            }
        )
        self.vectors = nn.Parameter(0.1 * torch.randn(self.members, self.classes, config.vector))
        self.register_buffer("solved", torch.tensor(False))
        for name, part in self._own(self.shared):
            self.register_buffer(_buffer(name), part.detach().expand(self.classes, *part.shape).clone())

    @classmethod
    def recipe(cls, space: Space, count: int) -> tuple[CohortConfig, TrainingConfig]:
        config, training = Recurrent.recipe(space, count)
        # By Adam: a round tells of some subjects only, and Soap, turning their vectors together, would move those of the others.
        return CohortConfig(**dataclasses.asdict(config)), dataclasses.replace(training, batch=64, optimiser="adam")

    @property
    def repairs_quickly(self) -> bool:  # type: ignore[override]
        """As its machines."""
        return bool(self.shared.repairs_quickly)

    @property
    def machines(self) -> "_Machines":
        """The machine of every subject."""
        return _Machines(self)

    def learners(self) -> dict[str, Any]:
        return {"all": list(self.parameters())}

    def apart(self, learner: str) -> list[Any]:
        return Labelled.apart(self, learner)  # its machines share their weights

    def explained(self) -> dict[str, str]:
        return self.shared.explained()

    def machine(self, vector: Float[Tensor, "S K"], subject: int | None = None) -> Recurrent:
        """The machine of a vector: all of its own, and with the gains and the noise of a subject, if it is one of the cohort."""
        made = copy.deepcopy(self.shared)
        with torch.no_grad():
            for name, part in made.cell.named_parameters():
                part.add_(torch.einsum("sk,sk...->s...", vector, self.change[name]))
            if subject is not None and self.solved:
                for name, own in self._own(made):
                    own.copy_(getattr(self, _buffer(name))[subject])
        return made

    def prepare(self, data: Any) -> None:
        if len(data.classes) != self.classes:
            raise BadInput(f"{data.name} is of {len(data.classes)} subjects, and --model.classes is {self.classes}")
        self.shared.prepare(data)

    def phases(self, batch: Batch, step: int) -> Iterator[Phase]:
        if batch.given is None:
            raise BadInput("a cohort needs to know whose each series is")
        hands = self.members if self.training and len(batch.x) % self.members == 0 else 1
        # Every window in every member's hand is a machine of its own, of its subject's weights.
        whose = batch.given.view(hands, -1).expand(self.members, -1)
        rows = torch.arange(len(batch.x), device=whose.device).view(hands, -1).expand(self.members, -1).flatten()
        mine = Batch(batch.x, batch.observed).rows(rows)
        vectors = self.vectors.gather(1, whose.unsqueeze(-1).expand(-1, -1, self.vectors.shape[-1]))
        nats = self._nats(vectors, mine, step).view(whose.shape).mean(1)
        yield turn(self, nats, nats, self.shared.rested)

    @torch.no_grad()
    def solve(self, data: Any, config: TrainingConfig) -> None:
        Labelled.solve(self, data, config)
        self.solved.fill_(False)
        for y, machine in enumerate(self.machines):
            machine.solve(data.of_label(y), config)
            for name, part in self._own(machine):
                getattr(self, _buffer(name))[y] = part
        self.solved.fill_(True)

    def fit_subject(self, data: Any, steps: int = 500, rate: float = 0.05, batch: int = 16) -> tuple[Tensor, Recurrent]:
        """The vector (S, K) of a new subject whose recording `data` is, found by Adam from that of the middle of the cohort,
        all else held, and its machine. The codec of `data` must be that of the cohort's own."""
        if data.space != self.space:
            raise BadInput(f"{data.name} has examples {data.space}, and the cohort learned {self.space}")
        vector = self.vectors.detach().mean(1).requires_grad_()
        adam = torch.optim.Adam([vector], lr=rate)
        for drawn in itertools.islice(data.batches(batch * self.members, 0), steps):
            each = vector.unsqueeze(1).expand(-1, batch, -1)
            nats = self._nats(each, drawn, 0)
            adam.zero_grad()
            nats.mean().backward(inputs=[vector])
            adam.step()
        machine = self.machine(vector.detach())
        machine.solve(data, TrainingConfig())
        return vector.detach(), machine

    def _nats(self, vectors: Float[Tensor, "S B K"], batch: Batch, step: int) -> Float[Tensor, " SB"]:
        """-log p of each of S B windows (T, N) under forcing, by the machine of its vector."""
        many = vectors.shape[1]
        flat = len(batch.x)
        weights = {
            f"model.cell.{name}": (
                part.unsqueeze(1) + torch.einsum("sbk,sk...->sb...", vectors, self.change[name])
            ).flatten(0, 1)
            for name, part in self.shared.cell.named_parameters()
        }
        # What else each member has, each of its windows has.
        kept = {**dict(self.shared.named_parameters()), **{name: getattr(self.shared, name) for name in STATE}}
        rest = {
            f"model.{name}": part.repeat_interleave(many, 0)
            for name, part in kept.items()
            if not name.startswith("cell.")
        }
        x, observed, _ = self.shared.by_time(batch.x, batch.observed, None, flat)
        found: Tensor = torch.func.functional_call(_Nats(self.shared), weights | rest, (x, observed, step))
        return found

    def _own(self, machine: Recurrent) -> list[tuple[str, Tensor]]:
        return [(name, part) for name, part in machine.state_dict(keep_vars=True).items() if name.startswith(OWN)]


class _Nats(nn.Module):
    """What is differentiated for weights that are told from outside."""

    def __init__(self, model: Recurrent):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, observed: Tensor | None, step: int) -> Tensor:
        return self.model.learned(x, observed, None, step)[1]


class _Machines(Sequence[Recurrent]):
    """The machine of every subject, made when it is asked for."""

    def __init__(self, cohort: Cohort):
        self.cohort = cohort

    def __len__(self) -> int:
        return self.cohort.classes

    def __getitem__(self, y: Any) -> Any:
        if not 0 <= y < len(self):
            raise IndexError(y)
        return self.cohort.machine(self.cohort.vectors[:, y], y)


def _buffer(name: str) -> str:
    return "own_" + name.replace(".", "_")
