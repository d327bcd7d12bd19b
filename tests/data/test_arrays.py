"""Arrays in files: what is meant by each shape, and one clear line for what is none."""

import io
import json
import zipfile

import numpy as np
import pytest
import torch

from reverie.core.errors import BadInput
from reverie.data import open_data
from reverie.data.codecs import Bits, Bytes, Counts, Standard

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (30, 6, 4), np.uint8)


def opened(tmp_path, array, name="a.npy", **options):
    np.save(tmp_path / name, array) if name.endswith(".npy") else np.savez(tmp_path / name, **array)
    return open_data(tmp_path / name, **options)


def every(data):
    return torch.cat([split.raw() for split in (data.train, data.valid, data.test)])


@pytest.mark.parametrize(
    ("array", "shape", "kind"),
    [
        (PICTURES, (1, 6, 4), "byte"),
        (PICTURES.astype(np.int64), (1, 6, 4), "byte"),
        (PICTURES[:, None], (1, 6, 4), "byte"),
        (PICTURES[..., None].repeat(3, -1), (3, 6, 4), "byte"),
        (PICTURES > 100, (1, 6, 4), "bit"),
        ((PICTURES > 100).astype(np.int32).reshape(30, 24), (24,), "bit"),
        (PICTURES.reshape(30, 24).astype(np.int64) * 300, (24,), "count"),
        (RNG.normal(size=(30, 5)), (5,), "real"),
        (RNG.normal(size=(30, 6, 4)).astype(np.float16), (1, 6, 4), "real"),
    ],
    ids=lambda v: str(getattr(v, "shape", v)),
)
def test_what_a_shape_means(tmp_path, array, shape, kind):
    data = opened(tmp_path, array)
    assert data.space.shape == shape
    assert data.space.kind == kind
    assert type(data.codec) is {"byte": Bytes, "bit": Bits, "real": Standard, "count": Counts}[kind]
    assert [len(s) for s in (data.train, data.valid, data.test)] == [24, 3, 3]
    if array.shape[-1] == 3:
        array = array.transpose(0, 3, 1, 2)
    seen = every(data).flatten(1).double().numpy()
    wanted = array.reshape(30, -1).astype(np.float32).astype(np.float64)
    assert np.array_equal(seen[np.lexsort(seen.T)], wanted[np.lexsort(wanted.T)])


def test_real_numbers_are_standard_over_the_training_part(tmp_path):
    array = RNG.normal(3, [1, 10, 0], (500, 3))
    data = opened(tmp_path, array)
    x = data.train.x()
    assert torch.allclose(x.mean(0), torch.zeros(3), atol=1e-5)
    assert torch.allclose(x.std(0, correction=0), torch.tensor([1.0, 1.0, 0.0]), atol=1e-5)
    assert torch.allclose(data.codec.to_world(data.test.x()), data.test.raw(), atol=1e-5)


def holed(array, seed=1, share=0.2):
    return np.where(np.random.default_rng(seed).random(array.shape) < share, np.nan, array)


def test_nan_is_what_was_not_measured(tmp_path):
    array = holed(RNG.normal(3, [1, 10, 5], (400, 3)))
    data = opened(tmp_path, array)
    raw, x, observed = data.train.raw(), data.train.x(), data.train.observed()
    assert torch.equal(raw.isnan(), ~observed)
    assert observed.double().mean() == pytest.approx(0.8, abs=0.05)
    assert torch.equal(x == 0, ~observed)  # and nothing else is exactly the mean
    for j in range(3):  # standard over what was measured
        seen = x[:, j][observed[:, j]].double()
        assert seen.mean().item() == pytest.approx(0, abs=1e-6)
        assert seen.std(correction=0).item() == pytest.approx(1, abs=1e-6)
    back = data.codec.to_world(x)[observed]
    assert torch.allclose(back, raw[observed], atol=1e-5)
    wanted = array.astype(np.float32)
    seen = np.nan_to_num(every(data).numpy(), nan=-999.0)
    wanted = np.nan_to_num(wanted, nan=-999.0)
    assert np.array_equal(seen[np.lexsort(seen.T)], wanted[np.lexsort(wanted.T)])
    assert torch.equal(data.valid.observed(2), ~data.valid.raw(slice(0, 2)).isnan())


def test_every_nan_is_the_same(tmp_path):
    array = holed(RNG.normal(size=(50, 3))).astype(np.float32)
    first = opened(tmp_path, array)
    odd = array.copy()
    odd.view(np.uint32)[np.isnan(array)] = 0xFFC12345  # also not a number
    assert odd.tobytes() != array.tobytes()
    other = opened(tmp_path, odd, "b.npy")
    assert other.fingerprint == first.fingerprint
    assert other.train.raw().numpy().tobytes() == first.train.raw().numpy().tobytes()


def test_the_order_of_the_rows_does_not_matter(tmp_path):
    a = opened(tmp_path, PICTURES)
    b = opened(tmp_path, PICTURES[::-1])
    assert a.fingerprint == b.fingerprint
    for one, other in ((a.train, b.train), (a.valid, b.valid), (a.test, b.test)):
        assert torch.equal(one.raw(), other.raw())


