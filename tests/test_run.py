"""The run folder: a kill at any moment loses nothing, and nothing hostile or torn is believed."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

from reverie import files, recording
from reverie import run as run_module
from reverie.core.errors import BadInput
from reverie.core.recipe import TrainingConfig
from reverie.data import Data, open_data
from reverie.evaluation.sets import Judge
from reverie.files import write_atomically
from reverie.models.gan import GANConfig
from reverie.models.linear import LinearConfig
from reverie.models.vae import VAEConfig
from reverie.recording import record
from reverie.run import Run
from reverie.training import Report, fabric_for, training

BARS = open_data("bars", count=300)
RINGS = open_data("rings", count=300)
KEPT = ("model.safetensors", "best.safetensors", "state/checkpoint.safetensors", "log.jsonl")


def make(folder: Path, steps: int = 60, model: str = "vae") -> Run:
    config = VAEConfig(latent=3, width=16, depth=1, components=2)
    return Run.create(folder, model, config, TrainingConfig(steps=steps, batch=32), BARS, 0)


def finish(run: Run, until: int | None = None, data: Data = BARS) -> Run:
    for report in record(run, data, fabric_for("cpu")):
        if report.step == until:
            break
    return run


def bytes_of(folder: Path) -> dict[str, bytes]:
    files = [folder / name for name in KEPT if (folder / name).exists()] + sorted((folder / "dreams").glob("*.npy"))
    return {str(f.relative_to(folder)): f.read_bytes() for f in files}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return finish(make(tmp_path_factory.mktemp("runs") / "whole"))


def test_what_a_model_watches_is_kept_and_resumed_byte_identical(tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "SAVE_EVERY", 0.0)
    digits = open_data("digits")
    config = GANConfig(latent=3, width=2, augment=0.8)

    def made(name: str) -> Run:
        return Run.create(tmp_path / name, "gan", config, TrainingConfig(steps=36, batch=8, beta1=0.0), digits, 0)

    unstopped = finish(made("whole"), data=digits)
    assert [row["step"] for row in unstopped.log if "by heart" in row.get("watched", {})] == [16, 32]
    for until in (15, 17, 33):
        finish(made(f"r{until}"), until, digits)
        assert bytes_of(finish(Run.load(tmp_path / f"r{until}"), data=digits).folder) == bytes_of(unstopped.folder)


class Clock:
    """A clock of a machine that takes a second for a round, and slows down."""

    def __init__(self, slow_after: int, pace: float):
        self.now, self.rounds, self.slow_after, self.pace = 100.0, 0, slow_after, pace

    def round(self) -> None:
        self.rounds += 1
        self.now += 1.0 if self.rounds <= self.slow_after else self.pace


def by_the_clock(run: Run, clock: Clock, monkeypatch, until: int | None = None) -> Run:
    """Begun for sixty seconds."""

    def timed(*asked: Any) -> Iterator[Report]:
        for report in training(*asked):
            clock.round()
            yield report

    with monkeypatch.context() as patched:
        patched.setattr(recording, "training", timed)
        patched.setattr(recording.time, "monotonic", lambda: clock.now)
        for report in record(run, BARS, fabric_for("cpu"), 160.0):
            if report.step == until:
                break
    return run


@pytest.mark.parametrize("pace", [0.5, 1.0, 3.0])
def test_a_run_by_the_clock_ends_in_time_whatever_becomes_of_the_machine(tmp_path, monkeypatch, pace):
    clock = Clock(20, pace)
    run = by_the_clock(make(tmp_path / "r"), clock, monkeypatch)
    assert clock.now - 100 == pytest.approx(60, abs=4)
    again = Run.load(run.folder)
    assert again.log[-1]["step"] == again.training.steps == clock.rounds
    assert bool(again.training.settled) == (pace != 1.0)


@pytest.mark.parametrize("until", [10, 15, 31, 33, 40])
def test_a_run_whose_rounds_were_settled_again_is_resumed_and_repeated_byte_identical(tmp_path, monkeypatch, until):
    monkeypatch.setattr(recording, "SAVE_EVERY", 7.0)
    whole = by_the_clock(make(tmp_path / "whole"), Clock(20, 1.6), monkeypatch)
    settled = Run.load(whole.folder).training
    assert len(settled.settled) >= 4, "or the next lines show little"
    # Repeated by its settings, and stopped on the way.
    for stops in ([None], [until, None]):
        folder = tmp_path / f"{len(stops)}"
        config = VAEConfig(latent=3, width=16, depth=1, components=2)
        Run.create(folder, "vae", config, settled, BARS, 0)
        for stop in stops:
            finish(Run.load(folder), stop)
        assert bytes_of(folder) == bytes_of(whole.folder)
    # Stopped while its rounds were being settled: it goes on with what was settled by then.
    clock, folder = Clock(20, 1.6), tmp_path / "by the clock"
    by_the_clock(make(folder), clock, monkeypatch, until)
    known = Run.load(folder).training
    finish(Run.load(folder))
    Run.create(tmp_path / "unstopped", "vae", config, known, BARS, 0)
    assert bytes_of(finish(Run.load(tmp_path / "unstopped")).folder) == bytes_of(folder)


def dreamer(folder: Path, steps: int = 60) -> Run:
    config = GANConfig(latent=3, width=8, depth=1)
    return Run.create(folder, "gan", config, TrainingConfig(steps=steps, batch=16, beta1=0.0, rate=0.02), RINGS, 0)


@pytest.fixture(scope="module")
def dreamt(tmp_path_factory):
    """A run that is looked at five times, whose dreams are not best at the end."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(recording, "LOOK", 12)
        return finish(dreamer(tmp_path_factory.mktemp("runs") / "whole"), data=RINGS)


