"""Standard errors that know that ten pictures of one person are not ten people."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reverie.core.errors import BadInput

MOST_BLOCKS = 40


def blocks(n: int, groups: ArrayLike | None = None) -> NDArray[np.intp]:
    """(n,) the number of the block each example leaves together with: its group, or one of 20 where there are none.

    Raises BadInput below 3 examples or groups, for then nothing can be said about an error.

    >>> blocks(5, ["ann", "bob", "ann", "cy", "bob"])
    array([0, 1, 0, 2, 1])
    """
    if groups is None:
        if n < 3:
            raise BadInput(f"an error needs at least 3 examples, not {n}")
        return np.arange(n) % 20
    codes = np.unique(np.asarray(groups), return_inverse=True)[1].reshape(-1)
    if len(codes) != n:
        raise BadInput(f"{len(codes)} groups were named for {n} examples; name one for each")
    if codes.max(initial=0) < 2:
        raise BadInput(f"an error over groups needs at least 3 of them, not {codes.max(initial=-1) + 1}")
    return codes % MOST_BLOCKS


def jackknife(
    statistic: Callable[..., ArrayLike], *samples: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A statistic of one or several samples, (S,) or (), and its standard error.

    `statistic` takes a bool array for each sample: which examples to use. Each of the `samples` names the
    block (n,) of its examples. Blocks are left out in turn, sample by sample, and the variances
    add up (Efron & Stein 1981, who also show that this is too large rather than too small on average).

    >>> x = np.array([1.0, 2.0, 3.0, 4.0])
    >>> mean, error = jackknife(lambda used: x[used].mean(), np.arange(4))
    >>> round(float(error), 4), round(float(x.std(ddof=1)) / 2, 4)
    (0.6455, 0.6455)
    """
    everything = [np.ones(len(s), dtype=bool) for s in samples]
    variance: NDArray[np.float64] = np.zeros(())
    for which, sample in enumerate(samples):
        without = []
        for block in np.unique(sample):
            used = [sample != block if i == which else e for i, e in enumerate(everything)]
            without.append(np.asarray(statistic(*used), dtype=np.float64))
        values = np.stack(without)
        variance = variance + (len(values) - 1) * values.var(0)
    return np.asarray(statistic(*everything), dtype=np.float64), np.asarray(np.sqrt(variance))


def bootstrap_of_median(x: NDArray[np.float64], groups: NDArray[np.intp], seed: int = 0, rounds: int = 400) -> float:
    """Standard error of the median of x (n,), whole groups (n,) drawn with replacement; NaN of one group, which has no spread.

    The jackknife fails for medians (Efron 1982).

    >>> bootstrap_of_median(np.zeros(9), np.arange(9))
    0.0
    """
    random = np.random.default_rng(seed)
    members = [x[groups == g] for g in np.unique(groups)]
    if len(members) < 2:
        return np.nan
    draws = random.integers(len(members), size=(rounds, len(members)))
    medians = [np.median(np.concatenate([members[i] for i in draw])) for draw in draws]
    # Drawing from G groups as if they were the world makes the variance (G - 1) / G of what it is.
    return float(np.std(medians) * np.sqrt(len(members) / (len(members) - 1)))


def error_of_mean(x: NDArray[np.float64], groups: ArrayLike | None = None) -> float:
    """Standard error of the mean of x (n,), with whole groups as the independent units (Liang & Zeger 1986); NaN of one.

    >>> round(error_of_mean(np.array([1.0, 2.0, 3.0, 4.0])), 4)
    0.6455
    """
    codes = np.arange(len(x)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1].reshape(-1)
    sums = np.bincount(codes, weights=x - x.mean())
    if len(sums) < 2:
        return np.nan
    return float(np.sqrt(len(sums) / (len(sums) - 1) * np.square(sums).sum()) / len(x))
