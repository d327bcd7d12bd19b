"""Tables in .csv and .parquet files: what their columns are, and rows with holes."""

import csv
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from reverie.core.errors import BadInput
from reverie.core.space import Column, ColumnKind
from reverie.data.codecs import TOP, Table
from reverie.data.config import DataConfig
from reverie.data.data import Data, splits
from reverie.data.sheets import Sheet, as_number, key_of, read_sheet
from reverie.data.splitting import content_hash, split_by_content

LARGEST = float(np.finfo(np.float32).max)
_COMMA = re.compile(r"[+-]?\d+,\d+", re.ASCII)
_PERCENT = re.compile(r"[+-]?(\d+[.,]?\d*|[.,]\d+)\s*%", re.ASCII)


def open_table(path: Path, config: DataConfig) -> Data:
    """Rows of a table, split by content. Empty cells, NA, N/A, NaN, nan, NULL, null and ? were not measured.

    A column whose cells are all numbers is a category if they are two whole numbers; a count if all are whole, the
    smallest 0 or 1 and the greatest at most 100; otherwise real. Any other column is a category, its levels
    the sorted texts. `kinds` says otherwise, and which categories are ordered; `drop` leaves columns out, and `label` makes one
    the labels.
    """
    sheet = read_sheet(path)
    kinds, dropped = asked(sheet, config)
    names = [name for name in sheet.names if name not in dropped and name != config.label]
    if not names:
        raise BadInput(f"{path} has no columns left; drop fewer")
    seen = as_they_are(sheet, names, kinds)
    raw = coded(sheet, seen)
    labels, classes = _labels(sheet, config.label) if config.label else (None, ())
    spec: dict[str, Any] = {"source": str(path.absolute())}
    spec |= {key: getattr(config, key) for key in ("kinds", "drop", "label") if getattr(config, key)}
    if labels is not None:  # copies of a row lie by their label, whatever line they came from
        order = np.argsort(labels, kind="stable")
        raw, labels = raw[order], labels[order]
    order, cuts = split_by_content(_hashes(raw))
    raw, labels = raw[order], None if labels is None else labels[order]
    codec = fitted(raw[: cuts[0]], seen, path.name)
    return Data(path.name, codec.space, codec, *splits(raw, cuts, len(raw), labels), spec=spec, classes=classes)


def as_they_are(sheet: Sheet, names: Sequence[str], kinds: dict[str, str]) -> Table:
    """Columns of those names, of those kinds or what they seem; their scales come later, from the training part."""
    columns, levels = [], []
    for name in names:
        kind: Any = kinds.get(name) or _seeming(sheet, name)
        known: tuple[str, ...] = ()
        if "<" in kind:
            kind, known = "ordered", tuple(level.strip() for level in kind.split("<"))
            if "" in known or len(set(known)) < len(known):
                raise BadInput(f"--data.kinds {name}={'<'.join(known)} names a level twice, or one that is empty")
        elif kind in ("category", "ordered"):
            known = _levels(sheet.cells(name))
        if kind == "ordered" and name in kinds and "<" not in kinds[name] and None in map(as_number, known):
            raise BadInput(
                f"the order of the words in {name!r} is not known; say --data.kinds '{name}={'<'.join(known[:4])}'"
            )
        levels.append(known)
        columns.append(Column(name, kind, len(known)))
    return Table(tuple(columns), tuple(levels), (0.0,) * len(names), (1.0,) * len(names))


def open_like(path: Path, codec: Table) -> Data:
    """A table with the columns of another, seen as that one was: new data for a machine that has learned."""
    raw = coded(read_sheet(path), codec)
    order, cuts = split_by_content(_hashes(raw))
    return Data(path.name, codec.space, codec, *splits(raw[order], cuts, len(raw), None), {"source": str(path)})


def coded(sheet: Sheet, codec: Table) -> np.ndarray:
    """(N, D) float64 world units of the codec's columns, in its order: NaN where missing, a category its number.

    BadInput for a cell that its column cannot hold. The sheet may have other columns too.
    """
    return np.stack([_numbers(sheet, *pair) for pair in zip(codec.columns, codec.levels, strict=True)], 1)


def worded(codec: Table, raw: np.ndarray) -> list[list[str]]:
    """The texts of rows (N, D) in world units, "" where NaN; digits that the spread of a column drowns are left out."""
    return [["" if math.isnan(v) else word(codec, j, v) for j, v in enumerate(row)] for row in raw.tolist()]


def word(codec: Table, place: int, value: float) -> str:
    """The text of one cell."""
    if codec.columns[place].kind == "real":
        return repr(round(value, 5 - math.floor(math.log10(codec.scale[place]))))
    return codec.levels[place][int(value)] if codec.levels[place] else str(int(value))


def _hashes(raw: np.ndarray) -> np.ndarray:
    return np.array([content_hash(row.tobytes()) for row in raw], np.uint64)


def asked(sheet: Sheet, config: DataConfig) -> tuple[dict[str, str], set[str]]:
    """Kinds of columns by name, of ordered ones perhaps their levels, a<b<c; and the names of those to leave out."""
    dropped = set(listed(config.drop))
    kinds: dict[str, str] = {}
    for part in listed(config.kinds):
        name, _, kind = (word.strip() for word in part.rpartition("="))
        if (kind not in get_args(ColumnKind) and "<" not in kind) or not name:
            raise BadInput(
                f"--data.kinds {part!r} is not NAME=real, NAME=count, NAME=category, NAME=ordered or NAME=a<b<c"
            )
        kinds[name] = kind
    for name in [*dropped, *kinds, *([config.label] if config.label else [])]:
        if name not in sheet.names:
            raise BadInput(f"{sheet.path.name} has no column {name!r}; it has {', '.join(sheet.names)}")
    return kinds, dropped


