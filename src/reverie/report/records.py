"""The archive of a report: curves, scores, settings, and how to do it again."""

import shlex
from typing import Any

import numpy as np

from reverie.core.config import to_json
from reverie.core.model import Surprised
from reverie.core.recipe import TrainingConfig
from reverie.evaluation import Score
from reverie.models import MODELS
from reverie.plots import curves
from reverie.report.page import Html, drawing, el, figure, number, say, section, settings, table
from reverie.report.scene import Scene
from reverie.run import BEST

# What the names of scores mean, for someone who meets them for the first time; others speak for themselves.
MEANING = {
    "bits_per_dim": "bits that one entry of a new example costs",
    "nats": "surprise of a new example",
    "kl_exact": "distance to the true distribution",
    "kernel_distance": "dreams against new examples, in coarse shape",
    "kernel_distance_conv": "dreams against new examples, in texture",
    "kernel_distance_clean": "the same for dreams without grain",
    "kernel_distance_conv_clean": "the same for dreams without grain, in texture",
    "kernel_excess": "how much further off dreams are than training examples",
    "frechet_distance": "dreams against new examples, by mean and covariance",
    "precision": "share of dreams that could be real",
    "recall": "share of real examples that could be dreamt",
    "density": "how deep among real examples dreams lie",
    "coverage": "share of real examples with a dream close by",
    "d_stsp": "how far free runs are from where the true series goes",
    "d_hellinger": "how far the spectra of free runs are from the true ones",
    "d_stsp_stirred": "the same of runs that are moved by what the machine cannot foresee",
    "d_hellinger_stirred": "the same of runs that are moved by what the machine cannot foresee",
    "pe_20": "squared error of forecasts 20 steps ahead",
    "memorisation": "how new dreams are: 0 copies, 1 as new as the world",
    "sharpness": "fine detail of dreams: below 1 blurred, above 1 grainy",
    "sharpness_clean": "the same for dreams without grain",
}
# The same of what a machine watches while it learns.
WATCHED = {
    "by heart": "how far the critic knows its examples by heart: 0 not at all, 1 wholly",
    "altered": "share of the pictures that are altered before the critic sees them",
    "variety": "how much dreams differ from each other: 1 as real examples do, 0 collapse",
    "kernel distance": "dreams against validation examples: 0 no difference",
    "memorisation": MEANING["memorisation"],
}


def learned(scene: Scene) -> Html | None:
    """Losses over the rounds."""
    rows = [row for row in scene.run.log if row.get("losses")]
    if len(rows) < 2:
        return None
    names = list(rows[-1]["losses"])
    rounds = [row["step"] for row in rows]
    losses = {name: [row["losses"].get(name, np.nan) for row in rows] for name in names}
    watched = [row for row in rows if row.get("valid")]
    valid = {name: [row["valid"].get(name, np.nan) for row in watched] for name in names} if watched else {}
    likelihood = scene.model.can(Surprised) and len(names) == 1
    dims = scene.space.dims if likelihood and scene.space.lattice is not None else None

    def draw(ink: curves.Ink) -> Any:
        at = [row["step"] for row in watched]
        return curves.learning(rounds, losses, at, valid, dims, ink, likelihood, scene.model.explained())

    caption = (
        "Each side lowers its own loss, and what one gains the other loses: neither tells how good the dreams are. Where the "
        "critic's two lines part, it learns its examples by heart rather than their world."
        if scene.model.judged_by_dreams
        else "Lower is better. Where the two lines part, the machine learns its examples by heart rather than their world."
    )
    return section("curves", "How it learned", figure(drawing(draw, "learning curves"), caption))


def watched(scene: Scene) -> Html | None:
    """What the machine saw of its own learning, and which weights were the best."""
    seen: dict[str, tuple[list[int], list[float]]] = {}
    for row in scene.run.log:
        for name, value in row.get("watched", {}).items():
            rounds, values = seen.setdefault(name, ([], []))
            rounds.append(row["step"])
            values.append(value)
    if not seen or max(len(rounds) for rounds, _ in seen.values()) < 2:
        return None
    made = drawing(lambda ink: curves.watched(seen, WATCHED, ink), "what it saw of its own learning")
    told = "Now and then it was shown examples that it does not learn from, and what it dreamt was held against them."
    parts = [figure(made, told)]
    if (best := scene.run.best) is not None:
        last = best.step == scene.run.training.steps
        parts.append(
            say("No earlier dreams lay nearer to these examples than those of the last round.")
            if last
            else say(
                f"Its dreams lay nearest to these examples after round {best.step:,}, of {scene.run.training.steps:,}. "
                "The weights of that round are kept beside the last; every command takes ", el("code", BEST),
                " of this folder in the folder's place.",
            )
        )  # fmt: skip
    return section("watched", "What it saw of itself", *parts)


