"""Adam and Soap on machines that learn Lorenz-63 from a recording without noise: how exactly do they foresee, round for round and second for second?

    python benchmarks/movers.py [--seeds 5] [--steps 3000] [--quick]

The seeds are members that learn side by side. Judged on another recording: the error of one step, and of twenty of their own, from where it is,
as a share of its deviation; medians over the members. Adam has as many rounds as Soap, and then as many as fit the same time.
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
from reverie.models.recurrent import Recurrent, RecurrentConfig

STEPS, HELD, DT, WINDOW, AHEAD = 50_000, 20_000, 0.01, 200, 20
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


def main() -> None:
    parser = seeds_parser(__doc__, 5)
    parser.add_argument("--steps", type=int, default=3000)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    x, held = (simulate(lorenz(), n, DT, 1, seed=asked.first + i)[0] for i, n in enumerate((STEPS, HELD)))
    data = from_trials("lorenz", [Trial(x)], {}, DataConfig(window=WINDOW, split="time"), kind="real")
    seen = data.codec.to_model(torch.from_numpy(held)).float()
    config = RecurrentConfig(hidden=200, members=asked.seeds, alpha=0.25, smooth=0)
    recipe = hasty(replace(RECIPE, steps=asked.steps), 50, asked.quick)
    rows: list[list[str]] = []
    spent: dict[str, float] = {}

    def measured(name: Literal["adam", "soap"], steps: int) -> float:
        mover = replace(recipe, optimiser=name, steps=steps)
        model, seconds = learned(lambda: Recurrent(config, data.space), data, mover, asked.first)
        spent.setdefault(name, seconds)
        one, far = errors(model, seen)
        rows.append([name, f"{steps:,}", f"{seconds / spent['soap']:.2f}", f"{one:.2e}", f"{far:.2e}"])
        say(" | ".join(rows[-1]))
        return seconds

    soap = measured("soap", recipe.steps)
    adam = measured("adam", recipe.steps)
    measured("adam", int(recipe.steps * soap / adam))
    notes = [
        f"{asked.seeds} members, medians; seed {asked.first}; one thread; errors as shares of the deviation of the data.",
        f"{config}; {recipe}.",
    ]
    header = ["optimiser", "rounds", "time, of Soap's", "error of one step", f"of {AHEAD}"]
    write("movers", "Adam and Soap on recurrent machines", header, rows, notes)


if __name__ == "__main__":
    main()
