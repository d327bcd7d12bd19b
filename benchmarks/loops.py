"""Model-rounds per second of generalised teacher forcing: the house, an eager PyTorch loop, and JAX's scan, in turns.

    python benchmarks/loops.py [--size 20 200] [--quick]

A shallow PLRNN, windows of 200 steps, batch 16, Adam; whole rounds, with what draws the windows. A round of twenty machines
counts as twenty. All run in short blocks by turns, so that whatever else the machine does falls on all of them; a ratio is the median over
turns of that of two blocks of one turn. First with one thread each, then with as many as there are cores; JAX is held to as many cores.
"""

import argparse
import os
import sys

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import torch
from speed import Block, Worker, measure, rival, spread
from table import WORK, write

STEPS, BATCH, MEMBERS = 200, 16, 20
EAGER = "eager PyTorch loop, one machine"
HEADER = ["", "model-rounds per second", "faster than the eager loop by", "peak memory, MiB"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=[20, 200], metavar=("LATENT", "HIDDEN"))
    parser.add_argument("--quick", action="store_true", help="a few short blocks, for development")
    asked = parser.parse_args()
    WORK.mkdir(exist_ok=True)
    sizes = [str(n) for n in (*asked.size, STEPS, BATCH)]
    rounds, turns = (4, 3) if asked.quick else (20, 20)
    tables = []
    for threads in sorted({1, torch.get_num_threads()}):
        torch.set_num_threads(threads)
        rows = raced(sizes, rounds, turns)
        tables.append((f"{threads} thread{'s' * (threads > 1)} each", HEADER, rows))
    notes = [
        f"Shallow PLRNN ({', '.join(sizes[:2])}), {STEPS} steps, batch {BATCH}; {turns} turns of {rounds} rounds; medians, and quartiles in brackets.",
    ]
    if not any("JAX" in row[0] for row in tables[0][2]):
        notes.append("JAX was not measured: `make -C benchmarks .venv/.made` makes its environment.")
    (title, header, body), *more = tables
    write("loops", f"Speed of the loop over time: {title}", header, body, notes, more)


def raced(sizes: list[str], rounds: int, turns: int) -> list[list[str]]:
    """A row for each contestant; all have as many threads as torch has here."""
    found: dict[str, tuple[Worker | None, int]] = {
        f"reverie, {MEMBERS} machines": (
            Worker(sys.executable, "loop_worker.py", "ours", *sizes, str(MEMBERS)),
            MEMBERS,
        ),
        "reverie, one machine": (Worker(sys.executable, "loop_worker.py", "ours", *sizes, "1"), 1),
        EAGER: (Worker(sys.executable, "loop_worker.py", "eager", *sizes, "1"), 1),
        f"JAX scan, {MEMBERS} machines": (rival("jax_worker.py", *sizes, str(MEMBERS)), MEMBERS),
        "JAX scan, one machine": (rival("jax_worker.py", *sizes, "1"), 1),
    }
    workers = {name: (worker, many) for name, (worker, many) in found.items() if worker}
    contestants: dict[str, Block] = {name: worker for name, (worker, _) in workers.items()}
    results = measure(contestants, rounds, turns)
    slow = [seconds for seconds, _ in results[EAGER]]
    rows = []
    for name, blocks in results.items():
        worker, many = workers[name]
        times = [seconds / many for seconds, _ in blocks]
        ratio = spread([e / t for e, t in zip(slow, times, strict=True)], 2)
        rows.append([name, spread([rounds / t for t in times], 1), ratio, f"{worker.more[0]:.0f}"])
        worker.process.terminate()
    return rows


if __name__ == "__main__":
    main()
