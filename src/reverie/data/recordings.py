"""Recordings in files: arrays (.npy, .npz) and tables (.csv, .parquet) whose rows are steps of time."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from reverie.core.errors import BadInput
from reverie.data.arrays import read_arrays
from reverie.data.codecs import TOP, Table
from reverie.data.config import DataConfig
from reverie.data.data import Data
from reverie.data.scans import is_scan, is_spikes, read_scan, read_spikes, repetition_time
from reverie.data.series import from_trials
from reverie.data.sheets import Sheet, as_number, read_sheet
from reverie.data.tables import as_they_are, asked, coded, listed
from reverie.data.windows import Trial

ARRAYS = (".npy", ".npz")
Kinds = Literal["real", "count", "mixed"]


class Recording(NamedTuple):
    """What a file holds."""

    trials: list[Trial]
    kind: Kinds
    seen: Table | None = None  # what the channels are, where they are of different kinds
    names: tuple[str, ...] = ()  # what the channels of a table are called


def open_recording(path: Path, config: DataConfig, channels: tuple[str, ...] = ()) -> Data:
    """Windows of the trials in a file, and perhaps of those in a second one, `config.test`.

    An .npy is one trial (T, N), or trials of one length (trial, T, N); where all channels of the last steps of a trial
    are NaN it is shorter. An .npz holds `x` like that and perhaps `inputs`, as many steps (…, K); `subjects`, a
    name or a number for each trial; or, for trials laid end to end in x, their `lengths`. In a table a row is a step, `trial`,
    `label` (whose it is) and `inputs` name columns. NaN, or an empty cell, was not measured.

    Where all channels are whole numbers from 0 on they are counts. Otherwise those of an array are real, and those of a table
    what its columns seem by the rules of `open_table`, words being categories. `kinds`, real or count, says what all are, or by
    name what some are; the channels of an array are called 1, 2 …, or what its `channels` say. Of a table those `channels` are read, in
    that order; without, all columns that are nothing else, and those of a second file by the names that they have in the first.
    """
    found = read_recording(path, config, channels=channels)
    spec: dict[str, Any] = {"source": str(path.absolute())}
    spec |= {
        key: getattr(config, key)
        for key in ("trial", "label", "inputs", "drop", "kinds", "parcels", "bin", "tr")
        if getattr(config, key)
    }
    if is_scan(path) and not config.tr:
        config = replace(config, tr=repetition_time(path))
    if not config.test:
        return _opened(path, found, spec, config, None)
    other = Path(config.test).expanduser()
    if not other.is_file():
        raise BadInput(f"--data.test {other} is no file; give one like {path.name}")
    test = read_recording(other, config, found)
    if (mine := _channels(found)) != (theirs := _channels(test)):
        raise BadInput(f"{path.name} has {mine} channels and inputs, {other.name} {theirs}; they must agree")
    spec["test"] = str(other.absolute())
    # A test set may happen to hold whole numbers alone.
    if found.kind == "count" != test.kind:
        raise BadInput(f"{path.name} holds counts, and {other.name} does not; save both as one or the other")
    return _opened(path, found, spec, config, test.trials)


def _opened(path: Path, found: Recording, spec: dict[str, Any], config: DataConfig, test: list[Trial] | None) -> Data:
    kind: Literal["real", "count"] = "count" if found.kind == "count" else "real"
    return from_trials(path.name, found.trials, spec, config, test, kind, found.seen, found.names)


def read_recording(
    path: Path, config: DataConfig, like: Recording | None = None, channels: tuple[str, ...] = ()
) -> Recording:
    """The trials of one file, its channels of the kinds that those of another are; in a table those of the same names."""
    if is_scan(path):
        return Recording([Trial(read_scan(path, config.parcels).astype(np.float32))], "real")
    if is_spikes(path):
        return Recording([Trial(x.astype(np.int32)) for x in read_spikes(path, config.bin)], "count")
    if like is not None and like.kind in ("real", "count"):
        config = replace(config, kinds=like.kind)
    seen, channels = (None, channels) if like is None else (like.seen, like.names)
    return _from_arrays(path, config, seen) if path.suffix in ARRAYS else _from_table(path, config, seen, channels)


def read_inputs(path: Path, config: DataConfig) -> np.ndarray:
    """(T, K) float32, what acts from outside at T steps: an .npy, the `inputs` of an .npz, or the columns of a table that the config
    calls inputs."""
    if not path.is_file():
        raise BadInput(f"no such file: {path}; give what acts at each step")
    if path.suffix in ARRAYS:
        arrays = read_arrays(path)
        if "inputs" not in arrays and len(arrays) != 1:
            raise BadInput(f"{path} holds {', '.join(arrays)}, and no inputs")
        found = _numbers(arrays.get("inputs", next(iter(arrays.values()))), str(path))
    else:
        sheet, names = read_sheet(path), listed(config.inputs)
        if unknown := [name for name in names if name not in sheet.names]:
            raise BadInput(f"{path.name} has no column {unknown[0]!r}; it has {', '.join(sheet.names)}")
        if not names:
            raise BadInput(f"which columns of {path.name} act? say --data.inputs, as light,tone")
        found = _columns(sheet, names)
    if found.ndim != 2 or np.isnan(found).any():
        raise BadInput(
            f"{path}: inputs are steps by inputs, and all of them known; these are {found.shape}"
            + ", with gaps" * bool(np.isnan(found).any())
        )
    return found.astype(np.float32)


def _channels(found: Recording) -> tuple[int, int]:
    first = found.trials[0]
    return first.x.shape[1], 0 if first.inputs is None else first.inputs.shape[1]


def _from_arrays(path: Path, config: DataConfig, seen: Table | None) -> Recording:
    arrays = read_arrays(path)
    unknown = sorted(set(arrays) - {"x", "inputs", "subjects", "lengths", "channels"})
    if "x" not in arrays and len(arrays) == 1:
        arrays, unknown = {"x": next(iter(arrays.values()))}, []
    if "x" not in arrays or unknown:
        raise BadInput(
            f"{path} holds {', '.join(arrays)}; a recording has x, and perhaps inputs, subjects, lengths, channels"
        )
    x = _numbers(arrays["x"], f"{path}: x")
    inputs = _numbers(arrays["inputs"], f"{path}: inputs") if "inputs" in arrays else None
    if inputs is not None and (inputs.shape[:-1] != x.shape[:-1] or np.isnan(inputs).any()):
        raise BadInput(
            f"{path}: inputs are {inputs.shape} for x {x.shape}; they need as many steps, and all of them known"
        )
    kind: Kinds
    if seen is None and config.kinds in ("", "real", "count"):
        kind = _kind(x, config, str(path))
    else:
        written = _written(path, x, arrays.get("channels"))
        told = asked(written, config)[0] if seen is None else {}
        flat, kind, seen = _kinds(written, told, seen)
        x = flat.reshape(x.shape)
    pieces = _pieces(x, arrays.get("lengths"), str(path))
    acting = [None] * len(pieces) if inputs is None else _pieces(inputs, arrays.get("lengths"), str(path))
    subjects = arrays.get("subjects", np.full(len(pieces), ""))
    if subjects.shape != (len(pieces),):
        raise BadInput(f"{path} has {len(pieces)} trials and subjects of shape {subjects.shape}; name one for each")
    trials = [_trial(*parts, kind, str(path)) for parts in zip(pieces, acting, map(str, subjects), strict=True)]
    return Recording(trials, kind, seen)


def _written(path: Path, x: np.ndarray, channels: np.ndarray | None) -> Sheet:
    """An array as a table of texts."""
    names = list(map(str, range(1, x.shape[-1] + 1) if channels is None else channels.tolist()))
    if len(set(names)) != x.shape[-1] or len(names) != x.shape[-1]:
        raise BadInput(
            f"{path}: channels are {', '.join(names)[:80]}; give each of the {x.shape[-1]} a name of its own"
        )
    rows = [["" if v != v else f"{v:.17g}" for v in row] for row in x.reshape(-1, x.shape[-1]).tolist()]
    return Sheet(path, names, rows, [f"step {i + 1}" for i in range(len(rows))])


def _kinds(sheet: Sheet, told: dict[str, str], seen: Table | None) -> tuple[np.ndarray, Kinds, Table | None]:
    """(T, N) of all columns of a sheet, and what they are: of one kind, or `seen`, which they may have to be."""
    if seen is None:
        seen = as_they_are(sheet, sheet.names, told)
        if same := [column.name for column in seen.columns if column.levels == 1]:
            raise BadInput(f"{sheet.path.name}: {same[0]!r} is always the same; leave it out with --data.drop")
    x, kinds = coded(sheet, seen), {column.kind for column in seen.columns}
    if kinds == {"real"}:
        return x, "real", None
    return (x, "count", None) if kinds == {"count"} else (x, "mixed", seen)


def _numbers(array: np.ndarray, name: str) -> np.ndarray:
    """(T, N) or (trial, T, N) float64; BadInput for what can be no recording."""
    if array.dtype.kind not in "buif":
        raise BadInput(f"{name} holds {array.dtype}, not numbers")
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise BadInput(f"{name} has shape {array.shape}; a recording is (time, channel) or (trial, time, channel)")
    array = array.astype(np.float64)
    if (bad := np.abs(array) > np.finfo(np.float32).max).any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise BadInput(f"{name} holds {int(bad.sum())} values that are infinite, the first at {first}; remove them")
    return array


def _kind(x: np.ndarray, config: DataConfig, name: str) -> Literal["real", "count"]:
    seen = x[~np.isnan(x)]
    whole = bool(len(seen) and (seen == np.round(seen)).all() and seen.min() >= 0 and seen.max() <= TOP)
    if config.kinds == "count" and not whole:
        raise BadInput(
            f"{name} holds other numbers than 0, 1, 2 …, and counts are asked for; leave --data.kinds out, or mend them"
        )
    return "count" if whole and config.kinds != "real" else "real"


def _pieces(x: np.ndarray, lengths: np.ndarray | None, name: str) -> list[np.ndarray]:
    """The trials of an array, each (T, N)."""
    if lengths is None:
        return [x] if x.ndim == 2 else list(x)
    if x.ndim != 2 or lengths.dtype.kind not in "iu" or lengths.ndim != 1 or (lengths < 1).any():
        raise BadInput(f"{name}: lengths are whole numbers of steps for trials laid end to end in x (time, channel)")
    if lengths.sum() != len(x):
        raise BadInput(f"{name}: lengths sum to {int(lengths.sum())}, and x has {len(x)} steps; make them agree")
    return np.split(x, np.cumsum(lengths)[:-1])


def _trial(x: np.ndarray, inputs: np.ndarray | None, subject: str, kind: str, name: str) -> Trial:
    """Without the steps after the last one at which anything was measured."""
    measured = np.flatnonzero(~np.isnan(x).all(1))
    if not len(measured):
        raise BadInput(f"{name} has a trial in which nothing was measured; leave it out")
    n = int(measured[-1]) + 1
    whole = kind == "count" and not np.isnan(x[:n]).any()
    acting = None if inputs is None else inputs[:n].astype(np.float32)
    return Trial(np.ascontiguousarray(x[:n], np.int32 if whole else np.float32), acting, subject)


def _from_table(path: Path, config: DataConfig, seen: Table | None, wanted: tuple[str, ...] = ()) -> Recording:
    sheet = read_sheet(path)
    dropped = set(listed(config.drop))
    acting = listed(config.inputs)
    told = {name for name in (config.trial, config.label) if name}
    for name in (*dropped, *acting, *told):
        if name not in sheet.names:
            raise BadInput(f"{path.name} has no column {name!r}; it has {', '.join(sheet.names)}")
    channels = list(wanted) or [name for name in sheet.names if name not in dropped | told | set(acting)]
    for name in channels:
        sheet.cells(name)  # tells of one that is not there
    if not channels:
        raise BadInput(f"{path} has no channels left; drop fewer columns")
    inputs = _columns(sheet, acting) if acting else None
    if inputs is not None and np.isnan(inputs).any():
        row, column = np.argwhere(np.isnan(inputs))[0].tolist()
        raise BadInput(f"{sheet.at(row, acting[column])} is empty, and an input must be known at every step")
    kind: Kinds
    if seen is None and (config.kinds in ("real", "count") or (not config.kinds and _all_count(sheet, channels))):
        x = _columns(sheet, channels)
        kind = _kind(x, config, path.name)
    else:
        asking = None if seen is not None else asked(sheet, config)[0]
        x, kind, seen = _kinds(_only(sheet, channels, asking), asking or {}, seen)
    whose = sheet.cells(config.label) if config.label else [""] * len(sheet.rows)
    trials = []
    for rows in _runs(sheet, config.trial):
        subjects = {whose[i] for i in rows}
        if len(subjects) > 1:
            raise BadInput(
                f"{sheet.at(int(rows[0]), config.label)}: a trial has more than one {config.label!r}; split it"
            )
        trials.append(_trial(x[rows], None if inputs is None else inputs[rows], subjects.pop(), kind, path.name))
    return Recording(trials, kind, seen, tuple(channels))


def _all_count(sheet: Sheet, names: Sequence[str]) -> bool:
    cells = {cell for name in names for cell in sheet.cells(name)} - {""}
    numbers = [as_number(cell) for cell in cells]
    return all(n is not None and n.is_integer() and n >= 0 for n in numbers)


def _only(sheet: Sheet, names: Sequence[str], kinds: dict[str, str] | None) -> Sheet:
    """The channels alone. One that holds words among its numbers is refused, where nothing says that it is a category."""
    for name in names if kinds is not None else ():
        wrong = [i for i, cell in enumerate(sheet.cells(name)) if cell and as_number(cell) is None]
        if wrong and name not in (kinds or {}) and len(wrong) < sum(map(bool, sheet.cells(name))):
            raise BadInput(
                f"{sheet.at(wrong[0], name)}: {sheet.cells(name)[wrong[0]][:40]!r} is not a number; mend it, leave the column out "
                f"with --data.drop, or say --data.kinds {name}=category"
            )
    places = [sheet.names.index(name) for name in names]
    rows = [[row[place] for place in places] for row in sheet.rows]
    return sheet._replace(names=list(names), rows=rows)


def _columns(sheet: Sheet, names: Sequence[str]) -> np.ndarray:
    """(T, N) float64, NaN where a cell is empty; BadInput for a cell that is no number."""
    columns = []
    for name in names:
        cells = sheet.cells(name)
        values = [np.nan if not cell else as_number(cell) for cell in cells]
        if None in values:
            row = values.index(None)
            raise BadInput(
                f"{sheet.at(row, name)}: {cells[row][:40]!r} is not a number; leave the column out with --data.drop"
            )
        columns.append(np.array(values, np.float64))
    return _numbers(np.stack(columns, 1), sheet.path.name)


def _runs(sheet: Sheet, column: str) -> list[np.ndarray]:
    """The rows of each trial, in their order; a trial is one run of rows."""
    names = sheet.cells(column) if column else [""] * len(sheet.rows)
    cuts = [i for i in range(1, len(names)) if names[i] != names[i - 1]]
    runs = np.split(np.arange(len(names)), cuts)
    if len({names[run[0]] for run in runs}) < len(runs):
        raise BadInput(f"{sheet.path.name}: the rows of a trial in column {column!r} are not together; sort them")
    return runs
