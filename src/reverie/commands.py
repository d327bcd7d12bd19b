"""The commands that use a finished run."""

import dataclasses
from json import dumps
from pathlib import Path
from typing import Annotated, Any, get_args

import numpy as np
import torch
import tyro
from torch import Tensor

from reverie.core import abilities
from reverie.core.errors import BadInput
from reverie.core.model import Repairs, Surprised
from reverie.data import BUILTIN, Data, DataConfig, open_data
from reverie.data.codecs import Standard, Table
from reverie.data.data import without_holes
from reverie.data.tables import SUFFIXES, open_like
from reverie.evaluation import evaluate as measure
from reverie.evaluation import from_json, to_json
from reverie.inputs import examples, read, read_given, read_noise, read_observed, read_rows
from reverie.models.latent import LatentModel, Method
from reverie.outputs import as_text, cell, described, repair_table, save_examples, trust, write_csv
from reverie.progress import bar, say
from reverie.recording import write_npy
from reverie.report import write_report
from reverie.run import Run, as_json, write_atomically

Place = Annotated[str, tyro.conf.arg(metavar="FILE")]
Folder = tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="RUN", help="a run folder")]]
File = tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="FILE", help="a picture, an .npy array, or a table")]]


def data(
    data: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="DATA")]] = "",
    /,
    config: Annotated[DataConfig, tyro.conf.arg(name="")] = DataConfig(),  # noqa: B008
    out: Place = "",
) -> None:
    """List the built-in data; or say what DATA holds, as training will see it.

    Args:
        data: a built-in name, a path, or hf:NAME
        out: write some training examples here: a .png, an .npy array, or a .csv of a table
    """
    if not data:
        width = max(map(len, BUILTIN))
        for name, function in BUILTIN.items():
            print(f"{name:{width}}  {(function.__doc__ or '').splitlines()[0]}")
        return
    opened = _open(data, config)
    rows = {
        "name": opened.name,
        "examples": f"{len(opened.train):,} to train, {len(opened.valid):,} to validate, {len(opened.test):,} to test",
        "one example": f"{opened.space.kind} {opened.space.shape}, {opened.space.dims:,} entries",
        "classes": ", ".join(opened.classes[:12]) + (" …" if len(opened.classes) > 12 else "") or "none",
        "entropy": "unknown" if opened.entropy is None else f"{opened.entropy:.4f} nats per example",
        "fingerprint": opened.fingerprint,
    } | described(opened)
    for key, value in rows.items():
        print(f"{key:12}  {value}")
    for file, reason in opened.skipped:
        print(f"left out      {file}: {reason}")
    if out:
        save_examples(Path(out), opened.train.raw(slice(0, 64)), 8, opened.codec)


def dream(
    run: Folder,
    /,
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 64,
    seed: int = 0,
    out: Place = "dreams.png",
    exact: bool = False,
    given: Annotated[str, tyro.conf.arg(metavar="LABEL")] = "",
) -> None:
    """Dream new examples.

    Args:
        given: the label to dream of, where the machine was trained with labels; empty: any
        n: how many
        seed: of the latents
        out: a .png of a grid, an .npy array (n, *shape) in world units, or a .csv of rows of a table
        exact: draws from p(x) with the grain of p(x|z), not its mean
    """
    opened = Run.load(run)
    _at_least(n, 1, "-n")
    torch.manual_seed(seed)
    x = opened.codec.to_world(abilities.dream(opened.model, n, read_given(opened, given, n), exact))
    save_examples(Path(out), x, max(1, round(n**0.5)), opened.codec)


