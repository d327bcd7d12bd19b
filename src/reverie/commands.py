"""The commands that use a finished run."""

from typing import Annotated, get_args

import torch
import tyro

from reverie.core import abilities
from reverie.core.errors import BadInput
from reverie.core.model import Repairs, Tempers
from reverie.data import BUILTIN, DataConfig
from reverie.data.codecs import Table
from reverie.evaluation.directions import label_directions
from reverie.flags import at_least
from reverie.inputs import (
    File,
    Folder,
    Place,
    able,
    opened_with,
    read,
    read_given,
    read_noise,
    read_observed,
    read_rows,
    seeded,
    with_holes,
)
from reverie.models.gan import GAN
from reverie.models.latent import LatentModel, Method
from reverie.outputs import completed, described, place_for, repair_table, save_examples, trust, writable
from reverie.progress import say
from reverie.recording import write_npy
from reverie.run import Run


def data(
    data: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="DATA")]] = "",
    /,
    config: Annotated[DataConfig, tyro.conf.arg(name="data")] = DataConfig(),  # noqa: B008
    out: Place = "",
) -> None:
    """List the built-in data; or say what DATA holds, as training will see it.

    Args:
        data: a built-in name, a path, or hf:NAME
        out: write some training examples here: a .png, an .npy array, or a .csv of a table
    """
    if not data:
        width = max(map(len, BUILTIN))
        for name, function in BUILTIN.items():
            print(f"{name:{width}}  {(function.__doc__ or '').splitlines()[0]}")
        return
    opened = opened_with(data, config)
    place = place_for(out, opened.space, opened.codec, data) if out else None
    rows = {
        "name": opened.name,
        "examples": f"{len(opened.train):,} to train, {len(opened.valid):,} to validate, {len(opened.test):,} to test",
        "one example": f"{opened.space.kind} {opened.space.shape}, {opened.space.dims:,} entries",
        "classes": ", ".join(opened.classes[:12]) + (" …" if len(opened.classes) > 12 else "") or "none",
        "entropy": "unknown" if opened.entropy is None else f"{opened.entropy:.4f} nats per example",
        "fingerprint": opened.fingerprint,
    } | described(opened)
    for key, value in rows.items():
        print(f"{key:12}  {value}")
    for file, reason in opened.skipped:
        print(f"left out      {file}: {reason}")
    if place:
        save_examples(place, opened.train.raw(slice(0, 64)), 8, opened.codec)


def dream(
    run: Folder,
    /,
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 64,
    seed: int = 0,
    out: Place = "dreams.png",
    exact: bool = False,
    temperature: float = 1.0,
    psi: float | None = None,
    given: Annotated[str, tyro.conf.arg(metavar="LABEL")] = "",
) -> None:
    """Dream new examples.

    Args:
        given: the label to dream of, where the machine was trained with labels; empty: any
        n: how many
        seed: of the latents
        out: a .png of a grid, an .npy array (n, *shape) in world units, or a .csv of rows of a table
        exact: draws from p(x) with the grain of p(x|z), not its mean
        temperature: below 1 the machine is surer of what it dreams, above 1 less sure: every choice that makes a dream is made by its law to the power of 1 / temperature
        psi: of a gan: 1 for dreams as it learned to make them, nearer to 0 ever more like the mean of all; without, as --model.psi says
    """
    opened = Run.load(run)
    at_least(n, 1, "-n")
    seeded(seed)
    place = place_for(out, opened.space, opened.codec)
    model = opened.model
    if temperature != 1:
        model = able(opened, Tempers, "dream at another temperature").tempered(temperature)
    labels = read_given(opened, given, n)
    if psi is None:
        x = abilities.dream(model, n, labels, exact)
    elif isinstance(model, GAN):
        x = model.sample(n, labels, psi)
    else:
        raise BadInput(f"{opened.name} is a {opened.config['model']}, and only a gan has a mean style; leave --psi out")
    x = opened.codec.to_world(x)
    save_examples(place, x, max(1, round(n**0.5)), opened.codec)


