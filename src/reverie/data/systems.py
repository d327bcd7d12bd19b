"""Recordings of systems that move by known equations (data/dynamics.py), as built-in data."""

import numpy as np

from reverie.core.errors import BadInput
from reverie.data.config import DataConfig
from reverie.data.data import Data
from reverie.data.dynamics import SYSTEMS, simulate
from reverie.data.series import from_trials
from reverie.data.windows import Trial

STEPS = 20_000
WINDOW = 200  # long enough for what goes wrong in a step to show
NOISE = 0.05  # of a channel's own deviation, on what is learned from


def lorenz(config: DataConfig) -> Data:
    """Lorenz's convection, 3 channels, a step every 0.01: two wings, chaotic (Lorenz 1963); 5% noise, a clean test set."""
    return _recorded("lorenz", config)


def rossler(config: DataConfig) -> Data:
    """Rössler's band, 3 channels, a step every 0.1: one folded band, hardly chaotic (Rössler 1976); 5% noise, a clean test set."""
    return _recorded("rossler", config)


def lorenz96(config: DataConfig) -> Data:
    """Lorenz's ring of weather, 10 channels, a step every 0.04, chaotic (Lorenz 1996); 5% noise, a clean test set."""
    return _recorded("lorenz96", config)


def bursting_neuron(config: DataConfig) -> Data:
    """A neuron that bursts, voltage and two gates, a step every 0.5 ms (Durstewitz 2009); 5% noise, a clean test set."""
    return _recorded("bursting-neuron", config)


def _recorded(name: str, config: DataConfig) -> Data:
    """`count` steps to train and validate on, and as many from another start to test on."""
    steps = config.count or STEPS
    if steps < 20:
        raise BadInput(f"--data.count is {steps}; a recording of {name} needs at least 20 steps")
    config = DataConfig(window=config.window or min(WINDOW, steps // 10), split="time", count=steps, seed=config.seed)
    train, test = simulate(SYSTEMS[name](), steps, starts=2, seed=config.seed)
    grain = np.random.default_rng([config.seed, 2]).standard_normal(train.shape)
    trials = [Trial(x.astype(np.float32)) for x in (train + NOISE * train.std(0) * grain, test)]
    spec = {"source": name, "count": steps} | ({"seed": config.seed} if config.seed else {})
    return from_trials(name, trials[:1], spec, config, trials[1:])
