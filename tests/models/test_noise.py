import math

import pytest
import torch

from reverie.core.corruption import GaussianNoise, PoissonNoise, SaltAndPepper
from reverie.core.recipe import TrainingConfig
from reverie.core.space import Space
from reverie.data import open_data
from reverie.data.arrays import from_array
from reverie.data.config import DataConfig
from reverie.models.noise import Independent, IndependentConfig, Noise, NoiseConfig


def test_noise_is_exactly_eight_bits_a_byte_and_one_a_bit():
    for kind, bits in (("byte", 8.0), ("bit", 1.0)):
        noise = Noise(NoiseConfig(), Space((1, 6, 7), kind))
        found = noise.surprise(noise.sample(10)).value / (42 * math.log(2))
        torch.testing.assert_close(found, torch.full((10,), bits))


def test_noise_is_uniform():
    noise = Noise(NoiseConfig(), Space((1, 20, 20), "byte"))
    level = torch.round((noise.sample(500).flatten() + 1) * 127.5).long()
    counts = torch.bincount(level, minlength=256).double()
    chi = ((counts - counts.mean()).square() / counts.mean()).sum()
    assert 255 - 5 * math.sqrt(510) < chi < 255 + 5 * math.sqrt(510)


def test_independent_bits_have_the_frequencies_of_the_data():
    data = open_data("bars")
    model = Independent(IndependentConfig(), data.space)
    model.solve(data, TrainingConfig())
    expected = (data.train.x().sum(0) + 0.25) / (len(data.train) + 0.5)
    torch.testing.assert_close(model.density().mean[0], expected, rtol=1e-4, atol=1e-4)


def test_independent_bytes_are_normalised_and_beat_noise_and_a_shuffled_self():
    generator = torch.Generator().manual_seed(0)
    centre = torch.randint(60, 200, (1, 1, 4, 4), generator=generator)
    raw = (centre + 12 * torch.randn(400, 1, 4, 4, generator=generator)).round().clamp(0, 255).byte()
    data = from_array("made", raw.numpy(), {"source": "made"}, DataConfig())
    model = Independent(IndependentConfig(), data.space)
    model.solve(data, TrainingConfig())
    torch.testing.assert_close(model.density().log_p.exp().sum(-1), torch.ones(1, 1, 4, 4))
    bits = model.surprise(data.test.x()).value.mean() / (16 * math.log(2))
    truth = 0.5 * math.log2(2 * math.pi * math.e * 12**2)  # entropy of the Gaussian that made them
    assert truth - 0.05 < bits < truth + 0.15


@pytest.mark.parametrize("noise", [0.3, PoissonNoise(20.0, -1.0, 1.0), SaltAndPepper(0.3, -1.0, 1.0)])
def test_what_was_spoiled_is_drawn_as_bayes_has_it(noise):
    model = Noise(NoiseConfig(), Space((1, 1, 2), "byte"))
    levels = Space((1,), "byte").lattice
    y = torch.tensor([[[[levels[200].item(), levels[40].item()]]]])
    corruption = GaussianNoise(noise) if isinstance(noise, float) else noise
    truth = torch.softmax(corruption.log_prob(y[0, 0, 0, :, None], levels), 1) @ levels
    torch.manual_seed(0)
    draws = model.repair(y, None, 4000, noise)
    torch.testing.assert_close(draws.mean(0)[0, 0, 0], truth, atol=5 * draws.std().item() / 4000**0.5, rtol=0)
    half = torch.tensor([[[[True, False]]]])
    unseen = model.repair(y, half, 4000, noise)[..., 1]
    assert unseen.std().item() == pytest.approx(levels.std().item(), rel=0.05)  # of what was not seen nothing is known
