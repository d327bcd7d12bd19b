"""Codecs lose nothing, and know by how much they stretch."""

import json
import math

import pytest
import torch

from reverie.core.errors import BadInput
from reverie.core.space import Column, Space
from reverie.data.codecs import Binarised, Bits, Bytes, Counts, Standard, Table, codec_from_json

EVERY_BYTE = torch.arange(256, dtype=torch.uint8).view(4, 64)
COLUMNS = (Column("a", "real"), Column("n", "count"), Column("c", "category", 3), Column("b", "real"))
TABLE = Table(COLUMNS, ((), (), ("x", "y", "z"), ()), (5.0, 0.0, 0.0, -1e9), (0.25, 1.0, 1.0, 3.0))
CODECS = [
    Bytes(), Bits(), Binarised(), Standard((1.5, -2.0), (0.3, 40.0)), Standard((0.1,), (1 / 3,)), Counts(), TABLE,
]  # fmt: skip


def test_every_byte_comes_back_and_lies_on_the_lattice():
    x = Bytes().to_model(EVERY_BYTE)
    assert torch.equal(Bytes().to_world(x), EVERY_BYTE)
    assert torch.allclose(x.flatten(), torch.arange(256) / 127.5 - 1, atol=1e-7)
    assert torch.equal(Bytes().to_world(torch.tensor([[-9.0, 9.0]])), torch.tensor([[0, 255]], dtype=torch.uint8))


def test_what_is_given_is_not_changed():
    raw = EVERY_BYTE.clone()
    real = torch.randn(5, 2)
    kept = real.clone()
    for codec in CODECS[:3]:
        codec.to_model(raw)
    CODECS[3].to_model(real)
    assert torch.equal(raw, EVERY_BYTE)
    assert torch.equal(real, kept)


def test_bits_come_back():
    raw = torch.tensor([[0, 1, 1]], dtype=torch.uint8)
    assert torch.equal(Bits().to_world(Bits().to_model(raw)), raw)


def test_coins_fall_with_the_probability_of_the_byte():
    raw = torch.tensor([[0, 51, 204, 255]], dtype=torch.uint8).expand(20_000, -1)
    x = Binarised().to_model(raw)
    assert set(x.unique().tolist()) == {0.0, 1.0}
    error = 5 * math.sqrt(0.2 * 0.8 / 20_000)
    assert torch.allclose(x.mean(0), torch.tensor([0.0, 0.2, 0.8, 1.0]), atol=error)
    assert x.mean(0)[0] == 0
    assert x.mean(0)[3] == 1
    assert not torch.equal(x, Binarised().to_model(raw))  # thrown anew at every look


def test_real_numbers_come_back():
    codec = Standard((1e6, -2.0), (0.3, 40.0))
    raw = torch.tensor([[1e6 + 0.25, 5.0], [1e6 - 1.0, -80.0]])
    assert torch.equal(codec.to_world(codec.to_model(raw)), raw)  # also far from zero, where 32 bits would not do
    assert torch.allclose(codec.to_model(raw)[:, 0], torch.tensor([0.25 / 0.3, -1 / 0.3]))


@pytest.mark.parametrize(("codec", "shape"), [(CODECS[3], (2,)), (CODECS[3], (3, 2)), (CODECS[4], (1, 2, 3))], ids=str)
def test_log_abs_det_is_that_of_the_jacobian(codec, shape):
    raw = torch.randn(3, *shape)
    for one, told in zip(raw, codec.log_abs_det(raw), strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda r: codec.to_model(r[None]).flatten(), one)
        truth = torch.linalg.slogdet(jacobian.reshape(one.numel(), one.numel()).double())[1]
        assert told.item() == pytest.approx(truth.item(), abs=1e-5)


def test_log_abs_det_carries_a_density_over():
    """Over what was measured, log p(world) = log p(model) + log|det|: of normal columns both sides are known."""
    raw = torch.tensor([[5.5, 3, 2, -1e9 + 4], [math.nan, 3, 2, -1e9], [math.nan, 0, math.nan, math.nan]]).double()
    x = TABLE.to_model(raw)
    assert torch.equal(x.isnan(), raw.isnan())
    real = [0, 3]
    world = torch.distributions.Normal(torch.tensor([5.0, -1e9]).double(), torch.tensor([0.25, 3.0]).double(), False)
    unit = torch.distributions.Normal(0.0, 1.0, False)
    truth = world.log_prob(raw[:, real]).nansum(1)
    assert torch.allclose(unit.log_prob(x[:, real].double()).nansum(1) + TABLE.log_abs_det(raw), truth, atol=1e-5)
    assert truth[2] == 0


