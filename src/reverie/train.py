"""`reverie train` and `fit`: from data to a run folder with a report."""

import dataclasses
import itertools
import math
import shlex
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from lightning_fabric import Fabric

from reverie.clock import LEARNING, rounds_in
from reverie.core.config import check, from_json
from reverie.core.errors import BadInput
from reverie.core.recipe import TrainingConfig
from reverie.data import Data, DataConfig, at_home, open_data
from reverie.evaluation import evaluate, to_json
from reverie.evaluation.scoring import EXAMPLES
from reverie.files import as_json, write_atomically
from reverie.flags import as_flags, at_least, from_flags, parsed
from reverie.models import MODELS, made
from reverie.progress import bar, say, training_bar
from reverie.recording import record
from reverie.report import write_report
from reverie.run import BEST, SEEDS, Run
from reverie.training import State, bfloat16_costs, fabric_for, reduce

MOST, FEWEST = 500, 20  # importance samples of each example that is scored after learning
EMULATED = 4.0  # times as long in bfloat16 as in float32: nobody wants that


def fit(
    data: str | Path | Data,
    model: str = "vae",
    *,
    out: str | Path | None = None,
    minutes: float | None = None,
    seed: int = 0,
    config: Any = None,
    training: TrainingConfig | None = None,
    fabric: Fabric | None = None,
    per_class: bool = False,
) -> Run:
    """Trains `model` (a name in MODELS) on `data` (what `open_data` takes, or its result); the finished Run.

    `config` and `training` default to the family's recipe for this data; `minutes` replaces
    `training.steps` by the number of rounds that fit. `out` defaults to the next free folder under runs/. With `per_class`
    there is a machine for each label of the data.
    """
    fabric = fabric or fabric_for("cpu")
    begun = time.monotonic()
    opened = data if isinstance(data, Data) else open_data(str(data))
    family = family_of(model)
    suited, usual = family.recipe(opened.space, len(opened.train))
    run, _ = begin(
        opened, model, config or suited, mirrored(training or usual, opened, training is None),
        fabric.broadcast(out or free_folder(opened.name, model)), minutes, seed, fabric, "", per_class,
    )  # fmt: skip
    for _ in record(run, opened, fabric, _end(begun, minutes)):
        pass
    return Run.load(run.folder)


def family_of(name: str) -> Any:
    """The class of that name in MODELS."""
    if name not in MODELS:
        raise BadInput(f"no model called {name!r}; one of {', '.join(MODELS)}")
    return MODELS[name]


def mirrored(training: TrainingConfig, data: Data, usual: bool) -> TrainingConfig:
    """The usual settings flip pictures only where the data say that this is harmless."""
    if usual and training.mirror and not data.mirror:
        return dataclasses.replace(training, mirror=False)
    return training


def free_folder(data: str, model: str) -> Path:
    """runs/DATA-MODEL, or the first of runs/DATA-MODEL-2, -3 … that does not exist."""
    base = f"{Path(data).name.replace(':', '-') or 'data'}-{model}"
    names = itertools.chain([base], (f"{base}-{i}" for i in itertools.count(2)))
    return next(path for name in names if not (path := Path("runs") / name).exists())


