"""Worlds whose truth is known: by enumeration, in closed form, and by Monte Carlo."""

import itertools
import math

import numpy as np
import pytest
import torch

from reverie.data import open_data
from reverie.data.toys import PLACES, RADII, SPREAD, WIDTH, rings_entropy

TABLES = ["bars", "kirby", "shifter"]


def probability_of_bars(picture):
    """Of a 4x4 picture under the generative story, without the table."""
    total = 0.0
    for weight, view in ((2 / 3, picture), (1 / 3, picture.T)):
        if (view == view[0]).all():
            total += weight * math.prod(0.2 if on else 0.8 for on in view[0])
    return total


def test_bars_are_every_picture_the_story_can_tell():
    data = open_data("bars", count=10)
    told = {row.numpy().tobytes(): p.item() for row, p in zip(data.support, data.probability, strict=True)}
    truth = {}
    for bits in itertools.product((0, 1), repeat=16):
        picture = np.array(bits, np.uint8).reshape(4, 4)
        if p := probability_of_bars(picture):
            truth[picture.tobytes()] = p
    assert told.keys() == truth.keys()
    assert all(told[k] == pytest.approx(truth[k], rel=1e-9) for k in truth)


def test_entropies_are_the_published_ones():
    assert open_data("bars", count=10).entropy / math.log(2) == pytest.approx(3.428, abs=5e-4)
    assert open_data("kirby", count=10).entropy == pytest.approx(math.log(18) - 2 / 3 * math.log(2), rel=1e-12)


def test_shifter_entropy_by_what_is_seen():
    # H(above, below) = H(row) + H(way | picture): one bit where the two shifts differ. They are the same picture
    # where the row has period 2 under rotation.
    row = 8 * -(0.2 * math.log(0.2) + 0.8 * math.log(0.8))
    same = 0.8**8 + 0.2**8 + 2 * (0.2**4 * 0.8**4)
    assert open_data("shifter", count=10).entropy == pytest.approx(row + (1 - same) * math.log(2), rel=1e-12)


@pytest.mark.parametrize("name", TABLES)
def test_probabilities_sum_to_one_over_different_pictures(name):
    data = open_data(name, count=10)
    assert data.probability.sum().item() == pytest.approx(1, abs=1e-12)
    assert len(data.support.flatten(1).unique(dim=0)) == len(data.support)
    assert data.space.shape == data.support.shape[1:]


@pytest.mark.parametrize("name", TABLES)
def test_examples_come_as_often_as_they_should(name):
    data = open_data(name, count=20_000)
    place = {row.numpy().tobytes(): i for i, row in enumerate(data.support)}
    for split in (data.train, data.valid, data.test):
        seen = np.bincount([place[row.numpy().tobytes()] for row in split.raw()], minlength=len(place))
        expected = data.probability.numpy() * len(split)
        error = np.sqrt(expected)
        assert (np.abs(seen - expected) < 6 * error + 3).all()
    assert (len(data.train), len(data.valid), len(data.test)) == (20_000, 2_000, 2_000)


def test_the_three_parts_are_drawn_apart():
    data = open_data("rings", count=500)
    assert not torch.isin(data.valid.raw(), data.train.raw()).any()
    assert not torch.isin(data.test.raw(), torch.cat([data.valid.raw(), data.train.raw()])).any()


def test_seed_makes_another_draw_of_the_same_world():
    a, b, c = open_data("bars", count=100), open_data("bars", count=100), open_data("bars", count=100, seed=1)
    assert a.fingerprint == b.fingerprint != c.fingerprint
    assert a.entropy == c.entropy


def test_rings_entropy_against_monte_carlo():
    rng = np.random.default_rng(1)
    n = 200_000
    radius = np.abs(rng.choice(RADII, n) + WIDTH * rng.standard_normal(n))
    # p(point) of three normals in the radius, spread over the circle; the far side is 8 deviations away
    normals = np.exp(-0.5 * ((radius[:, None] - np.array(RADII)) / WIDTH) ** 2) / (WIDTH * math.sqrt(2 * math.pi))
    surprise = -np.log(normals.mean(1) / (2 * math.pi * radius))
    assert rings_entropy() == pytest.approx(surprise.mean(), abs=4 * surprise.std() / math.sqrt(n))


def test_rings_lie_where_they_should():
    data = open_data("rings", count=6000)
    radius = data.train.raw().norm(dim=1)
    nearest = (radius[:, None] - torch.tensor(RADII)).abs()
    assert torch.allclose(nearest.argmin(1).bincount() / 6000, torch.full((3,), 1 / 3), atol=0.03)
    assert nearest.amin(1).square().mean().sqrt().item() == pytest.approx(WIDTH, rel=0.05)
    x = data.train.x()
    assert torch.allclose(x.mean(0), torch.zeros(2), atol=1e-5)
    assert torch.allclose(x.std(0), torch.ones(2), atol=1e-3)


def test_the_grid_lies_where_it_should():
    data = open_data("grid", count=20_000)
    points = data.train.raw().double()
    places = torch.cartesian_prod(*[torch.tensor(PLACES, dtype=torch.float64)] * 2)
    gap, nearest = torch.cdist(points, places).min(1)
    assert torch.allclose(nearest.bincount(minlength=25) / 20_000, torch.full((25,), 1 / 25), atol=0.006)
    assert (gap.square().mean() / 2).sqrt().item() == pytest.approx(SPREAD, rel=0.02)
    assert (gap < 3 * SPREAD).double().mean().item() == pytest.approx(1 - math.exp(-4.5), abs=0.003)
    # -E log p by the examples themselves
    exponents = -0.5 * (torch.cdist(points, places) / SPREAD).square()
    log_p = torch.logsumexp(exponents, 1) - math.log(25 * 2 * math.pi * SPREAD**2)
    assert data.entropy == pytest.approx(-log_p.mean().item(), abs=4 * log_p.std().item() / 20_000**0.5)