def looks(run: Run) -> dict[int, float]:
    told = {row["step"]: row.get("watched", {}).get("kernel distance") for row in run.log}
    return {step: distance for step, distance in told.items() if distance is not None}


def test_the_best_weights_are_those_whose_dreams_were_nearest(dreamt, tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "LOOK", 12)
    seen, best = looks(dreamt), Run.load(dreamt.folder).best
    assert list(seen) == [12, 24, 36, 48, 60]
    assert best == (min(seen, key=seen.get), min(seen.values()))
    assert best.step < 60, "or the next lines show nothing"
    # They are the averaged weights as they were at that time.
    run = dreamer(tmp_path / "r")
    for report in record(run, RINGS, fabric_for("cpu")):
        if report.step == best.step:
            break
    judge = Judge.of(RINGS, run.seed)
    kept, last = (Run.load(dreamt.folder, best=at_best).model for at_best in (True, False))
    assert judge(kept)["kernel distance"] == best.distance == report.watched["kernel distance"]
    assert judge(last)["kernel distance"] == seen[60]


def test_the_best_weights_are_found_by_their_path_and_keep_what_is_said_of_them_apart(dreamt, whole):
    run = Run.load(dreamt.folder / "best.safetensors")
    assert run.folder == dreamt.folder
    assert run.name == f"{dreamt.name} (best)"
    assert run.place("scores.json") != dreamt.place("scores.json")
    with pytest.raises(BadInput, match="has no best"):
        Run.load(whole.folder / "best.safetensors")


@pytest.mark.parametrize("until", [13, 37])
def test_the_best_weights_are_the_same_where_a_run_was_stopped(dreamt, tmp_path, monkeypatch, until):
    """Also where it has forgotten rounds that it had looked at: only every other row is a checkpoint."""
    monkeypatch.setattr(recording, "LOOK", 12)
    for seldom in (0.0, 1e9):
        monkeypatch.setattr(recording, "SAVE_EVERY", seldom)
        folder = tmp_path / f"{seldom}"
        finish(dreamer(folder), until, RINGS)
        again = finish(Run.load(folder), data=RINGS)
        assert bytes_of(again.folder) == bytes_of(dreamt.folder)


