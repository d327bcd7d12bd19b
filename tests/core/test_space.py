"""A space says what an entry is, and believes nothing it reads."""

import json

import pytest

from reverie.core.errors import BadInput
from reverie.core.space import Column, Space

MIXED = Space((2,), "mixed", (Column("age", "real"), Column("sex", "category", 2)))


MODAL = Space((9, 3), "mixed", (Column("volts", "real"), Column("mood", "ordered", 3), Column("spikes", "count")))


@pytest.mark.parametrize("space", [Space((1, 4, 4), "byte"), Space((3,), "count"), MIXED, MODAL], ids=str)
def test_json_there_and_back(space):
    assert Space.from_json(json.loads(json.dumps(space.to_json()))) == space


def test_columns_are_part_of_what_a_row_is():
    assert Space((2,), "mixed", MIXED.columns[::-1]) != MIXED
    assert repr(Space((2,), "real")) == "Space(shape=(2,), kind='real')"  # fingerprints of data are made from it


def test_which_entries_are_numbers():
    assert MODAL.numbers == [0, 2]
    assert Space((9, 3), "real").numbers == [0, 1, 2]


@pytest.mark.parametrize(
    "values",
    [
        None, {}, {"shape": [2]}, {"shape": [2], "kind": "mixed"}, {"shape": [0], "kind": "real"},
        {"shape": [3], "kind": "mixed", "columns": MIXED.to_json()["columns"]},
        {"shape": [2], "kind": "real", "columns": MIXED.to_json()["columns"]},
        {"shape": [1], "kind": "mixed", "columns": [["a", "category", 0]]},
        {"shape": [1], "kind": "mixed", "columns": [["a", "real", 2]]},
        {"shape": [1], "kind": "mixed", "columns": [["a", "ordered", 0]]},
        {"shape": [1, 2, 1], "kind": "mixed", "columns": [["a", "real", 0]]},
        {"shape": [1], "kind": "mixed", "columns": [["a", "word", 0]]},
        {"shape": [1], "kind": "mixed", "columns": [["a", "real"]]},
        {"shape": [1], "kind": "mixed", "columns": 3},
        {"shape": [1], "kind": "word"},
    ],
    ids=str,
)  # fmt: skip
def test_anything_else_is_refused(values):
    with pytest.raises(BadInput):
        Space.from_json(values)