def scores(scene: Scene) -> Html | None:
    """Every score between its floor and its ceiling."""
    if not scene.scores:
        return None
    lines = [_line(score) for score in scene.scores.values()]
    head = ["score", "value", "unit", "floor", "ceiling", "between them"]
    caption = (
        "The floor is what pure chance scores in the machine's place, the ceiling what real examples would; the bar shows how "
        "far the machine has come from one to the other. Errors are standard errors. ↓ lower is better, ↑ higher is better, "
        "→ nearer to the ceiling is better."
    )
    return section("scores", "The scores", figure(table(head, lines, "scores"), caption, "figures-table"))


def _line(score: Score) -> list[Any]:
    arrow = {"lower": "↓", "higher": "↑"}.get(score.better, "→")
    title = MEANING.get(score.name)
    name = [
        el("b", score.name.replace("_", " ")),
        f" {arrow}",
        el("small", title) if title else None,
        el("small", score.method),
    ]
    bar: Any = ""
    if None not in (score.value, score.floor, score.ceiling) and _apart(score):
        share = (score.value - score.floor) / (score.ceiling - score.floor)  # type: ignore[operator]
        said = f"{100 * share:.0f}% of the way"
        full = f"width:{100 * min(max(share, 0.0), 1.0):.1f}%"
        bar = el("span", el("span", style=full), class_="bar", role="img", aria_label=said, title=said)
    return [name, number(score.value, score.error), score.unit, number(score.floor), number(score.ceiling), bar]


def _apart(score: Score) -> bool:
    """Is the ceiling better than the floor? A few scores can be fooled by noise; then there is no way from one to the other."""
    way = score.ceiling - score.floor  # type: ignore[operator]
    return bool(way < 0 if score.better == "lower" else way > 0 if score.better == "higher" else way != 0)


def settled(scene: Scene) -> Html:
    """Every setting, and the command that does it again."""
    run = scene.run
    told = run.config
    groups: dict[str, object] = {
        "model": {"family": told["model"], **told["model_config"]},
        "training": told["training"] if scene.model.learners() else {"solved": "in closed form"},
        "data": {
            "name": told["data"]["name"],
            "fingerprint": told["data"]["fingerprint"],
            **_flat(told["data"]["spec"]),
        },
        "run": {"seed": run.seed, "threads": told.get("threads"), **told.get("versions", {})},
    }
    boxes = [el("div", el("h3", name), settings(values)) for name, values in groups.items()]  # type: ignore[arg-type]
    parts = [
        say("This line makes the same machine again, on one kind of computer to the last bit."),
        el("pre", el("code", command(scene))),
        el("div", *boxes, class_="boxes"),
    ]
    if "--minutes" in told.get("command", ""):
        parts.insert(
            2, say("It was begun as ", el("code", told["command"]), ", where the number of rounds was measured.")
        )
    return section("settings", "Every setting, and how to do it again", *parts)


def _flat(spec: Any) -> dict[str, object]:
    return dict(spec) if isinstance(spec, dict) else {"source": str(spec)}


def command(scene: Scene) -> str:
    """The command line that repeats the run: what it was begun with, or the same in full."""
    run = scene.run
    words = shlex.split(run.config.get("command", ""))
    if words:
        return shlex.join(_in_rounds(words, run.training))
    spec = _flat(run.config["data"]["spec"])
    words = ["reverie", "train", str(spec.pop("source", run.config["data"]["name"])), "--model", run.config["model"]]
    if scene.model.learners():
        words += ["--steps", str(run.training.steps)]
    words += ["--seed", str(run.seed)]
    words += ["--per-class"] if run.config.get("per_class") else []
    config, training = MODELS[run.config["model"]].recipe(scene.space, len(scene.data.train))
    training_told = run.config["training"] if scene.model.learners() else {}
    own = {"data": spec, "model": run.config["model_config"], "training": training_told}
    usual = {"data": {}, "model": to_json(config), "training": to_json(training) | {"steps": run.training.steps}}
    for room, values in own.items():
        for name, value in values.items():
            if name not in usual[room] or usual[room][name] != value:
                words += _flag(f"{room}.{name}".replace("_", "-"), value)
    return shlex.join(words)


def _flag(name: str, value: object) -> list[str]:
    if isinstance(value, bool):
        room, _, knob = name.rpartition(".")
        return [f"--{name}" if value else f"--{room}.no-{knob}"]
    return [f"--{name}", *map(str, value)] if isinstance(value, list | tuple) else [f"--{name}", str(value)]


def _in_rounds(words: list[str], training: TrainingConfig) -> list[str]:
    """Without the clock: the minutes of a command line as the rounds they came to."""
    out: list[str] = []
    rounds = ["--steps", str(training.steps)]
    if training.settled:
        rounds += _flag("training.settled", training.settled)
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word == "--minutes":
            out += rounds
            skip = True
        elif word.startswith("--minutes="):
            out += rounds
        elif word != "--resume":
            out.append(word)
    return out
