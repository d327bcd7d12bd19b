"""Recordings of brains that come inside the package nitime, as built-in data."""

from pathlib import Path

import numpy as np

from reverie.core.errors import BadInput
from reverie.data.builtin import package
from reverie.data.config import DataConfig
from reverie.data.data import Data
from reverie.data.series import from_trials
from reverie.data.windows import Trial

TR = 1.89  # seconds between two volumes
NUISANCE = 3  # first columns of the fMRI table: white matter, ventricles, whole brain
BIN = 0.004  # seconds in which spikes are counted
STIMULUS = 50e-6  # seconds between samples of the stimulus
MICRO = 1e-6  # in which spike times are told


def fmri(config: DataConfig) -> Data:
    """A resting brain, 28 regions, 250 volumes, one every 1.89 s (nitime's example of functional connectivity)."""
    path = _file("fmri_timeseries.csv")
    x = np.loadtxt(path, delimiter=",", skiprows=1, dtype=np.float32, ndmin=2)[:, NUISANCE:]
    config = DataConfig(window=config.window or 25, split="time", tr=TR)
    return from_trials("fmri", [Trial(x)], {"source": "fmri"}, config)


def spikes(config: DataConfig) -> Data:
    """An auditory nerve of a grasshopper, spikes in bins of 4 ms; the input is the loudness of the sound (an example of nitime)."""
    trials, sounds = [], []
    for i in (1, 2):
        times = np.loadtxt(_file(f"grasshopper_spike_times{i}.txt"), comments="#") * MICRO
        sound = np.loadtxt(_file(f"grasshopper_stimulus{i}.txt"), usecols=1)
        each = round(BIN / STIMULUS)
        bins = len(sound) // each
        counts = np.histogram(times, bins, (0.0, bins * BIN))[0]
        trials.append(counts.astype(np.int32)[:, None])
        sounds.append(sound[: bins * each].reshape(bins, each).mean(1))
    whole = np.concatenate(sounds)
    heard = [((sound - whole.mean()) / whole.std()).astype(np.float32)[:, None] for sound in sounds]
    made = [Trial(x, u) for x, u in zip(trials, heard, strict=True)]
    config = DataConfig(window=config.window or 50, split="time")
    return from_trials("spikes", made, {"source": "spikes"}, config, kind="count")


def _file(name: str) -> Path:
    path = package("nitime") / "data" / name
    if not path.is_file():
        raise BadInput(f"nitime has no {path}; install it again: pip install --force-reinstall nitime")
    return path
