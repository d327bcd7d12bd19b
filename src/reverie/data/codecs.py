"""World units to model units and back, kept with the model so that new data meets the same treatment."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from reverie.core.bits import coins
from reverie.core.errors import BadInput
from reverie.core.space import Column, Kind, Space

TOP = 2**24 - 1  # up to here 32 bits hold every whole number


@runtime_checkable
class Codec(Protocol):
    """How raw entries become what a model sees. A raw entry that was not measured is NaN, and stays so."""

    @property
    def kind(self) -> Kind: ...

    def to_model(self, raw: Tensor) -> Tensor:
        """(B, *shape) world units to float model units."""
        ...

    def to_world(self, x: Tensor) -> Tensor:
        """The way back, onto the values the world can take."""
        ...

    def log_abs_det(self, raw: Tensor) -> Tensor:
        """(B,) nats, log |d model / d world| of each example, over what was measured:
        -log p(world) = -log p(model) - log_abs_det."""
        ...

    def to_json(self) -> dict[str, Any]: ...


def _no_change(raw: Tensor) -> Tensor:
    # A likelihood of bytes or bits is a mass, which no change of labels alters.
    return torch.zeros(len(raw), device=raw.device)


def _doubles(numbers: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64, device=like.device)


def _stretch(raw: Tensor, scale: Tensor) -> Tensor:
    """(B,) the sum of -log scale over what was measured."""
    return torch.where(raw.isnan(), 0.0, -scale.log()).flatten(1).sum(1).float()


@dataclass(frozen=True)
class Bytes:
    """0..255 as 256 values from -1 to 1.

    >>> Bytes().to_model(torch.tensor([[0, 255]], dtype=torch.uint8))
    tensor([[-1.,  1.]])
    """

    kind: ClassVar[Kind] = "byte"

    def to_model(self, raw: Tensor) -> Tensor:
        return raw.float().div_(127.5).sub_(1)

    def to_world(self, x: Tensor) -> Tensor:
        return torch.round((x.clamp(-1, 1) + 1) * 127.5).to(torch.uint8)

    def log_abs_det(self, raw: Tensor) -> Tensor:
        return _no_change(raw)

    def to_json(self) -> dict[str, Any]:
        return {"codec": "bytes"}


@dataclass(frozen=True)
class Bits:
    """0 and 1, as they are."""

    kind: ClassVar[Kind] = "bit"

    def to_model(self, raw: Tensor) -> Tensor:
        return raw.float()

    def to_world(self, x: Tensor) -> Tensor:
        return (x > 0.5).to(torch.uint8)

    def log_abs_det(self, raw: Tensor) -> Tensor:
        return _no_change(raw)

    def to_json(self) -> dict[str, Any]:
        return {"codec": "bits"}


@dataclass(frozen=True)
class Binarised:
    """Bytes seen through coins: at each look a pixel is 1 with probability byte / 255 (dynamic binarisation)."""

    kind: ClassVar[Kind] = "bit"

    def to_model(self, raw: Tensor) -> Tensor:
        return coins(raw.float().div_(255))

    def to_world(self, x: Tensor) -> Tensor:
        return torch.round(x.clamp(0, 1) * 255).to(torch.uint8)

    def log_abs_det(self, raw: Tensor) -> Tensor:
        return _no_change(raw)

    def to_json(self) -> dict[str, Any]:
        return {"codec": "binarised"}


@dataclass(frozen=True)
class Standard:
    """Real numbers, shifted and scaled to about zero mean and unit variance, feature by feature.

    `mean`, `scale`: one number, or one for each entry along the last axis.

    >>> Standard((1.0, 2.0), (2.0, 4.0)).to_model(torch.tensor([[3.0, 2.0]]))
    tensor([[1., 0.]])
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    kind: ClassVar[Kind] = "real"

    def to_model(self, raw: Tensor) -> Tensor:
        mean, scale = self._numbers(raw)
        return ((raw.double() - mean) / scale).float()

    def to_world(self, x: Tensor) -> Tensor:
        mean, scale = self._numbers(x)
        return (x.double() * scale + mean).float()

    def log_abs_det(self, raw: Tensor) -> Tensor:
        return _stretch(raw, _doubles(self.scale, raw))

    def _numbers(self, like: Tensor) -> tuple[Tensor, Tensor]:
        return _doubles(self.mean, like), _doubles(self.scale, like)

    def to_json(self) -> dict[str, Any]:
        return {"codec": "standard", "mean": list(self.mean), "scale": list(self.scale)}


