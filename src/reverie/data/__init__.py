"""Data: built in, in folders, in arrays, or on a hub."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reverie.core.config import check
from reverie.core.errors import BadInput
from reverie.data.arrays import open_array
from reverie.data.avatars import avatars
from reverie.data.brains import fmri, spikes
from reverie.data.builtin import digits, faces, fashion, from_cache, mnist5k
from reverie.data.config import DataConfig
from reverie.data.data import Data, Split
from reverie.data.folders import Progress, decode_folder
from reverie.data.hub import open_hub
from reverie.data.recordings import ARRAYS, open_recording
from reverie.data.scans import is_scan, is_spikes
from reverie.data.sheets import SUFFIXES
from reverie.data.systems import bursting_neuron, lorenz, lorenz96, rossler
from reverie.data.tables import open_table
from reverie.data.toys import bars, grid, kirby, rings, shifter

TOYS: dict[str, Callable[[DataConfig], Data]] = {
    "bars": bars, "shifter": shifter, "kirby": kirby, "rings": rings, "grid": grid,
}  # fmt: skip
SYSTEMS: dict[str, Callable[[DataConfig], Data]] = {
    "lorenz": lorenz, "rossler": rossler, "lorenz96": lorenz96, "bursting-neuron": bursting_neuron,
}  # fmt: skip
BRAINS: dict[str, Callable[[DataConfig], Data]] = {"fmri": fmri, "spikes": spikes}
# name -> how to open it
BUILTIN: dict[str, Callable[..., Data]] = {
    "faces": faces, "avatars": avatars, "digits": digits, "mnist5k": mnist5k, "fashion": fashion,
    **TOYS, **SYSTEMS, **BRAINS,
}  # fmt: skip

_SERIES, _COLUMNS = {"window", "split", "test", "kinds", "tr"}, {"trial", "inputs", "label", "drop"}
_SHOWN = {"faces", "avatars", "digits", "mnist5k", "fashion"}  # which take time to decode
_PICTURES = {"size", "fit", "colour", "binarise", "seed"}
_USES = {
    "faces": {"size", "fit", "binarise", "seed"},
    "avatars": {"size", "binarise", "count", "seed"},
    **{name: {"binarise", "seed"} for name in ("digits", "mnist5k", "fashion")},
    **{name: {"count", "seed"} for name in TOYS},
    **{name: {"count", "seed", "window", "split"} for name in SYSTEMS},
    **{name: {"window", "split"} for name in BRAINS},
}


def open_data(
    source: str | Path,
    config: DataConfig | None = None,
    *,
    progress: Progress | None = None,
    channels: tuple[str, ...] = (),
    **options: Any,
) -> Data:
    """Opens a built-in name, a folder of pictures, an array (.npy, .npz), a table (.csv, .parquet), a scan (.nii.gz), spikes (.nwb), or `hf:NAME`; with a
    `window`, an array or a table is a recording in time.

    Options are those of `DataConfig`; one that the source has no use for raises BadInput, as does a source
    that cannot be used. `progress(done, total)` is called while pictures are decoded for the first time. Of a recording in a table
    `channels` says which columns are meant, and in which order; without, they are all that is left, as they come.

    >>> open_data("kirby", count=50).space
    Space(shape=(1, 3, 3), kind='bit')
    """
    source = str(source)
    names = [field.name for field in dataclasses.fields(DataConfig)]
    if unknown := sorted(set(options) - set(names)):
        raise BadInput(f"data have no option {unknown[0]!r}; there are {', '.join(names)}")
    changes: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    config = dataclasses.replace(config or DataConfig(), **changes)
    check(config)
    if config.size is not None and (min(config.size) < 1 or max(config.size) > 4096):
        raise BadInput(f"--data.size is {config.size}; height and width go from 1 to 4096")
    _refuse_unused(source, config, used_by(source, config))
    if source in BUILTIN:
        opener = BUILTIN[source]
        return opener(config, progress) if source in _SHOWN else opener(config)
    if source.startswith("hf:"):
        return open_hub(source, config, progress)
    path = at_home(source)
    if path.is_file() and (is_scan(path) or is_spikes(path)):
        if config.window is None:
            raise BadInput(f"{source} is a recording; say how many steps are learned from together, with --data.window")
        return open_recording(path, config)
    if config.window is not None and path.is_file() and path.suffix.lower() in (*ARRAYS, *SUFFIXES):
        return open_recording(path, config, channels)
    if path.is_dir():
        rows, about = decode_folder(path, config, progress)
        spec: dict[str, Any] = {"source": str(path.absolute()), "fit": config.fit, "colour": config.colour}
        if config.size:
            spec["size"] = list(config.size)
        return from_cache(path.absolute().name, rows, about, config, spec)
    if path.suffix in (".npy", ".npz") and path.is_file():
        return open_array(path, config)
    if path.suffix.lower() in SUFFIXES and path.is_file():
        return open_table(path, config)
    if path.exists():
        raise BadInput(
            f"{source} is neither a folder of pictures nor an .npy, .npz, .csv, .parquet, .nii.gz or .nwb file"
        )
    kinds = f"no data called {source!r}, and no such path; built in are {', '.join(BUILTIN)}"
    raise BadInput(f"no such path: {source}" if "/" in source or path.suffix else kinds)


def used_by(source: str, config: DataConfig) -> set[str]:
    """The options that `open_data` has a use for, of that source; all where there is no such source."""
    if source in BUILTIN:
        return _USES[source]
    if source.startswith("hf:"):
        return _PICTURES
    path = at_home(source)
    if path.is_dir():
        return _PICTURES
    suffix = path.suffix.lower()
    if not path.is_file():
        return {field.name for field in dataclasses.fields(DataConfig)}  # told in other words
    if is_scan(path):
        return _SERIES - {"kinds"} | {"parcels"}
    if is_spikes(path):
        return _SERIES - {"kinds", "tr"} | {"bin"}
    if config.window is not None and suffix in (*ARRAYS, *SUFFIXES):
        return _SERIES | (_COLUMNS if suffix in SUFFIXES else set())
    if suffix in ARRAYS:
        return {"binarise", "seed"}
    return (
        {"kinds", "drop", "label"} if suffix in SUFFIXES else {field.name for field in dataclasses.fields(DataConfig)}
    )


def at_home(path: str | Path) -> Path:
    """A path with its ~ spelled out."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise BadInput(f"no such path: {path}; there is no such user") from error


def _refuse_unused(source: str, config: DataConfig, used: set[str]) -> None:
    if "count" not in used and config.binarise != "static":
        used = used - {"seed"}  # nothing is made and no coin is thrown once
    for field in dataclasses.fields(DataConfig):
        if field.name not in used and getattr(config, field.name) != field.default:
            raise BadInput(f"{source} has no use for --data.{field.name}; leave it out")


__all__ = ["BUILTIN", "Data", "DataConfig", "Split", "at_home", "open_data", "used_by"]
