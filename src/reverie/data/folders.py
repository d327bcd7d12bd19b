"""Many pictures: decoded once, split by content, written in order, in memory that does not grow with their number."""

import hashlib
import os
import warnings
from array import array
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from reverie.core.errors import BadInput
from reverie.data.cache import cached
from reverie.data.config import DataConfig
from reverie.data.pictures import SUFFIXES, Unusable, fitted, is_grey, is_picture, open_picture, suited_size
from reverie.data.splitting import content_hash, split_by_content

Progress = Callable[[int, int], None]


def picture_files(folder: Path) -> list[str]:
    """Every picture below `folder`, relative to it, in the order of their names; BadInput if there is none."""
    every = [os.path.relpath(os.path.join(top, name), folder) for top, _, names in os.walk(folder) for name in names]
    files = sorted(name for name in every if is_picture(Path(name)))
    if not files:
        found = sorted({Path(name).suffix or Path(name).name for name in every})[:5]
        what = f"only {', '.join(found)} files" if found else "nothing"
        raise BadInput(
            f"no pictures in {folder} ({what} there); give a folder of {', '.join(sorted(SUFFIXES)[:6])} … files"
        )
    return files


def decode_folder(
    folder: Path,
    config: DataConfig,
    progress: Progress | None = None,
    files: Sequence[str] | None = None,
    by_class: bool = False,
) -> tuple[Path, dict[str, Any]]:
    """The pictures of a folder as rows (N, C, H, W) uint8 in a cache file, split by content; and what is known of them.

    `files`: these alone. `by_class`: pictures in the same folder stay on one side of the split.
    """
    files = files or picture_files(folder)
    listing = hashlib.blake2b(digest_size=16)
    for name in files:
        state = (folder / name).lstat()
        listing.update(f"{name}\0{state.st_size}\0{state.st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
    key = ["folder 2", str(folder.absolute()), listing.hexdigest(), config.size, config.fit, config.colour, by_class]

    def build(out: Path) -> dict[str, Any]:
        size = config.size or suited_size([folder / name for name in files])
        groups = [Path(name).parts[0] for name in files] if by_class else None
        order, about = decode(
            out, len(files), lambda i: open_picture(folder / files[i]), size, config,
            f"of {len(files)} pictures in {folder}", files.__getitem__, groups, progress,
        )  # fmt: skip
        parents = [Path(files[i]).parts[:-1][:1] for i in order]
        classes = sorted({parent[0] for parent in parents if parent})
        if len(classes) > 1 and all(parents):
            about |= {"classes": classes, "labels": [classes.index(parent[0]) for parent in parents]}
        return about

    return cached(key, build)


def decode(
    out: Path,
    count: int,
    picture: Callable[[int], Image.Image],
    size: tuple[int, int],
    config: DataConfig,
    where: str,
    name: Callable[[int], str],
    groups: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Writes the rows of `count` pictures to `out` as (N, C, H, W) uint8, and tells the order in which it took them.

    Each is decoded once. `picture(i)` is an L or RGB picture, or raises Unusable; then `name(i)` is listed as skipped.
    """
    grey = config.colour == "grey"
    width = (1 if grey else 3) * size[0] * size[1]
    skipped: list[tuple[str, str]] = []
    hashes, used = array("Q"), array("q")
    coloured = config.colour == "rgb"

    def work(i: int) -> tuple[bytes, int, bool] | str:
        try:
            image = picture(i)
            no_colour = grey or (config.colour == "auto" and is_grey(image))
            row = fitted(image, size, config.fit, no_colour)
            # Of the whole picture, so that a split depends neither on size nor on the format of the file.
            told = content_hash(f"{image.mode} {image.size}".encode() + image.tobytes())
            return (row if grey or len(row) == 3 else np.repeat(row, 3, 0)).tobytes(), told, not no_colour
        except Unusable as error:
            return str(error)

    scratch = out.with_name("scratch")  # in the order in which they come; plain files: a full disk under a map kills
    with scratch.open("wb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # here, since two threads cannot set and restore filters side by side
        for i, done in enumerate(_in_order(work, count)):
            if isinstance(done, str):
                skipped.append((name(i), done))
            else:
                file.write(done[0])
                hashes.append(done[1])
                used.append(i)
                coloured |= done[2]
            if progress:
                progress(i + 1, count)
    if len(used) < 3:
        first = f" (for one, {skipped[0][0]}: {skipped[0][1]})" if skipped else ""
        raise BadInput(f"{len(used)} {where} can be used{first}; at least 3 are needed")
    taken = np.array(used)
    order, cuts = split_by_content(np.array(hashes, np.uint64), None if groups is None else [groups[i] for i in taken])
    channels = 3 if coloured else 1
    with scratch.open("rb") as made, out.open("wb") as rows:
        shape = (len(order), channels, *size)
        np.lib.format.write_array_header_1_0(rows, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for i in order:
            made.seek(int(i) * width)
            rows.write(made.read(width)[: channels * size[0] * size[1]])  # three equal channels become one
    scratch.unlink()
    return taken[order], {"cuts": list(cuts), "skipped": skipped}


def _in_order(work: Callable[[int], Any], count: int) -> Iterator[Any]:
    """work(i) for each, two at a time, no more than a few results waiting."""
    with ThreadPoolExecutor(2) as pool:
        for i in range(0, count, 64):
            yield from pool.map(work, range(i, min(i + 64, count)))
