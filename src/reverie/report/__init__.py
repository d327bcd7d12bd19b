"""`report.html` of a run: one self-contained page that a person would rather look at than read."""

from collections.abc import Callable
from pathlib import Path

import torch

from reverie.data import Data
from reverie.evaluation import Score
from reverie.files import write_atomically
from reverie.report import dreams, layers, motion, records, senses, styles, world
from reverie.report.page import Html, document, el
from reverie.report.scene import Scene
from reverie.run import Run

__all__ = ["write_report"]

Room = Callable[[Scene], Html | None]  # None: the machine lacks the ability


def write_report(run: Run, data: Data, scores: list[Score]) -> Path:
    """Writes `report.html` into the run folder, atomically; where it lies.

    Everything is inside the page, pictures too. The same run gives the same page, and global random
    state stays as it was.
    """
    with torch.random.fork_rng():  # a model draws its weights before it reads them
        scene = Scene(run, data, scores)
    rooms: list[Room] = [
        world.title, world.chance, world.data, motion.subjects, motion.attractor, motion.rhythms, motion.beside, dreams.learning, dreams.fresh, styles.boldness, styles.mixing, styles.real, dreams.walk, dreams.directions, layers.layers,
        senses.perceiving, senses.mending, senses.surprise, records.learned, records.watched, records.scores, records.settled,
    ]  # fmt: skip
    made = [_visited(room, scene) for room in rooms]
    title, *rest = [html for html in made if html is not None]
    end = el(
        "footer", f"Made by reverie from the run {run.name}. Nothing on this page was retouched or chosen by hand."
    )
    description = f"What a {run.config['model']} machine learned from {data.name}"
    page = document(f"Dreams of {data.name}", description, data.space.kind, title, el("main", *rest), "\n", end)
    path = run.place("report.html")
    write_atomically(path, page.encode("utf-8", "backslashreplace"))
    return path


def _visited(room: Room, scene: Scene) -> Html | None:
    # Each room throws dice of its own, so that one which changes leaves the others as they were.
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(scene.run.seed)
        return room(scene)
