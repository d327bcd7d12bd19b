"""What pictures are compared by: feature extractors fitted on training pictures alone.

Every feature extractor has a `name`, a `hash` and, called on x (n, *shape) in model units, returns float64
features (n, F). Each is scaled so that the F features of the training pictures have variance 1 on
average: then x.y/F is of order 1, as the kernel of `kernel_distance` wants it, and a Fréchet
distance over F is a share of the training pictures' variance.
"""

from collections.abc import Callable
from hashlib import blake2b
from typing import Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import linalg
from torch import Tensor

from reverie.core.errors import BadInput

Features = NDArray[np.float64]


@runtime_checkable
class Extractor(Protocol):
    """x (n, *shape), model units, to features (n, F); the hash changes when the features do."""

    name: str
    hash: str

    def __call__(self, x: Tensor) -> Features: ...


class Identity:
    """The numbers of an example as they are, for points (n, D).

    >>> Identity()(torch.zeros(2, 3)).shape
    (2, 3)
    """

    name = "identity"
    hash = blake2b(b"identity", digest_size=6).hexdigest()

    def __call__(self, x: Tensor) -> Features:
        return _flat(x)


class PixelPCA:
    """Scores on the leading min(`most`, n // 4) principal components of n training pictures `x` (n, C, H, W).

    One common scale, not whitened: directions in which pictures differ more count for more.

    >>> pca = PixelPCA(torch.rand(80, 1, 8, 8))
    >>> pca.name, pca(torch.rand(3, 1, 8, 8)).shape
    ('pixel-pca-20', (3, 20))
    """

    def __init__(self, x: Tensor, most: int = 64):
        flat = _flat(_enough(x))
        self.centre = flat.mean(0)
        # In full: scikit-learn's PCA takes a randomised or a less exact way where it thinks it should.
        _, spread, axes = linalg.svd(flat - self.centre, full_matrices=False)
        self.axes = axes[: min(most, len(flat) // 4)]
        scale = np.sqrt(np.square(spread[: len(self.axes)]).mean() / (len(flat) - 1))
        self.scale = max(float(scale), 1e-6)  # all pictures the same
        self.name = f"pixel-pca-{len(self.axes)}"
        self.hash = _digest(self.name, flat)

    def __call__(self, x: Tensor) -> Features:
        return _in_parts(lambda part: (_flat(part) - self.centre) @ self.axes.T / self.scale, x)


class RandomConv:
    """Statistics of a convolutional network that was never trained, standardised by training pictures `x` (n, C, H, W).

    Three scales of random orthogonal 3x3 filters and leaky rectifiers, the picture halved in between; each
    scale gives the mean and the standard deviation of every channel over the picture. Untrained filters
    see texture, contrast and edges, wherever they are, which principal components do not; and they
    need no weights from anywhere. (Random features as a measure of distance: Xu et al. 2018, arXiv 1806.07755; Naeem
    et al. 2020, arXiv 2002.09797.)

    >>> conv = RandomConv(torch.rand(20, 1, 8, 8))
    >>> conv.name, conv(torch.rand(3, 1, 8, 8)).shape
    ('random-conv-v1', (3, 224))
    """

    name = "random-conv-v1"
    widths = (16, 32, 64)

    def __init__(self, x: Tensor, seed: int = 20260101):
        generator = torch.Generator().manual_seed(seed)
        sizes = zip((x.shape[1], *self.widths), self.widths, strict=False)
        self.filters = [self._filters(below, above, generator) for below, above in sizes]
        raw = _in_parts(self._statistics, _enough(x))
        self.centre, spread = raw.mean(0), raw.std(0)
        # A statistic that hardly varies over the training pictures must not drown the others.
        spread = np.maximum(spread, 0.01 * np.median(spread) + 1e-6)
        # Some never vary: the deviation over a picture that has shrunk to one pixel.
        self.spread = spread * max(float(np.sqrt(np.square((raw - self.centre) / spread).mean())), 1e-3)
        self.hash = _digest(self.name, *(f.numpy() for f in self.filters), _flat(x))

    @staticmethod
    def _filters(below: int, above: int, generator: torch.Generator) -> Tensor:
        """(above, below, 3, 3), rows orthogonal where there is room for it."""
        rows = torch.empty(above, below * 9, dtype=torch.float64)
        torch.nn.init.orthogonal_(rows, gain=max(1.0, above / (below * 9)) ** 0.5, generator=generator)
        # On a coarse lattice the last bits, which differ between machines, are gone.
        return (torch.round(rows * 4096) / 4096).float().view(above, below, 3, 3)

    def _statistics(self, x: Tensor) -> Features:
        rows, height = [], x.detach().cpu().float()  # float64 convolutions take five times as long
        for filters in self.filters:
            height = F.leaky_relu(F.conv2d(F.pad(height, (1, 1, 1, 1), mode="replicate"), filters), 0.1)
            rows += [height.mean((2, 3)), height.std((2, 3), correction=0)]
            height = F.avg_pool2d(height, 2, ceil_mode=True) if min(height.shape[2:]) > 1 else height
        return np.asarray(torch.cat(rows, 1).double().numpy())

    def __call__(self, x: Tensor) -> Features:
        return np.asarray((_in_parts(self._statistics, x) - self.centre) / self.spread)


def _enough(x: Tensor) -> Tensor:
    if len(x) < 8:
        raise BadInput(f"{len(x)} training examples are too few to compare pictures by; at least 8 are needed")
    return x


def _flat(x: Tensor) -> Features:
    return np.asarray(x.detach().cpu().flatten(1).double().numpy())


def _in_parts(features: Callable[[Tensor], Features], x: Tensor, at_once: int = 250) -> Features:
    return np.concatenate([features(x[i : i + at_once]) for i in range(0, len(x), at_once)])


def _digest(name: str, *arrays: NDArray[np.floating]) -> str:
    """Of what an extractor was made from, to three digits: its weights follow from it, but their last bits differ
    between machines."""
    digest = blake2b(name.encode(), digest_size=6)
    for array in arrays:
        digest.update(np.round(array * 1024).astype("<i4").tobytes())
    return digest.hexdigest()
