"""Adam and Soap on machines that learn Lorenz-63 from a recording without noise: how exactly do they foresee, round for round and second for second?

    python benchmarks/movers.py [--seeds 5] [--steps 3000] [--quick]

The seeds are members that learn side by side. Judged on another recording: the error of one step, and of twenty of their own, from where it is,
as a share of its deviation; and by the two largest Lyapunov exponents, of which the second of a flow is 0. Medians over the members. Adam has as many
rounds as Soap, and then as many as fit the same time; WIDE machines have half as many.
"""

from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from learn import hasty, learned, seeds_parser
from series import ADAM, exponents
from table import say, write
from torch import Tensor

from reverie.data import DataConfig
from reverie.data.dynamics import lorenz, simulate
from reverie.data.series import from_trials
from reverie.data.windows import Trial
from reverie.models.recurrent import Recurrent, RecurrentConfig

STEPS, HELD, DT, WINDOW, AHEAD = 50_000, 20_000, 0.01, 200, 20
HIDDEN, WIDE = 200, 1000


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
    config = RecurrentConfig(members=asked.seeds, alpha=0.25, smooth=0)
    recipe = hasty(replace(ADAM, steps=asked.steps), 50, asked.quick)
    rows: list[list[str]] = []
    spent: dict[str, float] = {}

    def measured(name: Literal["adam", "soap"], steps: int, hidden: int = HIDDEN) -> float:
        mover = replace(recipe, optimiser=name, steps=steps)
        model, seconds = learned(
            lambda: Recurrent(replace(config, hidden=hidden), data.space), data, mover, asked.first
        )
        spent.setdefault(name, seconds)
        share = f"{seconds / spent['soap']:.2f}"
        growth = np.median(exponents(model, data, held, 2), 0) / DT
        scores = [f"{error:.2e}" for error in errors(model, seen)] + [f"{rate:.3f}" for rate in growth]
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
        f"{config}; {recipe}; but for the hidden units, the optimiser and the rounds that the rows tell.",
    ]
    header = [
        "optimiser",
        "hidden units",
        "rounds",
        "time, of the first row",
        "error of one step",
        f"of {AHEAD}",
        "largest exponent",
        "second",
    ]
    write("movers", "Adam and Soap on recurrent machines", header, rows, notes)


if __name__ == "__main__":
    main()
