import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from reverie.core.errors import BadInput
from reverie.core.recipe import TrainingConfig
from reverie.core.space import Space
from reverie.evaluation import Score, evaluate, from_json, to_json
from reverie.models.linear import Linear
from reverie.models.noise import Independent, Noise

NO_CHANGE = SimpleNamespace(log_abs_det=lambda x: torch.zeros(len(x)), to_model=lambda x: x.float())


class Part:
    """Examples that are what they are in the world."""

    labels = None
    holes = False

    def __init__(self, x, groups=None):
        self.rows, self.groups = x, groups

    def __len__(self):
        return len(self.rows)

    def x(self, limit=None):
        return self.rows[:limit]

    def observed(self, limit=None):
        return None

    def parts(self, size):
        return self.rows.split(size)


def smooth_pictures(n, seed):
    """(n, 1, 8, 6) bytes with correlated neighbours."""
    rough = torch.randn(n, 1, 12, 10, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.avg_pool2d(rough, 5, 1) * 1.5
    return torch.round((smooth.clamp(-1, 1) + 1) * 127.5) / 127.5 - 1


@pytest.fixture(scope="module")
def data():
    groups = np.repeat(np.arange(6), 10)
    parts = {"train": Part(smooth_pictures(240, 0)), "valid": Part(smooth_pictures(40, 1))}
    test = Part(smooth_pictures(60, 2), groups)
    space = Space((1, 8, 6), "byte")
    return SimpleNamespace(name="smooth", space=space, codec=NO_CHANGE, entropy=None, support=None, test=test, **parts)


@pytest.fixture(scope="module")
def linear(data):
    model = Linear(Linear.Config(), data.space)
    model.solve(data, TrainingConfig())
    return model


@pytest.fixture(scope="module")
def scores(linear, data):
    return {s.name: s for s in evaluate(linear, data, dreams=200)}


def test_a_model_of_pictures_has_every_score_between_its_ends(scores):
    kernels = {f"kernel_{a}{b}{c}" for a in ("distance", "excess") for b in ("", "_conv") for c in ("", "_clean")}
    shares = {"precision", "recall", "density", "coverage"}
    frechets = {"frechet_distance", "frechet_distance_conv"}
    sharp = {"sharpness", "sharpness_clean"}
    assert set(scores) == {"bits_per_dim", "nats", "memorisation"} | kernels | shares | frechets | sharp
    for score in scores.values():
        assert math.isfinite(score.value)
        assert score.error >= 0
        if score.better == "lower":
            assert score.value < score.floor
        if score.better == "higher" and score.name != "recall":  # the wide balls of noise hold everything
            assert score.value > score.floor
    assert scores["bits_per_dim"].floor == pytest.approx(8, rel=1e-14)
    assert scores["bits_per_dim"].ceiling is None
    assert scores["memorisation"].ceiling == 1
    assert scores["kernel_excess"].ceiling == 0
    assert abs(scores["kernel_excess"].value) < 3 * scores["kernel_excess"].error  # the world is Gaussian


def test_a_method_names_extractor_hash_and_counts(scores):
    method = scores["frechet_distance_conv"].method
    assert "random-conv-v1 " in method
    assert "200 dreams" in method
    assert "60 held-out" in method
    assert "6 groups" in method
    assert "pixel-pca-48" in scores["precision"].method
    assert "means of p(x|z)" in scores["kernel_excess_clean"].method
    assert "means of p(x|z)" in scores["sharpness_clean"].method
    assert "FID" not in str(scores)


def test_the_same_seed_gives_the_same_scores_and_nothing_else_moves(linear, data):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    linear.train()
    first = evaluate(linear, data, dreams=40)
    assert torch.equal(before, torch.random.get_rng_state())
    assert linear.training
    torch.manual_seed(6)
    assert evaluate(linear, data, dreams=40) == first
    other = evaluate(linear, data, dreams=40, seed=1)
    assert [s.value for s in other] != [s.value for s in first]
    assert other[0] == first[0]  # an exact surprise knows no seed


def test_noise_stands_on_its_own_floor_and_copies_are_found(data):
    noise = {s.name: s for s in evaluate(Noise(Noise.Config(), data.space), data, dreams=60)}
    assert noise["bits_per_dim"].value == pytest.approx(8, rel=1e-6)
    assert noise["kernel_distance"].value == pytest.approx(noise["kernel_distance"].floor, rel=0.2)
    assert not any(name.endswith("_clean") for name in noise)

    class Parrot(Noise):
        surprise = None

        def sample(self, n, given=None):
            return data.train.x()[torch.randint(240, (n,))]

    parrot = {s.name: s for s in evaluate(Parrot(Noise.Config(), data.space), data, dreams=60)}
    assert parrot["memorisation"].value == 0


def test_points_of_a_known_world(data):
    space = Space((2,), "real")
    parts = {name: Part(torch.randn(n, 2)) for name, n in (("train", 300), ("valid", 50), ("test", 100))}
    entropy = math.log(2 * math.pi * math.e)
    world = SimpleNamespace(name="normal", space=space, codec=NO_CHANGE, entropy=entropy, support=None, **parts)
    scores = {s.name: s for s in evaluate(Noise(Noise.Config(), space), world, dreams=100)}
    assert abs(scores["nats"].value - scores["nats"].ceiling) < 4 * scores["nats"].error
    assert abs(scores["kernel_distance"].value) < 4 * scores["kernel_distance"].error
    assert "identity" in scores["kernel_distance"].method
    assert not any("conv" in name for name in scores)


def test_an_enumerable_world_of_bits_has_an_exact_divergence():
    space = Space((1, 3, 3), "bit")
    support = torch.zeros(6, 1, 3, 3)
    for i in range(3):
        support[i, 0, i] = 1
        support[3 + i, 0, :, i] = 1
    p = torch.full((6,), 1 / 6)
    draws = support.repeat(20, 1, 1, 1)
    parts = {name: Part(draws) for name in ("train", "valid", "test")}
    world = SimpleNamespace(
        name="lines", space=space, codec=NO_CHANGE, entropy=math.log(6), support=support, probability=p, **parts
    )
    model = Independent(Independent.Config(), space)
    model.solve(world, TrainingConfig())
    scores = {s.name: s for s in evaluate(model, world, dreams=50)}
    assert "memorisation" not in scores  # every held-out example is a training example
    kl = scores["kl_exact"]
    assert (kl.value, kl.error, kl.ceiling) == (pytest.approx(scores["nats"].value - math.log(6), rel=1e-5), 0, 0)
    assert kl.floor == pytest.approx(9 * math.log(2) - math.log(6), rel=1e-6)


def test_a_handful_of_pictures_still_has_a_likelihood(data):
    few = SimpleNamespace(**{**vars(data), "test": Part(smooth_pictures(2, 3))})
    scores = evaluate(Noise(Noise.Config(), data.space), few, dreams=50)
    assert [s.name for s in scores] == ["bits_per_dim", "nats"]


def test_scores_survive_json_and_foreign_ones_are_refused(scores, linear, data):
    rows = list(scores.values())
    assert from_json(json.loads(json.dumps(to_json(rows), allow_nan=False))) == rows
    infinite = Score("nats", math.inf, 0.0, "nats", "lower", None, None, "exact")
    assert to_json([infinite])["scores"][0]["value"] is None
    texts = Score("nats", 5.0, 0.1, "nats", "lower", 9.0, None, "exact")._asdict() | {"value": "low"}
    for foreign in (None, [], {}, {"scores": 3}, {"scores": [{"name": "nats"}]}, {"scores": [texts]}):
        with pytest.raises(BadInput, match="no scores"):
            from_json(foreign)
    with pytest.raises(BadInput, match="no split"):
        evaluate(linear, data, split="tset")
