"""Is a resumed run the run that was never stopped? SIGKILL at random moments, then a comparison byte for byte.

    python benchmarks/kills.py [--quick] [--trials N] [--jobs N] [--seed S]

The real command line trains a VAE on digits, once to its end, and then again and again with kills at random
moments: a third over its whole life, from the start of Python to the last write; a third while it trains; a third
aimed at a write, as soon after a random moment as a temporary file is seen. Only two things are changed: checkpoints
come twenty times a second, so that many kills fall between and into writes, and the scores and the report,
which come after training and are not compared, are left out.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from table import WORK, say, write

REVERIE = """
import sys
import reverie.cli, reverie.recording, reverie.train
reverie.recording.SAVE_EVERY = 0.05
reverie.train.finish = lambda *_: None
reverie.cli.main(sys.argv[1:])
"""
# One thread, numpy's too, so that several trials share the machine: those of OpenBLAS wait for each other by spinning.
THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
LINE = ["train", "digits", "--out", "run", "--threads", "1", "--model.latent", "16", "--model.width", "256"]
MOST_KILLS = 3  # of one trial


class Life(NamedTuple):
    """Seconds that the uninterrupted run took."""

    whole: float
    training: float


class Trial(NamedTuple):
    kills: int  # that found the process alive
    before: int  # of these, before there was a checkpoint
    writing: int  # of these, in the middle of a write: a temporary file was left behind
    litter: int  # temporary files that are still there when the run has ended
    differs: tuple[str, ...]  # files that are not those of the uninterrupted run
    error: str  # of a resume that failed


def start(folder: Path, steps: int) -> subprocess.Popen:
    """Begins the run in `folder`, or goes on with it where there is one."""
    line = [*LINE, "--steps", str(steps), *(["--resume"] if (folder / "run").exists() else [])]
    return subprocess.Popen(
        [sys.executable, "-c", REVERIE, *line], cwd=folder, env=os.environ | THREADS,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def to_the_end(folder: Path, steps: int) -> str:
    """Lets it run; the last line it said if it failed, otherwise nothing."""
    process = start(folder, steps)
    said = process.communicate()[1]
    return "" if process.returncode == 0 else last_line(said)


def contents(run: Path) -> dict[str, bytes]:
    """What must be the same, by name."""
    paths = [
        run / name
        for name in (
            "config.json",
            "model.safetensors",
            "best.safetensors",
            "state/checkpoint.safetensors",
            "log.jsonl",
        )
    ]
    paths += sorted((run / "dreams").glob("[!.]*"))
    return {str(path.relative_to(run)): path.read_bytes() for path in paths if path.exists()}


def unfinished(folder: Path) -> set[Path]:
    """Temporary files: their names begin with a point."""
    return set(folder.rglob(".*"))


def stamp(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def lives(process: subprocess.Popen, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
    """Waits until something is so, at most some seconds; False if the process ends first."""
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end and not until():
        time.sleep(0.001)
    return process.poll() is None


def killed(process: subprocess.Popen, folder: Path, rng: np.random.Generator, life: Life) -> bool:
    """Kills it at a random moment; False if it ended before that."""
    littered, log = unfinished(folder), folder / "run" / "log.jsonl"
    begun = stamp(log)
    aim = rng.choice(["any time", "training", "write"])
    if aim == "any time":
        alive = lives(process, rng.uniform(0, life.whole))
    else:
        # The first thing a resumed training does is to cut the log, and a new one soon writes to it.
        alive = lives(process, 10 * life.whole, lambda: stamp(log) != begun) and lives(
            process, rng.uniform(0, life.training)
        )
        if aim == "write":
            alive = alive and lives(process, life.whole, lambda: bool(unfinished(folder) - littered))
    process.kill()
    return alive


def trial(folder: Path, steps: int, life: Life, seed: list[int], wanted: dict[str, bytes]) -> Trial:
    """Kills, resumes, and compares. A run that ends before its first kill starts anew, so that every trial has one."""
    rng = np.random.default_rng(seed)
    kills = before = writing = attempt = 0
    planned = int(rng.integers(1, MOST_KILLS + 1))
    while kills < planned:
        littered = unfinished(folder)
        process = start(folder, steps)
        alive = killed(process, folder, rng, life)
        said = process.communicate()[1]
        if alive:
            kills += 1
            before += not (folder / "run" / "state" / "checkpoint.safetensors").exists()
            writing += bool(unfinished(folder) - littered)
        elif process.returncode:
            return Trial(kills, before, writing, 0, (), last_line(said))
        elif kills:
            break
        else:
            folder = folder.with_name(f"{folder.name}-{(attempt := attempt + 1)}")
            folder.mkdir()
    error = to_the_end(folder, steps)
    found = contents(folder / "run")
    differs = tuple(name for name in sorted(wanted | found) if wanted.get(name) != found.get(name))
    return Trial(kills, before, writing, len(unfinished(folder / "run")), differs, error)


def last_line(said: str) -> str:
    return (said.strip().splitlines() or ["no word"])[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="4 trials of a shorter run, for development")
    parser.add_argument("--trials", type=int, default=0, help="how many runs are killed (20, quick 4)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at a time")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    asked = parser.parse_args()
    trials = asked.trials or (4 if asked.quick else 20)
    steps = 150 if asked.quick else 300
    WORK.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=WORK) as made:
        folders = [Path(made) / f"{i:02d}" for i in range(trials + 1)]
        for folder in folders:
            folder.mkdir()
        start_of_life = time.monotonic()
        if error := to_the_end(folders[0], steps):
            sys.exit(f"the uninterrupted run failed: {error}")
        run = folders[0] / "run"
        training = (stamp(run / "log.jsonl") - stamp(run / "dreams" / "00000000.npy")) / 1e9
        life = Life(time.monotonic() - start_of_life, training)
        wanted = contents(run)
        say(f"uninterrupted: {life.whole:.1f} s, {training:.1f} of them training; {len(wanted)} files to compare")

        def one(i: int) -> Trial:
            result = trial(folders[i], steps, life, [asked.seed, i], wanted)
            verdict = result.error or ", ".join(result.differs) or "identical"
            say(f"trial {i}: {result.kills} kills, {result.before} early, {result.writing} in a write: {verdict}")
            return result

        with ThreadPoolExecutor(asked.jobs) as pool:
            results = list(pool.map(one, range(1, trials + 1)))
    report(results, steps, life, wanted)
    sys.exit(any(result.differs or result.error for result in results))


def report(results: list[Trial], steps: int, life: Life, wanted: dict[str, bytes]) -> None:
    same = sum(not (r.differs or r.error) and r.kills > 0 for r in results)
    rows = [
        ["runs killed and resumed", str(sum(r.kills > 0 for r in results))],
        ["identical to the uninterrupted run", f"**{same} of {len(results)}**"],
        ["kills", str(sum(r.kills for r in results))],
        ["of these before the first checkpoint", str(sum(r.before for r in results))],
        ["of these in the middle of a write", str(sum(r.writing for r in results))],
        ["temporary files left in the runs at the end", str(sum(r.litter for r in results))],
    ]
    size = sum(map(len, wanted.values())) / 2**20
    notes = [
        f"VAE on digits, {steps:,} rounds, {life.whole:.0f} s in one go, {life.training:.0f} of them training.",
        f"{len(wanted)} files of {size:.1f} MiB compared: settings, weights, checkpoint, log, every dream.",
        f"Up to {MOST_KILLS} kills a run. A run killed before its folder was there was simply started again.",
        *(f"Trial {i}: {r.error or ', '.join(r.differs)}" for i, r in enumerate(results, 1) if r.error or r.differs),
    ]
    write("kills", "Killed and resumed", ["", ""], rows, notes)


if __name__ == "__main__":
    main()
