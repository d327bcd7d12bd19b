"""Worlds whose distribution is known, so that a model can be told exactly how far off it is."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import torch

from reverie.core.space import Space
from reverie.data.codecs import Bits, Standard
from reverie.data.config import DataConfig
from reverie.data.data import Data, Split

Table = dict[bytes, tuple[np.ndarray, float]]


def bars(config: DataConfig) -> Data:
    """4x4 bits: vertical bars (2/3) or horizontal ones (1/3), each there with 0.2 (Hinton, Dayan, Frey & Neal 1995)."""
    table: Table = {}
    for vertical, weight in ((True, 2 / 3), (False, 1 / 3)):
        for on in itertools.product((0, 1), repeat=4):
            picture = np.tile(np.array(on, np.uint8), (4, 1))
            _add(table, picture if vertical else picture.T, weight * 0.2 ** sum(on) * 0.8 ** (4 - sum(on)))
    return _world("bars", table, config)


def kirby(config: DataConfig) -> Data:
    """3x3 bits: six vertical patterns at 2/18 each, six horizontal ones at 1/18 (Kirby 2006)."""
    table: Table = {}
    for on in itertools.product((0, 1), repeat=3):
        if 0 < sum(on) < 3:
            picture = np.tile(np.array(on, np.uint8), (3, 1))
            _add(table, picture, 2 / 18)
            _add(table, picture.T, 1 / 18)
    return _world("kirby", table, config)


def shifter(config: DataConfig) -> Data:
    """4x8 bits: a random row twice, then twice more moved a place left or right (Dayan, Hinton, Neal & Zemel 1995)."""
    table: Table = {}
    for row in itertools.product((0, 1), repeat=8):
        above = np.array(row, np.uint8)
        for way in (-1, 1):
            below = np.roll(above, way)
            _add(table, np.stack([above, above, below, below]), 0.5 * 0.2 ** sum(row) * 0.8 ** (8 - sum(row)))
    return _world("shifter", table, config)


def _add(table: Table, picture: np.ndarray, probability: float) -> None:
    before = table.get(picture.tobytes(), (picture, 0.0))[1]
    table[picture.tobytes()] = (picture, before + probability)


def _world(name: str, table: Table, config: DataConfig) -> Data:
    support = np.stack([np.ascontiguousarray(picture) for picture, _ in table.values()])[:, None]
    p = np.array([probability for _, probability in table.values()])
    rng = np.random.default_rng(config.seed)
    count = config.count or 10_000
    sizes = (count, max(count // 10, 1), max(count // 10, 1))
    train, valid, test = (Split(support[rng.choice(len(p), size, p=p / p.sum())], 0, size) for size in sizes)
    return Data(
        name, Space(support.shape[1:], "bit"), Bits(), train, valid, test, _spec(name, config),
        support=torch.from_numpy(support), probability=torch.from_numpy(p / p.sum()),
        entropy=float(-(p * np.log(p)).sum()),
    )  # fmt: skip


RADII = (0.5, 1.0, 1.5)
WIDTH = 0.06  # standard deviation across a ring


def rings(config: DataConfig) -> Data:
    """Points in the plane on three noisy rings."""

    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        radius = rng.choice(RADII, n) + WIDTH * rng.standard_normal(n)
        angle = rng.uniform(0, 2 * np.pi, n)
        return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)

    return _points("rings", draw, rings_entropy(), config)


def _points(
    name: str, draw: Callable[[np.random.Generator, int], np.ndarray], entropy: float, config: DataConfig
) -> Data:
    rng = np.random.default_rng(config.seed)
    count = config.count or 10_000
    points = [draw(rng, n).astype(np.float32) for n in (count, max(count // 10, 1), max(count // 10, 1))]
    train, valid, test = (Split(part, 0, len(part)) for part in points)
    codec = Standard(tuple(points[0].mean(0).tolist()), tuple(points[0].std(0).tolist()))
    return Data(name, Space((2,), "real"), codec, train, valid, test, _spec(name, config), entropy=entropy)


def rings_entropy() -> float:
    """Differential entropy of `rings`, nats, in the units of the plane: -E log p by a sum over the radius.

    The density at a point is that of its radius, over both signs of the noisy radius, divided by the circle's length.
    """
    r = np.linspace(1e-6, 3.0, 600_001)
    weight = np.zeros_like(r)
    for radius in RADII:
        for sign in (1, -1):
            weight += np.exp(-0.5 * ((sign * r - radius) / WIDTH) ** 2) / (WIDTH * math.sqrt(2 * math.pi)) / len(RADII)
    log_density = np.log(np.maximum(weight, 1e-300)) - np.log(2 * np.pi * r)
    return float(-(weight * log_density).sum() * (r[1] - r[0]))  # zero at both ends


PLACES = (-4.0, -2.0, 0.0, 2.0, 4.0)  # of the columns and of the rows of the grid
SPREAD = 0.05  # standard deviation of each of its 25 Gaussians, in each direction


def grid(config: DataConfig) -> Data:
    """Points in the plane, around 25 places on a grid (Srivastava et al. 2017, arXiv 1705.07761; Lin et al. 2017, arXiv 1712.04086)."""

    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        return rng.choice(PLACES, (n, 2)) + SPREAD * rng.standard_normal((n, 2))

    # That neighbours overlap, 40 deviations apart, shows in no digit of it.
    return _points("grid", draw, math.log(len(PLACES) ** 2 * 2 * math.pi * math.e * SPREAD**2), config)


def _spec(name: str, config: DataConfig) -> dict:
    spec: dict = {"source": name}
    if config.count is not None:
        spec["count"] = config.count
    if config.seed:
        spec["seed"] = config.seed
    return spec
