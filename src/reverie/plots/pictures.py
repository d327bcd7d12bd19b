"""Arrays of pixels in, crisp images out."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reverie.core.errors import BadInput

Pixels = NDArray[np.uint8]


def grid(x: Pixels, columns: int, gap: int = 2, scale: int = 1) -> Image.Image:
    """Pictures (n, C, H, W), C 1 (grey) or 3 (RGB), row by row, every pixel `scale` by `scale` of the image's.

    The `gap` between tiles, in pixels of the image, is transparent: it shows whatever page lies behind.

    >>> grid(np.zeros((5, 1, 8, 6), np.uint8), columns=3, gap=2, scale=4).size
    (76, 66)
    """
    if x.dtype != np.uint8 or x.ndim != 4 or x.shape[1] not in (1, 3) or not len(x):
        raise BadInput(f"a grid needs bytes (n, 1 or 3, H, W), not {x.dtype} {x.shape}")
    n, channels, height, width = x.shape
    columns = min(columns, n)
    rows, high, wide = -(-n // columns), height * scale, width * scale
    canvas = np.zeros((rows * (high + gap) - gap, columns * (wide + gap) - gap, channels + 1), np.uint8)
    big = x.repeat(scale, 2).repeat(scale, 3).transpose(0, 2, 3, 1)
    for i, tile in enumerate(big):
        top, left = (i // columns) * (high + gap), (i % columns) * (wide + gap)
        canvas[top : top + high, left : left + wide, :-1] = tile
        canvas[top : top + high, left : left + wide, -1] = 255
    return Image.fromarray(canvas)


def strip(x: Pixels, gap: int = 2, scale: int = 1) -> Image.Image:
    """Pictures (n, C, H, W) side by side."""
    return grid(x, len(x), gap, scale)


def film(
    frames: Sequence[Image.Image], pause: int = 140, linger: int = 2600, lossless: bool = False, most: int = 1_200_000
) -> bytes:
    """An animated WebP that loops for ever: `pause` milliseconds a frame, `linger` on the last.

    WebP: 25 frames of 64 faces take 306 kB, and 2.5 MB as a GIF, which has 256 colours at most. Frames that no
    eye tells apart become one that lasts longer. Lossless is the better one for pictures of few, sharp pixels.
    Noisy pictures are coded more coarsely until they fit into `most` bytes, or as well as they can.
    """
    if not frames:
        raise BadInput("a film needs at least one frame")
    durations = [pause] * (len(frames) - 1) + [linger]
    if lossless:
        return _webp(frames, durations, 90, True)
    content = b""
    for quality in (90, 70, 45):
        content = _webp(frames, durations, quality, False)
        if len(content) <= most:
            break
    return content


def still(image: Image.Image) -> bytes:
    """One frame of a film, as a WebP."""
    return _webp([image], [0], 85, False)


def _webp(frames: Sequence[Image.Image], durations: list[int], quality: int, lossless: bool) -> bytes:
    first, *rest = [frame.convert("RGBA") for frame in frames]
    more = {"save_all": True, "append_images": rest, "duration": durations, "loop": 0} if rest else {}
    buffer = io.BytesIO()
    first.save(buffer, "WEBP", lossless=lossless, quality=quality, method=4, **more)
    return buffer.getvalue()


def png(image: Image.Image) -> bytes:
    """A PNG file; the same pixels give the same bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def data_uri(content: bytes, mime: str) -> str:
    """A file as an address that holds the file itself.

    >>> data_uri(b"dream", "text/plain")
    'data:text/plain;base64,ZHJlYW0='
    """
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"
