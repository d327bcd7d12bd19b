"""Where in a model's own space does a label lie? Ways along which an example gets more of it, found by a linear classifier."""

import itertools
from typing import Any

import torch
from jaxtyping import Float, Int
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from reverie.core.abilities import perceive
from reverie.core.model import Encodes, Model, Styled
from reverie.evaluation.features import PixelPCA

EXAMPLES = 2000  # that are looked at
MOST = 12  # labels; people by their names are more
FEWEST = 12  # examples of a label


@torch.no_grad()
def label_directions(model: Model, data: Any) -> dict[str, Float[Tensor, " *point"]]:
    """By label, the direction in which examples of that label are told from all others: across the plane that does it best,
    one standard deviation of the model's points long (Shen, Gu, Tang & Zhou 2020, arXiv 1907.10786).

    Of a model that perceives, the points are those of training examples. One that has styles draws its own; what it makes of
    them, always the same ones, is labelled by a classifier of the training pictures of `data` (a Data). Nothing where these have no labels, one, or many,
    or where a machine is told the label and need not find a place for it.
    """
    labels = data.train.labels
    if labels is None or not 2 <= len(data.classes) <= MOST or model.classes:
        return {}
    x, labels = data.train.x(EXAMPLES), labels[:EXAMPLES]
    if isinstance(model, Styled):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            points = model.styles(EXAMPLES)
            if len(labels.unique()) < 2:
                return {}
            labels = _guessed(x, labels, model.imagine(points).cpu())
    elif isinstance(model, Encodes):
        device = next(itertools.chain(model.parameters(), model.buffers())).device
        points = perceive(model, x.to(device)).mean
    else:
        return {}
    away = (points.flatten(1) - points.flatten(1).mean(0)).double().cpu()
    scale = away.square().mean().sqrt().clamp(min=1e-12)
    # A plane that parts the points is tilted only within the space that they span: of many numbers, as many as there are points say it all.
    basis = torch.linalg.qr(away.T).Q if away.shape[1] > len(away) else None
    within = away if basis is None else away @ basis
    found = {}
    for number, name in enumerate(data.classes):
        chosen = labels == number
        if FEWEST <= int(chosen.sum()) <= len(chosen) - FEWEST:
            way = _across(within, chosen, scale)
            found[name] = (way if basis is None else basis @ way).to(points).view(points.shape[1:])
    return found


def _guessed(x: Tensor, labels: Tensor, dreams: Tensor) -> Int[Tensor, " n"]:
    """Labels of dreams, by a linear classifier of principal components of labelled examples."""
    features = PixelPCA(x)
    rule = LogisticRegression(max_iter=1000).fit(features(x), labels.numpy())
    return torch.from_numpy(rule.predict(features(dreams)))


def _across(away: Float[Tensor, "n Z"], chosen: Tensor, scale: Tensor) -> Float[Tensor, " Z"]:
    """One standard deviation of the points along the normal of the plane between the chosen and the others; `away` from their mean, by
    numbers of about that scale."""
    rule = LogisticRegression(max_iter=1000, class_weight="balanced").fit((away / scale).numpy(), chosen.numpy())
    normal = torch.from_numpy(rule.coef_[0])
    normal = normal / normal.norm().clamp(min=1e-12)
    return normal * (away @ normal).std()
