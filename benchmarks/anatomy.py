"""What is inside the machines that learned Lorenz-63 from noisy data: do they stand still where the system does, and part as fast?

    python benchmarks/anatomy.py FOLDER [--first 100] [--members 20]

Takes apart the twenty machines of `series.py FOLDER lorenz`, which it trains if they are not there yet. The system has three fixed points:
the origin, unstable in one direction, and (±√72, ±√72, 27), unstable in two each. Of every machine
all fixed points are sought, and of each true one the nearest is told: how far it is, in deviations of the data, and in how many
directions it is unstable. The recording is standardised, so the true points are too, by the mean and the deviation of a long simulation.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from learn import CHOOSING
from series import trained
from table import say, write

from reverie.data.dynamics import lorenz, simulate
from reverie.evaluation.anatomy import alone, exponents, taken_apart
from reverie.maths.chaos import kaplan_yorke

SIDE = 72**0.5
TRUE = {
    "(0, 0, 0)": ((0.0, 0.0, 0.0), 1),
    "(√72, √72, 27)": ((SIDE, SIDE, 27.0), 2),
    "(-√72, -√72, 27)": ((-SIDE, -SIDE, 27.0), 2),
}
STARTS, STEPS = 8, 20_000


def spread(values: list[float]) -> str:
    middle = np.median(values)
    return f"{middle:.3g} ± {np.median(np.abs(np.array(values) - middle)):.2g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--members", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help=f"the seed; {CHOOSING} and up for choosing settings")
    parser.add_argument("--quick", action="store_true", help="little learning, for development")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    world, run, data, *_ = trained("lorenz", asked.folder, asked)
    model = run.model
    long = simulate(lorenz(), 200_000, world.dt, 1, seed=1)[0]
    mean, scale = long.mean(0), long.std(0)
    torch.manual_seed(asked.first)
    system = alone(model)
    found = exponents(system, STARTS, STEPS)
    usable = [i for i in range(asked.members) if not model.diverged[i]]
    near: dict[str, list[tuple[float, int]]] = {name: [] for name in TRUE}
    counts = []
    for i in usable:
        census = taken_apart(system, i, steps=5000, after=1).census
        assert census is not None
        still = census.cycles
        counts.append(float(len(still)))
        world_units = [np.asarray(data.codec.to_world(system.seen(one.points, i)).double())[0] for one in still]
        for name, (point, _) in TRUE.items():
            apart = [float(np.linalg.norm(at - (np.array(point) - mean) / scale)) for at in world_units]
            if apart:
                best = int(np.argmin(apart))
                near[name].append((apart[best], still[best].unstable))
        say(
            f"member {i}: {len(still)} fixed points; {[(round(at[-1][0], 3), at[-1][1]) for at in near.values() if at]}"
        )
    rows = []
    for name, (_, unstable) in TRUE.items():
        right = sum(count == unstable for _, count in near[name])
        rows.append([name, spread([apart for apart, _ in near[name]]), f"{right} of {len(usable)}"])
    largest = (found[usable, :, 0].double().mean(1) / world.dt).tolist()
    dimension = kaplan_yorke(found[usable].double().mean(1)).tolist()
    notes = [
        f"Median ± median absolute deviation over {len(usable)} machines of {asked.members}, the others diverged; seed {asked.first}.",
        f"Fixed points of a machine: {spread(counts)}; of the system 3.",
        f"Largest Lyapunov exponent {spread(largest)} per unit of time, positive in {sum(n > 0 for n in largest)}; of the system 0.906.",
        f"Kaplan-Yorke dimension {spread(dimension)}; of the system 2.06.",
    ]
    header = [
        "fixed point of the system",
        "distance of the machine's nearest, deviations",
        "as unstable as it should be",
    ]
    say("\n".join("  ".join(row) for row in rows) + "\n" + "\n".join(notes))
    if asked.first < CHOOSING:
        write("anatomy", "Inside the machines of Lorenz-63", header, rows, notes)


if __name__ == "__main__":
    main()