def repair(
    run: Folder,
    file: File,
    /,
    observed: Annotated[str, tyro.conf.arg(metavar="MASK")] = "all",
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 8,
    noise: str = "0",
    method: str = "",
    given: Annotated[str, tyro.conf.arg(metavar="LABEL")] = "",
    seed: int = 0,
    out: Place = "",
) -> None:
    """Fill in what is missing, or take noise away.

    Args:
        given: the label of what is repaired, where the machine was trained with labels; empty: one by chance for each draw
        observed: what was measured: all; left, right, top or bottom (that half); or a picture or boolean .npy, white or True where it was
        n: how many repairs to draw
        noise: what spoiled the measurements: the standard deviation of Gaussian noise in world units (of 255 for pictures); poisson:PEAK photons at full light; or salt-and-pepper:SHARE
        method: gibbs, metropolis or importance; empty: what the machine prefers
        out: a .png (what was given, the mean repair, each repair), or an .npy array (n, examples, *shape); of a table NAME.csv, which names NAME-1.csv … and NAME-uncertainty.csv; empty: repaired.png or repaired.csv
    """
    opened = Run.load(run)
    model = _able(opened, Repairs, "repair")
    _at_least(n, 1, "-n")
    if method and not isinstance(model, LatentModel):
        raise BadInput(f"{opened.name} repairs in one way only; leave --method out")
    torch.manual_seed(seed)
    if isinstance(codec := opened.codec, Table):
        if observed != "all" or noise != "0" or given or method:
            raise BadInput(
                "of a table, the empty cells are filled; leave --observed, --noise, --given and --method out"
            )
        print(*repair_table(model, codec, *read_rows(opened, codec, file), n, Path(out or "repaired.csv")), sep="\n")
        return
    out = out or "repaired.png"
    x, known = _with_holes(codec.to_model(read(opened, file)))
    if (asked := read_observed(observed, opened)) is not None:
        known = asked.expand_as(x) if known is None else known & asked
    corruption = read_noise(opened, noise)
    if known is None and not corruption:
        raise BadInput("nothing to repair: say what is missing with --observed, or how noisy it is with --noise")
    labels = read_given(opened, given, len(x))
    if isinstance(model, LatentModel):
        found = model.repaired(x, known, n, corruption, labels, _method(method))
        draws = found.draws
        say(trust(found))
    else:
        draws = model.repair(x, known, n, corruption)
    if Path(out).suffix == ".npy":
        write_npy(Path(out), codec.to_world(draws.flatten(0, 1)).unflatten(0, draws.shape[:2]).numpy())
        print(out)
        return
    grey = torch.zeros_like(x)
    shown = x if known is None else torch.where(known, x, grey)
    rows = [torch.stack([shown[i], draws[:, i].mean(0), *draws[:, i]]) for i in range(len(x))]
    save_examples(Path(out), codec.to_world(torch.cat(rows)), n + 2, codec)


def surprise(
    run: Folder,
    data: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="DATA")]],
    /,
    draws: int = 500,
    seed: int = 0,
    out: Place = "surprise.csv",
) -> None:
    """Say how surprising each example is: -log p(x), of what was measured.

    Args:
        data: a picture, a folder of pictures, an .npy array, a table, or a built-in name
        draws: importance samples for each example, where the model needs any
        out: a .csv with a row for each example
    """
    opened = Run.load(run)
    model = _able(opened, Surprised, "surprise")
    _at_least(draws, 1, "--draws")
    torch.manual_seed(seed)
    names, raw = examples(opened, data)
    table = [["example", "nats", "error", "bits_per_dim", "ess", "method"]]
    with bar("measuring surprise") as progress:
        for start in range(0, len(raw), 64):
            part = raw[start : start + 64]
            x, known = _with_holes(opened.codec.to_model(part))
            found = model.surprise(x, known, draws=draws)
            nats = found.value - opened.codec.log_abs_det(part)
            counts = torch.ones_like(x).flatten(1).sum(1) if known is None else known.flatten(1).sum(1)
            ess = found.ess if found.ess is not None else [""] * len(nats)
            for name, value, error, size, count in zip(names[start:], nats, found.error, ess, counts, strict=False):
                bits = float(value) / max(int(count), 1) / float(np.log(2))
                size = f"{float(size):.1f}" if size != "" else ""
                table.append([name, f"{float(value):.3f}", f"{float(error):.3f}", f"{bits:.4f}", size, found.method])
            progress(min(start + 64, len(raw)), len(raw))
    write_csv(Path(out), table)
    print(out)


