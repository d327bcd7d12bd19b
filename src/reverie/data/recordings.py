"""Recordings in files: arrays (.npy, .npz) and tables (.csv, .parquet) whose rows are steps of time."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from reverie.core.errors import BadInput
from reverie.data.arrays import read_arrays
from reverie.data.codecs import TOP
from reverie.data.config import DataConfig
from reverie.data.data import Data
from reverie.data.scans import is_scan, is_spikes, read_scan, read_spikes, repetition_time
from reverie.data.series import from_trials
from reverie.data.tables import Sheet, as_number, listed, read_sheet
from reverie.data.windows import Trial

ARRAYS = (".npy", ".npz")


class Recording(NamedTuple):
    """What a file holds."""

    trials: list[Trial]
    kind: Literal["real", "count"]


def open_recording(path: Path, config: DataConfig) -> Data:
    """Windows of the trials in a file, and perhaps of those in a second one, `config.test`.

    An .npy is one trial (T, N), or trials of one length (trial, T, N); where all channels of the last steps of a trial
    are NaN it is shorter. An .npz holds `x` like that and perhaps `inputs`, as many steps (…, K); `subjects`, a
    name or a number for each trial; or, for trials laid end to end in x, their `lengths`. In a table a row is a step, `trial`,
    `label` (whose it is) and `inputs` name columns. NaN, or an empty cell, was not measured. Whole numbers from
    0 on are counts, anything else is real; `kinds`, real or count, says otherwise.
    """
    found = read_recording(path, config)
    spec: dict[str, Any] = {"source": str(path.absolute())}
    spec |= {
        key: getattr(config, key)
        for key in ("trial", "label", "inputs", "drop", "kinds", "parcels", "bin", "tr")
        if getattr(config, key)
    }
    if is_scan(path) and not config.tr:
        config = replace(config, tr=repetition_time(path))
    if not config.test:
        return from_trials(path.name, found.trials, spec, config, kind=found.kind)
    other = Path(config.test).expanduser()
    if not other.is_file():
        raise BadInput(f"--data.test {other} is no file; give one like {path.name}")
    test = read_recording(other, config)
    if (mine := _channels(found)) != (theirs := _channels(test)):
        raise BadInput(f"{path.name} has {mine} channels and inputs, {other.name} {theirs}; they must agree")
    spec["test"] = str(other.absolute())
    # A test set may happen to hold whole numbers alone.
    if (found.kind, test.kind) == ("count", "real"):
        raise BadInput(f"{path.name} holds counts, and {other.name} does not; save both as one or the other")
    return from_trials(path.name, found.trials, spec, config, test.trials, found.kind)


def read_recording(path: Path, config: DataConfig) -> Recording:
    """The trials of one file."""
    if config.kinds not in ("", "real", "count"):
        raise BadInput(f"--data.kinds is {config.kinds!r}; all channels of a recording are real, or all are count")
    if is_scan(path):
        return Recording([Trial(read_scan(path, config.parcels).astype(np.float32))], "real")
    if is_spikes(path):
        return Recording([Trial(x.astype(np.int32)) for x in read_spikes(path, config.bin)], "count")
    return _from_arrays(path, config) if path.suffix in ARRAYS else _from_table(path, config)


def _channels(found: Recording) -> tuple[int, int]:
    first = found.trials[0]
    return first.x.shape[1], 0 if first.inputs is None else first.inputs.shape[1]


def _from_arrays(path: Path, config: DataConfig) -> Recording:
    arrays = read_arrays(path)
    unknown = sorted(set(arrays) - {"x", "inputs", "subjects", "lengths"})
    if "x" not in arrays and len(arrays) == 1:
        arrays, unknown = {"x": next(iter(arrays.values()))}, []
    if "x" not in arrays or unknown:
        raise BadInput(f"{path} holds {', '.join(arrays)}; a recording has x, and perhaps inputs, subjects, lengths")
    x = _numbers(arrays["x"], f"{path}: x")
    inputs = _numbers(arrays["inputs"], f"{path}: inputs") if "inputs" in arrays else None
    if inputs is not None and (inputs.shape[:-1] != x.shape[:-1] or np.isnan(inputs).any()):
        raise BadInput(
            f"{path}: inputs are {inputs.shape} for x {x.shape}; they need as many steps, and all of them known"
        )
    kind = _kind(x, config, str(path))
    pieces = _pieces(x, arrays.get("lengths"), str(path))
    acting = [None] * len(pieces) if inputs is None else _pieces(inputs, arrays.get("lengths"), str(path))
    subjects = arrays.get("subjects", np.full(len(pieces), ""))
    if subjects.shape != (len(pieces),):
        raise BadInput(f"{path} has {len(pieces)} trials and subjects of shape {subjects.shape}; name one for each")
    trials = [_trial(*parts, kind, str(path)) for parts in zip(pieces, acting, map(str, subjects), strict=True)]
    return Recording(trials, kind)


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
        raise BadInput(f"{name} holds other numbers than 0, 1, 2 …; leave --data.kinds out")
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


def _from_table(path: Path, config: DataConfig) -> Recording:
    sheet = read_sheet(path)
    dropped = set(listed(config.drop))
    acting = listed(config.inputs)
    told = {name for name in (config.trial, config.label) if name}
    for name in (*dropped, *acting, *told):
        if name not in sheet.names:
            raise BadInput(f"{path.name} has no column {name!r}; it has {', '.join(sheet.names)}")
    channels = [name for name in sheet.names if name not in dropped | told | set(acting)]
    if not channels:
        raise BadInput(f"{path} has no channels left; drop fewer columns")
    x, inputs = _columns(sheet, channels), _columns(sheet, acting) if acting else None
    if inputs is not None and np.isnan(inputs).any():
        row, column = np.argwhere(np.isnan(inputs))[0].tolist()
        raise BadInput(f"{sheet.at(row, acting[column])} is empty, and an input must be known at every step")
    kind = _kind(x, config, path.name)
    whose = sheet.cells(config.label) if config.label else [""] * len(sheet.rows)
    trials = []
    for rows in _runs(sheet, config.trial):
        subjects = {whose[i] for i in rows}
        if len(subjects) > 1:
            raise BadInput(
                f"{sheet.at(int(rows[0]), config.label)}: a trial has more than one {config.label!r}; split it"
            )
        trials.append(_trial(x[rows], None if inputs is None else inputs[rows], subjects.pop(), kind, path.name))
    return Recording(trials, kind)


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
