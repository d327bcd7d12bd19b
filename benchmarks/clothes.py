"""Dreams of clothes: the GAN of the house, its VAE, and the SNGAN that others publish, in the same minutes.

    python benchmarks/clothes.py [NAME …] [--minutes 8] [--seeds 3] [--train-only]

28x28 clothes in 256 greys, 50,000 to learn from. At the end 10,000 dreams of each are held beside the published 10,000 test pictures, in the last hidden
layer of a classifier that was taught the 50,000; its accuracy is told. The SNGAN is the standard network of Miyato et al.
(2018, arXiv 1802.05957, table 3, for 32x32), with hinge losses, five steps of the critic for one of the generator, and Adam at 2e-4 with
momenta 0 and 0.9, as torch-mimicry has it (Lee & Town 2020, arXiv 2005.02494). At its published width a core makes few rounds in that time, so
that it is also run at a quarter of its width.
"""

import argparse
import json
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from learn import dreamt, recorded_within
from PIL import Image
from safetensors.torch import load_file, save_file
from table import WORK, keep, median_of, say, write
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from reverie.core.lattice import snap
from reverie.data import Data, open_data
from reverie.evaluation import pictures

HOUSE: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "gan": ("gan", {"width": 32}, {"batch": 64}),
    "styled gan": ("gan", {"width": 32, "style": True}, {"batch": 64}),
    "vae": ("vae", {}, {}),
}
SNGAN = {"sngan": 64, "sngan, a quarter as wide": 16}  # channels of the finest scale
DREAMS = 10_000
COMPARED = 5_000  # of both, for precision and recall: all pairs are held in memory


class Reader(nn.Module):
    """A classifier; `features` (n, 128) of its last hidden layer, over their mean deviation in the pictures it was taught."""

    name = "classifier"

    def __init__(self) -> None:
        super().__init__()
        self.below = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(64 * 49, 128), nn.ReLU(),
        )  # fmt: skip
        self.last = nn.Linear(128, 10)
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.dropout(self.below(x), 0.3, self.training))

    @torch.no_grad()
    def features(self, x: Tensor) -> np.ndarray:
        return np.concatenate([(self.below(part) / self.scale).double().numpy() for part in x.split(500)])


def reader(data: Data) -> tuple[Reader, float]:
    """The classifier, and its accuracy on test pictures."""
    torch.manual_seed(0)
    net, file = Reader(), WORK / "clothes-reader.safetensors"
    if file.exists():
        net.load_state_dict(load_file(file))
    else:
        x, labels = data.train.x(), data.train.labels
        adam, epochs = torch.optim.Adam(net.parameters(), 1e-3), 6
        for epoch in range(epochs):
            adam.param_groups[0]["lr"] = 1e-3 * (1 - epoch / epochs)
            for rows in torch.randperm(len(x)).split(128):
                loss = F.cross_entropy(net(x[rows]), labels[rows])
                adam.zero_grad()
                loss.backward()
                adam.step()
        net.eval()
        net.scale.copy_(torch.as_tensor(net.features(x).var(0).mean() ** 0.5))
        save_file(net.state_dict(), file)
    net.eval()
    with torch.no_grad():
        right = [
            net(x).argmax(1) == y for x, y in zip(data.test.x().split(500), data.test.labels.split(500), strict=True)
        ]
    return net, float(torch.cat(right).float().mean())


def sngan(width: int) -> tuple[nn.Module, nn.Module]:
    """Generator (n, 128) -> (n, 1, 32, 32) and critic, of Miyato et al. 2018."""

    def up(below: int, above: int) -> list[nn.Module]:
        return [nn.ConvTranspose2d(below, above, 4, 2, 1), nn.BatchNorm2d(above), nn.ReLU()]

    def seen(below: int, above: int, size: int, stride: int) -> list[nn.Module]:
        return [spectral_norm(nn.Conv2d(below, above, size, stride, 1)), nn.LeakyReLU(0.1)]

    w = width
    generator = nn.Sequential(
        nn.Linear(128, 128 * w), nn.Unflatten(1, (8 * w, 4, 4)), nn.BatchNorm2d(8 * w), nn.ReLU(),
        *up(8 * w, 4 * w), *up(4 * w, 2 * w), *up(2 * w, w), nn.Conv2d(w, 1, 3, 1, 1), nn.Tanh(),
    )  # fmt: skip
    critic = nn.Sequential(
        *seen(1, w, 3, 1), *seen(w, w, 4, 2), *seen(w, 2 * w, 3, 1), *seen(2 * w, 2 * w, 4, 2),
        *seen(2 * w, 4 * w, 3, 1), *seen(4 * w, 4 * w, 4, 2), *seen(4 * w, 8 * w, 3, 1),
        nn.Flatten(), spectral_norm(nn.Linear(8 * w * 16, 1)),
    )  # fmt: skip
    return generator, critic


