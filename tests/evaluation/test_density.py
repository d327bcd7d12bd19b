import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from reverie.core.model import Estimate
from reverie.core.space import Space
from reverie.evaluation.density import bits, bits_per_dim, kl_exact, nats, surprises
from reverie.models.noise import Noise, NoiseConfig

NO_CHANGE = SimpleNamespace(log_abs_det=lambda x: torch.zeros(len(x)))


class Table:
    """A model that knows the surprise of every point (n, 1), up to noise of a known size."""

    def __init__(self, surprise: torch.Tensor, error: float = 0.0):
        self.table, self.error = surprise, error

    def surprise(self, x, observed=None, draws=100):
        value = self.table[x[:, 0].long()]
        return Estimate(value + self.error * torch.randn(len(x)), value * 0 + self.error, "nats", "lower", "a table")


@pytest.mark.parametrize(("kind", "bits"), [("byte", 8), ("bit", 1)])
def test_noise_costs_exactly_log2_of_its_levels(kind, bits):
    noise = Noise(NoiseConfig(), Space((1, 6, 5), kind)).double()
    found = bits_per_dim(noise, noise.sample(300), NO_CHANGE)
    assert found.value == pytest.approx(bits, rel=1e-14)
    assert found.error < 1e-14
    assert found.unit == "bits/dim"


def test_the_codec_carries_a_density_to_world_units():
    # x = raw / 10 is standard normal, so each entry of raw has an entropy log(10) nats larger.
    noise = Noise(NoiseConfig(), Space((3,), "real"))
    x = noise.sample(2000)
    codec = SimpleNamespace(log_abs_det=lambda x: torch.full((len(x),), -3 * math.log(10)))
    found = nats(surprises(noise, x, 1), x, codec)
    assert abs(found.value - 3 * (0.5 * math.log(2 * math.pi * math.e) + math.log(10))) < 3 * found.error


def test_error_of_the_mean_is_over_new_examples_estimator_included():
    torch.manual_seed(0)
    values, errors = [], []
    for _ in range(200):
        model = Table(torch.randn(100), error=1.0)
        found = nats(surprises(model, torch.arange(100.0)[:, None], 1), torch.zeros(100, 1), NO_CHANGE)
        values.append(found.value)
        errors.append(found.error)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.15)


def test_bits_of_examples_with_different_holes_are_a_ratio():
    """Each entry costs exactly two nats: nothing is left to chance, however many of them there are."""
    observed = torch.arange(20) < torch.randint(1, 20, (200, 1))
    n = observed.sum(1).numpy()
    found = bits(Estimate(2.0 * n, 0.0 * n, "nats", "lower"), torch.zeros(200, 20), NO_CHANGE, None, observed)
    assert found.value == pytest.approx(2 / math.log(2))
    assert found.error < 1e-12
    values, errors = [], []
    for _ in range(300):
        observed = torch.arange(20) < torch.randint(1, 20, (200, 1))
        n = observed.sum(1).numpy()
        nats_of = np.random.default_rng(len(values)).normal(2 * n, np.sqrt(n))
        found = bits(Estimate(nats_of, 0.0 * n, "nats", "lower"), torch.zeros(200, 20), NO_CHANGE, None, observed)
        values.append(found.value)
        errors.append(found.error)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.15)


def test_a_single_draw_leaves_the_error_to_the_examples():
    found = nats(Estimate(np.arange(5.0), np.full(5, np.nan), "nats", "lower"), torch.zeros(5, 1), NO_CHANGE)
    assert found.error == pytest.approx(np.std(np.arange(5), ddof=1) / 5**0.5)


def test_one_example_has_the_error_of_its_estimator():
    found = nats(surprises(Table(torch.zeros(1), error=0.5), torch.zeros(1, 1), 1), torch.zeros(1, 1), NO_CHANGE)
    assert found.error == 0.5


def test_surprises_do_not_depend_on_the_parts():
    noise = Noise(NoiseConfig(), Space((4,), "real"))
    x = noise.sample(70)
    assert np.array_equal(surprises(noise, x, 1, at_once=7).value, surprises(noise, x, 1, at_once=70).value)


def test_kl_exact_is_zero_for_the_truth_and_known_for_the_uniform():
    p = torch.tensor([0.5, 0.25, 0.125, 0.125, 0.0], dtype=torch.float64)
    support = torch.arange(5.0)[:, None]
    assert kl_exact(Table(-p.log()), support, p).value == pytest.approx(0, abs=1e-15)
    entropy = 1.75 * math.log(2)
    uniform = kl_exact(Table(torch.full((5,), math.log(5))), support, p)
    assert uniform.value == pytest.approx(math.log(5) - entropy, rel=1e-6)
    assert uniform.error == 0
    noisy = kl_exact(Table(torch.full((5,), math.log(5)), error=0.1), support, p)
    assert noisy.error == pytest.approx(0.1 * p.norm().item(), rel=1e-6)
