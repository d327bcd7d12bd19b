"""What a set of examples is to the rest of the house: three splits, a space, a codec, and batches without end."""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from reverie.core.errors import BadInput
from reverie.core.model import Batch
from reverie.core.recipe import TrainingConfig
from reverie.core.space import Space
from reverie.data.augment import augment
from reverie.data.codecs import Codec

WINDOW = 16 * 2**20  # bytes of a file that are in memory at a time, twice (one in use, one being read)
BLOCK = 64  # rows that are read together; fewer where a window does not hold as many


def without_holes(x: Tensor) -> tuple[Tensor, Tensor]:
    """x with 0 where it was NaN, and `observed` (bool, same shape): True where it was not.

    >>> without_holes(torch.tensor([1.0, torch.nan]))
    (tensor([1., 0.]), tensor([ True, False]))
    """
    observed = ~x.isnan()
    return torch.where(observed, x, 0.0), observed


class Split:
    """Some rows of a source, in world units: of an array in memory, or of an .npy file that is read in pieces.

    Rows lie in the order of the hash of their content, so that any run of them is a fair sample. In rows of real
    numbers NaN is what was not measured.
    """

    def __init__(self, source: np.ndarray | Path, start: int, stop: int, labels: np.ndarray | None = None):
        self.source, self.start, self.stop = source, start, stop
        self.labels = None if labels is None else torch.from_numpy(np.ascontiguousarray(labels, dtype=np.int64))
        self.groups: np.ndarray | None = None  # who is on the picture, where the split was made by that; (n,) or None
        self.codec: Codec  # set by Data

    def __len__(self) -> int:
        return self.stop - self.start

    def raw(self, rows: slice | Sequence[int] | np.ndarray | None = None) -> Tensor:
        """(n, *shape) world units: all rows, a slice of them, or those of the given numbers."""
        array = self._open()
        if rows is None or isinstance(rows, slice):
            return torch.from_numpy(np.array(array[self.start : self.stop][rows or slice(None)]))
        return torch.from_numpy(np.array(array[np.asarray(rows) + self.start]))

    def x(self, limit: int | None = None) -> Tensor:
        """(n, *shape) model units, of the first `limit` rows, 0 where nothing was measured; the same ones every time,
        also where a codec draws."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)  # torch.manual_seed would reach the devices too
            x = self.codec.to_model(self.raw(slice(0, limit)))
        return without_holes(x)[0] if self.holes else x

    def observed(self, limit: int | None = None) -> Tensor | None:
        """(n, *shape) bool, of the first `limit` rows, True = measured; None where the split has no holes."""
        return ~self.raw(slice(0, limit)).isnan() if self.holes else None

    @cached_property
    def holes(self) -> bool:
        """Is there an entry, in any row, that was not measured?"""
        parts = range(0, len(self) if self._open().dtype.kind == "f" else 0, 4096)
        return any(bool(self.raw(slice(i, i + 4096)).isnan().any()) for i in parts)

    @property
    def in_memory(self) -> bool:
        return isinstance(self.source, np.ndarray) or self.nbytes <= WINDOW

    @property
    def nbytes(self) -> int:
        array = self._open()
        return len(self) * array.itemsize * int(np.prod(array.shape[1:]))

    def _open(self) -> np.ndarray:
        # Mapped anew each time: pages that were touched go back when the map is dropped.
        if isinstance(self.source, Path):
            return np.load(self.source, mmap_mode="r", allow_pickle=False)
        return self.source

    def windows(self, seed: int, epoch: int) -> list[np.ndarray]:
        """The rows of an epoch in their order, cut into runs that fit into memory; from seed and epoch alone."""
        rng = np.random.default_rng([seed, epoch])
        if self.in_memory:
            return [rng.permutation(len(self))]
        held = max(1, WINDOW * len(self) // self.nbytes)  # rows of a window
        block = min(BLOCK, held)
        blocks = rng.permutation(-(-len(self) // block))
        at_once = held // block
        windows = []
        for i in range(0, len(blocks), at_once):
            rows = (blocks[i : i + at_once, None] * block + np.arange(block)).ravel()
            windows.append(rng.permutation(rows[rows < len(self)]))
        return windows


@dataclass
class Data:
    """A set of examples, opened. Made by `open_data`.

    >>> from reverie.data import open_data
    >>> data = open_data("kirby", count=100)
    >>> next(data.batches(4, seed=0)).x.shape
    torch.Size([4, 1, 3, 3])
    """

    name: str
    space: Space
    codec: Codec
    train: Split
    valid: Split
    test: Split
    spec: dict[str, Any]  # open_data(**spec) opens the same data again
    classes: tuple[str, ...] = ()  # what the labels are called
    skipped: tuple[tuple[str, str], ...] = ()  # files that could not be used, and why
    mirror: bool = False  # is a picture flipped left to right as likely as the picture?
    support: Tensor | None = None  # (S, *shape) every possible example, world units, where a toy world has few
    probability: Tensor | None = None  # (S,) of each
    entropy: float | None = None  # nats per example, where it is known
    factors: np.ndarray | None = None  # (N, F) the true causes of each training example, where they are known
    factor_names: tuple[str, ...] = ()
    fingerprint: str = field(default="")

    def __post_init__(self) -> None:
        for split in (self.train, self.valid, self.test):
            split.codec = self.codec
        if not self.fingerprint:
            self.fingerprint = self._fingerprint()

    def _fingerprint(self) -> str:
        digest = hashlib.blake2b(repr((self.space, self.codec)).encode(), digest_size=16)
        for split in (self.train, self.valid, self.test):
            digest.update(f"split {len(split)}".encode())
            for i in range(0, len(split), 4096):
                digest.update(np.ascontiguousarray(split.raw(slice(i, i + 4096)).numpy()).tobytes())
            if split.labels is not None:
                digest.update(split.labels.numpy().tobytes())
        return digest.hexdigest()

    def of_label(self, label: int) -> "Data":
        """The same data, of whose training examples only those of one label are left; BadInput where there are none."""
        if self.train.labels is None:
            raise BadInput(f"{self.name} has no labels; a machine for each class needs them")
        rows = np.flatnonzero(self.train.labels.numpy() == label)
        if not len(rows):
            raise BadInput(
                f"{self.name} has no training example of class {self.classes[label]!r}; leave that class out"
            )
        train = Split(self.train.raw(rows).numpy(), 0, len(rows), self.train.labels.numpy()[rows])
        return replace(self, train=train)

    def batches(
        self,
        size: int,
        seed: int,
        start: int = 0,
        config: TrainingConfig | None = None,
        rank: int = 0,
        world: int = 1,
        device: str = "cpu",
    ) -> Iterator[Batch]:
        """Training batches without end, from batch number `start`: (B, *shape) in model units on `device`.

        Batch t holds places t*size … (t+1)*size - 1 of the epochs laid end to end, each epoch in an order of
        its own, so none is ragged. Of `world` processes each takes its share of every batch. With a `config`,
        pictures are augmented as it says, with torch's own random numbers at the time a batch is taken.
        `observed` is given with every batch, or, where the training examples have no holes, with none.
        """
        if size < world or size % world:
            raise BadInput(f"a batch of {size} cannot be shared by {world} processes; make it a multiple of {world}")
        if not len(self.train):
            raise BadInput(f"{self.name} has no training examples")
        share = size // world
        picture = config is not None and self.space.is_picture
        labels = None if self.train.labels is None else self.train.labels.to(device)
        for raw, rows in self._rows(size, seed, start, rank * share, share, device):
            x = self.codec.to_model(raw)
            if picture and config is not None:
                x = augment(x, config, self.space.kind)
            x, observed = without_holes(x) if self.train.holes else (x, None)
            yield Batch(x, observed, None if labels is None else labels.index_select(0, rows))

    def _rows(
        self, size: int, seed: int, start: int, offset: int, share: int, device: str
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """(share, *shape) world units and their row numbers, batch after batch."""
        held: list[tuple[Tensor, Tensor]] = []  # parts of a batch that spans windows
        waiting = 0
        mine = slice(offset, offset + share)
        for buffer, order, names in self._pieces(seed, start * size, device):
            at = 0
            while at < len(order):
                take = min(size - waiting, len(order) - at)
                part, named = order[at : at + take], names[at : at + take]
                at += take
                if take == size:
                    yield buffer.index_select(0, part[mine]), named[mine]
                    continue
                held.append((buffer.index_select(0, part), named))
                waiting += take
                if waiting == size:
                    raw, rows = (torch.cat(column) for column in zip(*held, strict=True))
                    yield raw[mine], rows[mine]
                    held, waiting = [], 0

    def _orders(self, seed: int, place: int) -> Iterator[np.ndarray]:
        """Row numbers of the epochs laid end to end, from `place` on, window by window."""
        epoch, skip = divmod(place, len(self.train))
        while True:
            for rows in self.train.windows(seed, epoch):
                if skip < len(rows):
                    yield rows[skip:]
                skip = max(skip - len(rows), 0)
            epoch += 1

    def _pieces(self, seed: int, place: int, device: str) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Windows without end: rows in memory (R, *shape), the order in which to take them, their numbers."""
        if self.train.in_memory:
            whole = self.train.raw().to(device)
            for rows in self._orders(seed, place):
                order = torch.from_numpy(rows).to(device)
                yield whole, order, order

        def read(rows: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
            ordered = np.sort(rows)  # read forwards, shuffle in memory
            return (
                self.train.raw(ordered).to(device),
                torch.from_numpy(np.searchsorted(ordered, rows)).to(device),
                torch.from_numpy(rows).to(device),
            )

        with ThreadPoolExecutor(1) as reader:
            coming: Future[tuple[Tensor, Tensor, Tensor]] | None = None
            for rows in self._orders(seed, place):
                ready, coming = coming, reader.submit(read, rows)
                if ready is not None:
                    yield ready.result()


def content_hash(content: bytes) -> int:
    """64 bits that decide the place of a row and its split: nothing but its content does."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def split_by_content(hashes: np.ndarray, groups: Sequence[str] | None = None) -> tuple[np.ndarray, tuple[int, int]]:
    """The order of the rows, and where in it validation and test begin: shares of about 80, 10 and 10.

    `hashes` (n,) uint64. Rows that share a group, or are copies of each other, stay on one side. Neither the order nor
    the names of files matter.
    """
    n = len(hashes)
    if n < 3:
        raise BadInput(f"{n} usable examples are too few; at least 3 are needed to train, validate and test")
    side = np.unique(hashes, return_inverse=True)[1]  # (n,) which rows stay together
    if groups is not None:
        who = np.unique(groups, return_inverse=True)[1]
        links = coo_matrix((np.ones(n), (side, who + n)), (2 * n, 2 * n))  # contents and groups that share a row
        side = np.unique(connected_components(links, directed=False)[1][side], return_inverse=True)[1]
    # Those together are known by what is in them, not by a name.
    lists = np.split(hashes[np.lexsort((hashes, side))], np.cumsum(np.bincount(side))[:-1])
    ranked = np.argsort(np.array([content_hash(rows.tobytes()) for rows in lists], np.uint64))
    if len(ranked) < 3:
        raise BadInput(
            f"only {len(ranked)} different examples or groups; at least 3 are needed to train, validate and test"
        )
    ends = np.cumsum([len(lists[i]) for i in ranked])
    first = min(int(np.searchsorted(ends, 0.8 * n - 0.5)), len(ranked) - 3)
    second = min(max(int(np.searchsorted(ends, 0.9 * n - 0.5)), first + 1), len(ranked) - 2)
    place = np.empty(len(ranked), np.int64)
    place[ranked] = np.arange(len(ranked))
    part = np.searchsorted([first, second], place[side])  # 0 train, 1 valid, 2 test
    # Within each split by the hash of the row, so that a run of rows is a fair sample of it.
    return np.lexsort((hashes, part)), (int(ends[first]), int(ends[second]))


def splits(
    source: np.ndarray | Path, cuts: tuple[int, int], n: int, labels: np.ndarray | None
) -> tuple[Split, Split, Split]:
    """Train, valid and test of rows that lie in order already."""
    edges = (0, *cuts, n)
    made = [Split(source, a, b, None if labels is None else labels[a:b]) for a, b in itertools.pairwise(edges)]
    return made[0], made[1], made[2]
