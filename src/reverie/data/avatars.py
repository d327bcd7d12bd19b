"""Drawn faces whose true causes are known."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from reverie.data.builtin import from_cache, package
from reverie.data.cache import cached
from reverie.data.config import DataConfig
from reverie.data.data import Data, content_hash, split_by_content
from reverie.data.pictures import Progress

ATTRIBUTES = (
    "top", "hair_color", "skin_color", "eyes", "eyebrows", "nose", "mouth", "facial_hair", "accessory", "clothing", "clothing_color",
)  # fmt: skip


def avatars(config: DataConfig, progress: Progress | None = None) -> Data:
    """Colour faces drawn from eleven labelled attributes, as many as you like (python-avatars; labels: glasses)."""
    package("python_avatars"), package("resvg_py")
    size = config.size or (64, 64)
    count = config.count or 4000
    key = ["avatars 1", count, list(size), config.seed]
    rows, about = cached(key, lambda out: _draw(out, count, size, config.seed, progress))
    spec: dict[str, Any] = {"source": "avatars", "count": count, "seed": config.seed}
    if config.size:
        spec["size"] = list(config.size)
    data = from_cache("avatars", rows, about, config, spec)
    data.mirror = True
    data.factors = np.array(about["factors"])[: len(data.train)]
    data.factor_names = ATTRIBUTES
    return data


def _choices() -> dict[str, list[Any]]:
    import python_avatars as pa

    kinds = (pa.HairType, pa.HairColor, pa.SkinColor, pa.EyeType, pa.EyebrowType, pa.NoseType, pa.MouthType,
             pa.FacialHairType, pa.AccessoryType, pa.ClothingType, pa.ClothingColor)  # fmt: skip
    return {name: list(kind) for name, kind in zip(ATTRIBUTES, kinds, strict=True)}


def _draw(out: Path, count: int, size: tuple[int, int], seed: int, progress: Progress | None) -> dict[str, Any]:
    import python_avatars as pa

    choices = _choices()
    rng = np.random.default_rng(seed)
    factors = np.stack([rng.integers(len(values), size=count) for values in choices.values()], 1)
    pictures = np.empty((count, 3, *size), np.uint8)
    for i, row in enumerate(factors):
        chosen = {name: choices[name][k] for name, k in zip(ATTRIBUTES, row, strict=True)}
        avatar = pa.Avatar(style=pa.AvatarStyle.TRANSPARENT, facial_hair_color=chosen["hair_color"], **chosen)
        pictures[i] = _raster(avatar.render(), size)
        if progress:
            progress(i + 1, count)
    # What is drawn alike (attributes can hide each other) stays on one side of the split.
    order, cuts = split_by_content([content_hash(p.tobytes()) for p in pictures])
    np.save(out, pictures[order], allow_pickle=False)
    glasses = [value.name.lower().replace("_", " ") for value in choices["accessory"]]
    labels = factors[order, ATTRIBUTES.index("accessory")]
    return {"cuts": list(cuts), "classes": glasses, "labels": labels.tolist(), "factors": factors[order].tolist()}


def _raster(svg: str, size: tuple[int, int]) -> np.ndarray:
    """(3, H, W) uint8: the drawing on white, as large as fits."""
    import resvg_py

    height, width = size
    drawn = resvg_py.svg_to_bytes(svg_string=svg, width=width, background="white", skip_system_fonts=True)
    image = Image.open(io.BytesIO(bytes(drawn))).convert("RGB")
    image.thumbnail((width, height), Image.Resampling.LANCZOS)
    page = Image.new("RGB", (width, height), "white")
    page.paste(image, ((width - image.width) // 2, height - image.height))
    return np.asarray(page).transpose(2, 0, 1)
