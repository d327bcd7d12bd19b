import numpy as np
import pytest
import torch

from reverie.core.errors import BadInput
from reverie.evaluation.features import PixelPCA, RandomConv


def pictures(n: int, shape: tuple[int, ...] = (1, 12, 10), seed: int = 0) -> torch.Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("kind", [PixelPCA, RandomConv])
@pytest.mark.parametrize("shape", [(1, 12, 10), (3, 9, 9), (1, 3, 3), (1, 1, 5)])
def test_features_of_training_pictures_are_centred_with_variance_one(kind, shape):
    x = pictures(60, shape)
    features = kind(x)(x)
    assert features.dtype == np.float64
    assert np.abs(features.mean(0)).max() < 1e-6
    assert features.var(0).mean() == pytest.approx(1, rel=0.03)


@pytest.mark.parametrize("kind", [PixelPCA, RandomConv])
def test_same_pictures_same_extractor_other_pictures_another_hash(kind):
    x, new = pictures(60), pictures(300, seed=1)
    first, second, other = kind(x), kind(x.clone()), kind(pictures(60, seed=2))
    assert first.hash == second.hash != other.hash
    assert np.array_equal(first(new), second(new))
    np.testing.assert_allclose(first(new)[250:], first(new[250:]), atol=1e-4)  # whatever else is in the batch


def test_extractors_leave_the_global_random_state_alone():
    before = torch.random.get_rng_state()
    RandomConv(pictures(20))
    PixelPCA(pictures(20))
    assert torch.equal(before, torch.random.get_rng_state())


def test_pixel_pca_keeps_distances_along_its_components():
    x = torch.zeros(40, 1, 2, 2)
    x[:, 0, 0, 0] = torch.linspace(-1, 1, 40)
    pca = PixelPCA(x, most=1)
    scores = pca(x)[:, 0]
    np.testing.assert_allclose(np.abs(np.diff(scores)), (2 / 39) / x[:, 0, 0, 0].std().item(), rtol=1e-5)


def test_random_conv_sees_shuffled_pixels_that_have_the_same_mean():
    smooth = torch.nn.functional.avg_pool2d(pictures(200, (1, 20, 20)), 5, 1)  # (200, 1, 16, 16)
    order = torch.randperm(256, generator=torch.Generator().manual_seed(0))
    conv = RandomConv(smooth)
    assert np.square(conv(smooth.flatten(2)[..., order].view_as(smooth))).mean() > 2


def test_constant_pictures_give_finite_features_and_few_are_refused():
    for kind in (PixelPCA, RandomConv):
        assert np.isfinite(kind(torch.zeros(20, 1, 4, 4))(pictures(3, (1, 4, 4)))).all()
        with pytest.raises(BadInput, match="too few"):
            kind(pictures(5))
