"""What the sections of a report look at."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reverie.core.model import Model
from reverie.data import Data
from reverie.evaluation import Score
from reverie.run import Run

TILE = 96  # pixels on the page, about, along the longer side of one example


@dataclass
class View:
    """A run, its data, and how its pictures are put on paper."""

    run: Run
    data: Data
    model: Model
    scores: list[Score]

    @property
    def pictures(self) -> bool:
        """Can examples be shown as pictures, grey or in colour?"""
        return self.data.space.is_picture and self.data.space.shape[0] in (1, 3)

    @property
    def points(self) -> bool:
        return self.data.space.shape == (2,)

    @property
    def scale(self) -> int:
        """Pixels of the page for a pixel of an example."""
        return max(1, round(TILE / max(self.data.space.shape[-2:])))

    def pixels(self, x: Tensor) -> NDArray[np.uint8]:
        """(n, C, H, W) bytes of examples in model units; means of bits are shades of grey."""
        if self.data.space.kind == "bit":
            return torch.round(x.clamp(0, 1) * 255).byte().cpu().numpy()
        return self.bytes(self.data.codec.to_world(x.cpu()))

    def bytes(self, world: Tensor) -> NDArray[np.uint8]:
        """(n, C, H, W) bytes of examples in world units."""
        raw = world.numpy()
        if raw.dtype != np.uint8:  # real pictures: from their darkest to their lightest
            low, high = float(raw.min()), float(raw.max())
            return np.round((raw - low) * (255 / max(high - low, 1e-9))).astype(np.uint8)
        coins = self.data.space.kind == "bit" and raw.max(initial=0) <= 1
        return raw * np.uint8(255) if coins else raw

    def world(self, x: Tensor) -> NDArray[np.floating]:
        return self.data.codec.to_world(x.cpu()).numpy()

    def score(self, name: str) -> Score | None:
        return next((score for score in self.scores if score.name == name), None)

    def different(self, n: int) -> Tensor:
        """(n, *shape) held-out examples, of as many classes as there are, model units."""
        x, labels = self.data.test.x(), self.data.test.labels
        if labels is None:
            return x[:n]
        seen: dict[int, list[int]] = {}
        for i, label in enumerate(labels.tolist()):
            seen.setdefault(label, []).append(i)
        turn = [rows[k] for k in range(len(x)) for rows in seen.values() if k < len(rows)]
        return x[turn[:n]]