def begin(
    data: Data,
    model: str,
    config: Any,
    training: TrainingConfig,
    out: str | Path,
    minutes: float | None,
    seed: int,
    fabric: Fabric,
    command: str,
    per_class: bool = False,
) -> tuple[Run, float]:
    """Makes the run folder; with `minutes`, first times a few rounds to settle how many there will be."""
    family = family_of(model)
    if data.space.kind not in family.kinds:
        raise BadInput(
            f"{model} models {' or '.join(family.kinds)} entries, and {data.name} has {data.space.kind} ones"
        )
    check(config), check(training)
    if (asked := getattr(config, "classes", 0)) and (data.train.labels is None or len(data.classes) != asked):
        raise BadInput(f"--model.classes is {asked}, and {data.name} has {len(data.classes)} labels; make them agree")
    if minutes is not None and not 0 < minutes < math.inf:
        raise BadInput(f"--minutes is {minutes}; it must be more than 0")
    if minutes is not None and training.settled:
        raise BadInput("--minutes settles how many rounds there are by itself; leave --training.settled out")
    if not 0 <= seed <= SEEDS:
        raise BadInput(f"--seed is {seed}; it must be from 0 to {SEEDS}")
    if training.batch > (most := max(1_000_000, len(data.train))):
        raise BadInput(f"--training.batch is {training.batch:,}; no more than {most:,} are drawn for a round")
    if per_class and (data.train.labels is None or not data.classes):
        raise BadInput(f"{data.name} has no labels, and --per-class makes a machine for each; leave it out")
    machines = len(data.classes) if per_class else 0
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        fresh = made(model, config, data.space, machines)
    reduce(fresh, training)
    if training.precision == "bfloat16" and fabric.device.type == "cpu" and (costs := bfloat16_costs()) > EMULATED:
        raise BadInput(f"this processor takes {costs:.0f} times as long in bfloat16 as in float32; leave --training.precision out")  # fmt: skip
    if minutes is not None and fresh.learners():
        trial = State(fabric.to_device(fresh), training)  # type: ignore[arg-type]
        training = dataclasses.replace(training, steps=rounds_in(minutes, trial, data, seed, fabric))
    elif fresh.learners():
        with torch.random.fork_rng():
            fresh.prepare(data)  # what does not fit the data is told before there is a folder
    size = sum(p.numel() for p in fresh.parameters())
    if fabric.is_global_zero:
        kind, processes = fabric.device.type, fabric.world_size
        Run.create(Path(out), model, config, training, data, seed, command, machines, kind, processes)
    fabric.barrier()
    return Run.load(out), size


def train(line: list[str]) -> None:
    """Train a machine on DATA and leave a run folder with a report."""
    begun = time.monotonic()
    asked = _parse(line)
    for flag, least in (("devices", 1), ("nodes", 1), ("threads", 0)):
        at_least(getattr(asked, flag), least, f"--{flag}")
    fabric = fabric_for(asked.accelerator, asked.devices, asked.nodes)
    if asked.threads:
        torch.set_num_threads(asked.threads)
    if asked.resume:
        run, data = _again(asked, line, fabric)
    else:
        run, data = _anew(asked, line, fabric)
    loud = fabric.is_global_zero
    try:
        for _ in training_bar(run, record(run, data, fabric, _end(begun, asked.minutes)), loud):
            pass
    except KeyboardInterrupt:
        again = f"reverie train {shlex.quote(asked.data)} --out {shlex.quote(str(_short(run.folder)))} --resume{_as_begun(asked)}"
        kept = (
            f"round {run.kept:,} of {run.training.steps:,} and all before it are kept"
            if run.kept
            else "no round was kept yet"
        )
        raise KeyboardInterrupt(f"stopped; {kept}, go on with: {again}") from None
    if loud:
        finish(run, data)


def _as_begun(asked: Any) -> str:
    """What of the line says where it runs, which no run folder can know."""
    usual = {"accelerator": "auto", "devices": 1, "nodes": 1, "threads": 0}
    return "".join(
        f" --{name} {getattr(asked, name)}" for name, value in usual.items() if getattr(asked, name) != value
    )


def _end(begun: float, minutes: float | None) -> float | None:
    """When a run that was begun then has learned for its share of so many minutes."""
    return None if minutes is None else begun + 60 * LEARNING * minutes


def finish(run: Run, data: Data) -> Path:
    """Scores the run and writes its report; the last line said is where it lies."""
    say("measuring how good it is …")
    scores = evaluate(run.model, data, draws=importance_draws(run.training, len(data.test)), seed=run.seed)
    write_atomically(run.place("scores.json"), as_json(to_json(scores)))
    if (best := run.best) is not None and best.step < run.training.steps:
        say(f"its dreams were nearest to held-out examples after round {best.step:,}; to see: reverie dream {_short(run.folder / BEST)}")  # fmt: skip
    say("writing the report …")
    path = write_report(run, data, scores)
    print(f"report: {_short(path)}", flush=True)
    return path


