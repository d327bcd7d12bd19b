"""What one example is."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from reverie.core.errors import BadInput

Kind = Literal["bit", "byte", "real", "count", "mixed"]
ColumnKind = Literal["real", "count", "category", "ordered"]


@dataclass(frozen=True)
class Column:
    """One column of a table, or channel of a recording: a number, a count (0, 1, 2 …) or one of `levels` categories, which may be ordered."""

    name: str
    kind: ColumnKind
    levels: int = 0  # how many categories; 0 for numbers

    def __post_init__(self) -> None:
        if self.kind not in get_args(ColumnKind):
            raise BadInput(
                f"column {self.name!r} is of unknown kind {self.kind!r}; use real, count, category or ordered"
            )
        if (self.levels > 0) != (self.kind in ("category", "ordered")):
            raise BadInput(
                f"column {self.name!r} is {self.kind} with {self.levels} levels; only categories have levels"
            )


@dataclass(frozen=True)
class Space:
    """The shape of one example and the kind of number each of its entries is, in model units.

    `bit`: 0 or 1. `byte`: 256 evenly spaced values from -1 to 1. `real`: about zero mean and unit
    variance. `count`: 0, 1, 2 … `mixed`: a row of a table, or a series of such rows, whose `columns` say what each entry of one
    is; a category is its number, 0, 1, 2 … The kind decides the default likelihood.

    >>> Space((1, 48, 40), "byte").dims
    1920
    """

    shape: tuple[int, ...]  # (C, H, W) picture, (T, N) series, (D,) point
    kind: Kind
    columns: tuple[Column, ...] = field(default=(), repr=False)  # of a mixed space, one for each entry of a row
    tr: float = field(default=0.0, repr=False, compare=False)  # seconds between two steps of a series; 0: not known

    def __post_init__(self) -> None:
        fits = len(self.shape) in (1, 2) and self.shape[-1] == len(self.columns)
        if (self.kind == "mixed") != bool(self.columns) or (self.columns and not fits):
            raise BadInput(
                f"a mixed space needs a column for each entry; {self.shape} {self.kind} has {len(self.columns)}"
            )
        if not self.shape or any(n < 1 for n in self.shape):
            raise BadInput(f"an example of shape {self.shape} has no entries; every size must be at least 1")
        if math.prod(self.shape) > 10**8:
            raise BadInput(f"an example of shape {self.shape} has more than 100 million entries; make it smaller")
        if not 0 <= self.tr < math.inf:
            raise BadInput(f"{self.tr} s cannot lie between two steps")
        if self.kind not in get_args(Kind):
            raise BadInput(f"unknown kind of number {self.kind!r}; one of {', '.join(get_args(Kind))}")

    @property
    def dims(self) -> int:
        """Entries in one example."""
        return math.prod(self.shape)

    @property
    def is_picture(self) -> bool:
        return len(self.shape) == 3

    @property
    def is_series(self) -> bool:
        return len(self.shape) == 2

    @property
    def numbers(self) -> list[int]:
        """Which entries along the last axis are numbers, not categories."""
        if not self.columns:
            return list(range(self.shape[-1]))
        return [i for i, column in enumerate(self.columns) if not column.levels]

    @property
    def lattice(self) -> Tensor | None:
        """(levels,) every value an entry can take, in model units; None where there are infinitely many."""
        if self.kind == "byte":
            return torch.arange(256) / 127.5 - 1
        if self.kind == "bit":
            return torch.arange(2.0)
        return None

    def to_json(self) -> dict[str, Any]:
        values: dict[str, Any] = {"shape": list(self.shape), "kind": self.kind}
        if self.columns:
            values["columns"] = [[c.name, c.kind, c.levels] for c in self.columns]
        if self.tr:
            values["tr"] = self.tr
        return values

    @staticmethod
    def from_json(values: Any) -> "Space":
        try:
            columns = tuple(Column(str(name), kind, int(levels)) for name, kind, levels in values.get("columns", ()))
            return Space(tuple(int(n) for n in values["shape"]), values["kind"], columns, float(values.get("tr", 0)))
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise BadInput(f"a space needs a shape and a kind, not {values!r}") from error
