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
from torch import Tensor

from reverie.core.errors import BadInput
from reverie.core.model import Batch
from reverie.core.recipe import TrainingConfig
from reverie.core.space import Space
from reverie.data.augment import augment
from reverie.data.codecs import Codec
from reverie.data.windows import Trial, Windows

WINDOW = 16 * 2**20  # bytes of a file that are in memory at a time, twice (one in use, one being read)
BLOCK = 64  # rows that are read together; fewer where a portion does not hold as many


def without_holes(x: Tensor) -> tuple[Tensor, Tensor]:
    """x with 0 where it was NaN, and `observed` (bool, same shape): True where it was not.

    >>> without_holes(torch.tensor([1.0, torch.nan]))
    (tensor([1., 0.]), tensor([ True, False]))
    """
    observed = ~x.isnan()
    return torch.where(observed, x, 0.0), observed


class Split:
    """Some rows of a source, in world units: of an array in memory, of an .npy file that is read in pieces, or
    the windows of a recording.

    Rows lie in the order of the hash of their content, or shuffled, so that any run of them is a fair sample. In rows
    of real numbers NaN is what was not measured.
    """

    trials: tuple[Trial, ...] = ()  # of a recording: what the windows were cut from, whole
    inputs: Windows | None = None  # of a recording: (n, T, K) what acted from outside, window by window

    def __init__(self, source: np.ndarray | Path | Windows, start: int, stop: int, labels: np.ndarray | None = None):
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
        return self._shown(slice(0, limit), 0)

    def parts(self, size: int) -> Iterator[Tensor]:
        """`x`, so many rows at a time, for what need not have all of them in memory; a codec that draws has other draws than there."""
        for start in range(0, len(self), size):
            yield self._shown(slice(start, start + size), start)

    def _shown(self, rows: slice, seed: int) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach the devices too
            x = self.codec.to_model(self.raw(rows))
        return without_holes(x)[0] if self.holes else x

    def observed(self, limit: int | None = None) -> Tensor | None:
        """(n, *shape) bool, of the first `limit` rows, True = measured; None where the split has no holes."""
        return ~self.raw(slice(0, limit)).isnan() if self.holes else None

    def batch(self, limit: int | None = None) -> Batch:
        """The first `limit` rows as a model sees them."""
        x, n = self.x(limit), slice(0, limit)
        inputs = None if self.inputs is None else torch.from_numpy(np.asarray(self.inputs[n]))
        return Batch(x, self.observed(limit), None if self.labels is None else self.labels[n], inputs)

    @cached_property
    def holes(self) -> bool:
        """Is there an entry, in any row, that was not measured?"""
        if isinstance(self.source, Windows):
            return self.source.holes
        parts = range(0, len(self) if self._open().dtype.kind == "f" else 0, 4096)
        return any(bool(self.raw(slice(i, i + 4096)).isnan().any()) for i in parts)

    def only(self, rows: np.ndarray) -> "Split":
        """Those rows alone, in memory."""
        part = Split(self.raw(rows).numpy(), 0, len(rows), None if self.labels is None else self.labels.numpy()[rows])
        part.inputs = None if self.inputs is None else self.inputs[rows]
        return part

    @property
    def in_memory(self) -> bool:
        return not isinstance(self.source, Path) or self.nbytes <= WINDOW

    def held(self, device: str) -> tuple[Tensor, Tensor]:
        """Rows in memory on `device` (R, *shape), and where among them each row of the split lies (n,)."""
        if isinstance(self.source, Windows):
            return self.source[self.start : self.stop].held(device)
        return self.raw().to(device), torch.arange(len(self), device=device)

    @property
    def nbytes(self) -> int:
        array = self._open()
        return len(self) * array.itemsize * int(np.prod(array.shape[1:]))

    def _open(self) -> Any:
        # Mapped anew each time: pages that were touched go back when the map is dropped.
        if isinstance(self.source, Path):
            return np.load(self.source, mmap_mode="r", allow_pickle=False)
        return self.source

    def portions(self, seed: int, epoch: int) -> list[np.ndarray]:
        """The rows of an epoch in their order, cut into portions that fit into memory; from seed and epoch alone."""
        rng = np.random.default_rng([seed, epoch])
        if self.in_memory:
            return [rng.permutation(len(self))]
        held = max(1, WINDOW * len(self) // self.nbytes)  # rows of a portion
        block = min(BLOCK, held)
        blocks = rng.permutation(-(-len(self) // block))
        at_once = held // block
        portions = []
        for i in range(0, len(blocks), at_once):
            rows = (blocks[i : i + at_once, None] * block + np.arange(block)).ravel()
            portions.append(rng.permutation(rows[rows < len(self)]))
        return portions


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
    channels: tuple[str, ...] = ()  # of a recording in a table: what its columns are called
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
        """The same data, of whose training and validation examples only those of one label are left; BadInput where there is none
        to train on."""
        if self.train.labels is None:
            raise BadInput(f"{self.name} has no labels; a machine for each class needs them")
        rows = np.flatnonzero(self.train.labels.numpy() == label)
        if not len(rows):
            raise BadInput(
                f"{self.name} has no training example of class {self.classes[label]!r}; leave that class out"
            )
        valid = None if self.valid.labels is None else np.flatnonzero(self.valid.labels.numpy() == label)
        return replace(self, train=self.train.only(rows), valid=self.valid if valid is None else self.valid.only(valid))

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
            yield Batch(x, observed, None if labels is None else labels.index_select(0, rows), self._inputs(rows))

    def _inputs(self, rows: Tensor) -> Tensor | None:
        if (inputs := self.train.inputs) is None:
            return None
        return torch.from_numpy(np.asarray(inputs[rows.cpu().numpy()])).to(rows.device)

    def held(self, n: int, config: TrainingConfig | None = None, device: str = "cpu") -> Batch:
        """n validation examples, drawn and treated as those of `batches` are, with torch's own random numbers."""
        rows = torch.randint(len(self.valid), (n,))
        x = self.codec.to_model(self.valid.raw(rows.numpy()).to(device))
        if config is not None and self.space.is_picture:
            x = augment(x, config, self.space.kind)
        x, observed = without_holes(x) if self.valid.holes else (x, None)
        return Batch(x, observed, None if self.valid.labels is None else self.valid.labels[rows].to(device))

    def _rows(
        self, size: int, seed: int, start: int, offset: int, share: int, device: str
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """(share, *shape) world units and their row numbers, batch after batch."""
        held: list[tuple[Tensor, Tensor]] = []  # parts of a batch that spans portions
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
        """Row numbers of the epochs laid end to end, from `place` on, portion by portion."""
        epoch, skip = divmod(place, len(self.train))
        while True:
            for rows in self.train.portions(seed, epoch):
                if skip < len(rows):
                    yield rows[skip:]
                skip = max(skip - len(rows), 0)
            epoch += 1

    def _pieces(self, seed: int, place: int, device: str) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Portions without end: rows in memory (R, *shape), where among them those to take lie, their numbers."""
        if self.train.in_memory:
            whole, places = self.train.held(device)
            for rows in self._orders(seed, place):
                names = torch.from_numpy(rows).to(device)
                yield whole, places[names], names

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


def splits(
    source: np.ndarray | Path, cuts: tuple[int, int], n: int, labels: np.ndarray | None
) -> tuple[Split, Split, Split]:
    """Train, valid and test of rows that lie in order already."""
    edges = (0, *cuts, n)
    made = [Split(source, a, b, None if labels is None else labels[a:b]) for a, b in itertools.pairwise(edges)]
    return made[0], made[1], made[2]