def listed(text: str) -> list[str]:
    """The parts of a list; one that holds a comma is quoted."""
    return [part.strip() for part in next(csv.reader([text], skipinitialspace=True), []) if part.strip()]


def _seeming(sheet: Sheet, name: str) -> Any:
    """The kind that a column seems to be."""
    cells = [cell for cell in sheet.cells(name) if cell]
    if not cells:
        raise BadInput(f"{sheet.path.name}: column {name!r} has no measured cell; leave it out: --data.drop {name}")
    numbers = [n for cell in cells if (n := as_number(cell)) is not None]
    if len(numbers) < len(cells):
        for mark, what, mend in ((_COMMA, "a decimal comma", "a point"), (_PERCENT, "a percent sign", "none")):
            if all(as_number(cell) is not None or mark.fullmatch(cell) for cell in cells):
                first = next(i for i, cell in enumerate(sheet.cells(name)) if mark.fullmatch(cell))
                raise BadInput(
                    f"{sheet.at(first, name)}: {sheet.cells(name)[first]!r} is a number with {what}; save the column with {mend}, "
                    f"or say --data.kinds {name}=category"
                )
        _refuse_identifier(sheet, name, f"leave it out with --data.drop {name}, or say --data.kinds {name}=category")
        return "category"
    if not all(n.is_integer() for n in numbers):
        return "real"
    if len(set(numbers)) == 2:
        return "category"
    return "count" if min(numbers) in (0, 1) and max(numbers) <= 100 else "real"


def _refuse_identifier(sheet: Sheet, name: str, remedy: str) -> None:
    """A column that says something else in nearly every row says nothing that could be learned."""
    cells = sheet.cells(name)
    many, different = sum(map(bool, cells)), len(set(cells) - {""})
    if different < 10 or different <= 0.9 * many:
        return
    odd = [i for i, cell in enumerate(cells) if cell and as_number(cell) is None]
    if 2 * len(odd) < many:
        raise BadInput(
            f"{sheet.at(odd[0], name)}: {cells[odd[0]]!r} is not a number, as most are; mend it, or {remedy}"
        )
    raise BadInput(f"{sheet.path.name}: column {name!r} has {different} texts in {many} rows, as names do; {remedy}")


def _levels(cells: Sequence[str]) -> tuple[str, ...]:
    """Numbers by size, otherwise texts by their order; of 1 and 1.0 the shorter."""
    names: dict[str, str] = {}
    for cell in sorted(set(cells) - {""}, reverse=True):
        names[key_of(cell)] = cell
    numbers = {name: n for name in names.values() if (n := as_number(name)) is not None}
    return tuple(sorted(names.values(), key=lambda name: (numbers[name] if len(numbers) == len(names) else 0.0, name)))


def _labels(sheet: Sheet, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    cells = sheet.cells(name)
    if "" in cells:
        raise BadInput(f"{sheet.at(cells.index(''), name)} is empty, and a label is needed in every row")
    _refuse_identifier(sheet, name, "labels are few; choose another --data.label")
    names = _levels(cells)
    place = {key_of(text): i for i, text in enumerate(names)}
    return np.array([place[key_of(cell)] for cell in cells]), names


def _numbers(sheet: Sheet, column: Column, levels: Sequence[str]) -> np.ndarray:
    """(N,) float64: a column's cells as numbers, NaN where missing."""
    numbers = np.full(len(sheet.rows), np.nan)
    place = {key_of(text): float(i) for i, text in enumerate(levels)}
    for i, cell in enumerate(sheet.cells(column.name)):
        if not cell:
            continue
        if column.levels:
            number, wanted = (
                place.get(key_of(cell)),
                f"one of its categories ({', '.join(levels[:8])}{' …' * (len(levels) > 8)})",
            )
        elif column.kind == "count":
            number, wanted = as_number(cell), "a count (0, 1, 2 …)"
            number = number if number is not None and number.is_integer() and 0 <= number <= TOP else None
        else:
            number, wanted = as_number(cell), "a finite number"
            number = number if number is not None and abs(number) <= LARGEST else None
        if number is None:
            raise BadInput(f"{sheet.at(i, column.name)}: {cell[:40]!r} is not {wanted}")
        numbers[i] = number
    return numbers + 0.0  # -0 becomes 0: content is known by its bits


def fitted(train: np.ndarray, seen: Table, name: str) -> Table:
    """The codec whose real columns have zero mean and unit variance over what was measured in training rows (N, D)."""
    mean, scale = [], []
    for column, cells in zip(seen.columns, train.T, strict=True):
        known = cells[~np.isnan(cells)]
        if not len(known):
            raise BadInput(
                f"{name}: column {column.name!r} is measured in no training row; leave it out: --data.drop {column.name}"
            )
        moves = column.kind == "real" and known.min() < known.max()
        mean.append(float(known.mean()) if column.kind == "real" else 0.0)
        scale.append(float(known.std()) or 1.0 if moves else 1.0)
    return Table(seen.columns, seen.levels, tuple(mean), tuple(scale))