@pytest.mark.parametrize("binarise", ["no", "static", "dynamic"])
def test_labels_and_coins_go_with_their_rows(tmp_path, binarise):
    x = np.zeros((40, 2, 2), np.uint8)
    x[:, 0, 0] = np.arange(40) + 1
    x[:, 1, 1] = 255 * (np.arange(40) % 2)
    data = opened(tmp_path, {"x": x, "y": np.where(np.arange(40) % 2, "odd", "even")}, "a.npz", binarise=binarise)
    assert data.classes == ("even", "odd")
    for split in (data.train, data.valid, data.test):
        assert torch.equal(split.x()[:, 0, 1, 1] > 0, split.labels == 1)


def test_static_coins_do_not_change_the_split(tmp_path):
    before = opened(tmp_path, PICTURES)
    for seed in (0, 1):
        bits = open_data(tmp_path / "a.npy", binarise="static", seed=seed)
        sure = (before.train.raw() == 255) | (before.train.raw() == 0)
        assert torch.equal(bits.train.raw()[sure], before.train.raw()[sure] // 255)
        again = open_data(**json.loads(json.dumps(bits.spec)))
        assert again.fingerprint == bits.fingerprint


def test_one_array_of_any_name(tmp_path):
    assert opened(tmp_path, {"anything": PICTURES}, "a.npz").space.shape == (1, 6, 4)


def spoiled(array, place, value):
    array = array.astype(np.float64)
    array[place] = value
    return array


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (spoiled(PICTURES, (3, 1, 2), np.inf), r"1 infinite values, the first at \(3, 1, 2\)"),
        (spoiled(PICTURES, (0, 0, 0), -np.inf), "infinite"),
        (spoiled(PICTURES, (0, 0, 0), 1e300), "infinite"),
        (spoiled(PICTURES, (slice(None), 1, 2), np.nan), r"entry \(0, 1, 2\) of an example is measured in no training"),
        (spoiled(RNG.normal(size=(30, 3)), (slice(None), 2), np.nan), r"entry \(2,\) of an example is measured in no"),
        (PICTURES.astype(object), "Python objects"),
        (np.array(["a", "b", "c"]), "not numbers"),
        (PICTURES.astype(complex), "not numbers"),
        (np.zeros((4, 2), "f4,f4"), "not numbers"),
        (PICTURES.astype(np.int64) - 1, "bytes go from 0 to 255"),
        (PICTURES.astype(np.int64) * 2, "bytes go from 0 to 255"),
        (PICTURES.reshape(30, 24).astype(np.int64) - 300, "counts go from 0 to 16777215"),
        (PICTURES.reshape(30, 24).astype(np.int64) * 2**20, "counts go from 0 to 16777215"),
        (np.float32(3), "shape"),
        (np.zeros(9), "shape"),
        (np.zeros((3, 1, 1, 1, 1)), "shape"),
        (np.zeros((2, 4)), "at least 3"),
        (np.zeros((5, 0)), "at least 3"),
        (np.zeros((0, 5)), "at least 3"),
        (np.zeros((9, 5)), "only 1 different"),
    ],
)
def test_what_cannot_be_examples_is_one_line(tmp_path, array, says):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(BadInput, match=says) as caught:
        open_data(tmp_path / "a.npy")
    assert "\n" not in str(caught.value)


class Trap:
    """Unpickled, it would leave a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_nothing_is_ever_unpickled(tmp_path, name):
    array = np.array([Trap(tmp_path / "sprung")] * 3, dtype=object)
    (np.save if name == "a.npy" else np.savez)(tmp_path / name, array)
    with pytest.raises(BadInput, match="Python objects"):
        open_data(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


def whole(npz=False):
    file = io.BytesIO()
    (np.savez_compressed if npz else np.save)(file, PICTURES)
    return file.getvalue()


def enormous():
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (2**60, 8, 8)})
    return file.getvalue() + b"abc"


def flipped():
    """An archive with damage in the middle of its content."""
    content = bytearray(whole(True))
    content[200] ^= 0xFF
    return bytes(content)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.npy", b""), ("a.npy", b"text"), ("a.npy", whole()[:50]), ("a.npy", whole()[:300]), ("a.npy", enormous()),
        ("a.npz", b""), ("a.npz", b"PK\x03\x04"), ("a.npz", whole(True)[:300]), ("a.npz", flipped()),
    ],
)  # fmt: skip
def test_damaged_files_are_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=r"a\.np. ") as caught:
        open_data(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_archives_that_do_not_say_what_is_what(tmp_path):
    with pytest.raises(BadInput, match="name the examples x"):
        opened(tmp_path, {"a": PICTURES, "b": PICTURES}, "a.npz")
    with pytest.raises(BadInput, match="one label for each"):
        opened(tmp_path, {"x": PICTURES, "y": np.zeros(29)}, "a.npz")
    with zipfile.ZipFile(tmp_path / "none.npz", "w"):
        pass
    with pytest.raises(BadInput, match="holds nothing"):
        open_data(tmp_path / "none.npz")


def test_options_that_do_not_apply_are_refused(tmp_path):
    np.save(tmp_path / "real.npy", RNG.normal(size=(9, 2)))
    np.save(tmp_path / "bits.npy", PICTURES > 9)
    np.save(tmp_path / "counts.npy", PICTURES.reshape(30, 24))
    for name in ("real.npy", "bits.npy", "counts.npy"):
        with pytest.raises(BadInput, match="binarise is for bytes"):
            open_data(tmp_path / name, binarise="static")
    for option in ({"size": (8, 8)}, {"fit": "pad"}, {"colour": "grey"}, {"count": 9}):
        with pytest.raises(BadInput, match=f"no use for --data.{next(iter(option))}"):
            open_data(tmp_path / "bits.npy", **option)
