"""Codecs lose nothing, and know by how much they stretch."""

import json
import math

import pytest
import torch

from reverie.core.errors import BadInput
from reverie.data.codecs import Binarised, Bits, Bytes, Standard, codec_from_json

EVERY_BYTE = torch.arange(256, dtype=torch.uint8).view(4, 64)
CODECS = [Bytes(), Bits(), Binarised(), Standard((1.5, -2.0), (0.3, 40.0)), Standard((0.1,), (1 / 3,))]


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
    ],
    ids=str,
)  # fmt: skip
def test_anything_else_is_refused(values):
    with pytest.raises(BadInput, match="unknown codec"):
        codec_from_json(values)
