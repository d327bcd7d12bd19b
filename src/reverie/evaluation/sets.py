"""The scores of a set of dreams beside a set of held-out examples."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reverie.core.abilities import dream
from reverie.core.errors import BadInput
from reverie.core.model import Decodes, Estimate, Model
from reverie.evaluation import pictures
from reverie.evaluation.features import Extractor, Features, Identity, PixelPCA, RandomConv
from reverie.evaluation.resampling import blocks
from reverie.evaluation.scores import Score, score

FEWEST = 12  # examples in a set, below which sets are not compared
FITTED_ON = 1000  # training examples that feature extractors see
LOOKS = 250  # dreams, and held-out examples at most, that are looked at while a model learns
KNOWN = 1000, 2**23  # training examples that these are compared with, and their numbers, at most


class Examples(NamedTuple):
    """Examples (n, *shape) in model units, and the groups (n,) that were drawn as wholes, if any were."""

    x: Tensor
    groups: NDArray[Any] | None = None
    observed: Tensor | None = None  # (n, *shape) bool, where there are holes
    labels: Tensor | None = None  # (n,)

    @staticmethod
    def of(x: Tensor, groups: Any, observed: Tensor | None = None, labels: Tensor | None = None) -> "Examples":
        """One or two groups tell nothing about how groups differ: examples then stand for themselves."""
        names = None if groups is None else np.asarray(groups)[: len(x)]
        names = None if names is None or len(np.unique(names)) < 3 else names
        return Examples(x, names, observed, None if labels is None else labels[: len(x)])

    @property
    def whole(self) -> "Examples":
        """Those without holes."""
        if self.observed is None:
            return self
        kept = self.observed.flatten(1).all(1)
        groups = None if self.groups is None else self.groups[kept.numpy()]
        return Examples.of(self.x[kept], groups, None, None if self.labels is None else self.labels[kept])

    @property
    def errors_over(self) -> list[str]:
        return [] if self.groups is None else [f"errors over {len(np.unique(self.groups))} groups"]


class Seen(NamedTuple):
    """Examples through a feature extractor: (n, F)."""

    features: Features
    groups: NDArray[Any] | None


class Judge:
    """Looks at a model's dreams while it learns: always the same few, beside validation examples.

    >>> from reverie.data import open_data
    >>> from reverie.models.noise import Noise, NoiseConfig
    >>> data = open_data("digits")
    >>> judge = Judge.of(data, seed=0)
    >>> sorted(judge(Noise(NoiseConfig(), data.space)))
    ['kernel distance', 'memorisation']
    """

    def __init__(self, train: Examples, held: Examples, seed: int):
        self.train, self.held, self.seed = train, held, seed
        self.extractors = list(_extractors(train.x[:FITTED_ON]).values())
        self.real = [_see(held, extractor) for extractor in self.extractors]

    @staticmethod
    def of(data: Any, seed: int) -> "Judge | None":
        """Of a Data; None where it has too few whole examples, or none that could be compared."""
        if len(data.space.shape) not in (1, 3) or not len(data.valid):
            return None
        sizes = min(KNOWN[0], KNOWN[1] // data.space.dims), LOOKS
        train, held = (
            Examples.of(split.x(n), split.groups, split.observed(n)).whole
            for split, n in zip((data.train, data.valid), sizes, strict=True)
        )
        return None if min(len(train.x), len(held.x)) < FEWEST else Judge(train, held, seed)

    @torch.no_grad()
    def __call__(self, model: Model) -> dict[str, float]:
        """The kernel distance, of pictures the sum of that in coarse shape and that in texture, which is one under the
        sum of both kernels; and how new the dreams are. Global random state stays as it was."""
        with torch.random.fork_rng():
            dreams = _draw(model.sample, LOOKS, self.seed)
        if not dreams.isfinite().all():
            return {}
        groups = self.held.groups
        distance = sum(
            pictures.kernel_distance(real.features, extractor(dreams), groups).value
            for real, extractor in zip(self.real, self.extractors, strict=True)
        )
        known, new, own = (x.cpu().numpy() for x in (self.train.x, self.held.x, dreams))
        try:
            ratio = pictures.memorisation(known, new, own, groups, known.ndim == 4).value
        except BadInput:  # a world in which nothing is new
            return {"kernel distance": distance}
        return {"kernel distance": distance, "memorisation": ratio}


def score_dreams(model: Model, noise: Model, train: Examples, held: Examples, count: int, seed: int) -> list[Score]:
    """Every distance of `count` dreams, exact draws from p(x), to the held-out examples, and of them to the training
    examples; for models that decode latents also the kernel distances of dreams without the grain of p(x|z) (`_clean`).
    """
    train, held = train.whole, held.whole  # a distance between pictures knows no holes
    if min(len(train.x), len(held.x), count) < FEWEST:
        return []
    own, floor = Examples(_draw(model.sample, count, seed)), Examples(_draw(noise.sample, count, seed))
    ceiling = _some(train, count, seed)
    means = None
    if isinstance(model, Decodes) and getattr(model, "prior", None) is not None:
        means = Examples(_draw(lambda n: dream(model, n), count, seed))
    counts = [f"{count} dreams", f"{len(held.x)} held-out", *held.errors_over]
    scores = []
    for suffix, extractor in _extractors(train.x[:FITTED_ON]).items():
        real, low, high = (_see(examples, extractor) for examples in (held, floor, ceiling))
        found, least, most = (_distances(real, fake, high, suffix) for fake in (_see(own, extractor), low, high))
        how = f"{extractor.name} {extractor.hash}"
        scores += [score(name, found[name], least[name].value, most[name].value, how, *counts) for name in found]
        if means is not None:
            clean = _kernels(real, _see(means, extractor), high, suffix)
            ends = {name: (least[name].value, most[name].value) for name in clean}
            how = f"{how}, means of p(x|z)"
            scores += [score(f"{name}_clean", e, *ends[name], how, *counts) for name, e in clean.items()]
    scores += [*_memorisation(train, held, own, floor, counts), *_sharpness(held, own, floor, ceiling, counts)]
    if means is not None:
        scores += _sharpness(held, means, floor, ceiling, counts, "_clean")
    return scores


def _extractors(x: Tensor) -> dict[str, Extractor]:
    """By what they append to the name of a score."""
    return {"": PixelPCA(x), "_conv": RandomConv(x)} if x.dim() == 4 else {"": Identity()}


def _distances(real: Seen, fake: Seen, ceiling: Seen, suffix: str) -> dict[str, Estimate]:
    scores = _kernels(real, fake, ceiling, suffix)
    scores[f"frechet_distance{suffix}"] = pictures.frechet_distance(
        real.features, fake.features, real.groups, fake.groups
    )
    if suffix == "":
        k = min(5, _fewest(real) - 1, _fewest(fake) - 1)
        scores |= pictures.precision_recall_density_coverage(real.features, fake.features, k, real.groups, fake.groups)
    return scores


def _kernels(real: Seen, fake: Seen, ceiling: Seen, suffix: str) -> dict[str, Estimate]:
    """The kernel distance of `fake`, and its excess over that of training examples, which is known far better."""
    distance = pictures.kernel_distance(real.features, fake.features, real.groups, fake.groups)
    excess = pictures.kernel_difference(
        real.features, fake.features, ceiling.features, real.groups, fake.groups, ceiling.groups
    )
    return {f"kernel_distance{suffix}": distance, f"kernel_excess{suffix}": excess}


def _memorisation(train: Examples, held: Examples, own: Examples, floor: Examples, counts: list[str]) -> list[Score]:
    mirror = train.x.dim() == 4

    def ratio(fake: Tensor) -> Estimate:
        known, new, dreams = (x.cpu().numpy() for x in (train.x, held.x, fake))
        return pictures.memorisation(known, new, dreams, held.groups, mirror)

    try:
        ceiling = ratio(held.x).value
    except BadInput:  # a world so small that its examples recur: nothing in it is new
        return []
    among = f"among {len(train.x)} training examples" + " and their mirror images" * mirror
    return [score("memorisation", ratio(own.x), ratio(floor.x).value, ceiling, among, *counts)]


def _sharpness(
    held: Examples, fake: Examples, floor: Examples, ceiling: Examples, counts: list[str], suffix: str = ""
) -> list[Score]:
    def ratio(x: Examples) -> Estimate:
        return pictures.sharpness(held.x.cpu().numpy(), x.x.cpu().numpy(), held.groups, x.groups)

    if held.x.dim() != 4:
        return []
    try:
        found, least, most = map(ratio, (fake, floor, ceiling))
    except BadInput:  # pictures without any detail
        return []
    how = ["means of p(x|z)"] if suffix else []
    return [score(f"sharpness{suffix}", found, least.value, most.value, *how, *counts)]


def _see(examples: Examples, extractor: Extractor) -> Seen:
    return Seen(extractor(examples.x), examples.groups)


def _fewest(seen: Seen) -> int:
    """Examples left when the largest block is left out."""
    return len(seen.features) - int(np.bincount(blocks(len(seen.features), seen.groups)).max())


def _draw(sample: Callable[[int], Tensor], count: int, seed: int, at_once: int = 250) -> Tensor:
    torch.manual_seed(seed)
    sizes = [min(at_once, count - i) for i in range(0, count, at_once)]
    return torch.cat([sample(n).cpu().float() for n in sizes])


def _some(train: Examples, count: int, seed: int) -> Examples:
    """Training examples that play the dreams."""
    torch.manual_seed(seed)
    chosen = torch.randperm(len(train.x))[:count]
    return Examples.of(train.x[chosen], None if train.groups is None else train.groups[chosen.numpy()])
