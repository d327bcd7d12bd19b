"""Drawn faces whose true causes are known."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from reverie.data.builtin import from_cache, package
from reverie.data.cache import cached
from reverie.data.config import DataConfig
from reverie.data.data import Data
from reverie.data.folders import Progress, decode

ATTRIBUTES = (
    "top", "hair_color", "skin_color", "eyes", "eyebrows", "nose", "mouth", "facial_hair",
    "accessory", "clothing", "clothing_color",
)  # fmt: skip
HIDING = {"ASTRONAUT", "CURLY_2", "LONG_HAIR_CURLY", "LOOSE_HAIR"}  # drawn over a beard or over glasses


def avatars(config: DataConfig, progress: Progress | None = None) -> Data:
    """Colour faces drawn from eleven labelled attributes, as many as you like (python-avatars; labels: glasses)."""
    package("python_avatars"), package("resvg_py")
    size = config.size or (64, 64)
    count = config.count or 4000
    key = ["avatars 2", count, list(size), config.seed]
    rows, about = cached(key, lambda out: _draw(out, count, size, config.seed, progress))
    spec: dict[str, Any] = {"source": "avatars", "count": count, "seed": config.seed, "size": list(size)}
    data = from_cache("avatars", rows, about, config, spec)
    data.mirror = True
    data.factors = np.array(about["factors"][: len(data.train)])
    data.factor_names = ATTRIBUTES
    return data


def _choices() -> dict[str, list[Any]]:
    import python_avatars as pa

    kinds = (pa.HairType, pa.HairColor, pa.SkinColor, pa.EyeType, pa.EyebrowType, pa.NoseType, pa.MouthType,
             pa.FacialHairType, pa.AccessoryType, pa.ClothingType, pa.ClothingColor)  # fmt: skip
    return {name: [v for v in kind if v.name not in HIDING] for name, kind in zip(ATTRIBUTES, kinds, strict=True)}


def _draw(out: Path, count: int, size: tuple[int, int], seed: int, progress: Progress | None) -> dict[str, Any]:
    import python_avatars as pa

    choices = _choices()
    rng = np.random.default_rng(seed)
    factors = np.stack([rng.integers(len(values), size=count) for values in choices.values()], 1)

    def picture(i: int) -> Image.Image:
        chosen = {name: choices[name][k] for name, k in zip(ATTRIBUTES, factors[i], strict=True)}
        avatar = pa.Avatar(style=pa.AvatarStyle.TRANSPARENT, facial_hair_color=chosen["hair_color"], **chosen)
        return _raster(avatar.render(), size)

    # What is drawn alike (attributes can hide each other) stays on one side of the split.
    config = DataConfig(colour="rgb")
    order, about = decode(out, count, picture, size, config, "avatars", str, None, progress)
    glasses = [value.name.lower().replace("_", " ") for value in choices["accessory"]]
    labels = factors[order, ATTRIBUTES.index("accessory")]
    return about | {"classes": glasses, "labels": labels.tolist(), "factors": factors[order].tolist()}


def _raster(svg: str, size: tuple[int, int]) -> Image.Image:
    """The drawing on white, as large as fits."""
    import resvg_py

    height, width = size
    drawn = resvg_py.svg_to_bytes(svg_string=svg, width=width, background="white", skip_system_fonts=True)
    image = Image.open(io.BytesIO(bytes(drawn))).convert("RGB")
    image.thumbnail((width, height), Image.Resampling.LANCZOS)
    page = Image.new("RGB", (width, height), "white")
    page.paste(image, ((width - image.width) // 2, height - image.height))
    return page