def dreams_of_sngan(name: str, minutes: float, data: Data, seed: int) -> tuple[Tensor, int]:
    """Its dreams (DREAMS, 1, 28, 28), after as many rounds as the minutes of this core's own time hold."""
    torch.manual_seed(seed)
    generator, critic = sngan(SNGAN[name])
    kept = WORK / f"clothes-{name.replace(' ', '-').replace(',', '')}-{minutes:g}-{seed}.safetensors"
    if kept.exists():
        held = load_file(kept)
        return held["x"], int(held["rounds"])
    adams = [torch.optim.Adam(net.parameters(), 2e-4, (0.0, 0.9)) for net in (generator, critic)]
    x, rounds, start = F.pad(data.train.x(), (2, 2, 2, 2), value=-1.0), 0, time.process_time()
    while time.process_time() - start < 60 * minutes:
        for _ in range(5):
            real = x[torch.randint(len(x), (64,))]
            with torch.no_grad():
                fake = generator(torch.randn(64, 128))
            loss = F.relu(1 - critic(real)).mean() + F.relu(1 + critic(fake)).mean()
            adams[1].zero_grad()
            loss.backward()
            adams[1].step()
        loss = -critic(generator(torch.randn(64, 128))).mean()
        adams[0].zero_grad()
        loss.backward()
        adams[0].step()
        rounds += 1
        if rounds % 500 == 0:
            say(f"{name}: {rounds} rounds, {(time.process_time() - start) / 60:.0f} minutes")
    generator.eval()  # torch-mimicry, too, draws with the running means of training
    torch.manual_seed(1)
    with torch.no_grad():
        dreams = torch.cat([generator(torch.randn(500, 128))[..., 2:-2, 2:-2] for _ in range(DREAMS // 500)])
    save_file({"x": snap(dreams).contiguous(), "rounds": torch.tensor(rounds)}, kept)
    return snap(dreams), rounds


def measures(dreams: list[Tensor], real: np.ndarray, net: Reader) -> list[str]:
    """The cells of a line, from the dreams of each seed."""
    found = []
    for x in dreams:
        seen = net.features(x)
        shares = pictures.precision_recall_density_coverage(real[:COMPARED], seen[:COMPARED])
        found.append((pictures.frechet_distance(real, seen), shares["precision"], shares["recall"]))
    return [median_of(column) for column in zip(*found, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = (*HOUSE, *SNGAN)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {'; '.join(every)}; none: all of them")
    parser.add_argument("--minutes", type=float, default=8.0, help="of one core's own time, for each")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--train-only", action="store_true", help="measure nothing")
    parser.add_argument("--quick", action="store_true", help="seconds of learning, for development")
    asked = parser.parse_args()
    if unknown := sorted(set(asked.names) - set(every)):
        parser.error(f"no machine called {unknown[0]}; there are {'; '.join(every)}")
    if asked.quick:
        asked.minutes = 0.1
    torch.set_num_threads(1)
    WORK.mkdir(exist_ok=True)
    data, made = open_data("fashion"), []
    if asked.quick:  # test pictures are for the table
        data = replace(data, test=data.valid)
    for name in asked.names or every:
        found: dict[
            str, tuple[list[int], list[Tensor]]
        ] = {}  # of every way to dream, the rounds and the dreams of each seed
        for seed in range(asked.seeds):
            if name in SNGAN:
                x, rounds = dreams_of_sngan(name, asked.minutes, data, seed)
                drawn = {name: x}
            else:
                run = recorded_within(asked.minutes, f"clothes-{name}", data, *HOUSE[name], seed)
                drawn, rounds = dreamt(name, run, DREAMS), run.training.steps
            for way, x in drawn.items():
                of_rounds, of_dreams = found.setdefault(way, ([], []))
                of_rounds.append(rounds)
                of_dreams.append(x)
        made += [(way, *pair) for way, pair in found.items()]
    if asked.train_only:
        return
    net, accuracy = reader(data)
    real, rows = net.features(data.test.x()), []
    for name, rounds, x in made:
        rows.append([name, ", ".join(f"{n:,}" for n in rounds), *measures(x, real, net)])
        say(" | ".join(rows[-1]))
    rows.append(["training pictures", "", *measures([data.train.x(DREAMS)], real, net)])
    strips = [np.concatenate(list(np.asarray(data.codec.to_world(x[0][:16]))[:, 0]), 1) for *_, x in made]
    strips.append(np.concatenate(list(data.test.raw()[:16, 0].numpy()), 1))
    keep("clothes", Image.fromarray(np.concatenate(strips).astype(np.uint8)))
    header = ["machine", "rounds", "Fréchet distance", "precision", "recall"]
    notes = [
        f"{DREAMS:,} dreams beside 10,000 test pictures ({COMPARED:,} of both for precision and recall, k = 5); {asked.minutes:g} minutes of one "
        f"core's own time for each. Features: the last hidden layer (128) of a classifier with {accuracy:.1%} of test pictures right; the distance is a share of their variance.",
        "Seeds from 0 on, one for each number of rounds: the median, its error over pictures, and the range over seeds.",
        "results/clothes.png: the first 16 dreams of the first seed of every line, and 16 test pictures.",
        *(f"{name}: {json.dumps(HOUSE[name][1:])} beside the recipe of its family" for name in asked.names or HOUSE if name in HOUSE),
    ]  # fmt: skip
    write("clothes", "Dreams of clothes", header, rows, notes)


if __name__ == "__main__":
    main()
