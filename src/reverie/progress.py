"""What a person sees while they wait: a bar on a terminal, a line now and then anywhere else."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from reverie.run import Run
from reverie.training import Report


def say(text: str) -> None:
    """One line on standard error, so that standard output stays for results."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar that appears at the first call of what it gives: call(done, total)."""
    with _progress("{task.fields[note]}") as shown:
        task = None

        def update(done: int, total: int) -> None:
            nonlocal task
            if task is None:
                task = shown.add_task(title, total=total, note="")
            shown.update(task, completed=done, total=total)

        yield update


def training_bar(run: Run, reports: Iterator[Report], loud: bool = True) -> Iterator[Report]:
    """Passes the reports on, drawing the round, the losses in nats per example, and the time left."""
    shown_at, said_at = 0.0, time.monotonic()
    terminal = sys.stderr.isatty()
    smooth: dict[str, float] = {}
    watched: dict[str, float] = {}
    with _progress("{task.fields[note]}") as shown:
        task = shown.add_task("dreaming up", total=run.training.steps, note="") if terminal and loud else None
        for report in reports:
            for name, loss in report.losses.items():
                smooth[name] = loss if name not in smooth else 0.98 * smooth[name] + 0.02 * loss
            steps = run.config["training"]["steps"]  # may have been settled again
            now, last = time.monotonic(), report.step == steps
            watched |= report.watched
            note = "  ".join(f"{name} {value:.2f}" for name, value in (smooth | watched).items())
            if task is not None and (last or now - shown_at > 0.2):
                shown.update(task, completed=report.step, total=steps, note=note)
                shown_at = now
            elif loud and not terminal and (last or now - said_at > 15):
                say(f"round {report.step:,} of {steps:,}  {note}")
                said_at = now
            yield report


def _progress(note: str) -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(note), TimeRemainingColumn(),
        console=console, disable=not console.is_terminal,
    )  # fmt: skip
