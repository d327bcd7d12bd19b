"""Data sets of a hub: here, folders in the same form, so that no network is needed."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from reverie.core.errors import BadInput
from reverie.data import open_data

datasets = pytest.importorskip("datasets")
pytestmark = pytest.mark.filterwarnings("ignore")  # the library's own


@pytest.fixture(autouse=True)
def _own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def pixels(i):
    return np.random.default_rng(i).integers(0, 256, (8, 8), np.uint8)


def parquet(folder, cells, labels=None):
    """A data set as the hub keeps it."""
    features = {"image": datasets.Image()} | ({"label": datasets.ClassLabel(names=["odd", "even"])} if labels else {})
    columns = {"image": [{"bytes": c, "path": None} for c in cells]} | ({"label": labels} if labels else {})
    folder.mkdir()
    table = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    table.to_parquet(str(folder / "train.parquet"))
    return f"hf:{folder}"


def encoded(i):
    file = io.BytesIO()
    Image.fromarray(pixels(i)).save(file, "PNG")
    return file.getvalue()


def every(data):
    return torch.cat([split.raw() for split in (data.train, data.valid, data.test)])


def test_parquet_with_labels(tmp_path):
    name = parquet(tmp_path / "set", [encoded(i) for i in range(20)], [i % 2 for i in range(20)])
    data = open_data(name, size=(8, 8))
    assert data.classes == ("odd", "even")
    truth = {pixels(i).tobytes(): i % 2 for i in range(20)}
    for split in (data.train, data.valid, data.test):
        for row, label in zip(split.raw(), split.labels, strict=True):
            assert truth.pop(row.numpy().tobytes()) == label
    assert not truth
    again = open_data(**json.loads(json.dumps(data.spec)))
    assert again.fingerprint == data.fingerprint
    assert again.train.source == data.train.source  # found in the cache


def test_a_folder_of_pictures_gives_the_same_as_without_the_hub(tmp_path):
    for i in range(12):
        path = tmp_path / "set" / "train" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(i)).save(path)
    hub, own = open_data(f"hf:{tmp_path / 'set'}", size=(8, 8)), open_data(tmp_path / "set" / "train", size=(8, 8))
    assert torch.equal(every(hub), every(own))
    assert hub.classes == own.classes == ("a", "b")
    assert torch.equal(hub.train.labels, own.train.labels)


def test_damaged_rows_are_told(tmp_path):
    cells = [encoded(i) for i in range(10)]
    cells[4], cells[7] = b"text", cells[7][:70]
    data = open_data(parquet(tmp_path / "set", cells))
    assert len(every(data)) == 8
    told = dict(data.skipped)
    assert told.keys() == {"row 4", "row 7"}
    assert told["row 4"] == "not a picture"


def test_what_cannot_be_used_is_one_line(tmp_path):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.csv").write_text("a,b\n1,2\n")
    (tmp_path / "empty").mkdir()
    for name, says in (
        ("text", "no column of pictures; it has a, b"),
        ("empty", "cannot load"),
        ("none", "cannot load"),
    ):
        with pytest.raises(BadInput, match=says) as caught:
            open_data(f"hf:{tmp_path / name}")
        assert "\n" not in str(caught.value)
    with pytest.raises(BadInput, match="2 of 2 rows"):
        open_data(parquet(tmp_path / "two", [encoded(0), encoded(1)]))
    with pytest.raises(BadInput, match=r"no use for --data.count"):
        open_data(f"hf:{tmp_path}", count=5)


def test_without_the_library_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(BadInput, match=r"reverie\[hub\]"):
        open_data("hf:any/thing")