def test_standard_counts_only_what_was_measured():
    raw = torch.tensor([[1.0, math.nan], [1.0, 2.0]])
    expected = [-math.log(0.3), -math.log(0.3) - math.log(40.0)]
    assert CODECS[3].log_abs_det(raw).tolist() == pytest.approx(expected, abs=1e-6)
    assert torch.equal(CODECS[3].to_model(raw).isnan(), raw.isnan())


def test_rows_of_a_table_come_back_and_lie_where_they_can():
    raw = torch.tensor([[5.125, 7.0, 2.0, -1e9 + 4.5], [0.0, 2.0**24 - 1, 0.0, 0.0]], dtype=torch.float64)
    x = TABLE.to_model(raw)
    assert x.dtype == torch.float32
    assert torch.equal(x[:, 1:3], raw[:, 1:3].float())
    assert torch.allclose(TABLE.to_world(x), raw, rtol=0, atol=1e-6 * 1e9 / 3)
    assert torch.equal(TABLE.to_world(x)[0], raw[0])
    wild = torch.tensor([[0.0, -3.0, 7.7, 0.0], [0.0, 1e30, -2.0, 0.0], [0.0, 2.4, 1.6, 0.0]])
    assert TABLE.to_world(wild)[:, 1:3].tolist() == [[0.0, 2.0], [2.0**24 - 1, 0.0], [2.0, 2.0]]


def test_counts_come_back():
    raw = torch.tensor([[0, 1, 2**24 - 1]], dtype=torch.int32)
    assert torch.equal(Counts().to_world(Counts().to_model(raw)), raw)
    assert torch.equal(Counts().to_world(torch.tensor([[-0.6, 1e12]])), torch.tensor([[0, 2**24 - 1]]).int())
    assert torch.equal(Counts().log_abs_det(raw), torch.zeros(1))


def test_a_table_of_real_columns_alone_is_of_real_points():
    assert TABLE.space == Space((4,), "mixed", COLUMNS)
    assert Table(COLUMNS[:1], ((),), (0.0,), (1.0,)).space == Space((1,), "real")


@pytest.mark.parametrize("codec", CODECS[:3], ids=str)
def test_a_mass_is_not_stretched(codec):
    assert torch.equal(codec.log_abs_det(EVERY_BYTE), torch.zeros(4))


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_json_there_and_back(codec):
    assert codec_from_json(json.loads(json.dumps(codec.to_json()))) == codec


@pytest.mark.parametrize(
    "values",
    [
        None, [], "bytes", {}, {"codec": "bits!"}, {"codec": "standard"},
        {"codec": "standard", "mean": [], "scale": []},
        {"codec": "standard", "mean": [0.0], "scale": [0.0]},
        {"codec": "standard", "mean": [0.0], "scale": [1.0, 1.0]},
        {"codec": "standard", "mean": ["0"], "scale": [1.0]},
        {"codec": "standard", "mean": [0.0], "scale": [True]},
        {"codec": "standard", "mean": [float("nan")], "scale": [1.0]},
        {"codec": "standard", "mean": [0.0], "scale": [float("inf")]},
        {"codec": "standard", "mean": [0.0], "scale": [float("nan")]},
        {"codec": "bytes", "more": 1},
        {"codec": "table"},
        {"codec": "table", "columns": []},
        {"codec": "table", "columns": [["a", "real", [], 0.0, 1.0]], "more": 1},
        {"codec": "table", "columns": [["a", "real", [], 0.0, 1.0], ["a", "count", [], 0.0, 1.0]]},
        {"codec": "table", "columns": [["a", "real", [], 0.0]]},
        {"codec": "table", "columns": [["a", "real", ["x"], 0.0, 1.0]]},
        {"codec": "table", "columns": [["a", "real", [], 0.0, 0.0]]},
        {"codec": "table", "columns": [["a", "real", [], 0.0, -1.0]]},
        {"codec": "table", "columns": [["a", "real", [], float("nan"), 1.0]]},
        {"codec": "table", "columns": [["a", "real", [], 0.0, True]]},
        {"codec": "table", "columns": [["a", "real", [], 10**400, 1.0]]},
        {"codec": "table", "columns": [["a", "count", [], 1.0, 1.0]]},
        {"codec": "table", "columns": [["a", "category", [], 0.0, 1.0]]},
        {"codec": "table", "columns": [["a", "category", ["x", "x"], 0.0, 1.0]]},
        {"codec": "table", "columns": [["a", "category", [1, 2], 0.0, 1.0]]},
        {"codec": "table", "columns": [["a", "category", "xy", 0.0, 1.0]]},
        {"codec": "table", "columns": [["a", "word", ["x"], 0.0, 1.0]]},
        {"codec": "table", "columns": [[1, "real", [], 0.0, 1.0]]},
    ],
    ids=str,
)  # fmt: skip
def test_anything_else_is_refused(values):
    with pytest.raises(BadInput, match="unknown codec"):
        codec_from_json(values)
