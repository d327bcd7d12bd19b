"""Recordings in time: trials of unequal lengths, and the windows of them that are learned from."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Trial:
    """One unbroken stretch of a recording."""

    x: np.ndarray  # (T, N) world units; NaN where nothing was measured
    inputs: np.ndarray | None = None  # (T, K) float32, what acted from outside at each step
    subject: str = ""  # whose it is

    def __len__(self) -> int:
        return len(self.x)

    def cut(self, start: int, stop: int) -> "Trial":
        """The steps from `start` to before `stop`."""
        return Trial(self.x[start:stop], None if self.inputs is None else self.inputs[start:stop], self.subject)


class Windows:
    """Stretches of one length of many trials, as an array of rows (W, T, N) that holds each step in memory once.

    Windows never cross trials; a trial shorter than one is filled up, with NaN unless `fill` says otherwise.

    >>> windows = Windows.of([np.zeros((5, 2), np.float32), np.ones((3, 2), np.float32)], length=3)
    >>> windows.shape, np.asarray(windows[3:])[0, 0].tolist()
    ((4, 3, 2), [1.0, 1.0])
    """

    def __init__(self, steps: np.ndarray, starts: np.ndarray, owners: np.ndarray, length: int):
        self.steps = steps  # (S, N) all trials end to end
        self.starts = starts  # (W,) the step at which each window begins
        self.owners = owners  # (W,) the number of the trial that it was cut from
        self.shape = (len(starts), length, *steps.shape[1:])
        self.dtype, self.itemsize = steps.dtype, steps.itemsize

    @staticmethod
    def of(trials: Iterable[np.ndarray], length: int, stride: int = 1, fill: float = np.nan) -> "Windows":
        """All windows of `length` steps that begin `stride` apart in each trial (T, N), in a fixed shuffled order."""
        held, starts, owners, at = [], [], [], 0
        for number, x in enumerate(trials):
            short = max(length - len(x), 0)
            if short:
                x = np.concatenate([x, np.full((short, *x.shape[1:]), fill)]).astype(np.float32)
            held.append(x)
            starts.append(at + np.arange(0, len(x) - length + 1, stride))
            owners.append(np.full(len(starts[-1]), number))
            at += len(x)
        # Shuffled, so that any run of windows is a fair sample.
        order = np.random.default_rng(0).permutation(sum(map(len, starts)))
        return Windows(np.concatenate(held), np.concatenate(starts)[order], np.concatenate(owners)[order], length)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, rows: Any) -> "Windows":
        """Some of the windows: a slice, or their numbers."""
        return Windows(self.steps, self.starts[rows], self.owners[rows], self.shape[1])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        every = np.lib.stride_tricks.sliding_window_view(self.steps, self.shape[1], axis=0)
        return np.ascontiguousarray(np.moveaxis(every[self.starts], -1, 1), dtype=dtype)

    def held(self, device: str) -> tuple[Tensor, Tensor]:
        """Every stretch of the length, crossing trials or not (R, T, N), a view; and which of them are the windows (W,)."""
        steps = torch.from_numpy(self.steps).to(device)
        return steps.unfold(0, self.shape[1], 1).movedim(-1, 1), torch.from_numpy(self.starts).to(device)

    @property
    def holes(self) -> bool:
        """Is there a step that was not measured whole?"""
        return self.dtype.kind == "f" and bool(np.isnan(self.steps).any())
