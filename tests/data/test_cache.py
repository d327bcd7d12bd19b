"""The cache is made once, whole or not at all."""

import errno
import json
import os
import time

import numpy as np
import pytest

from reverie.core.errors import BadInput
from reverie.data import cache


@pytest.fixture(autouse=True)
def _own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


class Builder:
    """Writes one row, and counts how often it is asked to."""

    def __init__(self, value=7):
        self.calls, self.value = 0, value

    def __call__(self, path):
        self.calls += 1
        np.save(path, np.full((1, 3), self.value, np.uint8))
        return {"told": [1, 2]}


def test_built_once_and_found_again(tmp_path):
    build = Builder()
    for _ in range(2):
        rows, about = cache.cached(["key", 1], build)
        assert np.load(rows).tolist() == [[7, 7, 7]]
        assert about["told"] == [1, 2]
        assert tmp_path in rows.parents
    assert build.calls == 1
    cache.cached(["key", 2], build)
    assert build.calls == 2


def test_content_is_told_apart_whatever_the_key():
    one, same, other = (cache.cached([i], Builder(v))[1]["content"] for i, v in enumerate((7, 7, 8)))
    assert one == same != other


@pytest.mark.parametrize("tear", ["rows short", "no rows", "about torn", "no about", "about a list", "rows no array"])
def test_a_torn_cache_is_made_again(tear):
    build = Builder()
    rows, about = cache.cached("key", build)
    told = rows.with_name("about.json")
    match tear:
        case "rows short":
            rows.write_bytes(rows.read_bytes()[:-1])
        case "no rows":
            rows.unlink()
        case "about torn":
            told.write_text(told.read_text()[:-4])
        case "no about":
            told.unlink()
        case "about a list":
            told.write_text("[]")
        case "rows no array":
            rows.write_bytes(b"x" * about["bytes"])
    again, known = cache.cached("key", build)
    assert build.calls == 2
    assert known == about
    assert np.load(again).tolist() == [[7, 7, 7]]


def test_a_build_that_fails_leaves_nothing():
    def fails(path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.cached("key", fails)
    assert list(cache.cache_folder().iterdir()) == []
    build = Builder()
    cache.cached("key", build)
    assert build.calls == 1


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_full_or_read_only_place_is_one_clear_line(code):
    def full(path):
        raise OSError(code, os.strerror(code))

    with pytest.raises(BadInput, match="cannot keep decoded pictures") as caught:
        cache.cached("key", full)
    assert os.strerror(code) in str(caught.value)
    assert "XDG_CACHE_HOME" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(BadInput, match="cannot keep decoded pictures"):
        cache.cached("key", Builder())


def test_another_process_may_be_quicker():
    slow, quick = Builder(), Builder()

    def overtaken(path):
        cache.cached("key", quick)
        return slow(path)

    rows, about = cache.cached("key", overtaken)
    assert np.load(rows).tolist() == [[7, 7, 7]]
    assert json.loads(rows.with_name("about.json").read_text()) == about
    assert [p.name for p in cache.cache_folder().iterdir()] == [rows.parent.name]


def test_what_a_killed_process_left_is_swept_after_a_day():
    old, new = (cache.cache_folder() / f".building-{name}" for name in ("old", "new"))
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "rows.npy").write_bytes(b"half")
    os.utime(old, (0, time.time() - 2 * 86_400))
    cache.cached("key", Builder())
    assert not old.exists()
    assert new.exists()


def test_what_another_process_is_using_is_left_alone():
    def overtaken(path):
        rows, _ = cache.cached("key", Builder(8))
        inodes.append(rows.stat().st_ino)
        return Builder(7)(path)

    inodes = []
    rows, about = cache.cached("key", overtaken)
    assert rows.stat().st_ino == inodes[0]
    assert np.load(rows).tolist() == [[8, 8, 8]]
    assert json.loads(rows.with_name("about.json").read_text()) == about
