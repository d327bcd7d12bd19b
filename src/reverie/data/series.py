"""From trials to Data: what is held out, what is standard, which windows are learned from."""

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from reverie.core.errors import BadInput
from reverie.core.space import Space
from reverie.data.codecs import Codec, Counts, Standard, Table
from reverie.data.config import DataConfig
from reverie.data.data import Data, Split
from reverie.data.splitting import content_hash, split_by_content
from reverie.data.tables import fitted
from reverie.data.windows import Trial, Windows

Parts = tuple[list[Trial], list[Trial], list[Trial]]
MANY = 10  # trials, from which whole ones are held out


def from_trials(
    name: str,
    trials: Sequence[Trial],
    spec: dict[str, Any],
    config: DataConfig,
    test: Sequence[Trial] | None = None,
    kind: Literal["real", "count"] = "real",
    seen: Table | None = None,
    channels: Sequence[str] = (),
) -> Data:
    """Data whose examples are windows (T, N) of trials, T as `config.window` says.

    Training windows begin at every step, those held out one after the other; none crosses trials, or from one split
    into another. Real channels are standard over the training part. `test` is the test set
    where there is one of its own. Where channels are of different kinds, `seen` tells of them; `channels` is what they are called.
    """
    assert config.window is not None
    way = _way(trials, config)
    parts = _by_trial(trials, test) if way == "trial" else _in_time(name, trials, test)
    if not parts[0]:
        raise BadInput(f"{name} has no trial left to train on; give more of them, or --data.split time")
    if seen is not None:
        codec: Codec = fitted(np.concatenate([trial.x for trial in parts[0]]).astype(np.float64), seen, name)
    else:
        codec = _standard(name, parts[0]) if kind == "real" else Counts()
    subjects = sorted({trial.subject for part in parts for trial in part} - {""})
    strides = (1, config.window, config.window)
    train, valid, held = (_split(part, config.window, subjects, n) for part, n in zip(parts, strides, strict=True))
    columns = seen.columns if seen is not None and codec.kind == "mixed" else ()
    space = Space((config.window, parts[0][0].x.shape[1]), codec.kind, columns, config.tr)
    return Data(
        name, space, codec, train, valid, held, spec=spec | {"window": config.window, "split": way},
        classes=tuple(subjects), channels=tuple(channels), fingerprint=_fingerprint(parts, config.window, codec),
    )  # fmt: skip


def _way(trials: Sequence[Trial], config: DataConfig) -> str:
    if config.split != "auto":
        return config.split
    return "trial" if len(trials) >= MANY else "time"


def _by_trial(trials: Sequence[Trial], test: Sequence[Trial] | None) -> Parts:
    """Whole trials, by their content: shares of about 80, 10 and 10; with a test set of its own, of 90 and 10."""
    hashes = np.array([content_hash(np.ascontiguousarray(trial.x).tobytes()) for trial in trials], np.uint64)
    order, (first, second) = split_by_content(hashes)
    ranked = [trials[i] for i in order]
    if test is not None:
        return ranked[:second], ranked[second:], list(test)
    return ranked[:first], ranked[first:second], ranked[second:]


def _in_time(name: str, trials: Sequence[Trial], test: Sequence[Trial] | None) -> Parts:
    """Of each trial the first 80% to train, the next 10% to validate, the last 10% to test; or 90 and 10 where the
    test set is its own. A trial of fewer than 20 steps is all for training."""
    parts: Parts = ([], [], [] if test is None else list(test))
    for trial in trials:
        n = len(trial)
        if n < 20:
            parts[0].append(trial)
            continue
        first, second = round((0.8 if test is None else 0.9) * n), round(0.9 * n) if test is None else n
        parts[0].append(trial.cut(0, first))
        parts[1].append(trial.cut(first, second))
        if test is None:
            parts[2].append(trial.cut(second, n))
    if not parts[1]:
        raise BadInput(f"{name}: every trial has fewer than 20 steps, too few to hold some out; use --data.split trial")
    return parts


def _split(trials: list[Trial], window: int, subjects: list[str], stride: int) -> Split:
    """The windows of some trials, and whose each is."""
    if not trials:
        raise BadInput("no trials are left to validate or test on; give more of them, or --data.split time")
    source = Windows.of([trial.x for trial in trials], window, stride)
    labels = None
    if subjects:
        whose = np.array([subjects.index(trial.subject) for trial in trials])
        labels = whose[source.owners]
    split = Split(source, 0, len(source), labels)
    split.trials = tuple(trials)
    if trials[0].inputs is not None:
        inputs = [trial.inputs for trial in trials if trial.inputs is not None]
        split.inputs = Windows.of(inputs, window, stride, fill=0.0)
    return split


def _standard(name: str, train: list[Trial]) -> Standard:
    """The mean and deviation of each channel over what was measured in the training part."""
    steps = np.concatenate([trial.x for trial in train]).astype(np.float64)
    if (never := np.isnan(steps).all(0)).any():
        raise BadInput(f"{name}: channel {int(never.argmax())} is measured in no training step; leave it out")
    mean, scale = np.nanmean(steps, 0), np.nanstd(steps, 0)
    scale = np.where(scale > 0, scale, 1.0)  # a channel that never changes
    return Standard(tuple(mean.tolist()), tuple(scale.tolist()))


def _fingerprint(parts: Parts, window: int, codec: Codec) -> str:
    digest = hashlib.blake2b(repr((window, codec)).encode(), digest_size=16)
    for part in parts:
        digest.update(f"split {len(part)}".encode())
        for trial in part:
            digest.update(f"trial {trial.x.shape} {trial.subject}".encode())
            for array in (trial.x, trial.inputs):
                if array is not None:
                    digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
