"""How far a freely running model is from the recording it learned from: where it goes, at what frequencies, how well it
foresees. Numbers of one pair of series each; what was not measured is NaN."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d

from reverie.core.errors import BadInput

Series = Float[np.ndarray, "*trial T N"]
Other = Float[np.ndarray, "*trials T2 N2"]


FAR = 1e100  # beyond it squares are no numbers any more


def runs_away(generated: Float[np.ndarray, "..."]) -> bool:
    """Does it leave every bound?"""
    return not bool((np.abs(generated) < FAR).all())


class Bins(NamedTuple):
    """How state space is cut for `divergence`; a published rule is never changed, another gets another name."""

    name: str
    each: int  # in every dimension
    margin: float  # beyond the least and the greatest true value, in standard deviations
    pseudo: float  # counts added to every bin


GTF2023 = Bins("gtf2023", 30, 0.1, 1e-5)  # Hess, Monfared, Brenner & Durstewitz 2023, arXiv 2306.04406


def divergence(true: Series, generated: Other, bins: Bins = GTF2023) -> float:
    """D_stsp: KL(true || generated) in nats of the histograms of states (Koppe et al. 2019, arXiv 1902.07186).

    The bins span the true series; generated steps outside of them, and steps with anything unmeasured, are not
    counted. inf where the generated series runs away. Short series score worse than long ones, so lengths must
    agree. Empty bins are summed in closed form: their number grows as 30^N.

    >>> x = np.array([[0.0], [0.0], [0.0], [1.0]])
    >>> two = Bins("two", 2, 0.0, 1e-9)
    >>> np.exp(2 * divergence(x, 1 - x, two)).round(6)  # 3/4 log 3 + 1/4 log 1/3, which is log 3 / 2
    np.float64(3.0)
    """
    p, q = _pair(true, generated)
    if runs_away(q):
        return np.inf
    margin = bins.margin * p.std(0)
    low, high = p.min(0) - margin, p.max(0) + margin
    cells = [_cells(x, low, high, bins.each) for x in (p, q)]
    known, which = np.unique(np.concatenate(cells), axis=0, return_inverse=True)
    which = which.reshape(-1)
    counts = [np.bincount(part, minlength=len(known)) for part in np.split(which, [len(cells[0])])]
    total = float(bins.each) ** p.shape[1]
    # Logarithms of (n + pseudo) / (sum of them), without ever building all bins.
    log_p, log_q = (np.log(n + bins.pseudo) - np.log(n.sum() + total * bins.pseudo) for n in counts)
    both_empty = np.log(counts[1].sum() + total * bins.pseudo) - np.log(counts[0].sum() + total * bins.pseudo)
    share = (total - len(known)) * bins.pseudo / (counts[0].sum() + total * bins.pseudo)
    return float((np.exp(log_p) * (log_p - log_q)).sum() + share * both_empty)


def _cells(x: np.ndarray, low: np.ndarray, high: np.ndarray, count: int) -> np.ndarray:
    """(n, N) the bin of each state that lies in any; the last one holds its upper edge."""
    wide = np.where(high > low, high - low, 1.0)
    inside = ((x >= low) & (x <= high)).all(1)
    return np.minimum(((x[inside] - low) / wide * count).astype(np.int16), count - 1)


def divergence_of_mixtures(
    true: Series, generated: Other, variance: float = 1.0, draws: int = 1000, seed: int = 0
) -> float:
    """D_stsp for many channels: KL(true || generated) in nats of mixtures with a Gaussian at every state, by `draws` from
    the true one (Brenner et al. 2022, arXiv 2207.02542; Hess et al. 2023).

    `variance`: of each Gaussian, in units of the true channels' variances. Steps with anything unmeasured are not counted.

    >>> x = np.random.default_rng(0).normal(size=(50, 4))
    >>> divergence_of_mixtures(x, x)
    0.0
    """
    p, q = _pair(true, generated)
    if runs_away(q):
        return np.inf
    middle, width = p.mean(0), np.where(p.std(0) > 0, p.std(0), 1.0)
    p, q = (p - middle) / width, (q - middle) / width
    random = np.random.default_rng(seed)
    x = p[random.integers(len(p), size=draws)] + np.sqrt(variance) * random.standard_normal((draws, p.shape[1]))
    return float((_log_mixture(x, p, variance) - _log_mixture(x, q, variance)).mean())


def _log_mixture(x: np.ndarray, centres: np.ndarray, variance: float) -> np.ndarray:
    """(n,) log density of each x, without what is the same for all mixtures of this variance."""
    parts = []
    for some in np.array_split(x, -(-len(x) * len(centres) // 10**7)):
        square = (some**2).sum(1)[:, None] - 2 * some @ centres.T + (centres**2).sum(1)
        least = square.min(1, keepdims=True)
        near = np.exp((least - square) / (2 * variance)).mean(1)
        parts.append(np.log(near) - least[:, 0] / (2 * variance))
    return np.concatenate(parts)


SMOOTHING = 20.0  # bins of the power spectrum, the width of the Gaussian it is smoothed with


def hellinger(true: Series, generated: Other, sigma: float = SMOOTHING) -> float:
    """D_H: the Hellinger distance of the power spectra, from 0 to 1, mean over channels (Mikhaeil, Monfared & Durstewitz
    2022, arXiv 2110.07238; Hess et al. 2023).

    Spectra are |rfft|² of each standardised trial, summed over trials, smoothed by a Gaussian of `sigma` bins, and
    normalised. What was not measured is put on the line between its neighbours, in both series alike, so that
    the same series is at distance 0 whatever was missed. 1 where the generated series runs away.

    >>> turns = np.linspace(0, 2 * np.pi, 1000, endpoint=False)[:, None]
    >>> round(hellinger(np.sin(100 * turns), np.sin(200 * turns), sigma=2.0), 3)
    1.0
    """
    if true.shape != generated.shape:
        raise BadInput(f"spectra need series of one length, not {true.shape} and {generated.shape}; cut the longer one")
    if runs_away(generated):
        return 1.0
    holes = np.isnan(true)
    f, g = (spectrum(np.where(holes, np.nan, x), sigma) for x in (true, generated))
    overlap = np.sqrt(f * g).sum(0)
    return float(np.sqrt(np.clip(1 - overlap, 0, None)).mean())


def spectrum(x: Series, sigma: float = SMOOTHING) -> Float[np.ndarray, "F N"]:
    """The share of each channel's power at each of the F = T // 2 + 1 frequencies, as `hellinger` compares it."""
    whole = _joined(np.asarray(x, dtype=np.float64))
    trials = whole.reshape(-1, *whole.shape[-2:])
    middle, width = trials.mean((0, 1)), trials.std((0, 1))
    # A channel that never moves, but for rounding, has no power anywhere: its spectrum is told as flat.
    moves = width > 1e-9 * np.abs(trials).max((0, 1))
    power = (np.abs(np.fft.rfft((trials - middle) / np.where(moves, width, 1.0), axis=1)) ** 2).sum(0)
    smooth = np.where(moves, gaussian_filter1d(power, sigma, axis=0), 1.0)
    return smooth / smooth.sum(0)


