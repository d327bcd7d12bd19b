"""What the benchmarks share: a Markdown table that says when, on what code, on which machine and by which command."""

import datetime
import os
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from reverie.core.model import Estimate

HERE = Path(__file__).resolve().parent
WORK = HERE / ".work"  # ignored by git: what a benchmark makes and throws away, and quick results


Table = tuple[str, Sequence[str], Sequence[Sequence[str]]]  # what it shows, its header, its rows


def write(
    name: str,
    title: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    notes: Sequence[str],
    more: Sequence[Table] = (),
) -> Path:
    """Prints the table, and `more` of them, and leaves it in results/NAME.md; in .work/ if --quick, so that no hasty figure is kept."""
    lines = [f"# {title}", "", _row(header), _row(["---"] * len(header)), *map(_row, rows), ""]
    for what, head, body in more:
        lines += [f"## {what}", "", _row(head), _row(["---"] * len(head)), *map(_row, body), ""]
    lines += [*(f"- {note}" for note in notes), "", *_circumstances()]
    path = WORK / f"{name}-quick.md" if "--quick" in sys.argv else HERE / "results" / f"{name}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    print("\n".join(lines), flush=True)
    return path


def keep(name: str, picture: Image.Image) -> None:
    """Leaves results/NAME.png beside the table; in .work/ if --quick."""
    place = WORK if "--quick" in sys.argv else HERE / "results"
    place.mkdir(exist_ok=True)
    picture.save(place / f"{name}.png")


def middle_of(values: Sequence[float], form: str = ".2f") -> str:
    """Of what several seeds gave, the median, and the range where there are several.

    >>> middle_of([0.3, 0.1, 0.2], ".1f")
    '0.2 (0.1 to 0.3)'
    """
    low, middle, high = (f"{value:{form}}" for value in (min(values), statistics.median(values), max(values)))
    return middle if len(values) == 1 else f"{middle} ({low} to {high})"


def median_of(found: Sequence[Estimate], digits: int = 3) -> str:
    """Of what several seeds gave, the median with its own error, and the range where there are several.

    >>> median_of([Estimate(value, 0.1 + value, "nats", "lower") for value in (0.3, 0.1, 0.2)], 1)
    '0.2 ± 0.3 (0.1 to 0.3)'
    """
    ordered = sorted(found, key=lambda e: e.value)
    middle = ordered[len(ordered) // 2]
    told = f"{middle.value:.{digits}f} ± {middle.error:.{digits}f}"
    if len(ordered) == 1:
        return told
    return f"{told} ({ordered[0].value:.{digits}f} to {ordered[-1].value:.{digits}f})"


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _circumstances() -> list[str]:
    import torch

    busy = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    return [
        f"{datetime.date.today().isoformat()}, commit {_commit()}.",
        f"{_processor()}, {os.cpu_count()} cores; {platform.system()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}, {torch.get_num_threads()} threads; load at the end (1, 5, 15 minutes) {busy}.",
        f"`{command}`",
    ]


def _commit() -> str:
    """The commit, and whether what was measured differs from it (results themselves do not count)."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=HERE.parent, capture_output=True, text=True, check=True).stdout

    try:
        changed = git("status", "--porcelain", "--", ".", ":!benchmarks/results")
        return git("rev-parse", "--short=12", "HEAD").strip() + (" (dirty)" if changed.strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown (no git)"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
