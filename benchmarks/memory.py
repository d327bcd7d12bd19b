"""Does memory grow with the number of pictures? 10,000, 100,000 and 300,000 made ones, decoded and trained on.

    python benchmarks/memory.py [--quick]

Peak resident memory of a process of its own for each measurement, from start to end.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from table import HERE, WORK, say, write

HEIGHT, WIDTH, ROUNDS = 48, 40, 200
WHAT = ("import", "decode", "train")


def draw(folder: Path, count: int) -> None:
    """PGM files of a disc at a random place in noise, a thousand to a folder."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    header = b"P5 %d %d 255\n" % (WIDTH, HEIGHT)
    for i in range(count):
        if i % 1000 == 0:
            part = folder / f"{i // 1000:03d}"
            part.mkdir(parents=True)
        y, x, radius = rng.uniform((8, 8, 4), (HEIGHT - 8, WIDTH - 8, 16))
        disc = 128 * ((rows - y) ** 2 + (columns - x) ** 2 < radius**2)
        pixels = disc + rng.integers(0, 128, (HEIGHT, WIDTH))
        (part / f"{i:06d}.pgm").write_bytes(header + pixels.astype(np.uint8).tobytes())


def peak() -> float:
    """MiB, the most that this process has held."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 2**20 if sys.platform == "darwin" else most / 2**10  # bytes there, KiB here


def child(what: str, folder: str) -> None:
    """One measurement: prints its peak."""
    import torch

    from reverie.core.recipe import TrainingConfig
    from reverie.data import open_data
    from reverie.models.vae import VAE, VAEConfig
    from reverie.training import State, fabric_for, training

    if what != "import":
        data = open_data(folder, size=(HEIGHT, WIDTH))
    if what == "train":
        torch.manual_seed(0)
        vae = VAE(VAEConfig(latent=8, width=64, depth=1, prior="normal"), data.space)
        for _ in training(State(vae, TrainingConfig(steps=ROUNDS)), data, 0, fabric_for("cpu")):
            pass
    print(peak())


def measure(what: str, folder: Path, cache: Path) -> float:
    """MiB. The cache is empty for `decode` and holds its result for `train`."""
    done = subprocess.run(
        [sys.executable, Path(__file__).resolve(), "--child", what, folder], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"XDG_CACHE_HOME": str(cache)}, check=True, cwd=HERE,
    )  # fmt: skip
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1,000 to 10,000, for development")
    parser.add_argument("--child", nargs=2, metavar=("WHAT", "FOLDER"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        return child(*asked.child)
    counts = (1_000, 3_000, 10_000) if asked.quick else (10_000, 100_000, 300_000)
    table: dict[str, list[float]] = {what: [] for what in WHAT}
    WORK.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=WORK) as made:
        for count in counts:
            folder = Path(made) / str(count)
            say(f"drawing {count:,} pictures …")
            draw(folder, count)
            for what, row in table.items():
                row.append(measure(what, folder, Path(made) / f"cache-{count}"))
                say(f"{what}, {count:,} pictures: {row[-1]:.0f} MiB")
    report(counts, table)


def report(counts: tuple[int, ...], table: dict[str, list[float]]) -> None:
    names = {
        "import": "reverie imported, nothing opened",
        "decode": "a folder opened for the first time",
        "train": f"opened from the cache, {ROUNDS} rounds trained",
    }
    rows = []
    for what, peaks in table.items():
        each = (peaks[-1] - peaks[-2]) * 2**20 / (counts[-1] - counts[-2])
        rows.append([names[what], *(f"{p:.0f}" for p in peaks), f"{peaks[-1] / peaks[0]:.2f}", f"{each:.0f}"])
    pixels = HEIGHT * WIDTH
    notes = [
        f"Pictures of {HEIGHT}×{WIDTH} grey pixels: {', '.join(f'{n * pixels / 2**20:.0f}' for n in counts)} MiB of them. VAE with 64 units, 8 latents, batch 128; CPU.",
        "Goal: a ratio of about 1. Pages of the mapped cache count as resident, though the system may take them back.",
    ]
    header = [
        "peak resident memory, MiB",
        *(f"{n:,} pictures" for n in counts),
        "last to first",
        "bytes for each picture more, of the last step",
    ]
    write("memory", "Memory and the number of pictures", header, rows, notes)


if __name__ == "__main__":
    main()
