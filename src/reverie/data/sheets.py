"""Tables as they are written: cells of text from .csv and .parquet files."""

import csv
import io
import itertools
import re
from pathlib import Path
from typing import NamedTuple

from reverie.core.errors import BadInput

SUFFIXES = (".csv", ".parquet")
MISSING = frozenset(("", "NA", "N/A", "NaN", "nan", "NULL", "null", "?"))  # a cell that was not measured
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_INFINITE = re.compile(r"[+-]?inf(inity)?", re.IGNORECASE)


class Sheet(NamedTuple):
    """A table as it is written: every cell a text."""

    path: Path
    names: list[str]
    rows: list[list[str]]
    places: list[str]  # where each row lies, for messages
    delimiter: str = ","

    def cells(self, name: str) -> list[str]:
        """The texts of a column, without the spaces around them; "" where the cell is missing."""
        if name not in self.names:
            raise BadInput(
                f"{self.path.name} has no column {name!r}; it has {', '.join(self.names)}. "
                "Add it, with empty cells where it is not known"
            )
        place = self.names.index(name)
        return ["" if (text := row[place].strip()) in MISSING else text for row in self.rows]

    def at(self, row: int, name: str) -> str:
        return f"{self.path.name} {self.places[row]}, column {name!r}"


def read_sheet(path: Path) -> Sheet:
    """The cells of a .csv (UTF-8, a header, cells apart by comma, semicolon or tab) or .parquet file.

    BadInput names the file, and the line where there is one.
    """
    sheet = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path)
    if "" in sheet.names:
        raise BadInput(f"{path}: column {sheet.names.index('') + 1} has no name; give it one in the first line")
    if len(set(sheet.names)) < len(sheet.names):
        twice = next(name for name in sheet.names if sheet.names.count(name) > 1)
        raise BadInput(f"{path} has two columns called {twice!r}; rename one")
    if not sheet.rows:
        raise BadInput(f"{path} has a header and no rows; at least 3 are needed")
    return sheet


def _read_csv(path: Path) -> Sheet:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    if "\0" in text:
        raise BadInput(f"{path} is not text; save it as .csv in UTF-8")
    delimiter = _delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows, lines, before = [], [], 0
    try:
        for row in reader:
            if row:  # not a blank line
                rows.append(row)
                lines.append(before + 1)
            before = reader.line_num
    except csv.Error as error:
        raise BadInput(f"{path.name} line {before + 1}: {error}; mend its quotes") from error
    if not rows:
        raise BadInput(f"{path} is empty; a table needs a header and rows")
    names = [name.strip() for name in rows[0]]
    if all(name in MISSING or as_number(name) is not None for name in names) and any(names):
        raise BadInput(f"{path} has no header: its first line holds numbers; put the names of the columns there")
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(names):
            raise BadInput(f"{path.name} line {line} has {len(row)} cells, and the header {len(names)}; mend that line")
    return Sheet(path, names, rows[1:], [f"line {line}" for line in lines[1:]], delimiter)


def _delimiter(text: str) -> str:
    """The mark that cuts the first lines into equally many cells, most of them; where none does, the first that the header holds."""
    lines = list(itertools.islice((line for line in text.splitlines() if line.strip()), 20))
    cells = {}
    for mark in "\t;,":  # of those that cut into as many the comma last, which may be one of numbers
        try:
            counts = {len(row) for row in csv.reader(lines, delimiter=mark, strict=True)}
        except csv.Error:  # a cell of several lines is cut by the twentieth
            continue
        if len(counts) == 1:
            cells[mark] = counts.pop()
    best = max(cells, key=lambda mark: cells[mark], default=",")
    if cells.get(best, 1) > 1:
        return best
    return next((mark for mark in ",;\t" if lines and mark in lines[0]), ",")


def _read_parquet(path: Path) -> Sheet:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise BadInput(
            f"{path} needs the package pyarrow, which is not installed: pip install 'reverie[tables]'"
        ) from error
    try:
        table = parquet.ParquetFile(path).read()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise BadInput(f"{path} is not a whole parquet file ({' '.join(str(error).split())[:80]})") from error
    columns = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        try:
            columns.append(["" if text is None else text for text in column.cast(pyarrow.string()).to_pylist()])
        except (pyarrow.ArrowException, ValueError) as error:
            raise BadInput(f"{path}: column {name!r} holds {column.type}, neither numbers nor text") from error
    rows = [list(row) for row in zip(*columns, strict=True)]
    names = [name.strip() for name in table.column_names]
    return Sheet(path, names, rows, [f"row {i + 1}" for i in range(len(rows))])


def as_number(text: str) -> float | None:
    """A number, perhaps infinite; None for any other text."""
    return float(text) if _NUMBER.fullmatch(text) or _INFINITE.fullmatch(text) else None


def key_of(text: str) -> str:
    """What a category is known by: programs that know no whole numbers with holes write 1 as 1.0."""
    return re.sub(r"\.0+$", "", text) if _NUMBER.fullmatch(text) else text