def morph(
    run: Folder,
    a: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="A")]],
    b: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="B")]],
    /,
    steps: int = 9,
    out: Place = "morph.png",
) -> None:
    """Walk from one example to another through the latent space.

    Args:
        a: where to begin: a picture, or an .npy array
        b: where to end
        steps: pictures on the way, both ends counted
        out: a .png, or an .npy array
    """
    opened = Run.load(run)
    _at_least(steps, 2, "--steps")
    start, end = (opened.codec.to_model(read(opened, file)[:1]) for file in (a, b))
    if start.isnan().any() or end.isnan().any():
        raise BadInput("a walk begins and ends at whole examples; fill the missing entries first, with: reverie repair")
    way = abilities.morph(opened.model, start, end, steps)[:, 0]
    save_examples(Path(out), opened.codec.to_world(way), steps, opened.codec)


def evaluate(
    run: Folder,
    data: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="DATA")]] = "",
    /,
    draws: int = 1000,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Score a run with errors, between the floor (noise) and the ceiling (held-out data).

    Args:
        data: score against this data; empty: the test set of what it was trained on
        draws: importance samples for each example
        json: print JSON, for other programs
    """
    opened = Run.load(run)
    _at_least(draws, 1, "--draws")
    told = _other(opened, data) if data else opened.data()
    scores = measure(opened.model, told, draws=draws, seed=seed)
    if not data:
        write_atomically(opened.folder / "scores.json", as_json(to_json(scores)))
    print(as_text(scores) if not json else dumps(to_json(scores), indent=2))


def compare(runs: tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="RUN …")]], /) -> None:
    """Put the scores of several runs side by side.

    Args:
        runs: run folders; one that has no scores yet is evaluated
    """
    if len(runs) < 2:
        raise BadInput("compare needs at least two run folders")
    opened = [Run.load(run) for run in runs]
    columns = []
    for run in opened:
        if not run.scores:
            say(f"measuring {run.name} …")
            write_atomically(
                run.folder / "scores.json", as_json(to_json(measure(run.model, run.data(), seed=run.seed)))
            )
        columns.append({score.name: score for score in from_json({"scores": run.scores})})
    names = list(dict.fromkeys(name for column in columns for name in column))
    labels = [f"{run.name} ({run.config['data']['name']})" for run in opened]
    print(f"{'':24}" + "".join(f"{label:>28}" for label in labels))
    for name in names:
        cells = [cell(column.get(name)) for column in columns]
        better = next(column[name] for column in columns if name in column)
        print(f"{name:24}" + "".join(f"{cell:>28}" for cell in cells) + f"  {better.unit}, {better.better} is better")


def report(run: Folder, /) -> None:
    """Write report.html of a run again.

    Args:
        run: a run folder
    """
    opened = Run.load(run)
    told = opened.data()
    scores = from_json({"scores": opened.scores}) if opened.scores else measure(opened.model, told, seed=opened.seed)
    print(f"report: {write_report(opened, told, scores)}")


def _open(source: str, config: DataConfig) -> Data:
    with bar("reading the pictures") as progress:
        return open_data(source, config, progress=progress)


def _other(run: Run, source: str) -> Data:
    """Data that a run was not trained on, prepared as those were that it was trained on."""
    codec = run.codec
    if isinstance(codec, Table) and Path(source).suffix.lower() in SUFFIXES:
        return open_like(Path(source), codec)
    told = _open(source, DataConfig())
    if told.space != run.space:
        raise BadInput(f"{told.name} has examples {told.space}, and {run.name} was trained on {run.space}")
    return dataclasses.replace(told, codec=codec) if isinstance(codec, Standard) else told


def _with_holes(x: Tensor) -> tuple[Tensor, Tensor | None]:
    """x with 0 for NaN, and what was observed; None where everything was."""
    return without_holes(x) if x.isnan().any() else (x, None)


def _able(run: Run, ability: type, name: str) -> Any:
    if not isinstance(run.model, ability):
        raise BadInput(f"{run.name} is a {run.config['model']}, which cannot {name}")
    return run.model


def _method(name: str) -> Method | None:
    if name and name not in get_args(Method):
        raise BadInput(f"--method is {name}; it must be one of {', '.join(get_args(Method))}")
    return name or None  # type: ignore[return-value]


def _at_least(value: float, least: float, flag: str) -> None:
    if not value >= least:
        raise BadInput(f"{flag} is {value}; it must be at least {least}")