@pytest.mark.parametrize("write", range(3, 75, 14))
def test_the_best_weights_are_the_same_where_a_run_died_in_a_write(dreamt, tmp_path, monkeypatch, write):
    monkeypatch.setattr(recording, "LOOK", 12)
    monkeypatch.setattr(recording, "SAVE_EVERY", 0.0)
    count = 0

    def dying(path: Path, content: bytes) -> None:
        nonlocal count
        count += 1
        if count == write:
            raise KeyboardInterrupt
        write_atomically(path, content)

    with pytest.MonkeyPatch.context() as patched:
        for module in (recording, run_module):
            patched.setattr(module, "write_atomically", dying)
        made = dreamer(tmp_path / "r")
        with pytest.raises(KeyboardInterrupt):
            finish(made, data=RINGS)
    assert bytes_of(finish(Run.load(tmp_path / "r"), data=RINGS).folder) == bytes_of(dreamt.folder)


@pytest.mark.parametrize("until", [1, 7, 23, 59])
def test_stopped_between_rounds_and_resumed_is_byte_identical(whole, tmp_path, monkeypatch, until):
    monkeypatch.setattr(recording, "SAVE_EVERY", 0.0)
    finish(make(tmp_path / "r"), until)
    again = finish(Run.load(tmp_path / "r"))
    assert bytes_of(again.folder) == bytes_of(whole.folder)


@pytest.mark.parametrize("write", range(1, 12, 2))
def test_stopped_between_two_writes_and_resumed_is_byte_identical(whole, tmp_path, monkeypatch, write):
    """Every write goes through one function: die in the n-th one, before or after it has replaced the file."""
    monkeypatch.setattr(recording, "SAVE_EVERY", 0.0)
    count = 0

    def dying(path: Path, content: bytes) -> None:
        nonlocal count
        count += 1
        if count == 2 * write:
            raise KeyboardInterrupt
        write_atomically(path, content)

    for module in (recording, run_module):
        monkeypatch.setattr(module, "write_atomically", dying)
    made = make(tmp_path / "r")
    with pytest.raises(KeyboardInterrupt):
        finish(made)
    for module in (recording, run_module):
        monkeypatch.setattr(module, "write_atomically", write_atomically)
    finish(Run.load(tmp_path / "r"))
    assert bytes_of(tmp_path / "r") == bytes_of(whole.folder)


