"""The way to a label where it is known: in a linear machine, across a known plane."""

import dataclasses

import pytest
import torch

from reverie.core.model import Model
from reverie.core.recipe import TrainingConfig
from reverie.core.space import Space
from reverie.data.arrays import from_array
from reverie.data.config import DataConfig
from reverie.evaluation import directions
from reverie.evaluation.directions import label_directions
from reverie.models.linear import Linear, LinearConfig

PATTERNS = torch.linalg.qr(torch.randn(36, 3, generator=torch.Generator().manual_seed(4)))[0].T.view(3, 1, 6, 6)


def pictures(points: torch.Tensor) -> torch.Tensor:
    return torch.einsum("nk,kchw->nchw", points, PATTERNS)


class Flat(Model):
    """Pictures that are linear in points (n, 2, 3) from a Gaussian; only the first three numbers of a point count."""

    def __init__(self):
        super().__init__(None, Space((1, 6, 6), "real"))

    def styles(self, n: int) -> torch.Tensor:
        return torch.randn(n, 2, 3) * torch.tensor([2.0, 1.0, 1.0])

    def imagine(self, styles: torch.Tensor) -> torch.Tensor:
        return pictures(styles[:, 0])

    def invert(self, x: torch.Tensor) -> torch.Tensor:
        raise AssertionError("nothing need be sought")

    def sample(self, n, given=None):
        return self.imagine(self.styles(n))


@pytest.fixture
def labelled():
    """Pictures that have a label where the second number of their point is above a half, and another where it is not."""
    torch.manual_seed(0)
    points = torch.randn(800, 3)
    labels = (points[:, 1] > 0.5).long().numpy()
    return from_array("made", pictures(points).numpy(), {"source": "made"}, DataConfig(), labels, ["without", "with"])


def test_the_direction_to_a_label_crosses_the_plane_that_parts_it(labelled):
    class Scaled(Flat):
        def imagine(self, styles):
            return labelled.codec.to_model(super().imagine(styles))

    ways = label_directions(Scaled(), labelled)
    assert set(ways) == {"without", "with"}
    truth = torch.zeros(6)
    truth[1] = 1.0
    for name, sign in (("with", 1), ("without", -1)):
        way = sign * ways[name].flatten()
        assert torch.cosine_similarity(way, truth, 0) > 0.97
        assert 0.9 < way.norm() < 1.1  # one standard deviation of that number


def test_a_machine_that_perceives_needs_no_dreams(labelled):
    model = Linear(LinearConfig(latent=3), labelled.space)
    model.solve(labelled, TrainingConfig())
    x, labels = labelled.train.x(), labelled.train.labels
    way = label_directions(model, labelled)["with"]
    along = model.encode(x).mean @ way
    right = (along > along.quantile(1 - labels.float().mean().item())) == labels.bool()
    assert right.float().mean() > 0.95


def test_without_labels_there_are_no_directions(labelled):
    many = dataclasses.replace(labelled, classes=tuple(map(str, range(40))))
    assert label_directions(Flat(), many) == {}
    labelled.train.labels = None
    assert label_directions(Flat(), labelled) == {}


def test_one_label_alone_has_no_direction(labelled):
    labelled.train.labels = torch.zeros_like(labelled.train.labels)
    assert label_directions(Flat(), labelled) == {}


def test_points_of_more_numbers_than_there_are_points_are_parted_by_the_same_plane():
    """Which is found within the space that they span."""
    generator = torch.Generator().manual_seed(0)
    away, chosen = torch.randn(60, 200, generator=generator).double(), torch.arange(60) % 2 == 0
    away = away - away.mean(0)
    basis = torch.linalg.qr(away.T).Q
    plain, within = directions._across(away, chosen, away.std()), directions._across(away @ basis, chosen, away.std())
    assert (basis @ within - plain).norm() < 0.01 * plain.norm()  # the descent ends a little before the least
