"""Decoded pictures on disk: an .npy that is mapped and a JSON that says what is in it, made whole or not at all."""

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from reverie.core.errors import BadInput


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/reverie, or ~/.cache/reverie."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reverie"


def cached(key: Any, build: Callable[[Path], dict[str, Any]]) -> tuple[Path, dict[str, Any]]:
    """The rows (an .npy file) and what is known of them, for a `key` of plain JSON.

    `build(path)` writes the rows to `path` and returns what is to be known; it is called only if there is no whole
    cache for the key. BadInput if the folder cannot be written.
    """
    name = hashlib.blake2b(json.dumps(key, sort_keys=True).encode(), digest_size=16).hexdigest()
    folder = cache_folder() / name
    if (found := _read(folder)) is not None:
        return folder / "rows.npy", found
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder.parent)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".building-") as made:
            new = Path(made) / "new"
            new.mkdir()
            about = build(new / "rows.npy")
            about["bytes"] = (new / "rows.npy").stat().st_size
            about["content"] = _content(new / "rows.npy")
            (new / "about.json").write_text(json.dumps(about))
            if folder.exists() and _read(folder) is None:  # torn or from another version
                shutil.rmtree(folder)
            try:
                new.rename(folder)
            except OSError:
                if _read(folder) is None:  # otherwise another process was quicker, with the same rows
                    raise
    except OSError as error:
        raise BadInput(
            f"cannot keep decoded pictures in {cache_folder()}: {error.strerror or error}; "
            "free space there, or set XDG_CACHE_HOME to another folder"
        ) from error
    found = _read(folder)
    assert found is not None
    return folder / "rows.npy", found


def _content(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]


def _sweep(folder: Path) -> None:
    """Removes what a process that was killed left half made, a day ago or longer."""
    for left in folder.glob(".building-*"):
        if time.time() - left.stat().st_mtime > 86_400:
            shutil.rmtree(left, ignore_errors=True)


def _read(folder: Path) -> dict[str, Any] | None:
    """What is known of a whole cache; None if there is none."""
    try:
        about = json.loads((folder / "about.json").read_text())
        if (folder / "rows.npy").stat().st_size != about["bytes"] or "content" not in about:
            return None
        np.load(folder / "rows.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return about
