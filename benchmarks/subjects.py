"""Twenty made subjects, one machine: do their vectors tell what makes them different, and can a new one be fitted by its vector?

    python benchmarks/subjects.py [--first 100] [--members 5] [--quick]

A subject is the Lorenz system with a rho of its own, from 28 to 66 in steps of 2, seen for 1,000 steps of 0.01 with noise of 5% of its deviation; a twenty-first,
rho 45, is held out. A cohort learns the twenty by generalised teacher forcing: of every machine all weights are shared but a vector of one number. Told are the
rank correlation of the vectors and rho, for each member; the rho that the held-out subject's fitted vector stands for, by the line between
its neighbours; and how far a free run of its machine is from a long series of it, beside the machines of the cohort at its two
neighbours. Settings were found with seeds 100 and up, which make other recordings.
"""

import argparse
from dataclasses import replace

import numpy as np
import torch
from learn import CHOOSING, digest, hasty, recorded
from scipy.stats import spearmanr
from table import WORK, say, write

from reverie.core.recipe import TrainingConfig
from reverie.data import Data, DataConfig
from reverie.data.codecs import Standard
from reverie.data.dynamics import lorenz, simulate
from reverie.data.series import from_trials
from reverie.data.windows import Trial
from reverie.evaluation.attractors import divergence
from reverie.models.cohort import Cohort, CohortConfig
from reverie.models.recurrent import Recurrent

RHO, NEW = tuple(range(28, 68, 2)), 45
STEPS, LONG, DT, NOISE, WINDOW = 1000, 20_000, 0.01, 0.05, 100
CONFIG = CohortConfig(classes=len(RHO), vector=1, hidden=100, alpha=0.1, smooth=0)
ADAM = TrainingConfig(steps=12_000, batch=64, rate=2e-3, clip=10.0, average=0.0, final=0.01, warmup=0.01, beta2=0.999)


def recording(rho: float, steps: int, seed: int, noise: float = NOISE) -> np.ndarray:
    """(steps, 3)."""
    return np.asarray(simulate(lorenz(rho=rho), steps, DT, 1, seed, noise)[0], float)


def opened(recordings: dict[str, np.ndarray]) -> Data:
    trials = [Trial(x.astype(np.float32), None, name) for name, x in recordings.items()]
    return from_trials("subjects", trials, {}, DataConfig(window=WINDOW, split="time"))


def wandering(machine: Recurrent, codec: Standard, held: np.ndarray) -> np.ndarray:
    """(S,) D_stsp of each member's free run from a long series, NaN where it diverged."""
    runs = codec.to_world(machine.free_run(len(held))[:, 0]).double().numpy()
    return np.array(
        [np.nan if bad else divergence(held, run) for bad, run in zip(machine.diverged.tolist(), runs, strict=True)]
    )


def told(values: np.ndarray) -> str:
    middle = np.nanmedian(values)
    return f"{middle:.3g} ({np.nanmin(values):.3g} to {np.nanmax(values):.3g})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0, help=f"the seed; {CHOOSING} and up for choosing settings")
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="little learning, for development")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    seed = 1000 * asked.first
    data = opened({f"rho {rho}": recording(rho, STEPS, seed + i) for i, rho in enumerate(RHO)})
    codec = data.codec
    assert isinstance(codec, Standard)
    config, recipe = replace(CONFIG, members=asked.members), hasty(ADAM, 50, asked.quick)
    run, minutes = recorded(
        WORK / f"subjects-{digest((config, recipe))}-{asked.first}", data, "cohort", config, recipe, asked.first
    )
    model = run.model
    assert isinstance(model, Cohort)
    vectors = model.vectors.detach()[..., 0].numpy()
    ranks = np.array([abs(spearmanr(RHO, v).statistic) for v in vectors])
    new = replace(opened({"new": recording(NEW, STEPS, seed + 99)}), codec=codec)  # on the scale of the cohort
    vector, machine = model.fit_subject(new)
    read = np.array([_read(v, float(found)) for v, found in zip(vectors, vector[:, 0], strict=True)])
    held = recording(NEW, LONG, seed + 100, 0.0)
    torch.manual_seed(asked.first)
    rows = [
        ["rank correlation of vector and rho", told(ranks)],
        [f"rho of the new subject, {NEW}, by its vector", told(read)],
    ]
    rows += [["D_stsp of its machine, fitted by its vector alone", told(wandering(machine, codec, held))]]
    for rho in (NEW - 1, NEW + 1):
        near = model.machines[RHO.index(rho)]
        rows.append([f"D_stsp of the machine of rho {rho}, from the same series", told(wandering(near, codec, held))])
    other = recording(NEW, LONG, seed + 101, 0.0)
    rows.append(["D_stsp of the system itself, from another start", f"{divergence(held, other):.3g}"])
    notes = [
        f"Median and range over {asked.members} members that learned side by side, seed {asked.first}; {minutes:.0f} minutes of one thread.",
        f"{config}; {recipe}.",
    ]
    say("\n".join("  ".join(row) for row in rows) + "\n" + "\n".join(notes))
    if asked.first < CHOOSING:
        write("subjects", "Subjects", ["", "found"], rows, notes)


def _read(vectors: np.ndarray, found: float) -> float:
    """The rho at which the line through the cohort's vectors, in the order of the vectors, has this value."""
    order = np.argsort(vectors)
    return float(np.interp(found, vectors[order], np.array(RHO, float)[order]))


if __name__ == "__main__":
    main()
