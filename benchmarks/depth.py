"""Do depth, and weighing what was recognised, pay? Machines of one, two and three layers under three rules of learning.

    python benchmarks/depth.py [mnist5k] [fashion] [--rounds 5000] [--first 100] [--quick]

Pictures of 28x28 bits, the coins thrown once. Sigmoid belief networks of 200, 200-200 and 200-200-200 bits, and two layers
in which every bit, also of the picture, is told of those before it (DARN), learn by wake-sleep, by reweighted wake-sleep
and by VIMCO: as many rounds of 100 pictures each, with 5 draws of the causes each. What is told is the test log-likelihood, by
importance weighting, beside that of the house's VAE on the same pictures. Every machine that was finished is kept under benchmarks/.work.
Settings were found with seeds 100 and up, on validation pictures.

Known of all of MNIST (Bornschein & Bengio 2015, arXiv 1406.2751): wake-sleep 116, 107, 101 and reweighted wake-sleep
103, 93, 90 nats with one, two and three layers.
"""

from dataclasses import replace
from functools import partial
from itertools import product

import torch
from learn import CHOOSING, hasty, learned, seeds_parser, starts
from table import say, write

from reverie.core.model import Model
from reverie.core.recipe import TrainingConfig
from reverie.data import Data, open_data
from reverie.models.helmholtz import Helmholtz, HelmholtzConfig
from reverie.models.vae import VAE, VAEConfig

RECIPE = TrainingConfig(batch=100, rate=3e-3, average=0.02)
COINS = 1  # the seed of the pictures' bits
DRAWS = 500
WORLDS = ("mnist5k", "fashion")
RULES = {"wake-sleep": "wake-sleep", "reweighted": "reweighted wake-sleep", "vimco": "VIMCO"}
IN_TURN = {"generation": "darn", "top": "darn", "shown": "darn"}
# Dreams of pictures in turn take 784 steps: under reweighted wake-sleep that machine recognises awake alone.
NETS = {
    "200": {"layers": (200,)},
    "200-200": {"layers": (200, 200)},
    "200-200-200": {"layers": (200, 200, 200)},
    "200-200 in turn": {"layers": (200, 200)} | IN_TURN,
}  # fmt: skip


def settings(net: str, rule: str) -> HelmholtzConfig:
    awake = {"recognise": "wake"} if rule == "reweighted" and "turn" in net else {}
    return HelmholtzConfig(**NETS[net], **awake, rule=rule, draws=5)  # type: ignore[arg-type]


def one(
    kind: type[Model], config: object, data: Data, recipe: TrainingConfig, part: str, seed: int
) -> dict[str, float]:
    """Nats of unseen pictures, with the standard error over pictures, the nats of training pictures, and the seconds."""
    machine, seconds = learned(lambda: kind(config, data.space), data, recipe, seed)
    unseen, known = (
        torch.cat([machine.surprise(x, draws=DRAWS).value for x in split.x(1000).split(100)])
        for split in (getattr(data, part), data.train)
    )
    out = {"nats": float(unseen.mean()), "error": float(unseen.std()) / len(unseen) ** 0.5}
    say(
        f"{type(config).__name__}: {out['nats']:.2f} ± {out['error']:.2f} nats, {float(known.mean()):.2f} known, {seconds:.0f} s"
    )
    return out | {"known": float(known.mean()), "seconds": seconds}


def main() -> None:
    parser = seeds_parser(__doc__, 1)
    parser.add_argument("names", nargs="*", metavar="WORLD", help=f"of {', '.join(WORLDS)}; none: both")
    parser.add_argument("--rounds", type=int, default=5000)
    parser.add_argument(
        "--net", action="append", choices=NETS, help="of the machines this one alone, and write no table"
    )
    asked = parser.parse_args()
    if unknown := sorted(set(asked.names) - set(WORLDS)):
        parser.error(f"no world called {unknown[0]}; there are {', '.join(WORLDS)}")
    torch.set_num_threads(1)
    recipe = hasty(replace(RECIPE, steps=asked.rounds), 20, asked.quick)
    part = "valid" if asked.first >= CHOOSING else "test"
    opened = {world: open_data(world, binarise="static", seed=COINS) for world in asked.names or WORLDS}

    def measured(world: str, name: str, kind: type[Model], config: object) -> str:
        found = starts(
            f"depth-{world}-{name}", (config, recipe, COINS, DRAWS), range(asked.first, asked.first + asked.seeds),
            partial(one, kind, config, opened[world], recipe, part),
        )  # fmt: skip
        say(f"{world}, {name}")
        return ", ".join(f"{made['nats']:.2f} ± {made['error']:.2f} ({made['known']:.1f})" for made in found)

    rows = {}
    for world in opened:
        vae = measured(world, "vae", VAE, VAEConfig(net="mlp", width=300, depth=2, latent=40, prior="normal"))
        rows[world, "VAE 300-300-40"] = [vae] * len(RULES)
    for net, world in product(
        asked.net or NETS, opened
    ):  # the slowest net comes last; what there is is told after each
        name = f"{net.replace(' ', '-')}-"
        rows[world, net] = [measured(world, name + rule, Helmholtz, settings(net, rule)) for rule in RULES]
        if asked.first < CHOOSING and not asked.net:
            tell(rows, recipe)


def tell(rows: dict[tuple[str, str], list[str]], recipe: TrainingConfig) -> None:
    header = ["world", "net", *RULES.values()]
    notes = [
        f"Test log-likelihood in nats (IWAE-{DRAWS}), of at most 1,000 test pictures, ± over pictures; in brackets that of training pictures.",
        f"{recipe.steps:,} rounds of {recipe.batch} with {settings('200', 'vimco').draws} draws; binarised once, with seed {COINS}; one thread. "
        "The VAE learned as many rounds as the machines, with one draw.",
        *(
            f"{net}, {rule}: {settings(net, rule)}"
            for net, rule in (("200", "reweighted"), ("200-200 in turn", "reweighted"))
        ),
        f"{recipe}",
    ]
    body = [[*place, *told] for place, told in sorted(rows.items(), key=lambda row: row[0][0])]
    write("depth", "Depth and weighing", header, body, notes)


if __name__ == "__main__":
    main()
