"""Training with a memory: the loop, and what of it is kept in the run folder as it goes."""

import itertools
import json
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from reverie.clock import looks_at
from reverie.core import abilities
from reverie.core.config import to_json
from reverie.core.errors import BadInput
from reverie.core.model import Model
from reverie.core.recipe import TrainingConfig
from reverie.data import Data
from reverie.evaluation.sets import Judge
from reverie.files import one_at_a_time, whole_rows, write_atomically
from reverie.run import Best, Run
from reverie.training import Report, State, training, validate

DREAMS = 64  # pictures of each frame of the film
FRAMES = 24
ROWS = 200  # of log.jsonl
LOOK = 20  # of these from one look at the dreams of a model that is judged by them to the next
SAVE_EVERY = 15.0  # seconds between two checkpoints


def record(run: Run, data: Data, fabric: Fabric, until: float | None = None) -> Iterator[Report]:
    """Trains the run from wherever it stands to its end; every Report has been recorded when it comes.

    Nothing that is written depends on the clock but *when* checkpoints are made, so a run that was
    killed at any moment and resumed ends with the same bytes as one that was not. Where it is to have learned by `until` (a time of
    `time.monotonic()`), how many rounds it has is settled again on the way: that is written down, and not asked of a clock again.
    """
    with one_at_a_time(run.folder) if fabric.is_global_zero else nullcontext():
        yield from _recorded(run, data, fabric, until)


def _recorded(run: Run, data: Data, fabric: Fabric, until: float | None) -> Iterator[Report]:
    config = run.training
    with torch.random.fork_rng():
        torch.manual_seed(run.seed)
        made: Any = fabric.to_device(run.blank("cpu"))
        state = State(made, config)
    resumed = run.restore_state(state)
    judge = Judge.of(data, run.seed) if made.judged_by_dreams and fabric.is_global_zero else None
    every = max(1, config.planned(0) // ROWS)
    writing = fabric.is_global_zero
    if writing:
        _sweep(run.folder)
        _forget_after(run.folder / "log.jsonl", state.step)
        if not resumed:
            keep_dreams(run, state.average, data, 0)
    frames, saved = film_steps(config), time.monotonic()
    looks = None if until is None else looks_at(run, state, until, fabric)
    held: list[dict[str, float]] = []
    watched: dict[str, float] = {}
    for report in training(state, data, run.seed, fabric):
        if looks is not None and looks(report.step):
            frames = film_steps(state.config)
        held.append(report.losses)
        watched |= report.watched
        step, last = report.step, report.step == state.config.steps
        # The last round has settled already, and fitted what comes after the learning.
        if not last and (step in frames or step % every == 0):
            state.settle()
        if writing and step in frames:
            keep_dreams(run, state.average, data, step)
        if step % every and not last:
            yield report
            continue
        if judge is not None and (last or (step // every) % LOOK == 0):
            seen = judge(state.average)
            keep_best(run, state.average, step, seen.get("kernel distance"))
            watched |= seen
            report = report._replace(watched=report.watched | seen)
        if writing:
            row = {"step": step, "losses": _means(held), "rate": report.rate}
            if watched:
                row["watched"] = watched
            if last or (step // every) % 5 == 0:
                row["valid"] = validate(state.average, data, step, run.seed)
            _append(run.folder / "log.jsonl", row)
            # Checkpoints stand only where a row of the log ends: no half-summed losses to carry over.
            if last or time.monotonic() - saved > SAVE_EVERY:
                keep_state(run, state)
                saved = time.monotonic()
        held.clear()
        watched = {}  # so that a row knows nothing that a resumed run does not
        yield report
    if writing and not (run.folder / "model.safetensors").exists():
        keep_state(run, state)
    fabric.barrier()


def film_steps(config: TrainingConfig) -> set[int]:
    """The rounds after which the machine is asked to dream: often at first, when much changes."""
    plans = {config.steps, *config.settled[1::2]}
    film = {(rounds, round(rounds * (i / FRAMES) ** 2)) for rounds in plans for i in range(1, FRAMES + 1)}
    return {step for rounds, step in film if config.planned(step - 1) == rounds}


def keep_state(run: Run, state: State) -> None:
    """The weights to use, and all that is needed to go on."""
    if not state.parameters:
        # A model solved in closed form has chosen its own size: its settings are those it ended with.
        run.config["model_config"] = to_json(state.average.config)
        run.save_config()
    run.save_model(state.average)
    run.save_state(state)


def keep_best(run: Run, model: Model, step: int, distance: float | None) -> None:
    """Keeps these weights if no dreams were nearer to held-out examples than theirs. A round that a resumed run goes
    through again changes nothing, so what is kept is the same whenever a run was killed."""
    if distance is not None and ((best := run.best) is None or distance < best.distance):
        run.save_best(model, Best(step, distance))


@torch.no_grad()
def keep_dreams(run: Run, model: Model, data: Data, step: int) -> None:
    """DREAMS dreams in world units, always from the same latents."""
    with torch.random.fork_rng():
        torch.manual_seed(run.seed)
        x = data.codec.to_world(abilities.dream(model, DREAMS).cpu()).numpy()
    write_npy(run.folder / "dreams" / f"{step:08d}.npy", x)


def write_npy(path: Path, array: np.ndarray) -> None:
    """An .npy file, atomically."""
    import io

    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    write_atomically(path, buffer.getvalue())


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[-1]}


def _append(path: Path, row: dict) -> None:
    try:
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror}; free space, and go on with --resume") from error


def _sweep(folder: Path) -> None:
    """Removes what a kill in the middle of a write has left."""
    for place in (folder, folder / "state", folder / "dreams"):
        for torn in place.glob(".*.*"):
            torn.unlink(missing_ok=True)


def _forget_after(path: Path, step: int) -> None:
    """Drops the rows that were written after the checkpoint training goes on from, and a torn last line."""
    if not path.exists():
        return
    lines = whole_rows(path.read_text("utf-8", "replace").splitlines())
    kept = [f"{line}\n" for line in itertools.takewhile(lambda line: json.loads(line)["step"] <= step, lines)]
    write_atomically(path, "".join(kept).encode())
