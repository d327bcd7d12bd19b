"""World units to model units and back, kept with the model so that new data meets the same treatment."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from reverie.core.errors import BadInput
from reverie.core.space import Kind


@runtime_checkable
class Codec(Protocol):
    """How raw entries become what a model sees."""

    kind: ClassVar[Kind]

    def to_model(self, raw: Tensor) -> Tensor:
        """(B, *shape) world units to float model units."""
        ...

    def to_world(self, x: Tensor) -> Tensor:
        """The way back, onto the values the world can take."""
        ...

    def log_abs_det(self, raw: Tensor) -> Tensor:
        """(B,) nats, log |d model / d world| of each example: -log p(world) = -log p(model) - log_abs_det."""
        ...

    def to_json(self) -> dict[str, Any]: ...


def _no_change(raw: Tensor) -> Tensor:
    # A likelihood of bytes or bits is a mass, which no change of labels alters.
    return torch.zeros(len(raw), device=raw.device)


@dataclass(frozen=True)
class Bytes:
    """0..255 as 256 values from -1 to 1.

    >>> Bytes().to_model(torch.tensor([[0, 255]], dtype=torch.uint8))
    tensor([[-1.,  1.]])
    """

    kind: ClassVar[Kind] = "byte"

    def to_model(self, raw: Tensor) -> Tensor:
        return raw.float().div_(127.5).sub_(1)

    def to_world(self, x: Tensor) -> Tensor:
        return torch.round((x.clamp(-1, 1) + 1) * 127.5).to(torch.uint8)

    def log_abs_det(self, raw: Tensor) -> Tensor:
        return _no_change(raw)

    def to_json(self) -> dict[str, Any]:
        return {"codec": "bytes"}


@dataclass(frozen=True)
class Bits:
    """0 and 1, as they are."""

    kind: ClassVar[Kind] = "bit"

    def to_model(self, raw: Tensor) -> Tensor:
        return raw.float()

    def to_world(self, x: Tensor) -> Tensor:
        return (x > 0.5).to(torch.uint8)

    def log_abs_det(self, raw: Tensor) -> Tensor:
        return _no_change(raw)

    def to_json(self) -> dict[str, Any]:
        return {"codec": "bits"}


@dataclass(frozen=True)
class Binarised:
    """Bytes seen through coins: at each look a pixel is 1 with probability byte / 255 (dynamic binarisation)."""

    kind: ClassVar[Kind] = "bit"

    def to_model(self, raw: Tensor) -> Tensor:
        return torch.bernoulli(raw.float().div_(255))

    def to_world(self, x: Tensor) -> Tensor:
        return torch.round(x.clamp(0, 1) * 255).to(torch.uint8)

    def log_abs_det(self, raw: Tensor) -> Tensor:
        return _no_change(raw)

    def to_json(self) -> dict[str, Any]:
        return {"codec": "binarised"}


@dataclass(frozen=True)
class Standard:
    """Real numbers, shifted and scaled to about zero mean and unit variance, feature by feature.

    `mean`, `scale`: one number, or one for each entry along the last axis.

    >>> Standard((1.0, 2.0), (2.0, 4.0)).to_model(torch.tensor([[3.0, 2.0]]))
    tensor([[1., 0.]])
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    kind: ClassVar[Kind] = "real"

    def to_model(self, raw: Tensor) -> Tensor:
        mean, scale = self._numbers(raw)
        return ((raw.double() - mean) / scale).float()

    def to_world(self, x: Tensor) -> Tensor:
        mean, scale = self._numbers(x)
        return (x.double() * scale + mean).float()

    def log_abs_det(self, raw: Tensor) -> Tensor:
        _, scale = self._numbers(raw)
        return -scale.log().expand(raw.shape[1:]).sum().float().expand(len(raw))

    def _numbers(self, like: Tensor) -> tuple[Tensor, Tensor]:
        mean = torch.tensor(self.mean, dtype=torch.float64, device=like.device)
        return mean, torch.tensor(self.scale, dtype=torch.float64, device=like.device)

    def to_json(self) -> dict[str, Any]:
        return {"codec": "standard", "mean": list(self.mean), "scale": list(self.scale)}


def codec_from_json(values: Any) -> Codec:
    """The inverse of `to_json`; BadInput for anything else."""
    for codec in (Bytes(), Bits(), Binarised()):
        if values == codec.to_json():
            return codec
    match values:
        case {"codec": "standard", "mean": [*mean], "scale": [*scale], **more} if (
            len(mean) == len(scale) > 0 and not more
        ):
            numbers = mean + scale
            if all(type(v) in (int, float) and math.isfinite(v) for v in numbers) and min(scale) > 0:
                return Standard(tuple(map(float, mean)), tuple(map(float, scale)))
    raise BadInput(f"unknown codec {str(values)[:60]!r}; the folder is damaged or from another version")
