"""Folders of pictures of any mixture of formats, sizes and modes."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from reverie.core.errors import BadInput
from reverie.core.space import Space
from reverie.data.cache import cached
from reverie.data.config import DataConfig
from reverie.data.data import content_hash, split_by_content

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".pbm", ".pnm", ".jp2"}
MOST_PIXELS = 100_000_000  # a larger file is taken for a decompression bomb

Progress = Callable[[int, int], None]


def is_picture(path: Path) -> bool:
    """Does the name say that this is a picture?"""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def picture_files(folder: Path) -> list[Path]:
    """Every picture below `folder`, in the order of their names; BadInput if there is none."""
    files = sorted(p for p in folder.rglob("*") if is_picture(p) and p.is_file())
    if not files:
        found = sorted({p.suffix or p.name for p in folder.rglob("*") if p.is_file()})[:5]
        what = f"only {', '.join(found)} files" if found else "nothing"
        raise BadInput(f"no pictures in {folder} ({what} there); give a folder of {', '.join(sorted(SUFFIXES)[:6])} … files")
    return files


class Unusable(Exception):
    """A picture that cannot be used, and why."""


def open_picture(path: Path) -> Image.Image:
    """The still picture in `path`, turned upright, as L or RGB; Unusable with the reason otherwise."""
    if path.stat().st_size == 0:
        raise Unusable("empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PIL warns of what is checked below
            image = Image.open(path)
            if image.width * image.height > MOST_PIXELS:
                raise Unusable(f"{image.width} x {image.height} pixels, more than {MOST_PIXELS:,}: a decompression bomb?")
            if getattr(image, "n_frames", 1) > 1:
                raise Unusable("animated; only still pictures are used")
            image.load()
            return _plain(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as error:
        raise Unusable("not a picture") from error
    except Image.DecompressionBombError as error:
        raise Unusable("a decompression bomb") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise Unusable(f"damaged ({' '.join(str(error).split())[:80]})") from error


def _plain(image: Image.Image) -> Image.Image:
    """As L or RGB: 16 bits scaled down, transparency laid on white."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, dtype=np.float64)
        top = 65535 if image.mode.startswith("I") and values.max(initial=0) > 255 else 255
        return Image.fromarray(np.clip(np.round(values * (255 / top)), 0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, "white")
        flat = Image.alpha_composite(ground, layer)
        return flat.convert("L" if image.mode in ("LA", "La") else "RGB")
    if image.mode in ("L", "1"):
        return image.convert("L")
    return image.convert("RGB")


def fitted(image: Image.Image, size: tuple[int, int], fit: str, grey: bool) -> np.ndarray:
    """(C, H, W) uint8: cropped about its middle or padded to the aspect of `size`, then resized."""
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
    channels, height, width = space.shape
    try:
        return torch.from_numpy(fitted(open_picture(path), (height, width), fit, channels == 1).copy())
    except (Unusable, OSError) as error:
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
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError):
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


def decode_folder(
    folder: Path, config: DataConfig, group: Callable[[Path], str] | None = None, progress: Progress | None = None
) -> tuple[Path, dict[str, Any]]:
    """The pictures of a folder as (N, C, H, W) uint8 in a cache file, split by content; and what is known of them.

    `group`: pictures for which it says the same stay on one side of the split. Memory does not grow with their number.
    """
    files = picture_files(folder)
    listing = [[str(p.relative_to(folder)), p.stat().st_size, p.stat().st_mtime_ns] for p in files]
    key = ["folder 1", str(folder.absolute()), listing, config.size, config.fit, config.colour]

    def build(path: Path) -> dict[str, Any]:
        hashes = []
        for i, file in enumerate(files):
            hashes.append(content_hash(file.read_bytes()))
            if progress:
                progress(i // 2, len(files))
        order, cuts = split_by_content(hashes, [group(p) for p in files] if group else None)
        return _decode([files[i] for i in order], cuts, folder, config, path, progress)

    return cached(key, build)


def _decode(
    files: list[Path], cuts: tuple[int, int], folder: Path, config: DataConfig, out: Path, progress: Progress | None
) -> dict[str, Any]:
    """Two passes of two threads: which files can be used, and is any in colour; then straight into the file."""
    skipped: dict[Path, str] = {}

    def look(file: Path) -> bool:
        """Is it in colour?"""
        try:
            image = open_picture(file)
        except (Unusable, OSError) as error:
            skipped[file] = str(error)
            return False
        return config.colour == "auto" and image.mode == "RGB" and not _is_grey(image)

    coloured = sum(_in_order(look, files)) > 0
    grey = config.colour == "grey" or (config.colour == "auto" and not coloured)
    size = config.size or suited_size([f for f in files if f not in skipped])
    usable = [f for f in files if f not in skipped]
    if len(usable) < 3:
        first = f" (for one, {min(skipped).name}: {skipped[min(skipped)]})" if skipped else ""
        raise BadInput(f"{len(usable)} of {len(files)} pictures in {folder} can be used{first}; at least 3 are needed")
    rows = np.lib.format.open_memmap(out, "w+", np.uint8, (len(usable), 1 if grey else 3, *size))
    made = _in_order(lambda f: fitted(open_picture(f), size, config.fit, grey), usable)
    for i, picture in enumerate(made):
        rows[i] = picture
        if progress:
            progress((len(usable) + i + 1) // 2, len(usable))
        if i % 1024 == 1023:  # written pages go back, so that memory does not grow
            rows.flush()
            del rows
            rows = np.load(out, mmap_mode="r+", allow_pickle=False)
    rows.flush()
    parents = [f.relative_to(folder).parts[0] if f.parent != folder else "" for f in usable]
    classes = sorted(set(parents)) if all(parents) and len(set(parents)) > 1 else []
    return {
        "cuts": [sum(f not in skipped for f in files[:cut]) for cut in cuts],
        "classes": classes,
        "labels": [classes.index(parent) for parent in parents] if classes else None,
        "skipped": sorted((str(f.relative_to(folder)), reason) for f, reason in skipped.items()),
    }


def _is_grey(image: Image.Image) -> bool:
    small = np.asarray(image.resize((32, 32))).astype(int)
    return bool((small.max(-1) - small.min(-1)).max() <= 2)


def _in_order(work: Callable[[Path], Any], files: list[Path]) -> Iterator[Any]:
    """work(file) for each, two at a time, no more than a few results waiting."""
    with ThreadPoolExecutor(2) as pool:
        for i in range(0, len(files), 64):
            yield from pool.map(work, files[i : i + 64])
