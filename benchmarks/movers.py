"""Adam and Soap on machines that learn Lorenz-63 from a recording without noise: how exactly do they foresee, round for round and second for second?

    python benchmarks/movers.py [--seeds 5] [--steps 3000] [--quick]

The seeds are members that learn side by side. Judged on another recording: the error of one step, and of twenty of their own, from where it is,
as a share of its deviation; and by the two largest Lyapunov exponents, of which the second of a flow is 0. Medians over the members. Adam has as many
rounds as Soap, and then as many as fit the same time; WIDE machines have half as many.
"""

from dataclasses import replace
from typing import Literal

import torch
from learn import hasty, learned, seeds_parser
from table import say, write
from torch import Tensor

from reverie.core.recipe import TrainingConfig
from reverie.data import DataConfig
from reverie.data.dynamics import lorenz, simulate
from reverie.data.series import from_trials
from reverie.data.windows import Trial
from reverie.maths.chaos import lyapunov_spectrum
from reverie.models.recurrent import Recurrent, RecurrentConfig

STEPS, HELD, DT, WINDOW, AHEAD = 50_000, 20_000, 0.01, 200, 20
HIDDEN, WIDE = 200, 1000
ORBITS, SETTLE, COUNTED = 20, 1000, 10_000  # of which exponents are the mean, and their steps
RECIPE = TrainingConfig(batch=16, rate=2e-3, clip=10.0, average=0.0, final=0.01, warmup=0.01, beta2=0.999)


@torch.no_grad()
def errors(model: Recurrent, x: Tensor) -> list[float]:
    """Root mean square errors of one step and of AHEAD of them, medians over the members."""
    z, found = x[: len(x) - AHEAD].expand(model.members, -1, -1), []
    for step in range(1, AHEAD + 1):
        z = model.cell.step(z)
        if step in (1, AHEAD):
            error = (z - x[step : len(x) - AHEAD + step]).square().mean((1, 2)).sqrt()
            found.append(float(error.median()))
    return found


@torch.no_grad()
def exponents(model: Recurrent, x: Tensor) -> list[float]:
    """The two largest, per unit of time, medians over the members: of orbits that begin on the recording."""
    start = x[:: len(x) // ORBITS][:ORBITS].expand(model.members, -1, -1)
    z = model.cell.orbit(start, SETTLE)[-1]
    found = lyapunov_spectrum(model.cell.step, model.cell.jacobian, z, COUNTED, warm_up=200, count=2, every=10, dt=DT)
    return found.mean(1).median(0).values.tolist()


def main() -> None:
    parser = seeds_parser(__doc__, 5)
    parser.add_argument("--steps", type=int, default=3000)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    x, held = (simulate(lorenz(), n, DT, 1, seed=asked.first + i)[0] for i, n in enumerate((STEPS, HELD)))
    data = from_trials("lorenz", [Trial(x)], {}, DataConfig(window=WINDOW, split="time"), kind="real")
    seen = data.codec.to_model(torch.from_numpy(held)).float()
    config = RecurrentConfig(members=asked.seeds, alpha=0.25, smooth=0)
    recipe = hasty(replace(RECIPE, steps=asked.steps), 50, asked.quick)
    rows: list[list[str]] = []
    spent: dict[str, float] = {}

    def measured(name: Literal["adam", "soap"], steps: int, hidden: int = HIDDEN) -> float:
        mover = replace(recipe, optimiser=name, steps=steps)
        model, seconds = learned(
            lambda: Recurrent(replace(config, hidden=hidden), data.space), data, mover, asked.first
        )
        spent.setdefault(name, seconds)
        share = f"{seconds / spent['soap']:.2f}"
        scores = [f"{error:.2e}" for error in errors(model, seen)] + [f"{n:.3f}" for n in exponents(model, seen)]
        rows.append([name, str(hidden), f"{steps:,}", share, *scores])
        say(" | ".join(rows[-1]))
        return seconds

    soap = measured("soap", recipe.steps)
    adam = measured("adam", recipe.steps)
    measured("adam", int(recipe.steps * soap / adam))
    measured("soap", recipe.steps // 2, WIDE)
    notes = [
        f"{asked.seeds} members, medians; seed {asked.first}; one thread; errors as shares of the deviation of the data.",
        "Exponents of the system: 0.906 and 0.",
        f"{config}; {recipe}.",
    ]
    header = ["optimiser", "hidden units", "rounds", "time", "error of one step", f"of {AHEAD}", "exponents", "second"]
    write("movers", "Adam and Soap on recurrent machines", header, rows, notes)


if __name__ == "__main__":
    main()
