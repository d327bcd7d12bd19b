"""Folders of pictures: the good ones used, the bad ones told, whatever their names and order."""

import json
import os
import shutil
import tracemalloc
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from reverie.core.errors import BadInput
from reverie.data import folders, open_data
from reverie.data.cache import cache_folder


@pytest.fixture(autouse=True)
def _own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def picture(i, colour=False, shape=(8, 8)):
    pixels = np.random.default_rng(i).integers(0, 256, (*shape, 3) if colour else shape, np.uint8)
    return Image.fromarray(pixels)


def fill(folder, n, name="{}.png", colour=False, shape=(8, 8)):
    for i in range(n):
        path = folder / name.format(i)
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(i, colour, shape).save(path)
    return folder


def rows(data):
    return [{row.numpy().tobytes() for row in split.raw()} for split in (data.train, data.valid, data.test)]


def test_every_picture_arrives_as_it_is(tmp_path):
    data = open_data(fill(tmp_path / "p", 20, colour=True), size=(8, 8))
    assert data.space.shape == (3, 8, 8)
    truth = {np.asarray(picture(i, True)).transpose(2, 0, 1).tobytes() for i in range(20)}
    train, valid, test = rows(data)
    assert (len(train), len(valid), len(test)) == (16, 2, 2)
    assert train | valid | test == truth


def test_names_and_order_do_not_matter(tmp_path):
    a = open_data(fill(tmp_path / "a", 20), size=(8, 8))
    b = open_data(fill(tmp_path / "b", 20, "{0}{0}{0}.bmp"), size=(8, 8))  # and neither does the format
    c = open_data(fill(tmp_path / "c", 20, "x/{}.png"), size=(8, 8))
    assert rows(a) == rows(b) == rows(c)
    assert a.fingerprint == b.fingerprint == c.fingerprint


def test_the_size_does_not_change_who_is_held_out(tmp_path):
    folder = fill(tmp_path / "p", 30, "{:02}.png")
    labels = {}
    for i in range(30):  # grey by number, so that a picture is known at any size
        Image.new("L", (16, 16), 5 * i).save(folder / f"{i:02}.png")
    for size in ((16, 16), (8, 8), (8, 4)):
        data = open_data(folder, size=size)
        labels[size] = [split.raw()[:, 0, 0, 0].tolist() for split in (data.train, data.valid, data.test)]
    assert labels[16, 16] == labels[8, 8] == labels[8, 4]


def test_copies_never_straddle(tmp_path):
    folder = fill(tmp_path / "a", 20)
    for i in range(0, 20, 2):
        picture(i).save(folder / f"copy of {i}.bmp")
        picture(i).convert("RGB").convert("L").save(folder / f"another {i}.png")
    data = open_data(folder, size=(8, 8))
    train, valid, test = rows(data)
    assert not (train & valid)
    assert not (train & test)
    assert not (valid & test)
    assert sum(map(len, (data.train, data.valid, data.test))) == 40


def test_class_folders_become_labels(tmp_path):
    fill(tmp_path / "p" / "cats", 12)
    for i in range(12, 24):
        (tmp_path / "p" / "dogs" / "small").mkdir(parents=True, exist_ok=True)
        picture(i).save(tmp_path / "p" / "dogs" / "small" / f"{i}.png")
    data = open_data(tmp_path / "p", size=(8, 8))
    cats = {np.asarray(picture(i)).tobytes() for i in range(12)}
    assert data.classes == ("cats", "dogs")
    for split in (data.train, data.valid, data.test):
        for row, label in zip(split.raw(), split.labels, strict=True):
            assert (row.numpy().tobytes() in cats) == (data.classes[label] == "cats")
    batch = next(data.batches(6, seed=0))
    for x, label in zip(data.codec.to_world(batch.x), batch.given, strict=True):
        assert (x.numpy().tobytes() in cats) == (label == 0)


