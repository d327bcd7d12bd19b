"""The commands that judge: how surprising, which label, how good."""

import dataclasses
from collections.abc import Iterator
from json import dumps
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from torch import Tensor

from reverie.core.errors import BadInput
from reverie.core.model import Surprised
from reverie.data import Data, DataConfig, at_home, used_by
from reverie.data.codecs import Standard, Table
from reverie.data.sheets import SUFFIXES
from reverie.data.tables import open_like
from reverie.evaluation import evaluate as measure
from reverie.evaluation import from_json, to_json
from reverie.files import as_json, write_atomically
from reverie.flags import at_least
from reverie.inputs import Folder, Place, able, examples, opened_with, same_pace, seeded, with_holes
from reverie.models.labelled import Labelled
from reverie.outputs import as_text, cell, writable, write_csv
from reverie.progress import bar, say
from reverie.report import write_report
from reverie.run import Run


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
    model = able(opened, Surprised, "surprise")
    at_least(draws, 1, "--draws")
    seeded(seed)
    place = writable(out, (".csv",), data)
    names, raw = examples(opened, data)
    table = [["example", "nats", "error", "bits_per_dim", "ess", "method"]]
    for part, x, known in _parts(opened, raw, "measuring surprise"):
        found = model.surprise(x, known, draws=draws)
        nats = found.value - opened.codec.log_abs_det(raw[part])
        counts = torch.ones_like(x).flatten(1).sum(1) if known is None else known.flatten(1).sum(1)
        ess = found.ess if found.ess is not None else [""] * len(nats)
        for name, value, error, size, count in zip(names[part], nats, found.error, ess, counts, strict=True):
            bits = float(value) / max(int(count), 1) / float(np.log(2))
            size = f"{float(size):.1f}" if size != "" else ""
            table.append([name, f"{float(value):.3f}", f"{float(error):.3f}", f"{bits:.4f}", size, found.method])
    write_csv(place, table)
    print(place)


def classify(
    run: Folder,
    data: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="DATA")]] = "",
    /,
    draws: int = 100,
    seed: int = 0,
    out: Place = "classes.csv",
) -> None:
    """Say which label each example most likely has: the one under which it surprises least.

    Args:
        data: a picture, a folder, an array; empty: the test set of what the run was trained on
        draws: importance samples for each example and label
        seed: of coins, where a picture is seen through them; the samples of an example are the same under every seed
        out: a .csv of the label and its chance for each example, and the nats under every label
    """
    opened = Run.load(run)
    model = opened.model
    if not isinstance(model, Labelled) or not model.classes:
        raise BadInput(f"{opened.name} knows no labels; train it with --per-class, or with --model.classes")
    able(opened, Surprised, "say what surprises it")
    at_least(draws, 1, "--draws")
    seeded(seed)
    place = writable(out, (".csv",), *([data] if data else []))
    if data:
        (names, raw), true = examples(opened, data), None
    else:
        test = opened.data().test
        raw, true = test.raw(), test.labels
        names = [str(i) for i in range(len(raw))]
    words = opened.config["data"]["classes"]
    table = [["example", "label", "chance", *(f"nats if {word}" for word in words)]]
    chosen = []
    for part, x, known in _parts(opened, raw, "comparing labels"):
        nats = torch.stack([found.value for found in model.by_label(x, known, draws)], 1)
        chance = torch.softmax(model.label_shares.log() - nats, 1)
        best = chance.argmax(1)
        chosen.append(best)
        for name, label, likely, each in zip(names[part], best, chance, nats, strict=True):
            numbers = [f"{float(value):.3f}" for value in each]
            table.append([name, words[int(label)], f"{float(likely[label]):.4f}", *numbers])
    write_csv(place, table)
    if true is not None:
        wrong = (torch.cat(chosen) != true).float()
        print(f"wrong: {wrong.mean():.2%} of {len(wrong):,}, ± {(wrong.std() / len(wrong) ** 0.5):.2%}")
    print(place)


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
    at_least(draws, 1, "--draws")
    seeded(seed)
    told = _other(opened, data) if data else opened.data()
    scores = measure(opened.model, told, draws=draws, seed=seed)
    if not data:
        write_atomically(opened.place("scores.json"), as_json(to_json(scores)))
    print(as_text(scores) if not json else dumps(to_json(scores), indent=2))


def compare(runs: tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="RUN …")]], /) -> None:
    """Put the scores of several runs side by side.

    Args:
        runs: run folders; one that has no scores yet is evaluated
    """
    if len(runs) < 2:
        raise BadInput("compare needs at least two run folders")
    opened = [Run.load(run) for run in runs]
    known = [run.scores for run in opened]  # damaged ones are told before any are measured
    columns = []
    for run, scores in zip(opened, known, strict=True):
        if not scores:
            say(f"measuring {run.name} …")
            write_atomically(run.place("scores.json"), as_json(to_json(measure(run.model, run.data(), seed=run.seed))))
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


def _parts(run: Run, raw: Tensor, words: str) -> Iterator[tuple[slice, Tensor, Tensor | None]]:
    """Which rows of `raw`, these in model units, and what was observed of them; with a bar."""
    with bar(words) as progress:
        for start in range(0, len(raw), 64):
            part = slice(start, start + 64)
            yield part, *with_holes(run.codec.to_model(raw[part]))
            progress(min(start + 64, len(raw)), len(raw))


def _other(run: Run, source: str) -> Data:
    """Data that a run was not trained on, prepared as those were that it was trained on."""
    codec = run.codec
    if isinstance(codec, Table) and not run.space.is_series and Path(source).suffix.lower() in SUFFIXES:
        return open_like(Path(source), codec)
    told = _opened_like(run, source)
    if told.space != run.space or (isinstance(codec, Table) and getattr(told.codec, "levels", ()) != codec.levels):
        raise BadInput(f"{told.name} has examples {told.space}, and {run.name} was trained on {run.space}")
    same_pace(run, told.space.tr, told.name)
    if run.model.classes and told.classes:
        told = _with_labels_of(run, told)
    return dataclasses.replace(told, codec=codec) if isinstance(codec, Standard | Table) else told


def _opened_like(run: Run, source: str) -> Data:
    """With the options that the run's own data were opened with, as far as the other source has a use for them."""
    spec = dict(run.config["data"]["spec"])
    if run.space.is_series:
        spec["window"] = run.space.shape[0]
    if run.space.is_picture and at_home(source).is_dir():
        spec |= {"size": tuple(run.space.shape[1:]), "colour": "grey" if run.space.shape[0] == 1 else "rgb"}
    window = spec.get("window")
    used = used_by(source, DataConfig(window=window)) & {
        "size", "fit", "colour", "binarise", "kinds", "drop", "label", "trial", "inputs", "parcels", "bin", "tr", "window",
    }  # fmt: skip
    channels = tuple(run.config["data"].get("channels", ()))
    return opened_with(source, DataConfig(**{key: spec[key] for key in used if key in spec}), channels)


def _with_labels_of(run: Run, told: Data) -> Data:
    """Labels by the numbers that the run knows them by."""
    names = run.config["data"]["classes"]
    if unknown := [name for name in told.classes if name not in names]:
        raise BadInput(
            f"{told.name} has the label {unknown[0]!r}, and {run.name} knows {', '.join(names[:20])}; leave these examples out"
        )
    number = torch.tensor([names.index(name) for name in told.classes])
    for split in (told.train, told.valid, told.test):
        if split.labels is not None:
            split.labels = number[split.labels]
    return dataclasses.replace(told, classes=tuple(names))