def _joined(x: np.ndarray) -> np.ndarray:
    """Without NaN: on the line between the steps beside them."""
    if not np.isnan(x).any():
        return x
    out = x.copy()
    for trial in out.reshape(-1, *x.shape[-2:]):
        for channel in trial.T:
            seen = np.flatnonzero(~np.isnan(channel))
            if not len(seen):
                raise BadInput("a channel was measured at no step of a trial; leave the channel or the trial out")
            channel[:] = np.interp(np.arange(len(channel)), seen, channel[seen])
    return out


def prediction_error(true: Float[np.ndarray, "*batch N"], foreseen: Float[np.ndarray, "*batch N"]) -> float:
    """PE: mean squared error over what was measured. inf where a forecast runs away.

    >>> prediction_error(np.array([[1.0, np.nan], [3.0, 2.0]]), np.zeros((2, 2)))
    4.666666666666667
    """
    if runs_away(foreseen):
        return np.inf
    if np.isnan(true).all():
        raise BadInput("nothing was measured where the forecasts end; give a longer series")
    return float(np.nanmean((true - foreseen) ** 2))


def _pair(true: Series, generated: Other) -> tuple[np.ndarray, np.ndarray]:
    """Both as steps (n, N), the true ones without those at which anything is unmeasured."""
    if true.shape != generated.shape:
        raise BadInput(
            f"state spaces need series of one length, not {true.shape} and {generated.shape}; cut the longer"
        )
    p, q = (np.asarray(x, dtype=np.float64).reshape(-1, x.shape[-1]) for x in (true, generated))
    whole = ~np.isnan(p).any(1)
    if not whole.any():
        raise BadInput("no step has all its channels measured; leave some of them out")
    return p[whole], q[whole]
