"""What every section of a report looks at: one run, its data, and how they are drawn."""

import math
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from reverie.core.model import Decodes, Encodes, Styled, Surprised
from reverie.data import Data
from reverie.data.codecs import Bits
from reverie.evaluation import Score, density
from reverie.evaluation.resampling import error_of_mean
from reverie.models.noise import Noise, NoiseConfig
from reverie.plots.pictures import Pixels
from reverie.run import Run

ROW = 8  # pictures side by side
DRAWS = 100  # importance samples for one example's surprise
HELD = 200  # held-out examples that are looked at, at most
JUDGED = 48  # of them, whose surprise is measured
TRAIN = 2**26  # bytes of training examples that dreams are compared with, at most


class Surprise(NamedTuple):
    """-log p of a few held-out examples, in the units of the data."""

    rows: list[int]  # which of Scene.held
    nats: NDArray[np.float64]  # (n,)
    method: str


class Scene:
    """A run and its data. Nothing is computed before a section asks for it."""

    def __init__(self, run: Run, data: Data, scores: list[Score]):
        self.run, self.data, self.scores = run, data, {score.name: score for score in scores}
        self.model, self.space, self.codec = run.model, data.space, data.codec
        split = data.test if len(data.test) else data.valid
        self.held = split.x(HELD)
        self.observed = split.observed(HELD)
        self.labels = split.labels[: len(self.held)] if self.model.classes and split.labels is not None else None
        self.train = data.train.x(min(len(data.train), max(HELD, TRAIN // (4 * data.space.dims))))
        names = split.groups if split.groups is not None else split.labels
        self.names = None if names is None else np.asarray(names)[: len(self.held)]
        groups = None if split.groups is None else np.asarray(split.groups)[: len(self.held)]
        # One or two groups say nothing about how groups differ.
        self.groups = groups if groups is not None and len(np.unique(groups)) > 2 else None

    @property
    def pictures(self) -> bool:
        return self.space.is_picture and self.space.kind in ("bit", "byte", "real")

    @property
    def points(self) -> bool:
        return self.space.shape == (2,) and self.space.kind == "real"

    @property
    def perceives(self) -> bool:
        return isinstance(self.model, Encodes) and isinstance(self.model, Decodes)

    @property
    def roams(self) -> bool:
        """Has the machine a space of its own, in which it finds examples and of which it shows every point?"""
        return self.perceives or isinstance(self.model, Styled)

    @property
    def imagines(self) -> bool:
        return isinstance(self.model, Decodes) and getattr(self.model, "prior", None) is not None

    @property
    def noun(self) -> str:
        return "picture" if self.space.is_picture else "point" if self.points else "example"

    @property
    def entry(self) -> str:
        if not self.space.is_picture:
            return "number"
        return "pixel" if self.space.shape[0] == 1 else "colour of a pixel"

    @property
    def scale(self) -> int:
        """Pixels of the page for one of a picture, so that a tile is about a thumb wide."""
        return -(-80 // max(self.space.shape[-2:]))

    @property
    def width(self) -> int:
        return self.space.shape[-1] * self.scale

    @property
    def unit(self) -> tuple[float, str]:
        """What one step in model units is on the scale that distances are told on."""
        if self.space.kind == "byte":
            return 127.5, "grey levels of 255" if self.space.shape[0] == 1 else "levels of 255"
        return 1.0, "on a scale from 0 to 1" if self.space.kind == "bit" else "standard deviations"

    def noise(self, n: int) -> Tensor:
        """(n, *shape) truly random examples, model units."""
        return Noise(NoiseConfig(), self.space).sample(n)

    def paint(self, x: Tensor) -> Pixels:
        """Pictures (n, C, H, W) in model units as bytes (n, 1 or 3, H, W)."""
        x = x.detach().double().cpu()
        if self.space.kind == "real":
            low, high = self._range
            x = (x - low) / (high - low)
        else:
            x = (x + 1) / 2 if self.space.kind == "byte" else x
        levels = torch.round(x.clamp(0, 1) * 255).to(torch.uint8)
        if levels.shape[1] not in (1, 3):
            levels = levels.double().mean(1, keepdim=True).to(torch.uint8)
        return levels.numpy()

    def paint_field(self, field: Tensor) -> Pixels:
        """Weights (n, C, H, W) as bytes: grey is none, white the greatest above zero and black below; of many channels, their mean."""
        field = field.detach().double().cpu()
        if field.shape[1] not in (1, 3):
            field = field.mean(1, keepdim=True)
        most = field.flatten(1).abs().quantile(0.995, 1).clamp(min=1e-12).view(-1, 1, 1, 1)
        return torch.round(127.5 * (1 + (field / most).clamp(-1, 1))).to(torch.uint8).numpy()

    def paint_world(self, frame: NDArray[np.generic]) -> Pixels:
        """Pictures (n, C, H, W) in world units, as a run keeps its dreams."""
        if frame.dtype != np.uint8:
            return self.paint(self.codec.to_model(torch.from_numpy(frame)))
        levels: Pixels = (frame * 255).astype(np.uint8) if isinstance(self.codec, Bits) else frame.astype(np.uint8)
        return levels if levels.shape[1] in (1, 3) else levels.mean(1, keepdims=True).astype(np.uint8)

    @cached_property
    def _range(self) -> tuple[float, float]:
        some = self.train[:200].double().numpy()
        low, high = np.quantile(some, (0.005, 0.995))
        return float(low), float(max(high, low + 1e-9))

    def spread(self, n: int) -> list[int]:
        """Held-out examples, of as many different people (or classes) as there are, neighbours unlike."""
        if self.names is None:
            return list(range(min(n, len(self.held))))
        seen: dict[object, int] = {}
        turn = []
        for name in self.names.tolist():
            seen[name] = seen.get(name, -1) + 1
            turn.append(seen[name])
        return sorted(range(len(turn)), key=lambda i: (turn[i], i))[:n]

    def given(self, rows: list[int]) -> Tensor | None:
        """The labels of held-out examples, for a model that is conditional on them."""
        return None if self.labels is None else self.labels[rows]

    def nats(
        self, x: Tensor, observed: Tensor | None = None, given: Tensor | None = None
    ) -> tuple[NDArray[np.float64], str]:
        """(n,) -log p of x (n, *shape) in the units of the data, and the estimator's name.

        A model with labels that are not given takes all of them into account.
        """
        assert isinstance(self.model, Surprised)
        found = density.surprises(self.model, x, DRAWS, observed, given)
        raw = x if observed is None else torch.where(observed, x, torch.nan)
        shift = torch.as_tensor(self.codec.log_abs_det(raw)).double().numpy()
        return np.asarray(found.value - shift), found.method

    @cached_property
    def surprise(self) -> Surprise | None:
        if not self.model.can(Surprised) or not len(self.held) or self.model.inputs:
            return None
        rows = self.spread(JUDGED)
        observed = None if self.observed is None else self.observed[rows]
        return Surprise(rows, *self.nats(self.held[rows], observed, self.given(rows)))

    @cached_property
    def cost(self) -> tuple[float, float, str] | None:
        """Mean surprise of a held-out example in nats, its standard error, and how it was measured."""
        if (score := self.scores.get("nats")) is not None and score.value is not None:
            return score.value, score.error or 0.0, score.method
        if (found := self.surprise) is None:
            return None
        groups = None if self.groups is None else self.groups[found.rows]
        error = error_of_mean(found.nats, groups) if len(found.nats) > 2 else math.nan
        return float(found.nats.mean()), error, f"{found.method}, {len(found.nats)} examples"

    def bits(self, nats: ArrayLike) -> NDArray[np.float64]:
        """Bits for each entry."""
        return np.asarray(np.asarray(nats) / (self.space.dims * math.log(2)))
