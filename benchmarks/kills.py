"""Is a resumed run the run that was never stopped? SIGKILL at random moments, then a comparison byte for byte.

    python benchmarks/kills.py [--quick] [--trials N] [--jobs N] [--seed S]

The real command line trains a VAE on digits, once to its end, and then again and again with kills at moments
drawn over its whole life, from the start of Python to the last write. Only two things are changed: checkpoints
come every fifth of a second, so that many kills fall between and into writes, and the scores and the report,
which come after training and are not compared, are left out.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from table import WORK, say, write

REVERIE = """
import sys
import reverie.cli, reverie.recording, reverie.train
reverie.recording.SAVE_EVERY = 0.2
reverie.train.finish = lambda *_: None
reverie.cli.main(sys.argv[1:])
"""
# One thread, so that several trials share the machine without sums being cut differently.
LINE = ["train", "digits", "--out", "run", "--threads", "1", "--model.latent", "16", "--model.width", "256"]
MOST_KILLS = 4  # of one trial


class Trial(NamedTuple):
    kills: int  # that found the process alive
    before: int  # of these, before there was a checkpoint
    writing: int  # of these, in the middle of a write: a temporary file was left behind
    differs: tuple[str, ...]  # files that are not those of the uninterrupted run
    error: str  # of a resume that failed


def start(folder: Path, steps: int) -> subprocess.Popen:
    """Begins the run in `folder`, or goes on with it where there is one."""
    line = [*LINE, "--steps", str(steps), *(["--resume"] if (folder / "run").exists() else [])]
    return subprocess.Popen(
        [sys.executable, "-c", REVERIE, *line], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def to_the_end(folder: Path, steps: int) -> str:
    """Lets it run; the last line it said if it failed, otherwise nothing."""
    process = start(folder, steps)
    said = process.communicate()[1]
    return "" if process.returncode == 0 else (said.strip().splitlines() or ["no word"])[-1]


def contents(run: Path) -> dict[str, bytes]:
    """What must be the same, by name."""
    paths = [run / "config.json", run / "model.safetensors", run / "state" / "checkpoint.safetensors", run / "log.jsonl"]
    paths += sorted((run / "dreams").glob("[!.]*"))
    return {str(path.relative_to(run)): path.read_bytes() for path in paths if path.exists()}


def unfinished(folder: Path) -> set[Path]:
    """Temporary files: they have the name of a file, after a point."""
    return {path for path in folder.rglob(".*") if path.name.startswith((".reverie-", ".config", ".model", ".checkpoint",
                                                                         ".log", ".0"))}  # fmt: skip


def trial(folder: Path, steps: int, life: float, seed: list[int], wanted: dict[str, bytes]) -> Trial:
    """Kills, resumes, and compares. A run that ends before its first kill starts anew, so that every trial has one."""
    rng = np.random.default_rng(seed)
    kills = before = writing = 0
    for attempt in range(int(rng.integers(1, MOST_KILLS + 1))):
        process = start(folder, steps)
        littered = unfinished(folder)
        try:
            # The first moment lies anywhere in the life of the run, the later ones anywhere in what may be left of it.
            said = process.communicate(timeout=rng.uniform(0, life))[1]
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
            before += not (folder / "run" / "state" / "checkpoint.safetensors").exists()
            writing += bool(unfinished(folder) - littered)
            continue
        if process.returncode:
            return Trial(kills, before, writing, (), (said.strip().splitlines() or ["no word"])[-1])
        if kills:
            break
        folder = folder.with_name(f"{folder.name}-{attempt}")
        folder.mkdir()
    error = to_the_end(folder, steps)
    found = contents(folder / "run")
    differs = tuple(name for name in sorted(wanted | found) if wanted.get(name) != found.get(name))
    return Trial(kills, before, writing, differs, error)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="4 trials of a shorter run, for development")
    parser.add_argument("--trials", type=int, default=0, help="how many runs are killed (20, quick 4)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at a time")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    asked = parser.parse_args()
    trials = asked.trials or (4 if asked.quick else 20)
    steps = 600 if asked.quick else 2000
    WORK.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=WORK) as made:
        folders = [Path(made) / f"{i:02d}" for i in range(trials + 1)]
        for folder in folders:
            folder.mkdir()
        start_of_life = time.monotonic()
        if error := to_the_end(folders[0], steps):
            sys.exit(f"the uninterrupted run failed: {error}")
        life = time.monotonic() - start_of_life
        wanted = contents(folders[0] / "run")
        say(f"uninterrupted: {life:.1f} s, {len(wanted)} files to compare")
        with ThreadPoolExecutor(asked.jobs) as pool:
            results = list(pool.map(lambda i: told(i, folders[i], steps, life, asked.seed, wanted), range(1, trials + 1)))
    report(results, steps, life, wanted)
    sys.exit(any(result.differs or result.error for result in results))


def told(i: int, folder: Path, steps: int, life: float, seed: int, wanted: dict[str, bytes]) -> Trial:
    result = trial(folder, steps, life, [seed, i], wanted)
    verdict = result.error or ", ".join(result.differs) or "identical"
    say(f"trial {i}: {result.kills} kills, {result.before} before a checkpoint, {result.writing} in a write: {verdict}")
    return result


def report(results: list[Trial], steps: int, life: float, wanted: dict[str, bytes]) -> None:
    same = sum(not (r.differs or r.error) and r.kills > 0 for r in results)
    rows = [
        ["runs killed and resumed", str(sum(r.kills > 0 for r in results))],
        ["identical to the uninterrupted run", f"**{same} of {len(results)}**"],
        ["kills", str(sum(r.kills for r in results))],
        ["of these before the first checkpoint", str(sum(r.before for r in results))],
        ["of these in the middle of a write", str(sum(r.writing for r in results))],
    ]
    size = sum(map(len, wanted.values())) / 2**20
    notes = [
        f"VAE on digits, {steps:,} rounds, {life:.0f} s in one go; {len(wanted)} files of {size:.1f} MiB compared byte for "
        "byte: settings, weights, checkpoint, log, every dream.",
        f"Up to {MOST_KILLS} kills a run. A run killed before its folder was there was simply started again.",
        *(f"Trial {i}: {r.error or ', '.join(r.differs)}" for i, r in enumerate(results, 1) if r.error or r.differs),
    ]
    write("kills", "Killed and resumed", ["", ""], rows, notes)


if __name__ == "__main__":
    main()
