"""Data sets of a hub, through the library `datasets`."""

import io
from pathlib import Path
from typing import Any

from PIL import Image

from reverie.core.errors import BadInput
from reverie.data.builtin import from_cache
from reverie.data.cache import cached
from reverie.data.config import DataConfig
from reverie.data.data import Data
from reverie.data.folders import Progress, decode
from reverie.data.pictures import Unusable, open_picture, suited_shape


def open_hub(name: str, config: DataConfig, progress: Progress | None = None) -> Data:
    """`hf:NAME` or `hf:NAME:CONFIG`: the pictures and labels of a data set, fetched by the library `datasets`.

    NAME may also be a folder with such a data set. All its own splits are put together and split by content.
    """
    try:
        import datasets
    except ImportError as error:
        raise BadInput("hf: needs the package datasets, which is not installed: pip install 'reverie[hub]'") from error
    repository, _, part = name.removeprefix("hf:").partition(":")
    try:
        loaded = datasets.load_dataset(repository, part or None)
    except Exception as error:  # its errors are many and its own; each means that there is no such data set here
        raise BadInput(f"cannot load {name}: {' '.join(str(error).split())[:120]}") from error
    tables = list(loaded.values())
    features = tables[0].features
    column = next((n for n, f in features.items() if isinstance(f, datasets.Image)), None)
    if column is None:
        raise BadInput(f"{name} has no column of pictures; it has {', '.join(features)}")
    label = next((n for n, f in features.items() if isinstance(f, datasets.ClassLabel)), None)
    whole = datasets.concatenate_datasets([t.select_columns([c for c in (column, label) if c]) for t in tables])
    # The files as they are: the library would stop at the first damaged one.
    whole = whole.cast_column(column, datasets.Image(decode=False))
    key = ["hub 2", name, whole._fingerprint, config.size, config.fit, config.colour]

    def picture(i: int) -> Image.Image:
        cell = whole[i][column]
        if cell is None or not (cell["bytes"] or cell["path"]):
            raise Unusable("no picture in this row")
        return open_picture(io.BytesIO(cell["bytes"]) if cell["bytes"] else Path(cell["path"]))

    def build(out: Path) -> dict[str, Any]:
        size = config.size or suited_shape(_shapes(picture, len(whole)))
        told = f"of {len(whole)} rows of {name}"
        order, about = decode(out, len(whole), picture, size, config, told, lambda i: f"row {i}", None, progress)
        if label:
            about |= {"classes": features[label].names, "labels": [whole[int(i)][label] for i in order]}
        return about

    rows, about = cached(key, build)
    extra = {} if config.size is None else {"size": list(config.size)}
    return from_cache(name, rows, about, config, {"source": name, "fit": config.fit, "colour": config.colour} | extra)


def _shapes(picture: Any, count: int) -> list[tuple[int, int]]:
    shapes = []
    for i in range(0, count, max(1, count // 200)):
        try:
            shapes.append(picture(i).size[::-1])
        except Unusable:
            continue
    return shapes
