"""Models of series so plain that a score means nothing unless it beats them."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from reverie.core.errors import BadInput


@runtime_checkable
class Baseline(Protocol):
    """Something that runs freely, and foresees from what was seen last."""

    def run(self, steps: int, seed: int = 0) -> Float[np.ndarray, "steps N"]: ...

    def forecast(self, last: Float[np.ndarray, "B N"], steps: int) -> Float[np.ndarray, "B N"]:
        """Its expectation that many `steps` after `last` (NaN: not measured)."""
        ...


@dataclass(frozen=True)
class Gaussian:
    """Independent steps from one Gaussian: of the data's covariance, or with independent channels (white noise)."""

    mean: Float[np.ndarray, " N"]
    root: Float[np.ndarray, "N N"]  # root root' is the covariance

    @classmethod
    def fitted(cls, x: Float[np.ndarray, "T N"], white: bool = False) -> "Gaussian":
        """To what was measured of x."""
        cov = np.diag(np.nanvar(x, 0)) if white else np.atleast_2d(np.cov(_whole(x).T))
        return cls(np.nanmean(x, 0), _root(cov))

    def run(self, steps: int, seed: int = 0) -> Float[np.ndarray, "steps N"]:
        noise = np.random.default_rng(seed).standard_normal((steps, len(self.mean)))
        return self.mean + noise @ self.root.T

    def forecast(self, last: Float[np.ndarray, "B N"], steps: int) -> Float[np.ndarray, "B N"]:
        return np.broadcast_to(self.mean, last.shape)


@dataclass(frozen=True)
class Persistence:
    """Nothing changes. A free run stays at a state of the data."""

    states: Float[np.ndarray, "T N"]

    def run(self, steps: int, seed: int = 0) -> Float[np.ndarray, "steps N"]:
        return np.tile(self.states[np.random.default_rng(seed).integers(len(self.states))], (steps, 1))

    def forecast(self, last: Float[np.ndarray, "B N"], steps: int) -> Float[np.ndarray, "B N"]:
        return np.where(np.isnan(last), self.states.mean(0), last)


@dataclass(frozen=True)
class VAR1:
    """x' = A x + b + Gaussian noise, by least squares: the best linear model with a memory of one step.

    >>> decay = VAR1.fitted(0.5 ** np.arange(8.0)[:, None])
    >>> decay.forecast(np.array([[8.0]]), 3).round(6)
    array([[1.]])
    """

    mean: Float[np.ndarray, " N"]  # of the data, where a free run starts and unmeasured channels are put
    A: Float[np.ndarray, "N N"]
    b: Float[np.ndarray, " N"]
    root: Float[np.ndarray, "N N"]  # of the noise's covariance

    @classmethod
    def fitted(cls, x: Float[np.ndarray, "T N"]) -> "VAR1":
        """To all steps of x that were measured whole, as was the one before."""
        pairs = ~(np.isnan(x[1:]).any(1) | np.isnan(x[:-1]).any(1))
        before, after = x[:-1][pairs], x[1:][pairs]
        if len(before) <= x.shape[1] + 1:
            raise BadInput(f"a VAR(1) of {x.shape[1]} channels needs more than {len(before)} pairs of steps")
        design = np.concatenate([before, np.ones((len(before), 1))], 1)
        weights = np.linalg.lstsq(design, after, rcond=None)[0]
        rest = after - design @ weights
        cov = rest.T @ rest / (len(before) - design.shape[1])
        return cls(np.nanmean(x, 0), weights[:-1].T, weights[-1], _root(cov))

    def run(self, steps: int, seed: int = 0) -> Float[np.ndarray, "steps N"]:
        settle = 1000
        noise = np.random.default_rng(seed).standard_normal((settle + steps, len(self.mean))) @ self.root.T + self.b
        out, x = np.empty_like(noise), self.mean
        with np.errstate(over="ignore", invalid="ignore"):  # it may have learned to explode
            for t, push in enumerate(noise):
                out[t] = x = self.A @ x + push
        return out[settle:]

    def forecast(self, last: Float[np.ndarray, "B N"], steps: int) -> Float[np.ndarray, "B N"]:
        x = np.where(np.isnan(last), self.mean, last)
        for _ in range(steps):
            x = x @ self.A.T + self.b
        return x


def baselines(train: Float[np.ndarray, "T N"]) -> dict[str, Baseline]:
    """All that a training series is enough for: a VAR(1) wants more steps than channels, and no model here learns from steps none of
    which was measured whole."""
    made: dict[str, Callable[[], Baseline]] = {
        "white noise": lambda: Gaussian.fitted(train, white=True),
        "Gaussian": lambda: Gaussian.fitted(train),
        "VAR(1)": lambda: VAR1.fitted(train),
        "persistence": lambda: Persistence(_whole(train)),
    }
    found = {}
    for name, fitted in made.items():
        with suppress(BadInput):
            found[name] = fitted()
    return found


def _whole(x: np.ndarray) -> np.ndarray:
    whole = x[~np.isnan(x).any(1)]
    if len(whole) < 2:
        raise BadInput("fewer than two steps have all their channels measured; leave some channels out")
    return whole


def _root(cov: np.ndarray) -> np.ndarray:
    """A square root of a covariance, which may be singular."""
    values, vectors = np.linalg.eigh(cov)
    return vectors * np.sqrt(np.clip(values, 0, None))
