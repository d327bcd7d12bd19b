"""How likely a model finds what it has not seen: -log p(x), in the units of the data."""

import math
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from reverie.core.model import Estimate, Model, Surprised
from reverie.evaluation.resampling import error_of_mean


@torch.no_grad()
def surprises(
    model: Surprised,
    x: Tensor,
    draws: int,
    observed: Tensor | None = None,
    given: Tensor | None = None,
    at_once: int = 256,
    inputs: Tensor | None = None,
) -> Estimate:
    """`model.surprise` of x (n, *shape), part by part: float64 arrays (n,) of nats and of the estimator's errors.

    `given`: labels (n,), which only a model with `classes` gets to see; `inputs` (n, T, K) only one that has such.
    """
    parts = []
    for i in range(0, len(x), at_once):
        rows = slice(i, i + at_once)
        seen = None if observed is None else observed[rows]
        more = {}
        if given is not None and isinstance(model, Model) and model.classes:
            more["given"] = given[rows]
        if inputs is not None and isinstance(model, Model) and model.inputs:
            more["inputs"] = inputs[rows]
        parts.append(model.surprise(x[rows], seen, draws=draws, **more))
    value, error = (
        np.concatenate([np.asarray(torch.as_tensor(column).detach().cpu().double()).reshape(-1) for column in columns])
        for columns in ([p.value for p in parts], [p.error for p in parts])
    )
    return Estimate(value, error, "nats", "lower", parts[0].method)


def nats(
    found: Estimate, x: Tensor, codec: Any, groups: ArrayLike | None = None, observed: Tensor | None = None
) -> Estimate:
    """Mean -log p over examples, nats of the raw data, from their `surprises` as the model sees them (x (n, *shape)).

    For kinds on a lattice p is a probability, otherwise a density in world units: the codec's log|det|
    carries it over. The error is over new examples (or new groups of them). The estimator's own
    error is in it already: each value varies by both; alone it counts only where there is one example.
    """
    value = _in_world(found, x, codec, observed)
    return Estimate(float(value.mean()), _error(value, found, groups), *_how(found))


def bits(
    found: Estimate, x: Tensor, codec: Any, groups: ArrayLike | None = None, observed: Tensor | None = None
) -> Estimate:
    """-log2 p of an entry, from the `surprises` of examples x (n, *shape): that of all examples, over all entries that were observed.

    Where they have different numbers of them this is a ratio of two means, and its error is that of such a ratio (delta method).
    """
    value = _in_world(found, x, codec, observed)
    entries = np.full(len(value), float(math.prod(x.shape[1:])))
    if observed is not None:
        entries = observed.flatten(1).sum(1).double().cpu().numpy()
    dims = float(entries.mean())
    each = float(value.mean()) / dims
    mean = Estimate(each * dims, _error(value - each * entries, found, groups), *_how(found))
    return per_dim(mean, dims)


def _in_world(found: Estimate, x: Tensor, codec: Any, observed: Tensor | None) -> NDArray[np.float64]:
    """(n,) nats of the raw data."""
    log_det = codec.log_abs_det(x if observed is None else torch.where(observed, x, torch.nan))
    return found.value - np.asarray(torch.as_tensor(log_det).detach().cpu().double())


def _error(value: NDArray[np.float64], found: Estimate, groups: ArrayLike | None) -> float:
    """Of the mean value. That of a single draw is not known (NaN), and then what examples differ by has to do."""
    own = float(np.sqrt(np.square(found.error).sum()) / len(value))
    independent = len(value) if groups is None else len(np.unique(np.asarray(groups)))
    return float(np.fmax(own, error_of_mean(value, groups))) if independent > 1 else own


def _how(found: Estimate) -> tuple[str, Literal["lower"], str]:
    return "nats", "lower", f"{found.method}, {len(found.value)} examples"


def bits_per_dim(
    model: Surprised, x: Tensor, codec: Any, draws: int = 1000, groups: ArrayLike | None = None
) -> Estimate:
    """Mean -log2 p over held-out examples x (n, *shape), over the entries of one.

    An importance-weighted estimate is on average never below the truth, so it flatters no model.
    """
    return bits(surprises(model, x, draws), x, codec, groups)


def per_dim(found: Estimate, dims: float) -> Estimate:
    """Nats of an example into bits per entry.

    >>> per_dim(Estimate(4 * math.log(2), 0.0, "nats", "lower"), 4).value
    1.0
    """
    unit = dims * math.log(2)
    return found._replace(value=found.value / unit, error=found.error / unit, unit="bits/dim")


def kl_exact(
    model: Surprised, support: Tensor, probability: Tensor | NDArray[np.floating], draws: int = 1000
) -> Estimate:
    """KL(p || q) in nats of the model q from a world p known in full: `support` (n, *shape), `probability` (n,).

    The error is the estimator's alone: no example is left to chance.
    """
    p = np.asarray(torch.as_tensor(probability).double())
    found = surprises(model, support, draws)
    seen = p > 0
    terms = p[seen] * (np.log(p[seen]) + found.value[seen])
    error = float(np.linalg.norm(p[seen] * found.error[seen]))
    return Estimate(float(terms.sum()), error, "nats", "lower", f"{found.method}, {len(p)} examples, all there are")
