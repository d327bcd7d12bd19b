from dataclasses import dataclass
from typing import Literal

import pytest

from reverie.core.config import check, from_json, knob, to_json
from reverie.core.errors import BadInput


@dataclass(frozen=True)
class Config:
    latent: int = knob(64, "size of z", low=1, high=1000)
    rate: float = knob(1e-3, "learning rate", low=0.0)
    net: Literal["mlp", "conv"] = knob("mlp", "kind of network")
    size: tuple[int, int] | None = knob(None, "height and width")
    mirror: bool = knob(False, "flip")


def test_json_round_trip_is_exact():
    config = Config(latent=3, rate=0.5, net="conv", size=(4, 5), mirror=True)
    assert from_json(Config, to_json(config)) == config
    assert from_json(Config, {}) == Config()


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"latent": 0}, "below"),
        ({"latent": 1001}, "above"),
        ({"latent": 2.5}, "whole number"),
        ({"latent": True}, "whole number"),
        ({"rate": "x"}, "a number"),
        ({"rate": float("nan")}, "below"),
        ({"net": "rnn"}, "one of"),
        ({"size": [1, 2, 3]}, "size"),
        ({"latnt": 3}, "no setting"),
        ({"mirror": 1}, "true or false"),
        ([], "table"),
    ],
)
def test_bad_values_are_refused_in_one_line_that_names_them(values, word):
    with pytest.raises(BadInput, match=word) as caught:
        from_json(Config, values)
    assert "\n" not in str(caught.value)


def test_whole_numbers_pass_for_floats():
    assert check(Config(rate=1)).rate == 1
