"""What the commands read: pictures, arrays and tables that must fit a run, and masks."""

import math
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from torch import Tensor

from reverie.core.corruption import Corruption, PoissonNoise, SaltAndPepper
from reverie.core.errors import BadInput
from reverie.data import Data, DataConfig, open_data
from reverie.data.codecs import TOP, Binarised, Bits, Table
from reverie.data.data import without_holes
from reverie.data.pictures import is_picture, read_picture
from reverie.data.sheets import SUFFIXES, Sheet, read_sheet
from reverie.data.tables import LARGEST, coded
from reverie.progress import bar, say
from reverie.run import SEEDS, Run

Place = Annotated[str, tyro.conf.arg(metavar="FILE")]
Folder = tyro.conf.Positional[
    Annotated[
        str,
        tyro.conf.arg(
            metavar="RUN",
            help="a run folder; or the best.safetensors in it, where there is one, for its best weights and not the last",
        ),
    ]
]
File = tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="FILE", help="a picture, an .npy array, or a table")]]


def read(run: Run, file: str) -> Tensor:
    """(examples, *shape) world units, NaN where not measured, from what fits the run: a picture, an array, a table."""
    path = Path(file)
    if isinstance(codec := run.codec, Table) and not run.space.is_series:
        return read_rows(run, codec, file)[1]
    if path.suffix == ".npy":
        return _array(run, path)
    if not path.is_file():
        raise BadInput(f"no file {file}; give a picture or an .npy array")
    if not run.space.is_picture:
        raise BadInput(
            f"{run.name} was trained on examples of shape {run.space.shape}; give an .npy array of that shape"
        )
    if run.space.kind == "real":
        raise BadInput(
            f"{run.name} was trained on real numbers, and a picture file holds bytes; give an .npy array in the same units"
        )
    raw = _picture(run, path).unsqueeze(0)
    return (raw > 127).to(raw.dtype) if isinstance(codec, Bits) else raw


def _picture(run: Run, path: Path) -> Tensor:
    """(C, H, W) uint8, made to fit as the run's own pictures were."""
    return read_picture(path, run.space, run.config["data"]["spec"].get("fit", "crop"))


def read_rows(run: Run, codec: Table, file: str) -> tuple[Sheet, Tensor]:
    """A table with the run's columns, as it is written and (rows, D) in world units, NaN where a cell is missing."""
    path = Path(file)
    if codec.space != run.space:
        raise BadInput(f"{run.folder / 'config.json'} tells of two different tables; the folder is damaged")
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        raise BadInput(f"{run.name} was trained on a table, and {file} is none; give a .csv or .parquet file")
    sheet = read_sheet(path)
    return sheet, torch.from_numpy(coded(sheet, codec))


def same_pace(run: Run, tr: float, name: str) -> None:
    """BadInput where the seconds between two steps are known of both, and are not the same."""
    if tr and run.space.tr and not math.isclose(tr, run.space.tr, rel_tol=0.01):
        raise BadInput(
            f"{name} has a volume every {tr:g} s, and {run.name} learned from one every {run.space.tr:g} s; resample it, or say "
            "--data.tr if its header is wrong"
        )


def _array(run: Run, path: Path) -> Tensor:
    array, shape = _loaded(path), run.space.shape
    if array.shape == shape:
        array = array[None]
    if array.shape[1:] != shape or not len(array):
        raise BadInput(f"{path} has shape {array.shape}; {run.name} needs (n, {', '.join(map(str, shape))})")
    if array.dtype.kind not in "buif":
        raise BadInput(f"{path} holds {array.dtype}, not numbers")
    if run.space.kind == "mixed":
        return _mixed(run, array, path)
    real = run.space.kind == "real"
    if (
        array.dtype.kind == "f"
        and (~(np.abs(array) <= LARGEST) & ~np.isnan(array) if real else ~np.isfinite(array)).any()
    ):
        raise BadInput(f"{path} holds values that are not finite; mark them with --observed and put 0 there")
    if not real:
        top = TOP if run.space.kind == "count" else 1 if isinstance(run.codec, Bits) else 255
        if array.min() < 0 or array.max() > top or (array != np.round(array)).any():
            raise BadInput(f"{path} holds values other than the whole numbers 0 to {top}")
        return torch.from_numpy(array.astype(np.uint8 if top < TOP else np.int32))
    return torch.from_numpy(array.astype(np.float32))


def _loaded(path: Path) -> np.ndarray:
    """The array of an .npy file."""
    try:
        with path.open("rb") as file:
            array = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        said = " ".join(str(error).split())[:80]
        raise BadInput(f"{path} is not a readable .npy array ({said}); save it again") from error
    if not isinstance(array, np.ndarray):
        raise BadInput(f"{path} is not a readable .npy array, but an .npz of several; save the one that is meant")
    return array


def _mixed(run: Run, array: np.ndarray, path: Path) -> Tensor:
    """Series of channels of different kinds, NaN where not measured, a category its number."""
    raw = torch.from_numpy(array.astype(np.float32))
    for i, column in enumerate(run.space.columns):
        seen = raw[..., i][~raw[..., i].isnan()]
        top = column.levels - 1 if column.levels else TOP if column.kind == "count" else np.inf
        whole = column.kind == "real" or bool(((seen >= 0) & (seen == seen.round())).all())
        if not (whole and bool((seen.abs() <= top).all() & seen.isfinite().all())):
            wanted = "finite numbers" if column.kind == "real" else f"whole numbers from 0 to {top}"
            raise BadInput(
                f"{path}: channel {column.name!r} holds other values than {wanted}; NaN is what was not measured"
            )
    return raw