def repair(
    run: Folder,
    file: File,
    /,
    observed: Annotated[str, tyro.conf.arg(metavar="MASK")] = "all",
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 8,
    noise: str = "0",
    method: str = "",
    given: Annotated[str, tyro.conf.arg(metavar="LABEL")] = "",
    seed: int = 0,
    out: Place = "",
) -> None:
    """Fill in what is missing, or take noise away.

    Args:
        given: the label of what is repaired, where the machine was trained with labels; empty: one by chance for each draw
        observed: what was measured: all; left, right, top or bottom (that half); or a picture or boolean .npy, white or True where it was
        n: how many repairs to draw
        noise: what spoiled the measurements: the standard deviation of Gaussian noise in world units (of 255 for pictures); poisson:PEAK photons at full light; or salt-and-pepper:SHARE
        method: gibbs, metropolis or importance; empty: what the machine prefers
        out: a .png (what was given, the mean repair, each repair), or an .npy array (n, examples, *shape); of a table NAME.csv, which names NAME-1.csv … and NAME-uncertainty.csv; empty: repaired.png or repaired.csv
    """
    opened = Run.load(run)
    model = able(opened, Repairs, "repair")
    at_least(n, 1, "-n")
    if method and not isinstance(model, LatentModel):
        raise BadInput(f"{opened.name} repairs in one way only; leave --method out")
    seeded(seed)
    codec = opened.codec
    if isinstance(codec, Table) and not opened.space.is_series:
        if observed != "all" or noise != "0" or given or method:
            raise BadInput(
                "of a table, the empty cells are filled; leave --observed, --noise, --given and --method out"
            )
        place = writable(out or "repaired.csv", (".csv",))
        for made in completed(place, n):
            writable(str(made), (".csv",), file)
        print(*repair_table(model, codec, *read_rows(opened, codec, file), n, place), sep="\n")
        return
    place = place_for(out or "repaired.png", opened.space, codec, file, observed)
    x, known = with_holes(codec.to_model(read(opened, file)))
    if (asked := read_observed(observed, opened)) is not None:
        known = asked.expand_as(x) if known is None else known & asked
    corruption = read_noise(opened, noise)
    if known is None and not corruption:
        raise BadInput("nothing to repair: say what is missing with --observed, or how noisy it is with --noise")
    labels = read_given(opened, given, len(x))
    if isinstance(model, LatentModel):
        found = model.repaired(x, known, n, corruption, labels, _method(method))
        draws = found.draws
        say(trust(found))
    else:
        told = {} if labels is None else {"given": labels}  # only a machine with labels can be told of one
        draws = model.repair(x, known, n, corruption, **told)
    if place.suffix.lower() == ".npy":
        write_npy(place, codec.to_world(draws.flatten(0, 1)).unflatten(0, draws.shape[:2]).numpy())
        print(place)
        return
    grey = torch.zeros_like(x)
    shown = x if known is None else torch.where(known, x, grey)
    rows = [torch.stack([shown[i], draws[:, i].mean(0), *draws[:, i]]) for i in range(len(x))]
    save_examples(place, codec.to_world(torch.cat(rows)), n + 2, codec)


def morph(
    run: Folder,
    a: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="A")]],
    b: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="B")]],
    /,
    steps: int = 9,
    given: Annotated[tuple[str, ...], tyro.conf.arg(metavar="LABEL")] = (),
    out: Place = "morph.png",
) -> None:
    """Walk from one example to another through the latent space.

    Args:
        a: where to begin: a picture, or an .npy array
        b: where to end
        steps: pictures on the way, both ends counted
        given: the label of both ends, or one for each, where the machine was trained with labels
        out: a .png, or an .npy array
    """
    opened = Run.load(run)
    at_least(steps, 2, "--steps")
    place = place_for(out, opened.space, opened.codec, a, b)
    start, end = (opened.codec.to_model(read(opened, file)[:1]) for file in (a, b))
    if start.isnan().any() or end.isnan().any():
        raise BadInput("a walk begins and ends at whole examples; fill the missing entries first, with: reverie repair")
    if len(given) > 2:
        raise BadInput(f"--given has {len(given)} labels; a walk has two ends")
    labels = (read_given(opened, given[0], 1), read_given(opened, given[-1], 1)) if given else None
    way = abilities.morph(opened.model, start, end, steps, labels)[:, 0]  # type: ignore[arg-type]
    save_examples(place, opened.codec.to_world(way), steps, opened.codec)