def importance_draws(training: TrainingConfig, held: int) -> int:
    """Importance samples for each of so many held-out examples: MOST, unless scoring would then take more passes through the machine than
    learning took, and FEWEST in any case. By fewer samples the bound on the likelihood is looser, on average, and never too good.

    >>> importance_draws(TrainingConfig(steps=1000, batch=32), held=640)
    50
    """
    passes = training.steps * training.batch
    return min(MOST, max(FEWEST, passes // max(1, min(held, EXAMPLES))))


def _short(path: Path) -> Path:
    """Relative to the working folder where it lies inside."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _parse(line: list[str], recipe: tuple[Any, TrainingConfig] | None = None) -> Any:
    """The command line, its defaults those of the recipe (or of the model, before the data are known)."""
    name = next((b for a, b in itertools.pairwise(line) if a == "--model"), None)
    name = name or next((a.split("=", 1)[1] for a in line if a.startswith("--model=")), "vae")
    config, training = recipe or (family_of(name).Config(), TrainingConfig())
    shown = [as_flags(values) for values in (DataConfig(), config, training)]
    fields: list[Any] = [
        ("data", tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="DATA", help="a built-in name, a path, or hf:NAME")]]),
        ("model", Annotated[str, tyro.conf.arg(help=f"one of {', '.join(MODELS)}")], "vae"),
        ("out", Annotated[str, tyro.conf.arg(metavar="RUN", help="the run folder to make; empty: the next free one under runs/")], ""),
        ("minutes", Annotated[float | None, tyro.conf.arg(metavar="M", help="how long to train; a few rounds are timed first")], None),
        ("steps", Annotated[int | None, tyro.conf.arg(metavar="N", help="how many rounds to train (the same as --training.steps)")], None),
        ("per_class", Annotated[bool, tyro.conf.arg(help="a machine for each label, which learns from its examples alone")], False),
        ("seed", Annotated[int, tyro.conf.arg(help="of everything that is drawn")], 0),
        ("resume", Annotated[bool, tyro.conf.arg(help="go on with the run at --out, exactly")], False),
        ("accelerator", Annotated[str, tyro.conf.arg(help="auto, cpu, cuda or mps")], "auto"),
        ("devices", Annotated[int, tyro.conf.arg(help="processes on this computer, one device each")], 1),
        ("nodes", Annotated[int, tyro.conf.arg(help="computers")], 1),
        ("threads", Annotated[int, tyro.conf.arg(help="CPU threads; 0: as many as there are cores")], 0),
        ("data_config", Annotated[type(shown[0]), tyro.conf.arg(name="data")], shown[0]),
        ("model_config", Annotated[type(shown[1]), tyro.conf.arg(name="model")], shown[1]),
        ("training", type(shown[2]), shown[2]),
    ]  # fmt: skip
    spec = [f if len(f) == 2 else (f[0], f[1], dataclasses.field(default=f[2])) for f in fields]
    return parsed(dataclasses.make_dataclass("Train", spec), line, "train", train.__doc__)


def _anew(asked: Any, line: list[str], fabric: Fabric) -> tuple[Run, Data]:
    asked.out = asked.out and str(at_home(asked.out))
    family = family_of(asked.model)
    if asked.out and Path(asked.out).exists():
        raise BadInput(f"{asked.out} exists already; give another --out, or --resume to go on with that run")
    if asked.minutes is not None and asked.steps is not None:
        raise BadInput("--minutes and --steps both say how long; give one of them")
    with bar("reading the pictures") as progress:
        data = open_data(asked.data, from_flags(DataConfig, asked.data_config), progress=progress)
    for name, reason in data.skipped[:20]:
        say(f"left out {name}: {reason}")
    if len(data.skipped) > 20:
        say(f"left out {len(data.skipped) - 20} more; `reverie data` lists them all")
    config, usual = family.recipe(data.space, len(data.train))
    asked = _parse(line, (config, mirrored(usual, data, True)))
    training = from_flags(TrainingConfig, asked.training)
    if asked.steps is not None:
        training = check(dataclasses.replace(training, steps=asked.steps))
    config = from_flags(family.Config, asked.model_config)
    out = fabric.broadcast(asked.out or free_folder(data.name, asked.model))  # each process would find its own
    command = "reverie train " + shlex.join(line)
    run, size = begin(
        data, asked.model, config, training, out, asked.minutes, asked.seed, fabric, command, asked.per_class
    )
    rounds = f"{run.training.steps:,} rounds of {run.training.batch}" if size else "solved in closed form"
    say(f"{data.name}: {len(data.train):,} + {len(data.valid):,} + {len(data.test):,} examples {data.space.shape}; "
        f"{asked.model} with {size:,} parameters; {rounds}; {_short(run.folder)}")  # fmt: skip
    return run, data


def _same_data(asked: Any, line: list[str], run: Run) -> None:
    """BadInput where an option of the data is given that is not the run's."""
    spec, given = run.config["data"]["spec"], from_flags(DataConfig, asked.data_config)
    for field in dataclasses.fields(DataConfig):
        flags = {f"--data.{name}" for name in (field.name, field.name.replace("_", "-"))}
        if not any(a.partition("=")[0] in flags for a in line):
            continue
        own, theirs = spec.get(field.name, field.default), getattr(given, field.name)
        if field.name == "test":
            theirs = str(at_home(theirs).absolute())
        if (list(own) if isinstance(own, tuple) else own) != (list(theirs) if isinstance(theirs, tuple) else theirs):
            raise BadInput(f"a resumed run keeps its data: --data.{field.name} is {own or 'not set'} in {run.folder}")


def _again(asked: Any, line: list[str], fabric: Fabric) -> tuple[Run, Data]:
    if not asked.out:
        raise BadInput("--resume needs --out RUN, the run folder to go on with")
    asked.out = str(at_home(asked.out))
    run = Run.load(asked.out)
    if any(a.partition("=")[0] == "--seed" for a in line) and asked.seed != run.seed:
        raise BadInput(f"a resumed run keeps its settings: seed is {run.seed} in {asked.out}")
    _same_data(asked, line, run)
    if asked.minutes is not None:
        raise BadInput(f"{asked.out} knows how many rounds it has left; leave --minutes out")
    own = (from_json(family_of(run.config["model"]).Config, run.config["model_config"]), run.training)
    if asked.model != run.config["model"] and any(a.startswith("--model") for a in line):
        raise BadInput(f"{asked.out} holds a {run.config['model']}, not a {asked.model}; leave --model out")
    if asked.per_class and not run.config.get("per_class"):
        raise BadInput(f"{asked.out} is one machine for all classes; leave --per-class out")
    named = [*line, "--model", run.config["model"]] if "--model" not in line else line
    told = _parse(named, own)
    if asked.steps is not None and asked.steps != run.training.steps:
        raise BadInput(f"a resumed run keeps its settings: steps is {run.training.steps} in {asked.out}")
    for mine, theirs in zip(own, (told.model_config, told.training), strict=True):
        for field in dataclasses.fields(mine):
            if getattr(mine, field.name) != getattr(theirs, field.name):
                raise BadInput(
                    f"a resumed run keeps its settings: {field.name} is {getattr(mine, field.name)} in {asked.out}"
                )
    with bar("reading the pictures") as progress:
        data = run.data(progress)
    if data.name != asked.data and str(Path(asked.data).absolute()) != str(data.spec.get("source")):
        raise BadInput(f"{asked.out} was trained on {data.name}, not {asked.data}; give that, or another --out")
    for name, now, why in (
        ("threads", torch.get_num_threads(), "sums may round differently"),
        ("device", fabric.device.type, "sums may round differently, and other numbers be drawn"),
        ("processes", fabric.world_size, "other examples will be drawn"),
    ):
        if (begun := run.config.get(name, now)) != now:
            say(f"note: begun with {name} {begun}, going on with {now}: {why}")
    return run, data
