"""Digits, one Helmholtz machine for each class: which of ten machines does a digit surprise least?

    python benchmarks/digits.py [--seeds 10] [--first 100] [--quick]

scikit-learn's 1,797 digits, 8x8, cut into halves at a seed, each label alike; ten 64-16-16-4 machines learn from the
one half, and each digit of the other is given to the machine under which its surprise (importance sampling), plus that of the label
itself, is least (Hinton, Dayan, Frey & Neal 1995). Nearest neighbour and logistic regression see the same halves. With --first
100 or more, settings are chosen: then a third of the learning half is asked about. The halves of other seeds share digits with these, so what was
chosen has seen some of what it is judged by.
"""

import statistics
from functools import partial

import numpy as np
import torch
from learn import CHOOSING, hasty, learned, seeds_parser, starts
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from table import say, write

from reverie.core.recipe import TrainingConfig
from reverie.data import Data, open_data
from reverie.data.data import Split
from reverie.models import made
from reverie.models.helmholtz import HelmholtzConfig

LAYERS = (16, 16, 4)
MODEL = HelmholtzConfig(layers=LAYERS, draws=10)
RECIPE = TrainingConfig(steps=600, batch=200, rate=0.01, beta2=0.99, decay=1.0, average=0.05)
DRAWS = 1000  # importance samples for each digit and machine
WORDS = {
    "machines": "a Helmholtz machine for each label",
    "nearest": "nearest neighbour",
    "logistic": "logistic regression",
}


def labels_of(part: Split) -> np.ndarray:
    assert part.labels is not None
    return part.labels.numpy()


def halves(whole: Data, seed: int, choosing: bool) -> Data:
    """The digits, of which one half is for learning; its test set is the other, or a third of the first when `choosing`."""
    parts = (whole.train, whole.valid, whole.test)
    x = np.concatenate([part.raw().numpy() for part in parts])
    y = np.concatenate([labels_of(part) for part in parts])
    seen, asked, labels, truth = train_test_split(x, y, test_size=0.5, random_state=seed, stratify=y)
    if choosing:
        seen, asked, labels, truth = train_test_split(seen, labels, test_size=1 / 3, random_state=seed, stratify=labels)
    rows, names, cuts = np.concatenate([seen, asked]), np.concatenate([labels, truth]), len(seen)
    splits = [Split(rows, a, b, names[a:b]) for a, b in ((0, cuts), (cuts, cuts), (cuts, len(rows)))]
    return Data(whole.name, whole.space, whole.codec, *splits, spec=whole.spec, classes=whole.classes)


def one(whole: Data, recipe: TrainingConfig, choosing: bool, seed: int) -> dict[str, float]:
    """The shares of digits that each way gets wrong."""
    data = halves(whole, seed, choosing)
    machines, seconds = learned(
        lambda: made("helmholtz", MODEL, data.space, per_class=len(data.classes)), data, recipe, seed
    )
    x, truth = data.test.x(), labels_of(data.test)
    torch.manual_seed(seed)
    told = machines.chances(x, draws=DRAWS).argmax(1).numpy()
    seen, labels = data.train.x().flatten(1).numpy(), labels_of(data.train)
    out = {"machines": float((told != truth).mean()), "seconds": seconds}
    rivals = {"nearest": KNeighborsClassifier(1), "logistic": LogisticRegression(max_iter=5000)}
    for name, rival in rivals.items():
        out[name] = float((rival.fit(seen, labels).predict(x.flatten(1).numpy()) != truth).mean())
    return out


def main() -> None:
    asked = seeds_parser(__doc__, 10).parse_args()
    torch.set_num_threads(1)
    whole = open_data("digits")
    recipe = hasty(RECIPE, 50, asked.quick)
    choosing = asked.first >= CHOOSING
    settings = (MODEL, recipe, DRAWS, choosing)
    found = []
    for seed in range(asked.first, asked.first + asked.seeds):
        found += starts(f"digits-{seed}", settings, [seed], partial(one, whole, recipe, choosing))
        say(f"seed {seed}: " + ", ".join(f"{name} {value:.4f}" for name, value in found[-1].items()))
    if choosing:
        return
    rows = []
    for name, word in WORDS.items():
        wrong = [made[name] for made in found]
        rows.append([word, f"{statistics.median(wrong):.2%}", f"{min(wrong):.2%} to {max(wrong):.2%}"])
    notes = [
        f"{asked.seeds} ways to cut the digits into halves; median and range of the errors on the half that was not learned from.",
        f"{recipe.steps:,} rounds of {recipe.batch} for ten machines; {DRAWS} importance samples for each digit and machine.",
        "1995, on other digits (16x16 bits): 4.8% by free energy, 6.7% by nearest neighbour.",
        f"{MODEL}; {recipe}",
    ]
    write("digits", "Digits, one machine for each class", ["", "wrong", "range"], rows, notes)


if __name__ == "__main__":
    main()
