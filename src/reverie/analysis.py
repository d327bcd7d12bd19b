"""The commands for machines that move in time: what comes next, and what is inside."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from torch import Tensor

from reverie.core.errors import BadInput
from reverie.data import DataConfig
from reverie.data.codecs import Table
from reverie.data.recordings import Recording, read_inputs, read_recording
from reverie.data.scans import is_scan, repetition_time
from reverie.evaluation.anatomy import Alone, Anatomy, alone, current, exponents, swept, taken_apart
from reverie.files import as_json, write_atomically
from reverie.flags import at_least
from reverie.inputs import File, Folder, Place, read_given, same_pace, seeded
from reverie.maths.chaos import kaplan_yorke
from reverie.maths.cycles import Cycle
from reverie.models.cohort import Cohort
from reverie.models.innovations import Innovations
from reverie.outputs import summary, writable, write_csv
from reverie.plots import dynamics
from reverie.plots.curves import LIGHT, figure_png
from reverie.progress import say
from reverie.recording import write_npy
from reverie.report.anatomy import page, told
from reverie.run import Run

SHOWN = 6  # channels of a picture, at most


def analyse(
    run: Folder,
    /,
    member: int = -1,
    periods: tuple[int, ...] = (1, 2, 3),
    input: tuple[float, ...] = (),
    steps: int = 5000,
    sweep: Annotated[str, tyro.conf.arg(metavar="NAME")] = "",
    between: tuple[float, float] | None = None,
    points: int = 80,
    given: Annotated[str, tyro.conf.arg(metavar="SUBJECT")] = "",
    seed: int = 0,
    out: Place = "",
) -> None:
    """Take a recurrent machine apart: exponents, fixed points and cycles, linear regions, pushes, bifurcations.

    Args:
        member: which of the machines that learned side by side, from 0; -1: of those that do not run away the one whose largest exponent is the middle one
        periods: of the cycles that are looked for; 1 is a fixed point
        input: the constant values of the inputs, of a machine that has any: only then is it a system of its own
        steps: of the orbit that is looked at, and of those of which exponents are the mean
        sweep: a parameter to change: A[i,j], W1[i,j], W2[i,j], h1[i], h2[i] or input[i], counted from 0
        between: the least and the largest value that it takes; without, 0.5 on both sides of what it is
        points: values between them
        given: whose machine, of a cohort
        out: a page NAME.html; the numbers go to NAME.json beside it; empty: analysis.html in the run folder
    """
    opened = Run.load(run)
    model = _moving(opened, given)
    for value, least, name in ((steps, 100, "--steps"), (points, 2, "--points"), (min(periods, default=0), 1, "--periods")):  # fmt: skip
        at_least(value, least, name)
    if not -1 <= member < len(model.gain):
        raise BadInput(f"--member {member}: there are {len(model.gain)}, counted from 0")
    if between is not None and not between[0] < between[1]:
        raise BadInput(f"--between {between[0]:g} {between[1]:g} is empty; give the least value first")
    if between is not None and not sweep:
        raise BadInput("--between belongs to a sweep; say of what with --sweep")
    place = writable(out or str(opened.folder / "analysis.html"), (".html",))
    for name in ("config.json", "scores.json"):
        writable(str(place.with_suffix(".json")), (".json",), str(opened.folder / name))
    system = alone(model, input or None)
    if sweep:
        current(system, max(member, 0), sweep)  # a wrong name is told before anything is measured
    seeded(seed)
    say("measuring exponents …")
    spectra = exponents(system, steps=steps)
    chosen = _chosen(model, spectra, member)
    say("looking for fixed points and cycles …")
    found = taken_apart(system, chosen, periods, steps, seed)
    bent = None
    if sweep:
        say(f"sweeping {sweep} …")
        now = current(system, chosen, sweep)
        low, high = between or (now - 0.5, now + 0.5)
        bent = (sweep, now, swept(system, chosen, sweep, torch.linspace(low, high, points, dtype=torch.float64)))
    html = page(opened.name, system, opened.codec, spectra, found, bent)
    numbers = _numbers(opened, system, spectra, found, bent)
    write_atomically(place.with_suffix(".json"), as_json(numbers))
    write_atomically(place, html.encode("utf-8"))
    _print(numbers)
    print(place)


def forecast(
    run: Folder,
    file: File,
    /,
    steps: int = 60,
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 200,
    trial: int = -1,
    given: Annotated[str, tyro.conf.arg(metavar="SUBJECT")] = "",
    acting: Annotated[str, tyro.conf.arg(metavar="FILE")] = "",
    config: Annotated[DataConfig, tyro.conf.arg(name="data")] = DataConfig(),  # noqa: B008
    seed: int = 0,
    out: Place = "forecast.csv",
) -> None:
    """Say what comes after a recording, and how sure that is.

    Args:
        file: a recording like those that the machine learned from, of any length; what comes after its end is foreseen
        steps: how far
        n: draws
        trial: which trial of it, from 0; -1: the last
        given: whose recording it is, of a cohort
        acting: what acts on a machine that is driven at each of those steps: an .npy (steps, inputs), or a table with the columns that --data.inputs names
        seed: of the draws
        out: a .csv of the median and the 50% and 90% intervals at each step (where channels are of different kinds, of the mean and the 90% interval, or of the most likely category and its probability), a .png of the fan, or an .npy of the draws (n, steps, channels)
    """
    opened = Run.load(run)
    model = _moving(opened, given)
    at_least(steps, 1, "--steps")
    at_least(n, 1, "-n")
    if model.inputs and not acting:
        raise BadInput(
            f"{opened.name} is driven by {model.inputs} inputs; say what acts after the end with --acting FILE"
        )
    if acting and not model.inputs:
        raise BadInput(f"{opened.name} is not driven by anything; leave --acting out")
    if not Path(file).is_file():
        raise BadInput(f"no such file: {file}; give a recording")
    place = writable(out, (".csv", ".png", ".npy"), file, acting)
    same_pace(opened, config.tr or (repetition_time(Path(file)) if is_scan(Path(file)) else 0.0), Path(file).name)
    codec = opened.codec
    kind: Any = opened.space.kind
    called = tuple(opened.config["data"].get("channels", ()))
    like = Recording([], kind, codec if isinstance(codec, Table) else None, called)
    trials = read_recording(Path(file), config, like).trials
    if not -len(trials) <= trial < len(trials):
        raise BadInput(f"--trial {trial}: {file} has {len(trials)}, counted from 0")
    past = np.asarray(trials[trial].x, np.float64)
    if past.shape[1] != opened.space.shape[1]:
        raise BadInput(f"{file} has {past.shape[1]} channels, and {opened.name} learned from {opened.space.shape[1]}")
    pushed = _pushed(model, trials[trial].inputs, read_inputs(Path(acting), config), steps, file) if acting else None
    seeded(seed)
    seen = codec.to_model(torch.from_numpy(past)).unsqueeze(0).to(model.gain)
    draws = np.asarray(codec.to_world(model.forecast(seen, steps, n, pushed)[:, 0]).double())  # (n, steps, N)
    if place.suffix.lower() == ".npy":
        write_npy(place, draws)
    elif place.suffix.lower() == ".png":
        columns = opened.space.columns
        shown = [i for i in range(past.shape[1]) if not columns or columns[i].kind != "category"][:SHOWN]
        if not shown:
            raise BadInput(f"{opened.name} knows categories alone, of which there is no fan; give --out a .csv")
        names = [columns[i].name if columns else f"channel {i + 1}" for i in shown]
        nothing = np.full((steps, len(shown)), np.nan)
        figure = dynamics.forecast(past[-2 * steps :, shown], nothing, draws[..., shown], names, LIGHT)
        figure.set_facecolor("white")
        write_atomically(place, figure_png(figure, transparent=False))
    elif isinstance(codec, Table):
        lines = [
            [t + 1, c.name, *summary(codec, i, draws[:, t, i])]
            for t in range(steps)
            for i, c in enumerate(codec.columns)
        ]
        write_csv(place, [["step", "channel", "value", "5%", "95%", "probability"], *lines])
    else:
        share = np.quantile(draws, (0.5, 0.05, 0.25, 0.75, 0.95), axis=0)  # (5, steps, N)
        lines = [
            [t + 1, c + 1, *(f"{v:.6g}" for v in share[:, t, c])] for t in range(steps) for c in range(past.shape[1])
        ]
        write_csv(place, [["step", "channel", "median", "5%", "25%", "75%", "95%"], *lines])
    print(place)


def _pushed(model: Innovations, past: np.ndarray | None, after: np.ndarray, steps: int, file: str | Path) -> Tensor:
    """(1, T + steps, K): what acts along a recording and after it."""
    if past is None or past.shape[1] != model.inputs:
        raise BadInput(f"{file} tells of {0 if past is None else past.shape[1]} inputs, and the machine is driven by {model.inputs}; say --data.inputs")  # fmt: skip
    if after.shape[1] != model.inputs or len(after) < steps:
        raise BadInput(f"--acting holds {len(after)} steps of {after.shape[1]} inputs; {steps} of {model.inputs} are asked for")  # fmt: skip
    return torch.from_numpy(np.concatenate([past, after[:steps]])).unsqueeze(0).to(model.gain)


def _moving(opened: Run, given: str) -> Innovations:
    """The recurrent machine of a run, or of one subject of a cohort."""
    model = opened.model
    if isinstance(model, Cohort):
        if (label := read_given(opened, given, 1)) is None:
            raise BadInput(f"{opened.name} is a cohort; say whose machine is meant, with --given")
        model = model.machines[int(label)]
    elif given:
        raise BadInput(f"{opened.name} is no cohort of subjects; leave --given out")
    if not isinstance(model, Innovations):
        raise BadInput(f"{opened.name} is a {opened.config['model']}; only recurrent machines move in time")
    return model


def _chosen(model: Innovations, spectra: Tensor, member: int) -> int:
    if member >= 0:
        return member
    first = spectra[..., 0].nanmean(1).masked_fill(model.diverged, torch.nan)
    known = first.isfinite().nonzero().flatten()
    if not len(known):
        raise BadInput("every member runs away; train longer, or with more forcing (--model.alpha)")
    return int(known[first[known].argsort()[(len(known) - 1) // 2]])


def _numbers(
    run: Run, system: Alone, spectra: Tensor, found: Anatomy, bent: tuple[str, float, Any] | None
) -> dict[str, Any]:
    """All that the page shows, for other programs; states in world units, exponents in nats per step."""

    def lines(cycle: Cycle) -> dict[str, Any]:
        return {
            "period": cycle.period, "kind": cycle.kind, "unstable_directions": cycle.unstable,
            "points": run.codec.to_world(system.seen(cycle.points, found.member)).tolist(), "states": cycle.points.tolist(),
            "eigenvalues": [[float(e.real), float(e.imag)] for e in cycle.eigenvalues], "residual": cycle.residual,
        }  # fmt: skip

    members = []
    for i, spectrum in enumerate(spectra):
        pair = None if bool(system.model.diverged[i]) else told(spectrum)
        members.append(
            None if pair is None
            else {"lyapunov": pair[0].tolist(), "error": pair[1].tolist(), "kaplan_yorke": float(kaplan_yorke(pair[0]))}
        )  # fmt: skip
    numbers: dict[str, Any] = {"run": run.name, "input": list(system.held), "members": members, "member": found.member}
    if found.census is not None and found.visited is not None:
        numbers["cycles"] = [lines(cycle) for cycle in found.census.cycles]
        numbers["complete_periods"] = list(found.census.complete)
        numbers["regions"] = {"on": found.visited.on.int().tolist(), "visits": found.visited.visits.tolist()}
    numbers["pushes"] = found.pushed.tolist()
    if bent is not None:
        name, now, swept_ = bent
        numbers["sweep"] = {
            "parameter": name, "now": now, "values": swept_.values.tolist(), "periods": swept_.periods.tolist(),
            "lyapunov": swept_.lyapunov.tolist(), "changes": [[*swept_.values[i : i + 2].tolist(), what] for i, what in swept_.changes.items()],
        }  # fmt: skip
    return numbers


def _print(numbers: dict[str, Any]) -> None:
    own = numbers["members"][numbers["member"]]
    print(f"member      {numbers['member']} of {len(numbers['members'])}")
    if own is None:
        print("exponents   none: it runs away")
    else:
        pairs = zip(own["lyapunov"][:5], own["error"], strict=False)
        print(f"exponents   {', '.join(f'{a:.5f} ± {b:.5f}' for a, b in pairs)} nats per step")
        print(f"dimension   {own['kaplan_yorke']:.2f} (Kaplan-Yorke)")
    for cycle in numbers.get("cycles", ()):
        what = "fixed point" if cycle["period"] == 1 else f"{cycle['period']}-cycle"
        at = ", ".join(f"{value:.4g}" for value in cycle["points"][0][:6])
        print(
            f"{what:11} {cycle['kind']}, {cycle['unstable_directions']} of {len(cycle['eigenvalues'])} directions leave, at {at}"
        )
    for low, high, what in numbers.get("sweep", {}).get("changes", ()):
        print(f"change      {numbers['sweep']['parameter']} {low:.4g} to {high:.4g}: {what}")