def edit(
    run: Folder,
    file: File,
    /,
    direction: int = 1,
    label: str = "",
    reach: float = 2.5,
    steps: int = 9,
    given: Annotated[str, tyro.conf.arg(metavar="LABEL")] = "",
    out: Place = "edit.png",
) -> None:
    """Change one thing about an example: walk from it along a direction of the machine's own space.

    Args:
        file: a picture, or an .npy array
        direction: the number of the direction; 1 is the one in which most differs, and the report shows the first
        label: towards that label of the data the machine was trained on, and not along a numbered direction
        reach: how far to both sides, in standard deviations
        steps: pictures on the way
        given: the label of the example, where the machine was trained with labels
        out: a .png, or an .npy array
    """
    opened = Run.load(run)
    at_least(direction, 1, "--direction")
    at_least(steps, 2, "--steps")
    at_least(reach, 0, "--reach")
    place = place_for(out, opened.space, opened.codec, file)
    x = opened.codec.to_model(read(opened, file)[:1])
    if x.isnan().any():
        raise BadInput("a whole example is changed; fill the missing entries first, with: reverie repair")
    labels = read_given(opened, given, 1)
    point, told = abilities.seek(opened.model, x, labels)[0], opened.data()
    if label:
        ways = label_directions(opened.model, told)
        if label not in ways:
            raise BadInput(f"{opened.name} knows no direction to {label!r}; it knows {', '.join(ways) or 'none'}")
        way = ways[label]
    else:
        known = told.train.labels if opened.model.classes else None
        known = None if known is None else known[: abilities.SEEN]
        _, found = abilities.main_directions(opened.model, told.train.x(abilities.SEEN), direction, known)
        if len(found) < direction:
            raise BadInput(f"--direction is {direction}, and {opened.name} has {len(found)}")
        way = found[-1]
    shown = abilities.traverse(opened.model, point, way[None], reach, steps, 0 if labels is None else int(labels))[0]
    save_examples(place, opened.codec.to_world(shown), steps, opened.codec)


def mix(
    run: Folder,
    a: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="A")]],
    b: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="B")]],
    /,
    layers: int = 0,
    out: Place = "mix.png",
) -> None:
    """Cross two pictures: coarse styles of one, fine styles of the other.

    Args:
        a: whose coarse styles: a picture, or an .npy array
        b: whose fine styles
        layers: how many of the first layers are a's; 0: every number there is, one after the other
        out: a .png (a, what the machine makes of it, the mixtures, what it makes of b, b), or an .npy array of the mixtures
    """
    opened = Run.load(run)
    model = opened.model
    if not isinstance(model, GAN) or model.generator.layers < 2:
        raise BadInput(f"{opened.name} has no styles to cross; train a gan of pictures with --model.style")
    most = model.generator.layers - 1
    if not 0 <= layers <= most:
        raise BadInput(f"--layers is {layers}; from 1 to {most} layers can be a's, the others are b's")
    place = place_for(out, opened.space, opened.codec, a, b)
    ends = [opened.codec.to_model(read(opened, file)[:1]) for file in (a, b)]
    if any(x.isnan().any() for x in ends):
        raise BadInput("whole examples are crossed; fill the missing entries first, with: reverie repair")
    first, last = (model.invert(x) for x in ends)
    mixed = torch.cat([model.mix(first, last, k) for k in ([layers] if layers else range(most, 0, -1))])
    if place.suffix.lower() == ".npy":
        save_examples(place, opened.codec.to_world(mixed), len(mixed), opened.codec)
        return
    strip = torch.cat([ends[0], model.imagine(first), mixed, model.imagine(last), ends[1]])
    save_examples(place, opened.codec.to_world(strip), len(strip), opened.codec)


def _method(name: str) -> Method | None:
    if name and name not in get_args(Method):
        raise BadInput(f"--method is {name}; it must be one of {', '.join(get_args(Method))}")
    return name or None  # type: ignore[return-value]
