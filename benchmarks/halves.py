"""How much of the hidden half of a stranger's face do the portraits tell? The machine beside other ways to guess it.

    python benchmarks/halves.py [--quick]

Four folds over the 36 people who are not test people; nine of them are strangers in each. A guess is the mean of what
is hidden given what is seen, and its score how far its RMSE falls below that of the mean face. Every rival has its
settings chosen by hindsight, on the very strangers that it is scored on, so its figure is the most that it could
have shown. The machine has the recipe's settings and a fixed number of rounds. Finished folds are kept under
benchmarks/.work, so that an interrupted measurement goes on where it stopped.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import torch
from learn import digest, learned
from table import WORK, say, write
from torch import Tensor, nn

from reverie.core.recipe import TrainingConfig
from reverie.core.space import Space
from reverie.data import Data, open_data
from reverie.data.augment import augment
from reverie.data.data import Split
from reverie.models.vae import VAE
from reverie.nets.mlp import residual_mlp

FOLDS = 4
Guess = dict[str, Tensor]  # what was tried -> (B, hidden) means of what is hidden


def halves(space: Space) -> dict[str, Tensor]:
    """What is hidden: (D,) bool."""
    _, height, width = space.shape
    right, bottom = torch.zeros(2, *space.shape, dtype=torch.bool)
    right[..., width // 2 :] = True
    bottom[..., height // 2 :, :] = True
    return {"right": right.flatten(), "bottom": bottom.flatten()}


def fold(data: Data, number: int) -> Data:
    """The people who are not test people, dealt anew; the strangers are the validation people."""
    rows = [data.train.raw().numpy(), data.valid.raw().numpy()]
    who = np.concatenate([data.train.groups, data.valid.groups])
    held = np.isin(who, sorted(set(who))[number::FOLDS])
    x = np.concatenate(rows)
    x = np.concatenate([x[~held], x[held]])
    known = int((~held).sum())
    splits = Split(x, 0, known), Split(x, known, len(x)), Split(x, len(x), len(x))
    return Data(f"portraits, fold {number}", data.space, data.codec, *splits, spec={}, mirror=True)


def enlarged(data: Data, config: TrainingConfig, copies: int) -> Tensor:
    """(N, D) float64: the known people, moved and bent as the machine sees them."""
    x = data.train.x()
    return torch.cat([augment(x, config) for _ in range(copies)]).flatten(1).double()


def gaussian(x: Tensor, y: Tensor, hidden: Tensor) -> Guess:
    """The conditional mean of a Gaussian with full covariance, whose diagonal is lifted; kriging, or ridge regression."""
    mean = x.mean(0)
    covariance = (x - mean).T @ (x - mean) / len(x)
    out = {}
    for lift in (1e-3, 1e-2, 3e-2, 1e-1):
        c = covariance + lift * torch.eye(len(mean), dtype=x.dtype)
        weights = torch.linalg.solve(c[~hidden][:, ~hidden], c[~hidden][:, hidden])
        out[f"lift {lift}"] = mean[hidden] + (y[:, ~hidden] - mean[~hidden]) @ weights
    return out


def kernel(x: Tensor, y: Tensor, hidden: Tensor) -> Guess:
    """Kernel ridge regression with a Gaussian kernel on softly whitened pixels."""
    seen, asked, target = x[:, ~hidden], y[:, ~hidden], x[:, hidden]
    mean = seen.mean(0)
    values, vectors = torch.linalg.eigh((seen - mean).T @ (seen - mean) / len(seen))
    out = {}
    for soft in (0.02, 0.2):
        whiten = vectors / (values.clamp(min=0) + soft).sqrt()
        a, b = (seen - mean) @ whiten, (asked - mean) @ whiten
        near, far = torch.cdist(a, a).square(), torch.cdist(b, a).square()
        for sharp, ridge in product((0.1, 0.5, 1.0), (1e-2, 1e-1)):
            scale = sharp / near.median()
            eye = ridge * torch.eye(len(a), dtype=x.dtype)
            weights = torch.linalg.solve(torch.exp(-scale * near) + eye, target - target.mean(0))
            out[f"soft {soft}, sharp {sharp}, ridge {ridge}"] = target.mean(0) + torch.exp(-scale * far) @ weights
    return out


def neighbours(x: Tensor, y: Tensor, hidden: Tensor) -> Guess:
    """The mean of those whose seen half is nearest."""
    order = torch.cdist(y[:, ~hidden], x[:, ~hidden]).argsort(1)
    return {f"{k} nearest": x[order[:, :k]][..., hidden].mean(1) for k in (1, 5, 20, 100, 500)}


def perceptron(data: Data, config: TrainingConfig, rounds: int) -> Callable[[Tensor, Tensor], Guess]:
    """A residual perceptron that sees what is there and where, and learns to say the rest of pictures with random holes."""
    torch.manual_seed(0)
    dims, mean = data.space.dims, data.train.x().flatten(1).mean(0)
    net = residual_mlp(2 * dims, 512, 2, dims)
    optimiser = torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=0.3, fused=True)
    batches = data.batches(64, 0, 0, config)
    _, height, width = data.space.shape

    def guess(x: Tensor, hidden: Tensor) -> Tensor:
        seen = torch.where(hidden, 0.0, x - mean)
        return mean + net(torch.cat([seen, hidden.expand_as(x).float()], 1))

    checkpoints = {}
    for step in range(rounds):
        x = next(batches).x.flatten(1)
        # A half plane through the picture, at a random angle and place.
        angle, place = 2 * torch.pi * torch.rand(len(x), 1, 1), 0.7 * torch.rand(len(x), 1, 1) - 0.35
        rows, columns = torch.linspace(-0.5, 0.5, height).view(-1, 1), torch.linspace(-0.5, 0.5, width)
        hidden = (angle.cos() * rows + angle.sin() * columns > place).flatten(1)
        loss = (guess(x, hidden) - x)[hidden].square().mean()
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * 0.5 * (1 + np.cos(np.pi * step / rounds))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 0.2)
        optimiser.step()
        if (step + 1) % (rounds // 4) == 0:
            checkpoints[f"{step + 1} rounds"] = {k: v.clone() for k, v in net.state_dict().items()}

    @torch.no_grad()
    def answer(y: Tensor, hidden: Tensor) -> Guess:
        out = {}
        for name, weights in checkpoints.items():
            net.load_state_dict(weights)
            out[name] = guess(y.float(), hidden)[:, hidden].double()
        return out

    return answer


def machine(data: Data, rounds: int, draws: int) -> Callable[[Tensor, Tensor], Guess]:
    """The VAE of the recipe, and the mean of its repairs."""
    config, recipe = VAE.recipe(data.space, len(data.train))
    model, _ = learned(lambda: VAE(config, data.space), data, replace(recipe, steps=rounds), 0)

    def answer(y: Tensor, hidden: Tensor) -> Guess:
        torch.manual_seed(0)
        x = y.float().view(-1, *data.space.shape)
        observed = (~hidden).view(data.space.shape).expand_as(x)
        out = model.repair(torch.where(observed, x, 0.0), observed, draws).mean(0)
        return {"recipe": out.flatten(1)[:, hidden].double()}

    return answer


def scores(data: Data, quick: bool) -> dict[str, dict[str, dict[str, float]]]:
    """method -> half -> what was tried -> squared error, in units of the mean face's."""
    _, recipe = VAE.recipe(data.space, len(data.train))
    torch.manual_seed(0)
    x = enlarged(data, recipe, 2 if quick else 20)
    y = data.valid.x().flatten(1).double()
    learned = perceptron(data, recipe, 40 if quick else 4000)
    dreamt = machine(data, 40 if quick else 3390, 4 if quick else 100)
    ways: dict[str, Callable[[Tensor], Guess]] = {
        "the machine (VAE, recipe)": lambda hidden: dreamt(y, hidden),
        "Gaussian conditional": lambda hidden: gaussian(x, y, hidden),
        "kernel ridge regression": lambda hidden: kernel(x, y, hidden),
        "perceptron for random holes": lambda hidden: learned(y, hidden),
        "nearest known people": lambda hidden: neighbours(x, y, hidden),
    }
    mean = data.train.x().flatten(1).double().mean(0)
    out: dict[str, dict[str, dict[str, float]]] = {}
    for name, way in ways.items():
        for half, hidden in halves(data.space).items():
            floor = (mean - y)[:, hidden].square().mean()
            tried = {key: float((guess - y[:, hidden]).square().mean() / floor) for key, guess in way(hidden).items()}
            out.setdefault(name, {})[half] = tried
            say(f"  {name}, {half}: {100 * (1 - min(tried.values()) ** 0.5):.1f}% better")
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="little learning, for development")
    quick = parser.parse_args().quick
    data = open_data("faces")
    found = []
    for number in range(FOLDS):
        kept = (
            WORK / f"halves-{digest(VAE.recipe(data.space, len(data.train)))}-{number}{'-quick' if quick else ''}.json"
        )
        if not kept.exists():
            say(f"fold {number + 1} of {FOLDS}")
            kept.parent.mkdir(exist_ok=True)
            kept.write_text(json.dumps(scores(fold(data, number), quick)))
        found.append(json.loads(kept.read_text()))
    rows = []
    for name, by_half in found[0].items():
        for half in by_half:
            # One choice for all folds, the best of them for these very strangers.
            best = min(by_half[half], key=lambda key: statistics.fmean(f[name][half][key] for f in found))
            better = [100 * (1 - f[name][half][best] ** 0.5) for f in found]
            mean = 100 * (1 - statistics.fmean(f[name][half][best] for f in found) ** 0.5)
            rows.append([name, half, f"{mean:.0f}%", ", ".join(f"{b:.0f}" for b in better), best])
    header = [
        "guess",
        "hidden half",
        "RMSE below the mean face's",
        "fold by fold, %",
        "setting (rivals: best by hindsight)",
    ]
    notes = [
        "36 people who are not test people, 27 known and 9 strangers in each of four folds; known people moved and bent "
        "as the recipe does, 20 times each, for the rivals.",
        "The first percentage is that of the errors of all folds together.",
    ]
    write("halves", "What half a stranger's face tells of the other half", header, rows, notes)


if __name__ == "__main__":
    main()
