"""One picture: of any format, size and mode, upright, on white, in the size that is wanted."""

import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from reverie.core.errors import BadInput
from reverie.core.space import Space

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".pbm", ".pnm", ".jp2"}
MOST_PIXELS = 100_000_000  # a larger file is taken for a decompression bomb


def is_picture(path: Path) -> bool:
    """Does the name say that this is a picture?"""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


class Unusable(Exception):
    """A picture that cannot be used, and why."""


def open_picture(file: Path | BytesIO) -> Image.Image:
    """The still picture in `file`, turned upright, as L or RGB; Unusable with the reason otherwise."""
    try:
        if isinstance(file, Path) and file.stat().st_size == 0:
            raise Unusable("empty file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PIL warns of what is checked below
            with Image.open(file) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise Unusable(
                        f"{image.width} x {image.height}, more than {MOST_PIXELS:,} pixels: a decompression bomb?"
                    )
                if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # an MPO is a photo and its preview
                    raise Unusable("animated, or of many pages; only single still pictures are used")
                image.load()
                return plain(ImageOps.exif_transpose(image))
    except Unusable:
        raise
    except UnidentifiedImageError as error:
        raise Unusable("not a picture") from error
    except Image.DecompressionBombError as error:
        raise Unusable("too many pixels: a decompression bomb?") from error
    except PermissionError as error:
        raise Unusable("no permission to read it") from error
    except FileNotFoundError as error:
        raise Unusable("no such file") from error
    except Exception as error:  # a decoder given a damaged file can raise anything at all
        raise Unusable(f"damaged ({' '.join(str(error).split())[:80] or type(error).__name__})") from error


def plain(image: Image.Image) -> Image.Image:
    """As L or RGB: 16 bits scaled down, transparency laid on white."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, dtype=np.float64)
        if not np.isfinite(values).all():
            raise Unusable("holds values that are not finite")
        most = values.max(initial=0)
        # F holds 0..1 by custom, or bytes; a plain I does not say how many of its 32 bits are used
        small = {"F": 1, "I": 255}.get(image.mode, 0)
        top = small if most <= small else 255 if image.mode == "F" else 65535
        return Image.fromarray(np.clip(np.round(values * (255 / top)), 0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        flat = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
        return flat.convert("L" if image.mode in ("LA", "La", "L", "1") else "RGB")
    return image.convert("L" if image.mode in ("L", "1") else "RGB")


def is_grey(image: Image.Image) -> bool:
    """Does it hold no colour, whatever its mode?"""
    if image.mode == "L":
        return True
    small = np.asarray(image.resize((32, 32))).astype(int)
    return bool((small.max(-1) - small.min(-1)).max() <= 2)


def fitted(image: Image.Image, size: tuple[int, int], fit: str, grey: bool) -> np.ndarray:
    """(C, H, W) uint8: cropped about its middle or padded to the aspect of `size`, then resized."""
    if max(image.size) > 1000 * min(image.size):  # padding it would leave nothing of it
        raise Unusable(f"{image.width} x {image.height} is a line, not a picture")
    height, width = size
    image = image.convert("L" if grey else "RGB")
    if fit == "crop":
        image = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
    else:
        mean = tuple(int(v) for v in np.asarray(image).reshape(-1, 1 if grey else 3).mean(0))
        image = ImageOps.pad(image, (width, height), Image.Resampling.LANCZOS, mean[0] if grey else mean)
    pixels = np.asarray(image)
    return pixels[None] if grey else pixels.transpose(2, 0, 1)


def read_picture(path: Path, space: Space, fit: str = "crop") -> Tensor:
    """(C, H, W) uint8: one picture file of any size and mode in the shape of `space`; BadInput if it cannot be read."""
    if not space.is_picture or space.shape[0] not in (1, 3):
        raise BadInput(f"{path} cannot be used: examples here have the shape {space.shape}; give an .npy array of that")
    channels, height, width = space.shape
    try:
        return torch.from_numpy(fitted(open_picture(path), (height, width), fit, channels == 1).copy())
    except Unusable as error:
        raise BadInput(f"{path} cannot be used: {error}") from error


def suited_size(files: Sequence[Path]) -> tuple[int, int]:
    """The `suited_shape` of at most 200 of the files."""
    shapes = []
    for path in files[:: max(1, len(files) // 200)]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with Image.open(path) as image:
                    turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
                    shapes.append(image.size if turned else image.size[::-1])
        except Exception:  # told when it is decoded
            continue
    return suited_shape(shapes)


def suited_shape(shapes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """About 2,000 pixels in the median aspect of the (height, width) given, both sides multiples of 8.

    >>> suited_shape([(112, 92)]), suited_shape([(500, 500)])
    ((48, 40), (48, 48))
    """
    aspect = float(np.median([h / w for h, w in shapes] or [1.0]))
    near = [(h, w) for h in range(16, 161, 8) for w in range(16, 161, 8) if 1600 <= h * w <= 2600]
    return min(near, key=lambda s: (round(abs(np.log(s[0] / s[1] / aspect)), 2), abs(s[0] * s[1] - 2000), s))
