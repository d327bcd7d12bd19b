"""One table out of several that were measured apart, one seed each: what takes too long to be measured at once.

    python benchmarks/together.py NAME NAME … --table NAME

Of every number with its error the median over the tables, and the range; what else differs is told one after the other. Lines of two tables are the same
if what stands in them is, numbers and rounds apart. Nothing is measured here: when, on what code and on which machine is in each of the tables.
"""

import argparse
import re
from itertools import chain, groupby
from pathlib import Path

from table import HERE, Table, median_of, write

from reverie.core.model import Estimate

NUMBER = re.compile(r"(-?[\d.]+) ± ([\d.]+)")


def tables(path: Path) -> list[Table]:
    """Those of a file that `table.write` has made."""
    found: list[Table] = []
    title = ""
    for begun, lines in groupby(path.read_text().splitlines(), key=lambda line: line.startswith("|")):
        if begun:
            header, _, *rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
            found.append((title, header, rows))
        else:
            title = next((line.lstrip("# ") for line in lines if line.startswith("#")), title)
    return found


def together(cells: list[str]) -> str:
    """What stands in the same place of every table."""
    numbers = [found for cell in cells if (found := NUMBER.fullmatch(cell))]
    if len(numbers) < len(cells):
        return ", ".join(dict.fromkeys(cells))
    return median_of([Estimate(float(found[1]), float(found[2]), "", "near") for found in numbers])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", metavar="NAME", help="of tables in results, of one seed each")
    parser.add_argument("--table", required=True, help="the name of the table that they become")
    asked = parser.parse_args()
    every = [tables(HERE / "results" / f"{name}.md") for name in asked.names]
    if len({tuple((title, *header) for title, header, _ in one) for one in every}) > 1:
        parser.error("these tables do not show the same things")
    made: list[Table] = []
    for parts in zip(*every, strict=True):
        title, header, _ = parts[0]
        lines: dict[tuple[str, ...], list[list[str]]] = {}
        for row in chain.from_iterable(rows for _, _, rows in parts):
            named = [c for name, c in zip(header, row, strict=True) if name != "rounds" and not NUMBER.fullmatch(c)]
            lines.setdefault(tuple(named), []).append(row)
        made.append((title, header, [[together(list(cells)) for cells in zip(*same, strict=True)] for same in lines.values()]))  # fmt: skip
    (title, header, rows), *more = made
    notes = [
        f"Of {', '.join(f'results/{name}.md' for name in asked.names)}, which say what was measured and how: medians, ± of the middle one, ranges in brackets. A "
        "line that not all of them have is of those that do."
    ]  # fmt: skip
    write(asked.table, title, header, rows, notes, more)


if __name__ == "__main__":
    main()
