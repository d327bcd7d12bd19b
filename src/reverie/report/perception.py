"""What the machine makes of what it has never seen."""
# ruff: noqa: E501 (sentences for people are not cut at a column)

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional as F

from reverie.core.model import Decodes, Encodes, Repairs, Surprised
from reverie.models import MODELS
from reverie.report import page
from reverie.report.page import Html, el, say, section
from reverie.report.view import View

SHOWN = 8
DRAWS = 60  # repairs of each half-hidden example that figures are made of


def held_out(view: View) -> Html | None:
    """Held-out examples reconstructed, denoised and completed."""
    if not view.pictures:
        return None
    x, parts = view.different(SHOWN), []
    if isinstance(view.model, Encodes) and isinstance(view.model, Decodes):
        again = view.model.decode(view.model.encode(x).mean).mean
        error = (again - x).square().mean().sqrt() * 127.5
        rows = {"real": view.pixels(x), "perceived": view.pixels(again)}
        words = f"Held-out examples, and what the machine sees in them (root mean square difference {error:.1f} parts of 255). What it has no word for is gone."
        parts.append(page.figure(page.rows(rows, "perceived", view.scale), words))
    if isinstance(view.model, Repairs):
        if view.data.space.kind == "byte":
            parts.append(_denoised(view, x))
        parts.append(_completed(view, x))
    return section("perception", "People it has never met" if view.data.name == "faces" else "What it has never seen", *parts) if parts else None


def _denoised(view: View, x: Tensor) -> Html:
    noise = 25 / 127.5
    y = x + noise * torch.randn_like(x)
    draws = view.model.repair(y, None, 8, noise)  # type: ignore[operator]
    mean = draws.mean(0)
    before, after = ((z - x).square().mean().sqrt() * 127.5 for z in (y, mean))
    rows = {"noisy": view.pixels(y), "cleaned": view.pixels(mean), "real": view.pixels(x)}
    words = f"Gaussian noise of 25 parts of 255 was added, and eight clean pictures drawn that would explain what was seen; their mean is shown. Root mean square error {before:.1f} before, {after:.1f} after."
    return page.figure(page.rows(rows, "denoised", view.scale), words)


def _completed(view: View, x: Tensor) -> Html:
    height, width = x.shape[-2:]
    halves = {"left half seen": (slice(None), slice(0, width // 2)), "top half seen": (slice(0, height // 2), slice(None))}
    mean_picture = view.data.train.x(5000).mean(0)
    blocks, lines = [], []
    for name, (rows_seen, columns_seen) in halves.items():
        observed = torch.zeros_like(x, dtype=torch.bool)
        observed[:, :, rows_seen, columns_seen] = True
        seen = torch.where(observed, x, torch.zeros_like(x))
        draws = view.model.repair(seen, observed, DRAWS)  # type: ignore[operator]
        rows = {name: view.pixels(seen), "mean repair": view.pixels(draws.mean(0))}
        rows |= {f"draw {i + 1}": view.pixels(draws[i]) for i in range(3)} | {"real": view.pixels(x)}
        blocks.append(page.rows(rows, "completed", view.scale))
        ours, copied, covered = figures(draws, x, observed, mean_picture)
        lines.append((name, f"{ours:.1f}", f"{copied:.1f}", f"{100 * (1 - ours / copied):.0f} %", f"{100 * covered:.0f} %"))
    words = "Half of each was hidden. The machine imagines the rest, several times; what was seen is kept to the bit. Where the draws differ, it does not know."
    head = ("hidden part", "error of the mean repair", "of the mean training example", "better by", "inside its 90 % interval")
    return el("div", *[page.figure(block, words if i == 0 else None) for i, block in enumerate(blocks)], page.table(head, lines))


def figures(draws: Tensor, x: Tensor, observed: Tensor, mean: Tensor) -> tuple[float, float, float]:
    """On the hidden entries: RMSE of the mean of draws (n, B, *shape), RMSE of copying `mean`, both in parts of 255,
    and the share that lies between the 5th and 95th percentile of the draws.
    """
    hidden = ~observed
    ours = (draws.mean(0) - x)[hidden].square().mean().sqrt() * 127.5
    copied = (mean - x)[hidden].square().mean().sqrt() * 127.5
    low, high = torch.quantile(draws, torch.tensor([0.05, 0.95]), dim=0)
    return float(ours), float(copied), float(((low <= x) & (x <= high))[hidden].float().mean())


def surprise(view: View) -> Html | None:
    """What surprises the machine, and what does not."""
    if not isinstance(view.model, Surprised):
        return None
    data, model = view.data, view.model
    x = data.test.x(200)
    own = model.surprise(x, draws=100)
    unit = data.space.dims * np.log(2)
    found = {data.name: own.value.numpy() / unit}
    parts: list[Html] = []
    if view.pictures:
        order = own.value.argsort()
        edge = min(SHOWN, len(x) // 2)
        rows = {"least": view.pixels(x[order[:edge]]), "most": view.pixels(x[order[-edge:].flip(0)])}
        parts.append(page.figure(page.rows(rows, "surprising", view.scale), "The held-out examples that surprised it least, and most."))
        if data.space.kind == "byte" and data.name != "digits":
            found["digits"] = model.surprise(_digits(view, 100), draws=30).value.numpy() / unit
    noise = MODELS["noise"](MODELS["noise"].Config(), data.space)
    found["noise"] = model.surprise(noise.sample(50), draws=20).value.numpy() / unit
    told = [f"{name} from {data.name}: {_auroc(found[data.name], other)}" for name, other in found.items() if name != data.name]
    label = "surprise, bits/dim" + ("" if data.space.kind != "real" else " (in model units)")
    chart = page.drawing(lambda ink: page.curves.surprises(found, label, ink), "histograms of surprise")
    words = [el("b", "Told apart by surprise alone"), " (area under the ROC curve; 1 is always, 0.5 is a guess): ", "; ".join(told), ". A known caveat: a likelihood can be higher for simple pictures than for the machine's own world; what is shown is what was measured."]
    return section("surprise", "Surprise", *parts, page.figure(chart, words, "chart"))


def _auroc(own: np.ndarray, other: np.ndarray) -> str:
    """The chance that an example of the other world surprises more, with Hanley & McNeil's (1982) standard error."""
    truth = np.r_[np.zeros(len(own)), np.ones(len(other))]
    a = float(roc_auc_score(truth, np.r_[own, other]))
    q1, q2, n, m = a / (2 - a), 2 * a * a / (1 + a), len(other), len(own)
    error = np.sqrt(max(0.0, (a * (1 - a) + (n - 1) * (q1 - a * a) + (m - 1) * (q2 - a * a)) / (n * m)))
    return f"{a:.3f} ± {error:.3f}"


def _digits(view: View, n: int) -> Tensor:
    """(n, *shape) handwritten digits, enlarged to the space of the run, model units."""
    from sklearn.datasets import load_digits

    images = torch.from_numpy(load_digits().images[:n]).float().unsqueeze(1) * (255 / 16)
    channels, height, width = view.data.space.shape
    big = F.interpolate(images, (height, width), mode="bilinear").round().clamp(0, 255).byte()
    return view.data.codec.to_model(big.expand(-1, channels, -1, -1))
