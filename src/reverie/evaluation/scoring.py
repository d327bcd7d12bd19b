"""evaluate(): every score a model can have, between the floor (noise) and the ceiling (real data against real data)."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch

from reverie.core.errors import BadInput
from reverie.core.model import Model, Surprised
from reverie.evaluation import density
from reverie.evaluation.scores import Score, score
from reverie.evaluation.sets import Examples, score_dreams
from reverie.models.noise import Noise, NoiseConfig

FLOATS = 2**27  # training examples are compared with as far as this many numbers hold them


def evaluate(
    model: Model,
    data: Any,
    *,
    split: str = "test",
    dreams: int = 1000,
    draws: int = 1000,
    seed: int = 0,
    examples: int = 1000,
) -> list[Score]:
    """The scores of `model` on `data` (a Data), from `dreams` dreams, and `draws` importance samples for each of at
    most `examples` held-out ones. The same seed gives the same scores; global random state stays as it was.

    Scores that the model or the data cannot have are absent. The floor is what `Noise` gets by the same code;
    the ceiling is what training examples get when they play the dreams, or the known entropy.
    """
    if split not in ("train", "valid", "test"):
        raise BadInput(f"no split {split!r}; one of train, valid, test")
    held = _examples(getattr(data, split), examples)
    # In double precision a byte of noise costs exactly 8 bits.
    noise = Noise(NoiseConfig(), data.space).double() if data.space.kind in Noise.kinds else None
    with _undisturbed(model):
        scores = _densities(model, noise, data, held, draws, seed) if isinstance(model, Surprised) else []
        if noise is not None and len(data.space.shape) in (1, 3):
            train = _examples(data.train, max(1000, FLOATS // data.space.dims))
            scores += score_dreams(model, noise, train, held, dreams, seed)
    return scores


@contextmanager
def _undisturbed(model: Model) -> Iterator[None]:
    training = model.training
    with torch.random.fork_rng(), torch.no_grad():
        model.train(False)
        try:
            yield
        finally:
            model.train(training)


def _examples(split: Any, limit: int) -> Examples:
    return Examples.of(split.x(limit), getattr(split, "groups", None), split.observed(limit), split.labels)


def _densities(model: Any, noise: Noise | None, data: Any, held: Examples, draws: int, seed: int) -> list[Score]:
    dims, entropy = data.space.dims, getattr(data, "entropy", None)
    device = next((tensor.device for tensor in chain(model.parameters(), model.buffers())), torch.device("cpu"))
    torch.manual_seed(seed)
    x, observed, given = (None if t is None else t.to(device) for t in (held.x, held.observed, held.labels))
    assert x is not None
    found = density.surprises(model, x, draws, observed, given)
    nats = density.nats(found, held.x, data.codec, held.groups, held.observed)
    if held.observed is not None:  # what was measured of an example, on average
        dims = float(held.observed.flatten(1).sum(1).double().mean())
    floor = floor_bits = None
    if noise is not None:
        none = density.surprises(noise, held.x, draws, held.observed)
        none = density.nats(none, held.x, data.codec, observed=held.observed)
        floor, floor_bits = none.value, density.per_dim(none, dims).value
    bits = None if entropy is None else entropy / (dims * math.log(2))
    scores = [
        score("bits_per_dim", density.per_dim(nats, dims), floor_bits, bits, *held.errors_over),
        score("nats", nats, floor, entropy, *held.errors_over),
    ]
    support = getattr(data, "support", None)
    if support is not None:
        support = data.codec.to_model(support)
        torch.manual_seed(seed)
        found = density.kl_exact(model, support.to(device), data.probability, draws)
        floor = None if noise is None else density.kl_exact(noise, support, data.probability).value
        scores.append(score("kl_exact", found, floor, 0.0))
    return scores
