"""How good a model of series is: medians over independently trained members, between plain models and real data."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from reverie.core.errors import BadInput
from reverie.core.model import Estimate
from reverie.evaluation.attractors import (
    GTF2023,
    SMOOTHING,
    divergence,
    divergence_of_mixtures,
    hellinger,
    prediction_error,
    runs_away,
)
from reverie.evaluation.baselines import baselines
from reverie.evaluation.scores import Score, score

MOST_BINNED = 5  # channels; with more, nearly every bin would be empty
REAL = "real data"
MODEL = "model"
STIRRED = "model, process noise"
Table = dict[str, dict[str, Estimate]]  # by row and by metric


def over_members(
    values: Float[np.ndarray, " S"],
    diverged: Bool[np.ndarray, " S"],
    unit: str,
    better: Literal["lower", "higher", "near"],
    method: str,
) -> Estimate:
    """The median over members, with the median absolute deviation from it for an error. A member that diverged counts as
    the worst there can be, so where half of them did the median is not finite.

    >>> found = over_members(np.array([1.0, 2.0, 9.0]), np.array([False, False, True]), "nats", "lower", "gtf2023")
    >>> found.value, found.error, found.method
    (2.0, 1.0, 'gtf2023, median ± MAD of 3 members, 1 diverged')
    """
    worst = -np.inf if better == "higher" else np.inf
    counted = np.where(diverged, worst, values)
    middle = float(np.median(counted)) if len(counted) else np.nan
    spread = float(np.median(np.abs(counted - middle))) if np.isfinite(middle) and len(counted) > 1 else np.nan
    members = "1 member" if len(counted) == 1 else f"median ± MAD of {len(counted)} members"
    return Estimate(middle, spread, unit, better, f"{method}, {members}, {int(diverged.sum())} diverged")


def judge(
    test: Float[np.ndarray, "T N"], runs: Float[np.ndarray, "S T N"], smoothing: float = SMOOTHING
) -> dict[str, Estimate]:
    """d_stsp and d_hellinger of free runs, one of each member, as long as the test series they are compared with; without d_stsp where no
    step of that was measured whole, and without d_hellinger where a channel of it never was."""
    diverged = np.array([runs_away(run) for run in runs])
    binned = test.shape[1] <= MOST_BINNED
    how = f"{GTF2023.name}, {GTF2023.each} bins" if binned else "mixtures, variance 1, 1000 draws"
    steps = f"{len(test)} steps"
    found: dict[str, Estimate] = {}
    with suppress(BadInput):
        apart = np.array([divergence(test, run) if binned else divergence_of_mixtures(test, run) for run in runs])
        found["d_stsp"] = over_members(apart, diverged, "nats", "lower", f"{how}, {steps}")
    with suppress(BadInput):
        spectra = np.array([hellinger(test, run, smoothing) for run in runs])
        found["d_hellinger"] = over_members(
            spectra, diverged, "distance", "lower", f"smoothed by {smoothing:g} bins, {steps}"
        )
    return found


def lyapunov_max(largest: Float[np.ndarray, " S"], unit: str = "step") -> Estimate:
    """The largest exponent of each member, as `maths.chaos.lyapunov_spectrum` finds it; nats per `unit` of time."""
    method = "QR along a free run"
    return over_members(largest, ~np.isfinite(largest), f"nats per {unit}", "near", method)


def table(
    train: Float[np.ndarray, "T1 N"],
    test: Float[np.ndarray, "T2 N"],
    runs: Float[np.ndarray, "S T3 N"],
    foreseen: Mapping[int, Float[np.ndarray, "S _ N"]] | None = None,
    smoothing: float = SMOOTHING,
    seed: int = 0,
    stirred: Float[np.ndarray, "S T4 N"] | None = None,
) -> Table:
    """The model beside what gives its scores a meaning: real data, white noise, a Gaussian of the data's
    covariance, VAR(1) and persistence, all over the same number of steps.

    `runs`: free runs of the members; `stirred`: those with process noise, as the runs of VAR(1) have it. `foreseen[n]`: for each member and for each step of the test series
    but the last n, what it expects n steps later.
    """
    steps = min(len(train), len(test), runs.shape[1], *(() if stirred is None else (stirred.shape[1],)))
    if steps < 2:
        raise BadInput(f"series of {steps} steps cannot be compared; give longer ones")
    known, held = train[:steps], test[:steps]
    plain = baselines(train)
    last = _carried(test)
    out: Table = {MODEL: judge(held, runs[:, :steps], smoothing)}
    if stirred is not None:
        out[STIRRED] = judge(held, stirred[:, :steps], smoothing)
    # Real data stand where the model does: what was learned from, against the test series.
    whole = np.isnan(known).any(1)
    if not whole.any():
        out[REAL] = judge(held, known[None], smoothing)
    for name, model in plain.items():
        out[name] = judge(held, model.run(steps, seed)[None], smoothing)
    for n, expected in sorted((foreseen or {}).items()):
        if not 0 < n < len(test) or expected.shape[1:] != (len(test) - n, test.shape[1]):
            raise BadInput(f"forecasts {n} steps ahead are for all but the last {n} of {len(test)} steps")
        for name, values in ((MODEL, expected), *((k, m.forecast(last[:-n], n)[None]) for k, m in plain.items())):
            out[name][f"pe_{n}"] = _foresight(test[n:], values)
    return out


def _carried(x: np.ndarray) -> np.ndarray:
    """Where nothing was measured, what was last; NaN before anything was."""
    seen = np.where(np.isnan(x), 0, np.arange(1, len(x) + 1)[:, None])
    last = np.maximum.accumulate(seen, 0) - 1
    return np.where(last < 0, np.nan, np.take_along_axis(x, np.maximum(last, 0), 0))


def _foresight(true: np.ndarray, expected: np.ndarray) -> Estimate:
    errors = np.array([prediction_error(true, one) for one in expected])
    return over_members(errors, ~np.isfinite(errors), "squared units", "lower", f"{len(true)} forecasts")


def scores(rows: Table) -> list[Score]:
    """The model's rows as Scores, what has process noise as `_stirred`: the floor is the best of the plain models, the
    ceiling real data."""
    out = []
    ours = [(metric, metric, found) for metric, found in rows[MODEL].items()]
    ours += [(f"{metric}_stirred", metric, found) for metric, found in rows.get(STIRRED, {}).items()]
    for name, metric, found in ours:
        plain = {k: row[metric].value for k, row in rows.items() if k not in (MODEL, STIRRED, REAL) and metric in row}
        if not plain:
            out.append(score(name, found, None, None))
            continue
        best = min(plain, key=lambda name: plain[name])
        real = rows.get(REAL, {}).get(metric)
        out.append(score(name, found, plain[best], real.value if real else None, f"floor: {best}"))
    return out
