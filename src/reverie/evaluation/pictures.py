"""How far dreams lie from real examples: two sets of features (n, F) in, Estimates out.

`real` comes first, `fake` second. `groups` name the person (or other unit that was drawn as a whole) behind each
example; None means that every example was drawn on its own. Errors are over new draws of both sets.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg
from sklearn.metrics.pairwise import pairwise_distances, polynomial_kernel
from sklearn.neighbors import NearestNeighbors

from reverie.core.errors import BadInput
from reverie.core.model import Estimate
from reverie.evaluation.features import Features
from reverie.evaluation.resampling import blocks, bootstrap_of_median, jackknife

NO_DETAIL = 1e-9  # power, in model units, below which there is but rounding


def kernel_distance(
    real: Features, fake: Features, groups: ArrayLike | None = None, fake_groups: ArrayLike | None = None
) -> Estimate:
    """Squared maximum mean discrepancy under the kernel (x.y/F + 1)^3, unbiased.

    Bińkowski et al. 2018 (arXiv 1801.01401). 0 on average for two samples of one distribution, so it can
    be negative. Unbiased also where examples come in groups: two of one group are never compared with each other.

    >>> x = np.random.default_rng(0).normal(size=(200, 4))
    >>> kernel_distance(x[:100], x[100:]).value < 0.1 < 1 < kernel_distance(x[:100], x[100:] + 1).value
    True
    """
    samples = blocks(len(real), groups), blocks(len(fake), fake_groups)
    value, error = jackknife(_discrepancy(real, fake, groups, fake_groups), *samples)
    return Estimate(float(value), float(error), "squared kernel distance", "lower", "unbiased MMD, cubic kernel")


def kernel_difference(
    real: Features,
    a: Features,
    b: Features,
    groups: ArrayLike | None = None,
    a_groups: ArrayLike | None = None,
    b_groups: ArrayLike | None = None,
) -> Estimate:
    """The kernel distance of `a` less that of `b` to the same `real`: below 0 where a is nearer.

    Which few real examples there happen to be moves both distances together, so the error of this difference
    is smaller than theirs: sets of dreams are compared by it, not by their own errors.

    >>> x = np.random.default_rng(0).normal(size=(300, 4))
    >>> difference = kernel_difference(x[:100], x[100:200] + 1, x[200:])
    >>> difference.value > 3 * difference.error
    True
    """
    of_a, of_b = _discrepancy(real, a, groups, a_groups), _discrepancy(real, b, groups, b_groups)
    samples = blocks(len(real), groups), blocks(len(a), a_groups), blocks(len(b), b_groups)
    value, error = jackknife(lambda r, one, other: of_a(r, one) - of_b(r, other), *samples)
    return Estimate(float(value), float(error), "squared kernel distance", "lower", "difference of two unbiased MMDs")


def _discrepancy(
    real: Features, fake: Features, groups: ArrayLike | None, fake_groups: ArrayLike | None
) -> Callable[[NDArray[np.bool_], NDArray[np.bool_]], float]:
    """The kernel distance as a function of which examples of the two sets are used."""
    within_real, within_fake, between = polynomial_kernel(real), polynomial_kernel(fake), polynomial_kernel(real, fake)
    pairs_real, pairs_fake = _strangers(len(real), groups), _strangers(len(fake), fake_groups)
    within_real *= pairs_real
    within_fake *= pairs_fake

    def statistic(r: NDArray[np.bool_], f: NDArray[np.bool_]) -> float:
        u, v = r.astype(float), f.astype(float)
        alike = u @ within_real @ u / (u @ pairs_real @ u) + v @ within_fake @ v / (v @ pairs_fake @ v)
        return float(alike - 2 * (u @ between @ v) / (u.sum() * v.sum()))

    return statistic


def _strangers(n: int, groups: ArrayLike | None) -> NDArray[np.float64]:
    """(n, n) 1 where two examples were drawn independently, 0 where not."""
    if groups is None:
        return 1.0 - np.eye(n)
    names = np.asarray(groups)
    return np.asarray(names[:, None] != names[None, :], dtype=np.float64)


def moments(x: Features) -> tuple[Features, Features]:
    """The mean (F,) and the unbiased covariance (F, F) of features (n, F)."""
    return x.mean(0), np.atleast_2d(np.cov(x, rowvar=False))


def frechet(mean_a: Features, cov_a: Features, mean_b: Features, cov_b: Features) -> float:
    """Squared Fréchet distance of two Gaussians, |m_a - m_b|^2 + tr(A + B - 2 (A B)^1/2) (Dowson & Landau 1982).

    >>> one = np.eye(2)
    >>> frechet(np.zeros(2), one, np.zeros(2), 4 * one)
    2.0
    """
    # tr (A B)^1/2 is the sum of the singular values of A^1/2 B^1/2, which exist whatever the ranks are;
    # scipy.linalg.sqrtm(A @ B) breaks down on singular matrices.
    overlap = linalg.svdvals(_root(cov_a).T @ _root(cov_b)).sum()
    return float(np.square(mean_a - mean_b).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * overlap)


def _root(cov: Features) -> Features:
    """(F, rank) R with R R' = cov."""
    values, vectors = linalg.eigh(cov)
    kept = values > values[-1] * 1e-14
    return np.asarray(vectors[:, kept] * np.sqrt(values[kept]))


