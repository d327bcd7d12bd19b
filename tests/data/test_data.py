"""Splits by content, and batches without end."""

import tracemalloc
from itertools import islice

import numpy as np
import pytest
import torch

from reverie.core.distributions import Gaussian
from reverie.core.errors import BadInput
from reverie.core.recipe import TrainingConfig
from reverie.core.space import Space
from reverie.data import data as room
from reverie.data.codecs import Bytes, Standard
from reverie.data.data import Data, Split
from reverie.data.splitting import content_hash, split_by_content


def hashes(rows):
    return np.array([content_hash(bytes(row)) for row in rows], np.uint64)


def parts(order, cuts, rows):
    return [[rows[i] for i in part] for part in np.split(order, cuts)]


def numbered(n, path=None, labels=None):
    """Data whose row i holds i, in two bytes; in memory, or in a file."""
    rows = np.stack([np.arange(n) // 256, np.arange(n) % 256], 1).astype(np.uint8).reshape(n, 1, 1, 2)
    source = rows
    if path is not None:
        source = path / "rows.npy"
        np.save(source, rows)
    train = Split(source, 0, n, labels)
    return Data("numbered", Space((1, 1, 2), "byte"), Bytes(), train, Split(rows, 0, 1), Split(rows, 0, 1), {})


def numbers(batch):
    raw = Bytes().to_world(batch.x).long().flatten(1)
    return raw[:, 0] * 256 + raw[:, 1]


@pytest.fixture(params=["memory", "small file", "streamed"])
def data(request, tmp_path, monkeypatch):
    if request.param == "streamed":
        monkeypatch.setattr(room, "WINDOW", 64)  # 32 rows
        monkeypatch.setattr(room, "BLOCK", 8)
    made = numbered(103, None if request.param == "memory" else tmp_path, np.arange(103) % 7)
    assert made.train.in_memory == (request.param != "streamed")
    return made


# splits


@pytest.mark.parametrize("n", [3, 4, 10, 57, 1000])
def test_parts_hold_80_10_10_and_everything_once(n):
    rows = [f"{i}".encode() for i in range(n)]
    order, cuts = split_by_content(hashes(rows))
    assert sorted(order) == list(range(n))
    sizes = [len(p) for p in parts(order, cuts, rows)]
    assert min(sizes) >= 1
    assert all(abs(size - share * n) <= 1.5 for size, share in zip(sizes, (0.8, 0.1, 0.1), strict=True))


def test_the_order_of_the_rows_does_not_matter():
    rows = [f"{i % 61}".encode() for i in range(100)]
    shuffled = [rows[i] for i in np.random.default_rng(0).permutation(100)]
    assert parts(*split_by_content(hashes(rows)), rows) == parts(*split_by_content(hashes(shuffled)), shuffled)


def test_copies_never_straddle():
    rows = [f"{i % 23}".encode() for i in range(200)]
    train, valid, test = map(set, parts(*split_by_content(hashes(rows)), rows))
    assert not (train & valid)
    assert not (train & test)
    assert not (valid & test)


def test_the_names_of_groups_do_not_matter():
    rows = [f"{i}".encode() for i in range(90)]
    named = [split_by_content(hashes(rows), [name.format(i // 9) for i in range(90)]) for name in ("a{}", "z{}")]
    backwards = split_by_content(hashes(rows), [f"{9 - i // 9}" for i in range(90)])
    for other in (named[1], backwards):
        assert (other[0] == named[0][0]).all()
        assert other[1] == named[0][1]


def test_groups_never_straddle_nor_do_groups_that_share_a_copy():
    rows = [f"{i}".encode() for i in range(120)]
    groups = [f"person {i // 4}" for i in range(120)]
    for i in range(0, 60, 8):  # persons 0 and 1, 2 and 3, … have a picture in common
        rows[i + 4] = rows[i]
    order, cuts = split_by_content(hashes(rows), groups)
    for told in (rows, groups, [min(i // 8, 7) if i < 60 else 100 + i // 4 for i in range(120)]):
        train, valid, test = map(set, parts(order, cuts, told))
        assert not (train & valid)
        assert not (train & test)
        assert not (valid & test)
    assert sorted(order) == list(range(120))


def test_within_a_part_rows_lie_by_their_hash():
    told = hashes([f"{i}".encode() for i in range(300)])
    order, cuts = split_by_content(told, [str(i % 30) for i in range(300)])
    for part in np.split(told[order], cuts):
        assert (part[:-1] <= part[1:]).all()


def test_too_few_are_refused():
    with pytest.raises(BadInput, match="at least 3"):
        split_by_content(hashes([b"a", b"b"]))
    with pytest.raises(BadInput, match="only 2 different"):
        split_by_content(hashes([b"a", b"b", b"a", b"b"]))
    with pytest.raises(BadInput, match=r"only 1 different"):
        split_by_content(hashes([b"a", b"b", b"c"]), ["one", "one", "one"])


def test_fingerprint_is_of_the_content_and_of_the_cuts():
    rows = np.arange(12, dtype=np.uint8).reshape(12, 1, 1, 1)

    def made(array, cut):
        parts = [Split(array, a, b) for a, b in ((0, cut), (cut, 11), (11, 12))]
        return Data("d", Space((1, 1, 1), "byte"), Bytes(), *parts, {}).fingerprint

    assert made(rows, 9) == made(rows.copy(), 9)
    assert made(rows, 9) != made(rows, 8)
    assert made(rows, 9) != made(rows[::-1], 9)


# batches


def test_each_epoch_takes_every_row_once(data):
    stream = torch.cat([numbers(b) for b in islice(data.batches(10, seed=1), 31)])[: 3 * 103].view(3, 103)
    assert (stream.sort(1).values == torch.arange(103)).all()
    assert not torch.equal(stream[0], stream[1])
    assert not torch.equal(stream[0], torch.arange(103))


@pytest.mark.parametrize("size", [1, 10, 103, 250])
def test_start_is_the_stream_skipped(data, size):
    whole = [numbers(b) for b in islice(data.batches(size, seed=3), 24)]
    assert all(len(b) == size for b in whole)
    for start in (1, 7, 11, 20):
        later = [numbers(b) for b in islice(data.batches(size, seed=3, start=start), 3)]
        assert all(torch.equal(a, b) for a, b in zip(later, whole[start:], strict=False))


def test_labels_go_with_their_rows(data):
    for batch in islice(data.batches(30, seed=0), 8):
        assert torch.equal(batch.given, numbers(batch) % 7)


def test_seed_decides(data):
    first, same, other = (torch.cat([numbers(b) for b in islice(data.batches(9, seed=s), 5)]) for s in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("size", [12, 240])
def test_ranks_together_take_the_batch_of_one(data, size):
    one = data.batches(size, seed=2, start=5)
    shares = [data.batches(size, seed=2, start=5, rank=rank, world=3) for rank in range(3)]
    for _ in range(12):
        together = [numbers(next(share)) for share in shares]
        assert {len(t) for t in together} == {size // 3}
        assert torch.equal(torch.cat(together), numbers(next(one)))


def test_a_batch_that_cannot_be_shared_is_refused(data):
    for size, world in ((10, 3), (1, 2)):
        with pytest.raises(BadInput, match="multiple"):
            next(data.batches(size, seed=0, world=world))


def holed(n):
    rows = np.stack([np.arange(n), np.where(np.arange(n) % 3, np.arange(n), np.nan)], 1).astype(np.float32)
    whole = np.nan_to_num(rows)
    codec = Standard((0.0, 0.0), (1.0, 2.0))
    return Data("holed", Space((2,), "real"), codec, Split(rows, 0, n), Split(whole, 0, 2), Split(rows, 0, 2), {})


def test_batches_say_what_was_observed():
    data = holed(40)
    assert data.train.holes
    assert data.test.holes
    assert not data.valid.holes
    assert data.valid.observed() is None
    assert torch.equal(data.test.observed(), torch.tensor([[True, False], [True, True]]))
    for batch in islice(data.batches(7, seed=0), 12):
        assert torch.equal(batch.observed[:, 0], torch.ones(7, dtype=torch.bool))
        assert torch.equal(batch.observed[:, 1], batch.x[:, 0] % 3 > 0)
        assert torch.equal(batch.x[:, 1], torch.where(batch.observed[:, 1], batch.x[:, 0] / 2, 0.0))
    # One without holes among examples that have them is told the same way.
    singles = [batch.observed for batch in islice(data.batches(1, seed=0), 40)]
    assert sum(bool(o.all()) for o in singles) == 26
    assert next(numbered(5).batches(2, seed=0)).observed is None


def test_no_nan_reaches_a_gradient():
    batch = next(holed(40).batches(40, seed=0))
    loc = torch.zeros(2, requires_grad=True)
    Gaussian(loc, torch.zeros(2)).log_prob(batch.x, batch.observed).sum().backward()
    truth = torch.where(batch.observed, batch.x, 0.0).sum(0)  # d/dm of -(x - m)^2/2 at 0, of what was seen
    assert torch.allclose(loc.grad, truth)


def test_a_streamed_epoch_is_shuffled_beyond_its_windows(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "WINDOW", 1024)  # 512 rows
    monkeypatch.setattr(room, "BLOCK", 16)
    seen = torch.cat([numbers(b) for b in islice(numbered(8192, tmp_path).batches(64, seed=0), 128)])
    # The first window holds rows from all over the file, in an order that has nothing to do with theirs.
    assert seen[:512].float().mean().item() == pytest.approx(4096, abs=4 * 8192 / (12 * 32) ** 0.5)
    neighbours = (seen[1:] - seen[:-1]).abs() == 1
    assert neighbours.float().mean() < 0.02


def test_a_start_late_in_a_streamed_epoch_reads_no_window_before_it(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "WINDOW", 64)
    monkeypatch.setattr(room, "BLOCK", 8)
    data = numbered(1000, tmp_path)
    read = []
    raw = Split.raw
    monkeypatch.setattr(Split, "raw", lambda self, rows=None: read.append(len(rows)) or raw(self, rows))
    batches = data.batches(8, seed=0, start=120)
    next(batches)
    batches.close()
    assert sum(read) <= 3 * 32


def test_a_streamed_epoch_is_never_in_memory_as_a_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "WINDOW", 2**16)
    rows = np.zeros((4096, 1, 32, 32), np.uint8)  # 64 windows
    np.save(tmp_path / "rows.npy", rows)
    train, held = Split(tmp_path / "rows.npy", 0, len(rows)), Split(rows[:1], 0, 1)
    assert not train.in_memory
    data = Data("zeros", Space((1, 32, 32), "byte"), Bytes(), train, held, held, {}, fingerprint="known")
    tracemalloc.start()  # torch's own memory is not traced, but every read goes through numpy
    batches = data.batches(16, seed=0)
    for _ in range(256):
        next(batches)
    batches.close()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 2**16 < peak < 8 * 2**16  # a few windows: one in use, one ready, one being read


@pytest.mark.parametrize(("side", "window"), [(2, 64), (8, 300), (8, 64), (8, 63)])  # 16 rows, 4, 1, not even 1
def test_no_window_is_larger_than_it_may_be(tmp_path, monkeypatch, side, window):
    monkeypatch.setattr(room, "WINDOW", window)
    np.save(tmp_path / "rows.npy", np.zeros((100, 1, side, side), np.uint8))
    split = Split(tmp_path / "rows.npy", 0, 100)
    windows = split.portions(0, 0)
    assert sorted(np.concatenate(windows)) == list(range(100))
    assert max(map(len, windows)) == max(1, window // side**2)


def test_looking_at_held_out_rows_disturbs_no_draw(data):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    data.valid.x()
    assert torch.equal(torch.rand(3), expected)


def test_only_training_batches_are_augmented():
    data = numbered(50)
    plain = next(data.batches(50, seed=0, config=TrainingConfig()))
    mirrored = next(data.batches(50, seed=0, config=TrainingConfig(mirror=True)))
    assert torch.equal(plain.x, next(data.batches(50, seed=0)).x)
    assert not torch.equal(plain.x, mirrored.x)
    assert torch.equal(plain.x.sort(-1).values, mirrored.x.sort(-1).values)
    assert torch.equal(Bytes().to_world(data.train.x()), data.train.raw())


def test_rows_by_slice_and_by_number(data):
    assert torch.equal(data.train.raw()[5:9], data.train.raw(slice(5, 9)))
    assert torch.equal(data.train.raw()[[7, 3, 3]], data.train.raw([7, 3, 3]))
    later = Split(data.train.source, 10, 20)
    assert torch.equal(later.raw([0, 9]), data.train.raw([10, 19]))
    assert torch.equal(later.raw(slice(0, None)), data.train.raw(slice(10, 20)))
    later.raw()[:] = 0  # a copy: what is done to it does nothing to the data
    assert torch.equal(later.raw([0, 9]), data.train.raw([10, 19]))
