"""Arrays in .npy and .npz files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reverie.core.errors import BadInput
from reverie.core.space import Space
from reverie.data.codecs import TOP, Binarised, Bits, Bytes, Codec, Counts, Standard
from reverie.data.config import DataConfig
from reverie.data.data import Data, splits
from reverie.data.splitting import content_hash, split_by_content


def open_array(path: Path, config: DataConfig) -> Data:
    """Examples along the first axis: bytes (N, H, W), (N, C, H, W) or (N, H, W, C); bits; counts (N, D); real
    points (N, D), pictures, with NaN where nothing was measured.

    An .npz holds `x` and perhaps labels `y`, or one array of any name. Nothing is ever unpickled.
    """
    arrays = read_arrays(path)
    labels = arrays.pop("y", None)
    if "x" in arrays:
        array = arrays["x"]
    elif len(arrays) == 1:
        array = next(iter(arrays.values()))
    else:
        raise BadInput(f"{path} holds {', '.join(arrays) or 'nothing'}; name the examples x (and labels y)")
    array = _examples(array, str(path))
    names, numbers = _labels(labels, len(array), str(path))
    return from_array(path.name, array, {"source": str(path.absolute())}, config, numbers, names)


def from_array(
    name: str,
    array: np.ndarray,
    spec: dict[str, Any],
    config: DataConfig,
    labels: np.ndarray | None = None,
    classes: Sequence[str] = (),
    edges: tuple[int, int] | None = None,
) -> Data:
    """Data from examples in memory (N, *shape), split by content, or at `edges` where the split is given."""
    hashes = np.array([] if edges else [content_hash(row.tobytes()) for row in np.ascontiguousarray(array)], np.uint64)
    array, codec = _coded(array, config)
    if edges:
        cuts = edges
    else:
        order, cuts = split_by_content(hashes)
        array, labels = array[order], None if labels is None else labels[order]
    if array.dtype.kind == "f":
        codec = _standard(array[: cuts[0]], name)
    made = splits(array, cuts, len(array), labels)
    spec = spec | binarise_spec(config)
    return Data(name, Space(array.shape[1:], codec.kind), codec, *made, spec=spec, classes=tuple(classes))


def binarise_spec(config: DataConfig) -> dict[str, Any]:
    """What of the binarisation has to be told to `open_data`, so that the same coins fall again."""
    if config.binarise == "no":
        return {}
    return {"binarise": config.binarise} | (
        {"seed": config.seed} if config.binarise == "static" and config.seed else {}
    )


def binarised(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Bits thrown once: 1 with probability byte / 255."""
    return (rng.random(array.shape, dtype=np.float32) * 255 < array).astype(np.uint8)


def _coded(array: np.ndarray, config: DataConfig) -> tuple[np.ndarray, Codec]:
    if array.dtype.kind == "f":
        if config.binarise != "no":
            raise BadInput("--data.binarise is for bytes, and these are real numbers; leave it out")
        return array, Standard((0.0,), (1.0,))  # its numbers come from the training part
    if array.dtype == bool or array.max() <= 1:
        if config.binarise != "no":
            raise BadInput("--data.binarise is for bytes, and these are bits already; leave it out")
        return array.astype(np.uint8), Bits()
    if array.ndim == 2:
        if config.binarise != "no":
            raise BadInput("--data.binarise is for bytes, and these are counts (N, D); save pictures as (N, H, W)")
        return array.astype(np.int32), Counts()
    array = array.astype(np.uint8)
    if config.binarise == "static":
        return binarised(array, np.random.default_rng([config.seed, 1])), Bits()
    return array, Binarised() if config.binarise == "dynamic" else Bytes()


def _standard(train: np.ndarray, name: str) -> Standard:
    """Of each feature for points; of all entries together for anything larger; over what was measured."""
    axes = 0 if train.ndim == 2 else None
    if (holes := np.isnan(train)).any():
        if (never := holes.all(0)).any():
            entry = tuple(int(i) for i in np.argwhere(never)[0])
            raise BadInput(f"{name}: entry {entry} of an example is measured in no training example; leave it out")
        train = train.astype(np.float64)
        mean, scale = np.atleast_1d(np.nanmean(train, axes)), np.atleast_1d(np.nanstd(train, axes))
    else:
        mean, scale = np.atleast_1d(train.mean(axes, np.float64)), np.atleast_1d(train.std(axes, np.float64))
    scale = np.where(scale > 0, scale, 1.0)  # a feature that never changes
    return Standard(tuple(mean.tolist()), tuple(scale.tolist()))


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz by their names, or that of an .npy as x."""
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            return dict(loaded.items()) if isinstance(loaded, np.lib.npyio.NpzFile) else {"x": loaded}
    except Exception as error:  # a damaged file can raise anything at all, from zipfile, zlib, or out of memory
        if isinstance(error, ValueError) and "pickle" in str(error).lower():
            raise BadInput(f"{path} holds Python objects, or is no array file; save it as plain numbers") from error
        said = " ".join(str(error).split())[:80] or type(error).__name__
        raise BadInput(f"{path} is not a whole array file ({said}); save it again") from error


def _examples(array: np.ndarray, name: str) -> np.ndarray:
    """(N, *shape), with pictures as (N, C, H, W); BadInput for what cannot be examples."""
    if array.dtype.kind not in "buif":
        raise BadInput(f"{name} holds {array.dtype}, not numbers")
    if array.ndim not in (2, 3, 4):
        raise BadInput(f"{name} has shape {array.shape}; points are (N, D), pictures (N, H, W) or (N, C, H, W)")
    if len(array) < 3 or 0 in array.shape:
        raise BadInput(f"{name} has shape {array.shape}; at least 3 examples are needed")
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):  # too large for 32 bits becomes infinite, and is told below
            array = array.astype(np.float32)
    if array.dtype.kind == "f":
        if (bad := np.isinf(array)).any():
            first = tuple(int(i) for i in np.argwhere(bad)[0])
            raise BadInput(f"{name} holds {int(bad.sum())} infinite values, the first at {first}; remove them")
        array[np.isnan(array)] = np.nan  # not a number has many patterns of bits, and content is known by its bits
    if array.dtype.kind in "ui":
        top, what = (TOP, "counts") if array.ndim == 2 else (255, "bytes")
        if array.min() < 0 or array.max() > top:
            raise BadInput(
                f"{name} holds whole numbers from {array.min()} to {array.max()}; {what} go from 0 to {top}, "
                "other numbers are saved as float32"
            )
    if array.ndim == 3:
        return array[:, None]
    if array.ndim == 4 and array.shape[1] not in (1, 3) and array.shape[3] in (1, 3):
        return array.transpose(0, 3, 1, 2)
    return array


def _labels(labels: np.ndarray | None, n: int, name: str) -> tuple[tuple[str, ...], np.ndarray | None]:
    if labels is None:
        return (), None
    if labels.shape != (n,):
        raise BadInput(f"{name} has {n} examples and labels of shape {labels.shape}; give one label for each")
    names, numbers = np.unique(labels, return_inverse=True)
    return tuple(map(str, names)), numbers