def frechet_distance(
    real: Features, fake: Features, groups: ArrayLike | None = None, fake_groups: ArrayLike | None = None
) -> Estimate:
    """Squared Fréchet distance between Gaussians fitted to the two sets, over F (Heusel et al. 2017, arXiv 1706.08500).

    Biased upwards by about F/n of the variance for each set, and by far more where n is not much
    larger than F: the missing directions count as missing variance. Compare only figures with the same n, and
    with the ceiling, which suffers in the same way. It is no FID: that name belongs to Inception's features.

    >>> x = np.random.default_rng(0).normal(size=(1000, 4))
    >>> frechet_distance(x[:500], x[500:]).value < 0.1 < 0.9 < frechet_distance(x[:500], x[500:] + 1).value < 1.1
    True
    """

    def statistic(r: NDArray[np.bool_], f: NDArray[np.bool_]) -> float:
        return frechet(*moments(real[r]), *moments(fake[f])) / int(real.shape[1])

    value, error = jackknife(statistic, blocks(len(real), groups), blocks(len(fake), fake_groups))
    return Estimate(float(value), float(error), "share of variance", "lower", "Gaussian fit")


def precision_recall_density_coverage(
    real: Features, fake: Features, k: int = 5, groups: ArrayLike | None = None, fake_groups: ArrayLike | None = None
) -> dict[str, Estimate]:
    """Four shares, with a ball around each example that reaches to its k-th nearest neighbour in its own set.

    precision: of the fakes, inside any real ball; recall: of the reals, inside any fake ball
    (Kynkäänniemi et al. 2019, arXiv 1904.06991). density: real balls around a fake, over k, which can
    exceed 1; coverage: of the real balls, holding any fake (Naeem et al. 2020, arXiv 2002.09797).
    Raises BadInput where a set has no k-th neighbour, also with one block left out.

    >>> x = np.random.default_rng(0).normal(size=(60, 2))
    >>> scores = precision_recall_density_coverage(x, x)
    >>> [scores[name].value for name in ("precision", "recall", "coverage")]
    [1.0, 1.0, 1.0]
    """
    samples = blocks(len(real), groups), blocks(len(fake), fake_groups)
    fewest = min(int(len(s) - np.bincount(s).max()) for s in samples)
    if not 1 <= k < fewest:
        raise BadInput(f"no {k}-th neighbour among {fewest} examples; give more examples or a smaller k")
    real_real, fake_fake = pairwise_distances(real), pairwise_distances(fake)
    real_fake = pairwise_distances(real, fake)

    def statistic(r: NDArray[np.bool_], f: NDArray[np.bool_]) -> Features:
        # A row of a set's own distances holds the 0 to itself, so the k-th neighbour is at index k.
        real_radius = np.partition(real_real[np.ix_(r, r)], k, axis=1)[:, k]
        fake_radius = np.partition(fake_fake[np.ix_(f, f)], k, axis=1)[:, k]
        gap = real_fake[np.ix_(r, f)]
        in_real, in_fake = gap <= real_radius[:, None], gap <= fake_radius
        shares = in_real.any(0).mean(), in_fake.any(1).mean(), in_real.sum(0).mean() / k, in_real.any(1).mean()
        return np.asarray(shares)

    values, errors = jackknife(statistic, *samples)
    names = "precision", "recall", "density", "coverage"
    return {
        name: Estimate(float(value), float(error), "share", "higher", f"k={k}")
        for name, value, error in zip(names, values, errors, strict=True)
    }