def read_observed(words: str, run: Run) -> Tensor | None:
    """(1, *shape) bool, True = measured; None for everything."""
    if words == "all":
        return None
    shape = run.space.shape
    known = torch.zeros(1, *shape, dtype=torch.bool)
    if words in ("left", "right", "top", "bottom"):
        axis = -1 if words in ("left", "right") else -2
        if len(shape) < 2:
            raise BadInput(f"--observed {words} is for pictures; give a boolean .npy of shape {shape}")
        half = shape[axis] // 2
        known.narrow(axis, 0 if words in ("left", "top") else shape[axis] - half, half).fill_(True)
        return known
    path = Path(words)
    if path.suffix == ".npy":
        array = _loaded(path)
        if array.dtype != bool or array.shape not in (shape, (1, *shape)):
            raise BadInput(f"--observed {path} is {array.dtype} {array.shape}; it must be bool {shape}")
        return torch.from_numpy(array.reshape(1, *shape))
    if not path.is_file() or not run.space.is_picture:
        raise BadInput(f"--observed {words}: give all, left, right, top, bottom, a picture or a boolean .npy file")
    return (_picture(run, path).float().mean(0, keepdim=True) > 127).expand(1, *shape)


def examples(run: Run, source: str) -> tuple[list[str], Tensor]:
    """Names and world values of what is to be measured."""
    path = Path(source)
    if path.is_dir() and run.space.is_picture:
        files = sorted(p for p in path.rglob("*") if is_picture(p))
        names, rows = [], []
        for file in files:
            try:
                rows.append(read(run, str(file)))
                names.append(str(file.relative_to(path)))
            except BadInput as error:
                say(f"left out {error}")
        if not rows:
            raise BadInput(f"no usable pictures in {source}")
        return names, torch.cat(rows)
    if path.exists():
        raw = read(run, source)
        return [path.name if len(raw) == 1 else f"{path.name}[{i}]" for i in range(len(raw))], raw
    told = run.config["data"]
    opened = run.data() if source == told["name"] else open_data(source, DataConfig())
    if opened.space != run.space:
        raise BadInput(f"{source} has examples {opened.space}, and {run.name} was trained on {run.space}")
    names = [f"test[{i}]" for i in range(len(opened.test))]
    return names, opened.test.raw()


def read_given(run: Run, words: str, n: int) -> Tensor | None:
    """(n,) the label called `words`, by its name or its number; None where nothing is given."""
    if not words:
        return None
    names = run.config["data"]["classes"]
    if not run.model.classes:
        raise BadInput(f"{run.name} was trained without labels; train with --model.classes, or leave --given out")
    if words not in names and not (words.isdecimal() and int(words) < run.model.classes):
        known = ", ".join(names[:20]) + (" …" if len(names) > 20 else "")
        raise BadInput(f"{run.name} has no label {words!r}; it has {known or f'0 to {run.model.classes - 1}'}")
    number = names.index(words) if words in names else int(words)
    return torch.full((n,), number)


def read_noise(run: Run, words: str) -> float | Corruption:
    """The deviation of Gaussian noise in model units, or another corruption; 0 for none."""
    kind, _, number = words.rpartition(":")
    try:
        size = float(number)
    except ValueError:
        size = -1.0
    if kind not in ("", "poisson", "salt-and-pepper") or not size >= 0:
        raise BadInput(f"--noise is {words}; give a standard deviation, poisson:PEAK or salt-and-pepper:SHARE")
    low, high = (0.0, 1.0) if run.space.kind == "bit" else (-1.0, 1.0)
    if kind and run.space.kind not in ("bit", "byte"):
        raise BadInput(f"--noise {kind} is for pictures of bytes or bits, and {run.name} has {run.space.kind} entries")
    if kind == "poisson":
        return PoissonNoise(size, low, high)
    if kind == "salt-and-pepper":
        return SaltAndPepper(size, low, high)
    if size and isinstance(run.codec, Binarised):
        raise BadInput(
            f"{run.name} sees a picture through coins, to which no Gaussian noise is added; give --noise salt-and-pepper:SHARE"
        )
    unit = run.codec.to_model(torch.ones(1)) - run.codec.to_model(torch.zeros(1)) if size else torch.zeros(1)
    if unit.numel() > 1:
        raise BadInput(f"--noise is one number, and {run.name} has {unit.numel()} features of different scales")
    return size * float(unit)


def opened_with(source: str, config: DataConfig, channels: tuple[str, ...] = ()) -> Data:
    """Data by name or path, with a bar while it is read; of a recording in a table those `channels`, in that order."""
    with bar("reading the pictures") as progress:
        return open_data(source, config, progress=progress, channels=channels)


def with_holes(x: Tensor) -> tuple[Tensor, Tensor | None]:
    """x with 0 for NaN, and what was observed; None where everything was."""
    return without_holes(x) if x.isnan().any() else (x, None)


def able(run: Run, ability: type, name: str) -> Any:
    """The run's model; BadInput where it lacks the ability."""
    if not run.model.can(ability):
        raise BadInput(f"{run.name} is a {run.config['model']}, which cannot {name}")
    return run.model


def seeded(seed: int) -> None:
    """Everything that is drawn from here on belongs to the seed."""
    if not 0 <= seed <= SEEDS:
        raise BadInput(f"--seed is {seed}; it must be from 0 to {SEEDS}")
    torch.manual_seed(seed)
