"""Files that are written whole or not at all, and read with suspicion."""

import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from reverie.core.errors import BadInput


def write_atomically(path: Path, content: bytes) -> None:
    """Puts `content` at `path` whole or not at all, through a link where it is one; BadInput where the folder or the disk refuses, or where
    something lies there that is no file."""
    try:
        path = path.resolve()
        if path.exists() and not path.is_file():
            raise BadInput(f"cannot write {path}: it is no file; choose another place")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}")
        try:
            with open(temporary, "xb") as file:  # with the rights that this user's new files have
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror}; free space or choose another place") from error


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """While it lasts no other who asks has that folder; BadInput where one has it now. Where a system or a disk knows no such locks, anyone has it."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BadInput(f"{folder} is learning in another process; wait until it ends, or stop it") from error
        except OSError:
            pass
        yield
    finally:
        os.close(handle)


def as_json(value: Any) -> bytes:
    """Readable JSON with a final newline."""
    return (json.dumps(value, indent=2) + "\n").encode()


def whole_rows(lines: Iterable[str]) -> Iterator[str]:
    """The lines of a log up to the first that is torn."""
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            return
        if not isinstance(row, dict) or type(row.get("step")) is not int:
            return
        yield line


def at_rest(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """As a file holds them."""
    return {k: v.detach().cpu().contiguous() for k, v in tensors.items()}


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file; BadInput if it is not a whole one."""
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name).clone() for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{path} is damaged: {str(error).splitlines()[0]}; use another copy of the run") from error
