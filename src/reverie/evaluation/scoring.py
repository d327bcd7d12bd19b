"""evaluate(): every score a model can have, between the floor (noise) and the ceiling (real data against real data)."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numpy as np
import torch

from reverie.core.errors import BadInput
from reverie.core.model import Model, RunsFreely, Surprised
from reverie.evaluation import density, series
from reverie.evaluation.scores import Score, score
from reverie.evaluation.sets import Examples, score_dreams
from reverie.models.noise import Noise, NoiseConfig

AHEAD = 20  # steps of a forecast
EXAMPLES = 1000  # held-out ones that are scored, if there are as many
FLOATS = 2**27  # training examples are compared with as far as this many numbers hold them


def evaluate(
    model: Model,
    data: Any,
    *,
    split: str = "test",
    dreams: int = 1000,
    draws: int = 1000,
    seed: int = 0,
    examples: int = EXAMPLES,
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
        inputs = _inputs(getattr(data, split), len(held.x))
        scores = _densities(model, noise, data, held, draws, seed, inputs) if model.can(Surprised) else []
        if noise is not None and len(data.space.shape) in (1, 3):
            train = _examples(data.train, max(1000, FLOATS // data.space.dims))
            scores += score_dreams(model, noise, train, held, dreams, seed)
        if isinstance(model, RunsFreely) and data.test.trials and model.inputs == model.nuisance:
            torch.manual_seed(seed)
            scores += _orbits(model, data)
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


def _orbits(model: RunsFreely, data: Any) -> list[Score]:
    """Of free runs as long as the longest test trial, with and without process noise, and of forecasts along it, in world units; of channels that are numbers,
    for categories have no distances."""
    longest = max(data.test.trials, key=len)
    train, test = max(data.train.trials, key=len).x, longest.x
    numbers = data.space.numbers
    if len(test) <= AHEAD or not numbers:
        return []

    def world(x: torch.Tensor) -> np.ndarray:
        return np.asarray(data.codec.to_world(x.cpu()).double())[..., numbers]

    runs, stirred = (
        torch.where(model.diverged.view(-1, 1, 1), torch.nan, model.free_run(len(test), process_noise=noise)[:, 0])
        for noise in (False, True)
    )
    x = data.codec.to_model(torch.from_numpy(np.asarray(test))).unsqueeze(0)
    more = () if longest.inputs is None else (torch.from_numpy(np.asarray(longest.inputs)).unsqueeze(0).to(runs),)
    foreseen = model.foresee(x.to(runs), AHEAD, *more)[:, 0]
    known, held = (np.asarray(part, float)[:, numbers] for part in (train, test))
    rows = series.table(known, held, world(runs), {AHEAD: world(foreseen)}, stirred=world(stirred))
    return series.scores(rows)


def _inputs(split: Any, limit: int) -> torch.Tensor | None:
    return None if getattr(split, "inputs", None) is None else torch.from_numpy(np.asarray(split.inputs[:limit]))


def _densities(
    model: Any,
    noise: Noise | None,
    data: Any,
    held: Examples,
    draws: int,
    seed: int,
    inputs: torch.Tensor | None = None,
) -> list[Score]:
    entropy = getattr(data, "entropy", None)
    device = next((tensor.device for tensor in chain(model.parameters(), model.buffers())), torch.device("cpu"))
    torch.manual_seed(seed)
    parts = (held.x, held.observed, held.labels, inputs)
    x, observed, given, acting = (None if t is None else t.to(device) for t in parts)
    assert x is not None
    found = density.surprises(model, x, draws, observed, given, inputs=acting)
    nats = density.nats(found, held.x, data.codec, held.groups, held.observed)
    floor = floor_bits = None
    if noise is not None:
        none = density.surprises(noise, held.x, draws, held.observed)
        seen = held.x, data.codec, None, held.observed
        floor, floor_bits = density.nats(none, *seen).value, density.bits(none, *seen).value
    bits = None if entropy is None else entropy / (data.space.dims * math.log(2))
    scores = [
        score(
            "bits_per_dim",
            density.bits(found, held.x, data.codec, held.groups, held.observed),
            floor_bits,
            bits,
            *held.errors_over,
        ),
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
