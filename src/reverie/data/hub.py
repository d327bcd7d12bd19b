"""Data sets of a hub, through the library `datasets`."""

from pathlib import Path
from typing import Any

import numpy as np

from reverie.core.errors import BadInput
from reverie.data.builtin import from_cache
from reverie.data.cache import cached
from reverie.data.config import DataConfig
from reverie.data.data import Data, content_hash, split_by_content
from reverie.data.pictures import Progress, _is_grey, _plain, fitted, suited_shape


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
    pictures = next((n for n, f in tables[0].features.items() if isinstance(f, datasets.Image)), None)
    if pictures is None:
        raise BadInput(f"{name} has no column of pictures; it has {', '.join(tables[0].features)}")
    label = next((n for n, f in tables[0].features.items() if isinstance(f, datasets.ClassLabel)), None)
    whole = datasets.concatenate_datasets([t.select_columns([c for c in (pictures, label) if c]) for t in tables])
    if len(whole) < 3:
        raise BadInput(f"{name} has {len(whole)} pictures; at least 3 are needed")
    key = ["hub 1", name, whole._fingerprint, config.size, config.fit, config.colour]

    def build(out: Path) -> dict[str, Any]:
        first = [_plain(whole[i][pictures]) for i in range(0, len(whole), max(1, len(whole) // 200))]
        size = config.size or suited_shape([(p.height, p.width) for p in first])
        grey = config.colour == "grey" or (config.colour == "auto" and all(p.mode == "L" or _is_grey(p) for p in first))
        rows = np.lib.format.open_memmap(out, "w+", np.uint8, (len(whole), 1 if grey else 3, *size))
        hashes = []
        for i, row in enumerate(whole):
            picture = fitted(_plain(row[pictures]), size, config.fit, grey)
            rows[i] = picture
            hashes.append(content_hash(picture.tobytes()))
            if progress:
                progress(i + 1, len(whole))
        order, cuts = split_by_content(hashes)
        rows[:] = rows[order]
        rows.flush()
        labels = np.array(whole[label])[order].tolist() if label else None
        return {"cuts": list(cuts), "classes": tables[0].features[label].names if label else [], "labels": labels}

    rows, about = cached(key, build)
    extra = {} if config.size is None else {"size": list(config.size)}
    return from_cache(name, rows, about, config, {"source": name, "fit": config.fit, "colour": config.colour} | extra)