def test_no_classes_without_class_folders(tmp_path):
    folder = fill(tmp_path / "p" / "cats", 12)
    assert open_data(folder.parent).classes == ()  # one class is none
    picture(99).save(folder.parent / "loose.png")
    fill(tmp_path / "p" / "dogs", 3)
    data = open_data(folder.parent)
    assert data.classes == ()
    assert data.train.labels is None


def spoil(folder):
    """Bad files by name, and what is told of each."""
    whole = (folder / "0.png").read_bytes()
    (folder / "bad text.png").write_text("no picture")
    (folder / "bad empty.png").write_bytes(b"")
    (folder / "bad short.png").write_bytes(whole[: len(whole) // 2])
    picture(0).save(folder / "bad moving.gif", save_all=True, append_images=[picture(1)])
    reasons = {"text.png": "not a picture", "empty.png": "empty file", "short.png": "damaged", "moving.gif": "animated"}
    return {f"bad {name}": reason for name, reason in reasons.items()}


def test_bad_files_are_told_and_the_good_ones_used(tmp_path):
    folder = fill(tmp_path / "p", 10)
    clean = rows(open_data(folder, size=(8, 8)))
    bad = spoil(folder)
    for _ in range(2):  # as it is decoded, and from the cache
        data = open_data(folder, size=(8, 8))
        assert rows(data) == clean
        told = dict(data.skipped)
        assert told.keys() == bad.keys()
        assert all(told[name].startswith(reason) for name, reason in bad.items())


def test_an_unreadable_file_is_told(tmp_path, monkeypatch):
    folder = fill(tmp_path / "p", 6)
    (folder / "gone.png").symlink_to(tmp_path / "nowhere")
    data = open_data(folder, size=(8, 8))
    assert data.skipped == (("gone.png", "no such file"),)


def test_a_folder_of_nothing_good_is_one_line(tmp_path):
    folder = fill(tmp_path / "p", 1)
    bad = spoil(folder)
    (folder / "0.png").unlink()
    with pytest.raises(
        BadInput, match=f"0 of {len(bad)} pictures .* can be used.*for one, bad empty.png: empty"
    ) as caught:
        open_data(folder)
    assert "\n" not in str(caught.value)
    assert list(cache_folder().iterdir()) == []


def test_empty_and_foreign_folders_are_one_line(tmp_path):
    (tmp_path / "p").mkdir()
    with pytest.raises(BadInput, match=r"no pictures in .*nothing there"):
        open_data(tmp_path / "p")
    (tmp_path / "p" / "a.docx").write_text("")
    with pytest.raises(BadInput, match=r"only \.docx files"):
        open_data(tmp_path / "p")
    with pytest.raises(BadInput, match="no such path"):
        open_data(tmp_path / "q")
    with pytest.raises(BadInput, match="neither a folder"):
        open_data(tmp_path / "p" / "a.docx")
    with pytest.raises(BadInput, match=r"no data called 'facse'.*faces"):
        open_data("facse")


def test_too_few_different_pictures_is_one_line(tmp_path):
    folder = tmp_path / "p"
    folder.mkdir()
    for i in range(5):
        picture(0).save(folder / f"{i}.png")
    with pytest.raises(BadInput, match=r"only 1 different"):
        open_data(folder)


def test_colour_is_taken_where_any_picture_has_it(tmp_path):
    folder = fill(tmp_path / "p", 6)
    assert open_data(folder, size=(8, 8)).space.shape == (1, 8, 8)
    assert open_data(folder, size=(8, 8), colour="rgb").space.shape == (3, 8, 8)
    picture(50, colour=True).save(folder / "colour.png")
    data = open_data(folder, size=(8, 8))
    assert data.space.shape == (3, 8, 8)
    flat = torch.cat([split.raw() for split in (data.train, data.valid, data.test)])
    grey = [row for row in flat if (row == row[:1]).all()]
    assert {row[0].numpy().tobytes() for row in grey} == {np.asarray(picture(i)).tobytes() for i in range(6)}
    assert open_data(folder, size=(8, 8), colour="grey").space.shape == (1, 8, 8)


def test_size_follows_the_pictures(tmp_path):
    assert open_data(fill(tmp_path / "tall", 5, shape=(56, 46))).space.shape == (1, 48, 40)
    assert open_data(fill(tmp_path / "wide", 5, shape=(46, 56))).space.shape == (1, 40, 48)


def test_each_picture_is_decoded_once_and_then_never(tmp_path, monkeypatch):
    folder = fill(tmp_path / "p", 10)
    seen = Counter()
    opened = folders.open_picture
    monkeypatch.setattr(folders, "open_picture", lambda path: seen.update([path.name]) or opened(path))
    steps = []
    for _ in range(2):
        open_data(folder, size=(8, 8), progress=lambda done, total: steps.append((done, total)))
    assert seen == {f"{i}.png": 1 for i in range(10)}
    assert steps == [(i + 1, 10) for i in range(10)]


def test_a_changed_folder_is_decoded_again(tmp_path):
    folder = fill(tmp_path / "p", 10)
    before = open_data(folder, size=(8, 8))
    picture(77).save(folder / "3.png")
    os.utime(folder / "3.png", (1, 1))
    after = open_data(folder, size=(8, 8))
    assert before.fingerprint != after.fingerprint
    assert np.asarray(picture(77)).tobytes() in set.union(*rows(after))


def test_the_same_again_from_its_spec(tmp_path):
    folder = fill(tmp_path / "p", 12, colour=True)
    options = [
        {},
        {"size": (8, 8)},
        {"colour": "grey", "fit": "pad"},
        {"binarise": "static", "seed": 3},
        {"binarise": "dynamic"},
    ]
    prints = set()
    for option in options:
        data = open_data(folder, **option)
        again = open_data(**json.loads(json.dumps(data.spec)))
        assert again.fingerprint == data.fingerprint
        assert torch.equal(again.train.x(), data.train.x())
        prints.add(data.fingerprint)
    assert len(prints) == len(options)


def test_coins_thrown_once_are_bits_with_the_right_mean(tmp_path):
    folder = tmp_path / "p"
    folder.mkdir()
    for i in range(10):
        Image.new("L", (40, 40), 20 * i + 10).save(folder / f"{i}.png")
    plain = open_data(folder, size=(40, 40))
    data = open_data(folder, size=(40, 40), binarise="static")
    assert data.space.kind == "bit"
    for before, bits in zip(plain.train.raw(), data.train.raw(), strict=True):
        assert set(bits.unique().tolist()) <= {0, 1}
        assert bits.float().mean().item() == pytest.approx(before[0, 0, 0].item() / 255, abs=4 * 0.5 / 40)
    other = open_data(folder, size=(40, 40), binarise="static", seed=1)
    assert not torch.equal(other.train.raw(), data.train.raw())


def test_a_cache_torn_between_two_runs_is_made_again(tmp_path):
    folder = fill(tmp_path / "p", 10)
    before = open_data(folder, size=(8, 8))
    file = before.train.source
    file.write_bytes(file.read_bytes()[:100])
    assert rows(open_data(folder, size=(8, 8))) == rows(before)


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    folder = fill(tmp_path / "p", 10)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", full)
    with pytest.raises(BadInput, match="No space left on device; free space"):
        open_data(folder, size=(8, 8))
    assert list(cache_folder().iterdir()) == []


def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path):
    folder = fill(tmp_path / "p", 8, "{:04}.png", shape=(64, 64))
    peaks = []
    for n in (100, 400):
        for i in range(8, n):
            shutil.copy(folder / f"{i % 8:04}.png", folder / f"{i:04}.png")
        tracemalloc.start()
        data = open_data(folder, size=(64, 64))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert sum(map(len, (data.train, data.valid, data.test))) == n
    assert peaks[1] - peaks[0] < 300 * 2048  # half of what the 300 more would take
