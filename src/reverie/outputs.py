"""What the commands write: pictures, arrays, and tables in which nothing is missing any more."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from reverie.core.errors import BadInput
from reverie.core.model import Repairs
from reverie.core.space import Space
from reverie.data import Data, at_home
from reverie.data.codecs import Bits, Codec, Table
from reverie.data.data import without_holes
from reverie.data.sheets import Sheet
from reverie.data.tables import word, worded
from reverie.data.windows import Trial
from reverie.evaluation import Score
from reverie.files import write_atomically
from reverie.maths.imputation import Repaired
from reverie.plots.pictures import grid, png
from reverie.progress import bar
from reverie.recording import write_npy

DRAWS = 100  # at least as many tell how sure the machine is of a cell
AT_ONCE = 64  # rows
PARTS = ("to train", "to validate", "to test")


@torch.no_grad()
def repair_table(model: Repairs, codec: Table, sheet: Sheet, raw: Tensor, n: int, out: Path) -> list[Path]:
    """Writes `n` completed tables of a sheet, whose cells are `raw` (rows, D) in world units: OUT-1.csv …
    and OUT-uncertainty.csv. Cells that were there keep their text."""
    if out.suffix.lower() != ".csv":
        raise BadInput(f"cannot write {out.name}: a repaired table needs a name that ends in .csv")
    x, observed = without_holes(codec.to_model(raw))
    broken = (~observed).any(1).nonzero().flatten()
    if not len(broken):
        raise BadInput(f"nothing to repair: {sheet.path} has a value in every cell of the run's columns")
    tables = [[list(row) for row in sheet.rows] for _ in range(n)]
    columns = [sheet.names.index(column.name) for column in codec.columns]
    told: list[list[Any]] = [["row", "column", "value", "low", "high", "probability"]]
    with bar("repairing") as progress:
        for rows in broken.split(AT_ONCE):
            draws = model.repair(x[rows], observed[rows], max(n, DRAWS))
            world = codec.to_world(draws.flatten(0, 1)).unflatten(0, draws.shape[:2]).numpy()  # (n, rows, D)
            for i, cells in zip(rows.tolist(), world.swapaxes(0, 1), strict=True):
                for j in (~observed[i]).nonzero().flatten().tolist():
                    for table, value in zip(tables, cells[:, j].tolist(), strict=False):
                        table[i][columns[j]] = word(codec, j, value)
                    told.append([i + 1, codec.columns[j].name, *summary(codec, j, cells[:, j])])
            progress(len(told) - 1, int((~observed).sum()))
    *places, uncertainty = completed(out, n)
    for place, table in zip(places, tables, strict=True):
        write_csv(place, [sheet.names, *table], sheet.delimiter)
    write_csv(uncertainty, told)
    return [*places, uncertainty]


def completed(out: Path, n: int) -> list[Path]:
    """Where `repair_table` writes."""
    return [out.with_name(f"{out.stem}-{name}.csv") for name in (*range(1, n + 1), "uncertainty")]


def summary(codec: Table, place: int, draws: np.ndarray) -> list[str]:
    """Of one cell: mean, 5% and 95% quantile; or the most probable category, and how probable it is."""
    if codec.levels[place]:
        values, counts = np.unique(draws, return_counts=True)
        return [word(codec, place, values[counts.argmax()]), "", "", f"{counts.max() / len(draws):.2f}"]
    low, high = np.quantile(draws, (0.05, 0.95), method="inverted_cdf").tolist()
    mean = float(draws.mean())
    value = f"{mean:.2f}" if codec.columns[place].kind == "count" else word(codec, place, mean)
    return [value, word(codec, place, low), word(codec, place, high), ""]


def write_csv(path: Path, lines: Sequence[Sequence[Any]], delimiter: str = ",") -> None:
    """A .csv file, atomically."""
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows(lines)
    write_atomically(path, file.getvalue().encode("utf-8", "backslashreplace"))  # a file's name need not be UTF-8


def writable(out: str, suffixes: Sequence[str], *read: str) -> Path:
    """The place to write to; BadInput, before any work is done, where its name does not end as it must, where no file can be put there, or
    where one of the files that are `read` lies."""
    path = at_home(out)
    if path.suffix.lower() not in suffixes:
        raise BadInput(f"cannot write {path.name}: give --out a name that ends in {' or '.join(suffixes)}")
    try:
        if path.exists() and not path.is_file():
            raise BadInput(f"cannot write {path}: it is no file; give --out another name")
        if path.exists() and any(Path(source).exists() and path.samefile(source) for source in read):
            raise BadInput(f"{path} is read by this command, and would be overwritten; give --out another name")
        folder = next(parent for parent in path.absolute().parents if parent.exists())
    except OSError as error:
        raise BadInput(f"cannot write {out[:80]}: {error.strerror}; give --out another name") from error
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise BadInput(f"cannot write {path}: nothing can be put into {folder}; give --out another place")
    return path


def place_for(out: str, space: Space, codec: Codec, *read: str) -> Path:
    """`writable`, for examples of that space: pictures as .png, rows of a table as .csv, and any as .npy."""
    usual: tuple[str, ...] = (".npy",)
    if len(space.shape) == 3 and space.shape[0] in (1, 3):
        usual = (".png", ".npy")
    elif len(space.shape) == 1 and isinstance(codec, Table):
        usual = (".csv", ".npy")
    if Path(out).suffix.lower() == ".png" and ".png" not in usual:
        raise BadInput(
            f"examples of shape {space.shape} are no pictures that could be shown; give --out a name that ends in {' or '.join(usual)}"
        )
    return writable(out, usual, *read)


def save_examples(path: Path, world: Tensor, columns: int, codec: Codec) -> None:
    """Examples in world units as a picture grid, an array or a table, by the name of the file."""
    if path.suffix.lower() == ".npy":
        write_npy(path, world.numpy())
    elif path.suffix.lower() == ".csv" and isinstance(codec, Table) and world.dim() == 2:
        write_csv(path, [[column.name for column in codec.columns], *worded(codec, world.numpy())])
    elif world.dim() != 4:
        raise BadInput(f"examples of shape {tuple(world.shape[1:])} are no pictures; give --out another name")
    elif path.suffix.lower() == ".png":
        image: Image.Image = grid(_pixels(world, codec), columns)
        write_atomically(path, png(image))
    else:
        raise BadInput(f"cannot write {path.name}: give --out a name that ends in .png or .npy")
    print(path)


def _pixels(world: Tensor, codec: Codec) -> np.ndarray:
    """Pictures in world units as bytes. Real numbers have no black and no white of their own: those are the least and the greatest
    that are shown, but for the outermost half percent."""
    if not world.is_floating_point():
        return (world * 255 if isinstance(codec, Bits) else world).numpy().astype(np.uint8)
    low, high = np.nanquantile(world.numpy(), (0.005, 0.995))
    share = (world.double() - low) / max(high - low, 1e-12)
    return torch.round(255 * share.nan_to_num(0.0).clamp(0, 1)).to(torch.uint8).numpy()


def described(data: Data) -> dict[str, str]:
    """The columns of a table, the trials of a recording, and holes, in words; nothing of other data."""
    said: dict[str, str] = {}
    if isinstance(data.codec, Table):
        sorts = [f"{c.name} {c.kind}{f' ({c.levels})' if c.levels else ''}" for c in data.codec.columns]
        said["columns"] = ", ".join(sorts[:30]) + (" …" if len(sorts) > 30 else "")
    if data.train.trials:
        splits = (data.train, data.valid, data.test)
        said["trials"] = ", ".join(_trials(split.trials, part) for split, part in zip(splits, PARTS, strict=True))
        how = "whole trials" if data.spec["split"] == "trial" else "the end of each trial"
        said["held out"] = "the test set is a file of its own" if "test" in data.spec else how
    if data.train.holes:
        missing = float(data.train.raw().isnan().double().mean())
        said["missing"] = f"{100 * missing:.3g} % of the training entries"
    return said


def _trials(trials: Sequence[Trial], words: str) -> str:
    lengths = sorted({len(trial) for trial in trials})
    steps = f"{lengths[0]:,}" if len(lengths) == 1 else f"{lengths[0]:,} to {lengths[-1]:,}"
    return f"{len(trials):,} of {steps} steps {words}"


def trust(found: Repaired) -> str:
    """How a repair was made, and how far it can be trusted, in one line."""
    said = [found.method]
    if found.acceptance is not None:
        said.append(f"{float(found.acceptance.mean()):.0%} of proposals accepted")
    if found.r_hat is not None and bool(found.r_hat.isfinite().any()):
        said.append(f"greatest R-hat {float(found.r_hat[found.r_hat.isfinite()].max()):.2f} (1 where chains agree)")
    if found.ess is not None:
        said.append(f"least effective sample size {float(found.ess.min()):.1f}")
    return "; ".join(said)


def cell(score: Score | None) -> str:
    """A score and its error, in a column."""
    if score is None:
        return "–"
    return f"{score.value:.4g}" if score.error is None else f"{score.value:.4g} ± {score.error:.2g}"


def as_text(scores: list[Score]) -> str:
    """Scores as a table for people."""

    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.4g}"

    head = f"{'score':24}{'value':>20}{'floor':>10}{'ceiling':>10}  unit"
    rows = [
        f"{s.name:24}{cell(s):>20}{number(s.floor):>10}{number(s.ceiling):>10}  {s.unit}, {s.better} is better; {s.method}"
        for s in scores
    ]
    return "\n".join([head, *rows])
