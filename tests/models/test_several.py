"""Several modalities at once tell more of what moves than one of them alone."""

import numpy as np
import torch

from reverie.core.recipe import TrainingConfig
from reverie.core.space import Column
from reverie.data.codecs import Table
from reverie.data.config import DataConfig
from reverie.data.series import from_trials
from reverie.data.windows import Trial
from reverie.evaluation import evaluate
from reverie.models.recurrent import Recurrent, RecurrentConfig
from reverie.training import State, fabric_for, training

COLUMNS = (
    Column("volts", "real"), Column("spikes", "count"), Column("label", "category", 3), Column("mood", "ordered", 3),
)  # fmt: skip
LEVELS = ((), (), ("a", "b", "c"), ("low", "middle", "high"))


def circle(steps, seed):
    """The truth (T, 2), and what is seen of it: a noisy real number, counts, the third of the circle it is in, and how high it is."""
    rng = np.random.default_rng(seed)
    phase = 0.2 * np.arange(steps) + np.cumsum(0.05 * rng.normal(size=steps))
    truth = np.stack([np.cos(phase), np.sin(phase)], 1)
    label = (phase + 0.2 * rng.normal(size=steps)) % (2 * np.pi) // (2 * np.pi / 3)
    mood = np.searchsorted([-0.5, 0.5], truth[:, 1] + 0.2 * rng.logistic(size=steps))
    seen = np.stack([truth[:, 0] + rng.normal(size=steps), rng.poisson(np.exp(0.5 + truth[:, 1])), label, mood], 1)
    return truth, seen.astype(np.float32)


def recovered(channels):
    """The share of the truth's variance that the states of a machine tell of it, on a stretch that it never saw; and its scores."""
    _, seen = circle(1500, 1)
    truth, held = circle(1000, 2)
    pick = list(range(4))[channels]
    codec = Table(*(tuple(part[i] for i in pick) for part in (COLUMNS, LEVELS)), (0.0,) * len(pick), (1.0,) * len(pick))
    data = from_trials("circle", [Trial(seen[:, pick])], {}, DataConfig(window=30), [Trial(held[:, pick])], seen=codec)
    torch.manual_seed(0)
    model = Recurrent(RecurrentConfig(latent=3, hidden=10), data.space)
    state = State(model, TrainingConfig(steps=200, batch=16, rate=5e-3, average=0.0))
    for _ in training(state, data, 0, fabric_for("cpu")):
        pass
    model = state.average
    x = data.codec.to_model(torch.from_numpy(held[:, pick])).view(1, -1, len(pick))
    x, _, _ = model.by_time(x)
    with torch.no_grad():
        pull = model.gain.view(1, -1, 1, 1).expand(len(x), -1, -1, -1)
        states = model.seen.forcing(x, pull)
        z = model.forced(x, None, None, pull)
        z = (
            torch.stack([states.pulled(now, t) for t, now in enumerate(z)])[:, 0, 0].double().numpy()
        )  # knows of x_t too
    design = np.concatenate([z, np.ones((len(z), 1))], 1)[20:]
    left = truth[20:] - design @ np.linalg.lstsq(design, truth[20:], rcond=None)[0]
    return 1 - left.var(0) / truth[20:].var(0), model, data


def test_a_circle_is_seen_better_by_all_senses_than_by_one():
    one, *_ = recovered(slice(0, 1))
    every, model, data = recovered(slice(None))
    assert every.min() > one.min() + 0.1
    assert every.min() > 0.85
    scores = {score.name: score for score in evaluate(model, data, examples=20, draws=1)}
    assert {"nats", "d_stsp", "d_hellinger", "pe_20"} <= set(scores)
    run = model.free_run(40)[0, 0]
    assert set(run[:, 2].tolist()) <= {0.0, 1.0, 2.0}