def test_killed_and_resumed_from_the_command_line_is_byte_identical(tmp_path):
    """A real SIGKILL of the real command, at whatever moment it comes. (benchmarks/kills.py does twenty.)"""
    wrapper = "import reverie.recording as r; r.SAVE_EVERY = 0.05; from reverie.cli import main; main()"
    line = [sys.executable, "-c", wrapper, "train", "bars", "--data.count", "300", "--steps", "400", "--threads", "1",
            "--model.width", "64", "--out"]  # fmt: skip
    subprocess.run([*line, str(tmp_path / "whole")], check=True, capture_output=True, timeout=200)
    process = subprocess.Popen([*line, str(tmp_path / "killed")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log = tmp_path / "killed" / "log.jsonl"
    deadline = time.monotonic() + 100
    while not (log.exists() and log.read_text().count("\n") > 40) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    rows = log.read_text().count("\n")
    assert 40 < rows < 200, "the run must have been killed on its way"
    subprocess.run([*line, str(tmp_path / "killed"), "--resume"], check=True, capture_output=True, timeout=200)
    assert bytes_of(tmp_path / "killed") == bytes_of(tmp_path / "whole")


def test_a_solved_run_can_be_resumed_too(tmp_path):
    """Its size was chosen while it was solved, and its settings say so afterwards."""
    digits = open_data("digits")
    run = Run.create(tmp_path / "r", "linear", LinearConfig(), TrainingConfig(), digits, 0)
    for _ in range(2):
        for _report in record(Run.load(run.folder), digits, fabric_for("cpu")):
            pass
        assert Run.load(run.folder).model.config.latent > 0


def test_an_existing_folder_is_never_written_over(whole):
    with pytest.raises(BadInput, match="exists already"):
        make(whole.folder)


def test_nothing_is_left_half_written_where_the_disk_refuses(tmp_path, monkeypatch):
    target = tmp_path / "file"
    target.write_bytes(b"old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(BadInput, match="No space left"):
        write_atomically(target, b"new and longer")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.fixture
def copy(whole, tmp_path):
    shutil.copytree(whole.folder, tmp_path / "copy")
    return tmp_path / "copy"


def change(folder: Path, **values) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def refuse(folder: Path, word: str) -> None:
    with pytest.raises(BadInput, match=word) as caught:
        _ = Run.load(folder).model
    assert "\n" not in str(caught.value)


def test_a_run_learns_in_one_place_at_a_time(tmp_path):
    run = make(tmp_path / "r")
    rounds = record(run, BARS, fabric_for("cpu"))
    next(rounds)
    with pytest.raises(BadInput, match="learning in another process"):
        next(record(Run.load(tmp_path / "r"), BARS, fabric_for("cpu")))
    rounds.close()
    finish(run)


def test_damaged_foreign_and_hostile_folders_give_one_line(copy, tmp_path):
    refuse(tmp_path / "nowhere", "no run folder")
    (tmp_path / "empty").mkdir()
    refuse(tmp_path / "empty", "not a run folder")
    change(copy, model="os.system")
    refuse(copy, "this reverie knows")
    change(copy, model=["vae"])
    refuse(copy, "this reverie knows")
    change(copy, model="vae", model_config={"latent": 10**12})
    refuse(copy, "latent")
    change(copy, model_config={"latent": "3; import os"})
    refuse(copy, "latent")
    change(copy, model_config={}, space={"shape": [10**6, 10**6], "kind": "bit"})
    refuse(copy, "shape")
    change(copy, space={"shape": [1, 4, 4], "kind": "bit"}, codec={"codec": "__import__"})
    with pytest.raises(BadInput, match="codec"):
        _ = Run.load(copy).codec
    change(copy, space={"shape": [1, 4, 4], "kind": "bit"}, per_class=7)
    refuse(copy, "damaged")
    for told in (
        [],
        {"classes": 3},
        {"classes": [3]},
        {"classes": []},
        {"classes": [], "spec": {}, "name": "x", "fingerprint": 3},
    ):
        change(copy, data=told)
        refuse(copy, "damaged")
    (copy / "config.json").write_text("{")
    refuse(copy, "not JSON")
    (copy / "config.json").write_text("[]")
    refuse(copy, "not a run")


@pytest.mark.parametrize("what", ["short", "text", "other", "nan", "absent"])
def test_damaged_weights_give_one_line(copy, what):
    path = copy / "model.safetensors"
    if what == "short":
        path.write_bytes(path.read_bytes()[:200])
    elif what == "text":
        path.write_text("hello")
    elif what == "other":
        path.write_bytes(save({"a": torch.zeros(3)}))
    elif what == "absent":
        path.unlink()
    else:
        model = Run.load(copy).model
        tensors = {k: v.clone() for k, v in model.state_dict().items()}
        max(tensors.values(), key=torch.numel)[0] = np.nan
        path.write_bytes(save(tensors))
    refuse(copy, "damaged|fit config|no weights")


def test_a_torn_log_line_is_left_out(copy):
    rows = Run.load(copy).log
    with (copy / "log.jsonl").open("a") as file:
        file.write('{"step": 99')
    assert Run.load(copy).log == rows


def test_dreams_come_from_the_same_latents(whole):
    frames = dict(whole.dreams())
    assert next(iter(frames)) == 0
    assert list(frames)[-1] == 60
    assert all(frame.shape == (64, 1, 4, 4) for frame in frames.values())