def memorisation(
    train: NDArray[np.floating],
    held_out: NDArray[np.floating],
    dreams: NDArray[np.floating],
    groups: ArrayLike | None = None,
    mirror: bool = False,
) -> Estimate:
    """How near dreams lie to training examples, measured by how near genuinely new examples do.

    The median distance of a dream to the nearest training example (Euclidean, in pixels) over that of a held-out
    example: 0 for copies, 1 for new examples, more for dreams unlike anything. Arrays (n, *shape);
    with `mirror` the training pictures (n, C, H, W) count flipped left to right too. `groups`: of `held_out`.
    A blurred dream lies nearer to everything, so a ratio a little below 1 is not yet a copy.

    >>> x = np.random.default_rng(0).normal(size=(300, 2))
    >>> memorisation(x[:200], x[200:], x[:50]).value
    0.0
    """
    sides = [train, np.flip(train, -1)] if mirror else [train]
    dream, new = _to_nearest(sides, dreams), _to_nearest(sides, held_out)
    of_dream, of_new = float(np.median(dream)), float(np.median(new))
    if of_new == 0:
        raise BadInput("most held-out examples are training examples too; memorisation cannot be told from that")
    ratio = of_dream / of_new
    spread_dream = bootstrap_of_median(dream, np.arange(len(dream)))
    spread_new = bootstrap_of_median(new, np.arange(len(new)) if groups is None else blocks(len(new), groups))
    error = float(np.hypot(spread_dream, ratio * spread_new) / of_new)
    return Estimate(ratio, error, "ratio of distances", "near", "nearest neighbours in pixels")


def power_spectrum(x: NDArray[np.floating], bands: int = 5) -> NDArray[np.float64]:
    """(n, bands) mean squared amplitude of pictures (n, C, H, W) in rings of equal width from 0 to half a cycle per pixel.

    Without the mean of each channel, and faded out towards the edges (Hann), where a picture breaks off and that is nothing it shows.

    >>> waves = np.cos(2 * np.pi * 0.25 * np.arange(40)) * np.ones((1, 1, 40, 1))
    >>> int(power_spectrum(waves)[0].argmax())
    2
    """
    height, width = x.shape[2:]
    fade = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1])
    mean = (x * fade).sum((2, 3), keepdims=True) / fade.sum()
    power = np.square(np.abs(np.fft.fft2((x - mean) * fade))).mean(1) / np.square(fade).sum()
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    ring = np.floor(2 * bands * frequency).astype(int)
    ring[frequency == 0.5] = bands - 1  # every second row or column; beyond that there are corners only
    return np.stack([power[:, ring == i].sum(1) / max((ring == i).sum(), 1) for i in range(bands)], 1)


def sharpness(
    real: NDArray[np.floating],
    fake: NDArray[np.floating],
    groups: ArrayLike | None = None,
    fake_groups: ArrayLike | None = None,
) -> Estimate:
    """How much fine detail `fake` pictures (n, C, H, W) have, as a share of what the real ones have: the power between a quarter
    and half a cycle per pixel. Below 1 they are blurred, above 1 they are grainy or have edges where none belong.

    >>> x = np.random.default_rng(0).normal(size=(50, 1, 16, 16))
    >>> round(sharpness(x, x / 2).value, 2)
    0.25
    """
    of_real, of_fake = (power_spectrum(x, 2)[:, 1] for x in (real, fake))
    if of_real.mean() < NO_DETAIL:
        raise BadInput("the real pictures have no fine detail at all, so there is nothing to compare sharpness with")

    def statistic(r: NDArray[np.bool_], f: NDArray[np.bool_]) -> float:
        return float(of_fake[f].mean() / of_real[r].mean())

    value, error = jackknife(statistic, blocks(len(real), groups), blocks(len(fake), fake_groups))
    return Estimate(float(value), float(error), "ratio of power", "near", "above a quarter cycle per pixel")


def _to_nearest(sides: list[NDArray[np.floating]], x: NDArray[np.floating]) -> Features:
    """(n,) distance of each of x (n, *shape) to the nearest example of any of the `sides` (m, *shape)."""
    flat = x.reshape(len(x), -1).astype(np.float64)
    nearest = np.full(len(flat), np.inf)
    for side in sides:
        known = side.reshape(len(side), -1).astype(np.float64)
        found = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(known).kneighbors(flat, return_distance=False)
        # Once more from the pair itself: the brute-force formula loses digits for near copies.
        nearest = np.minimum(nearest, linalg.norm(flat - known[found[:, 0]], axis=1))
    return nearest