@dataclass(frozen=True)
class Counts:
    """0, 1, 2 …, as they are.

    >>> Counts().to_world(torch.tensor([[2.7, -1.0]]))
    tensor([[3, 0]], dtype=torch.int32)
    """

    kind: ClassVar[Kind] = "count"

    def to_model(self, raw: Tensor) -> Tensor:
        return raw.float()

    def to_world(self, x: Tensor) -> Tensor:
        return torch.round(x.clamp(0, TOP)).to(torch.int32)

    def log_abs_det(self, raw: Tensor) -> Tensor:
        return _no_change(raw)

    def to_json(self) -> dict[str, Any]:
        return {"codec": "counts"}


@dataclass(frozen=True)
class Table:
    """The rows of a table, or the steps of a recording whose channels are of different kinds: real columns shifted and scaled as by `Standard`, counts as they are, categories by number.

    `levels`: what the categories of each column are called, () for numbers. `mean` and `scale` are 0 and 1 where a
    column is not real. A table of real columns alone is of kind real, so that every family of points can learn it.

    >>> table = Table((Column("age", "real"), Column("sex", "category", 2)), ((), ("f", "m")), (40.0, 0.0), (10.0, 1.0))
    >>> table.to_model(torch.tensor([[50.0, 1.0], [torch.nan, 0.0]]))
    tensor([[1., 1.],
            [nan, 0.]])
    """

    columns: tuple[Column, ...]
    levels: tuple[tuple[str, ...], ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]

    def __post_init__(self) -> None:
        if len({len(part) for part in (self.columns, self.levels, self.mean, self.scale)}) != 1 or not self.columns:
            raise BadInput("the columns of a table need levels, a mean and a scale each")
        if len({column.name for column in self.columns}) < len(self.columns):
            raise BadInput("two columns of a table have the same name; rename one")
        for column, names, mean, scale in zip(self.columns, self.levels, self.mean, self.scale, strict=True):
            if len(names) != column.levels or len(set(names)) < len(names):
                raise BadInput(f"column {column.name!r} has {column.levels} levels and the names {names!r}")
            real = column.kind == "real"
            if not (math.isfinite(mean) and 0 < scale < math.inf) or not (real or (mean, scale) == (0, 1)):
                raise BadInput(f"column {column.name!r} cannot have the mean {mean} and the scale {scale}")

    @property
    def kind(self) -> Kind:
        return "real" if all(column.kind == "real" for column in self.columns) else "mixed"

    @property
    def space(self) -> Space:
        """What one row is."""
        return Space((len(self.columns),), self.kind, self.columns if self.kind == "mixed" else ())

    def to_model(self, raw: Tensor) -> Tensor:
        return ((raw.double() - _doubles(self.mean, raw)) / _doubles(self.scale, raw)).float()

    def to_world(self, x: Tensor) -> Tensor:
        """(…, D) float64: real numbers, the nearest counts, the nearest numbers of categories."""
        world = x.double() * _doubles(self.scale, x) + _doubles(self.mean, x)
        tops = {"real": math.inf, "count": float(TOP)}
        top = _doubles(tuple(tops.get(c.kind, c.levels - 1.0) for c in self.columns), x)
        return torch.where(top.isinf(), world, torch.minimum(world.round().clamp(min=0), top))

    def log_abs_det(self, raw: Tensor) -> Tensor:
        return _stretch(raw, _doubles(self.scale, raw))

    def to_json(self) -> dict[str, Any]:
        parts = zip(self.columns, self.levels, self.mean, self.scale, strict=True)
        return {"codec": "table", "columns": [[c.name, c.kind, list(n), mean, scale] for c, n, mean, scale in parts]}


def _table_from_json(columns: list[Any]) -> Table | None:
    for column in columns:
        match column:
            case [str(), "real" | "count" | "category" | "ordered", [*names], mean, scale] if {
                type(mean),
                type(scale),
            } <= {
                int,
                float,
            } and all(type(name) is str for name in names):
                continue
        return None
    try:
        return Table(
            tuple(Column(name, kind, len(names)) for name, kind, names, _, _ in columns),
            tuple(tuple(names) for _, _, names, _, _ in columns),
            tuple(float(mean) for *_, mean, _ in columns),
            tuple(float(scale) for *_, scale in columns),
        )
    except (BadInput, OverflowError):
        return None


def codec_from_json(values: Any) -> Codec:
    """The inverse of `to_json`; BadInput for anything else."""
    for codec in (Bytes(), Bits(), Binarised(), Counts()):
        if values == codec.to_json():
            return codec
    match values:
        case {"codec": "standard", "mean": [*mean], "scale": [*scale], **more} if (
            len(mean) == len(scale) > 0 and not more
        ):
            numbers = mean + scale
            if all(type(v) in (int, float) and math.isfinite(v) for v in numbers) and min(scale) > 0:
                return Standard(tuple(map(float, mean)), tuple(map(float, scale)))
        case {"codec": "table", "columns": [*columns], **more} if not more and (table := _table_from_json(columns)):
            return table
    raise BadInput(f"unknown codec {str(values)[:60]!r}; the folder is damaged or from another version")
