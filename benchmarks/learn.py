"""What several measurements share: a model that is trained, and results that outlive an interruption."""

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from table import WORK, say
from torch import Tensor

from reverie.core.abilities import dream
from reverie.core.model import Model
from reverie.core.recipe import TrainingConfig
from reverie.data import Data
from reverie.files import write_atomically
from reverie.models import MODELS
from reverie.recording import record
from reverie.run import Run
from reverie.train import begin
from reverie.training import State, fabric_for, training

TIMED = 40  # rounds by which their number is settled
CHOOSING = 100  # the first of the seeds with which settings are chosen: no table is written of them


def seeds_parser(doc: str | None, seeds: int | None) -> argparse.ArgumentParser:
    """What measurements over several seeds are asked: how many, from which on, and how much haste there is."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=seeds, help="how many")
    parser.add_argument(
        "--first", type=int, default=0, help=f"the first of them; {CHOOSING} and up for choosing settings"
    )
    parser.add_argument("--quick", action="store_true", help="little learning, for development")
    return parser


def hasty(recipe: TrainingConfig, steps: int, quick: bool) -> TrainingConfig:
    """The recipe, with so few rounds where haste is asked for."""
    return replace(recipe, steps=steps) if quick else recipe


def learned(made: Callable[[], Model], data: Data, recipe: TrainingConfig, seed: int) -> tuple[Any, float]:
    """The trained model (its averaged weights, where they are averaged) and the seconds that took."""
    torch.manual_seed(seed)
    state, start = State(made(), recipe), time.perf_counter()
    for _ in training(state, data, seed, fabric_for("cpu")):
        pass
    return state.average, time.perf_counter() - start


def rounds_within(minutes: float, made: Callable[[], Model], data: Data, recipe: TrainingConfig, seed: int) -> int:
    """Rounds that so many minutes of this core's own time hold, whatever else the machine does: from the time of a few."""
    torch.manual_seed(seed)
    rounds = training(State(made(), replace(recipe, steps=10**6)), data, seed, fabric_for("cpu"))
    next(rounds)
    start = time.process_time()
    for _ in range(TIMED):
        next(rounds)
    return int(60 * minutes * TIMED / (time.process_time() - start))


def recorded(
    folder: Path, data: Data, family: str, config: Any, recipe: TrainingConfig, seed: int = 0
) -> tuple[Run, float]:
    """A run in that folder, which goes on where it stopped, and its minutes of learning."""
    fabric, clock = fabric_for("cpu"), folder / "seconds.json"
    if not folder.exists():
        begin(data, family, config, recipe, folder, None, seed, fabric, "")
    run = Run.load(folder)
    if run.blank().config != config or run.training != recipe or run.seed != seed:
        raise SystemExit(f"{folder} was begun with other settings than are asked for now; remove it")
    spent = json.loads(clock.read_text()) if clock.exists() else 0.0
    if not ((folder / "model.safetensors").exists() and run.log[-1]["step"] == recipe.steps):
        last = time.monotonic()
        for report in record(run, data, fabric):
            if report.step % 500 == 0 or report.step == recipe.steps:
                spent, last = spent + time.monotonic() - last, time.monotonic()
                clock.write_text(json.dumps(spent))  # of what a kill undoes too; a little too much is told
            if report.step % 5000 == 0:
                say(f"{folder.name}: {report.step} of {recipe.steps}, {report.losses}, {spent / 60:.0f} minutes")
    return Run.load(folder), spent / 60


def recorded_within(
    minutes: float,
    name: str,
    data: Data,
    family: str,
    change: dict[str, Any],
    learning: dict[str, Any],
    seed: int = 0,
) -> Run:
    """A run of that name under WORK at the recipe of its family, but for what changes of the settings and of the learning, of as many rounds
    as the minutes of this core's own time held when it was begun. It goes on where it stopped."""
    folder = WORK / "-".join([name.replace(" ", "-"), f"{minutes:g}", *([f"seed-{seed}"] if seed else [])])
    config, recipe = MODELS[family].recipe(data.space, len(data.train))
    config, recipe = replace(config, **change), replace(recipe, **learning)
    if folder.exists():
        recipe = replace(recipe, steps=Run.load(folder).training.steps)
    else:
        steps = rounds_within(minutes, lambda: MODELS[family](config, data.space), data, recipe, seed)
        recipe = replace(recipe, steps=steps)
    say(f"{folder.name}: {recipe.steps} rounds; {config}")
    return recorded(folder, data, family, config, recipe, seed)[0]


def dreamt(name: str, run: Run, n: int) -> dict[str, Tensor]:
    """n draws from p(x); of a VAE also the means of p(x|z), each under its name."""
    ways: dict[str, Callable[[int], Tensor]] = {name: run.model.sample}
    if run.config["model"] == "vae":
        ways = {f"{name}, draws": run.model.sample, f"{name}, means": lambda n: dream(run.model, n)}
    found = {}
    for way, sample in ways.items():
        torch.manual_seed(1)
        found[way] = torch.cat([sample(min(500, n - i)) for i in range(0, n, 500)])
    return found


def digest(settings: Any) -> str:
    """A name for settings."""
    return hashlib.sha256(repr(settings).encode()).hexdigest()[:12]


def starts(
    name: str, settings: Any, seeds: Iterable[int], result: Callable[[int], dict[str, float]]
) -> list[dict[str, float]]:
    """The result of every seed; those that were found before with the same settings are read."""
    file = WORK / f"{name}-{digest(settings)}.json"
    found = json.loads(file.read_text()) if file.exists() else {}
    for seed in map(str, seeds):  # the keys of JSON are words
        if seed not in found:
            found[seed] = result(int(seed))
            WORK.mkdir(exist_ok=True)
            write_atomically(file, json.dumps(found).encode())
    return [found[str(seed)] for seed in seeds]
