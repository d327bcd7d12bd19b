"""What the commands write: repaired tables, with a stand-in for a machine whose draws are known."""

import csv

import numpy as np
import pytest
import torch

from reverie.core.errors import BadInput
from reverie.core.space import Column
from reverie.data.codecs import Table
from reverie.data.sheets import read_sheet
from reverie.data.tables import coded
from reverie.outputs import repair_table, save_examples

COLUMNS = (Column("age", "real"), Column("visits", "count"), Column("colour", "category", 3))
CODEC = Table(COLUMNS, ((), (), ("green", "red, dark", "white")), (40.0, 0.0, 0.0), (10.0, 1.0, 1.0))
TEXT = 'id;colour;age;visits\n007; "w" ;?;3\n8;"red, dark";40.50;NA\n9;;1e1;0\n10;;;\n'.replace(' "w" ', "white ")


class Dice:
    """Draw k of a missing entry is k / 100 for the age (model units), k % 5 visits, and green in 70 of 100."""

    def __init__(self):
        self.seen = []

    def repair(self, x, observed, n, noise=0.0):
        self.seen.append((x, observed))
        k = torch.arange(n)
        draws = torch.stack([k / 100, k % 5, torch.where(k % 10 < 7, 0, 1 + k % 2)], 1)[:, None].expand(n, *x.shape)
        return torch.where(observed, x, draws)


@pytest.fixture
def repaired(tmp_path):
    (tmp_path / "a.csv").write_text(TEXT)
    sheet = read_sheet(tmp_path / "a.csv")
    dice = Dice()
    raw = torch.from_numpy(coded(sheet, CODEC))
    paths = repair_table(dice, CODEC, sheet, raw, 3, tmp_path / "out.csv")
    tables = []
    for path in paths:
        with path.open(newline="") as file:
            tables.append(list(csv.reader(file, delimiter="," if "uncertainty" in path.name else ";")))
    return dice, [path.name for path in paths], tables


def test_a_machine_is_asked_for_what_is_missing_alone(repaired):
    x = torch.cat([x for x, _ in repaired[0].seen])
    observed = torch.cat([o for _, o in repaired[0].seen])
    nan = float("nan")
    truth = torch.tensor([[nan, 3, 2], [0.05, nan, 1], [-3, 0, nan], [nan, nan, nan]])
    assert torch.equal(observed, ~truth.isnan())
    assert torch.allclose(x, truth.nan_to_num())


def test_cells_that_were_there_keep_their_text(repaired):
    _, names, tables = repaired
    assert names == ["out-1.csv", "out-2.csv", "out-3.csv", "out-uncertainty.csv"]
    for k, table in enumerate(tables[:3]):
        age = repr(40 + k / 10)
        assert table == [
            ["id", "colour", "age", "visits"],
            ["007", "white ", age, "3"],
            ["8", "red, dark", "40.50", str(k)],
            ["9", "green", "1e1", "0"],
            ["10", "green", age, str(k)],
        ]


def test_the_uncertainty_is_that_of_the_draws(repaired):
    age = ["age", "44.95", "40.4", "49.4", ""]  # 40 + k / 10 for k = 0 … 99
    visits = ["visits", "2.00", "0", "4", ""]
    colour = ["colour", "green", "", "", "0.70"]
    assert repaired[2][3] == [
        ["row", "column", "value", "low", "high", "probability"],
        ["1", *age], ["2", *visits], ["3", *colour], ["4", *age], ["4", *visits], ["4", *colour],
    ]  # fmt: skip


def test_what_cannot_be_written_or_needs_no_repair(tmp_path):
    (tmp_path / "a.csv").write_text("age,visits,colour,more\n1,2,white,\n")
    sheet = read_sheet(tmp_path / "a.csv")
    raw = torch.from_numpy(coded(sheet, CODEC))
    with pytest.raises(BadInput, match="nothing to repair"):
        repair_table(Dice(), CODEC, sheet, raw, 3, tmp_path / "out.csv")
    with pytest.raises(BadInput, match=r"ends in \.csv"):
        repair_table(Dice(), CODEC, sheet, raw, 3, tmp_path / "out.png")
    with pytest.raises(BadInput, match="no pictures"):
        save_examples(tmp_path / "rows.png", raw, 1, CODEC)


def test_rows_are_saved_under_their_names(tmp_path):
    world = torch.tensor([[41.5, 3, 1], [float("nan"), 0, 2]]).double()
    save_examples(tmp_path / "rows.csv", world, 1, CODEC)
    assert (tmp_path / "rows.csv").read_text() == 'age,visits,colour\n41.5,3,"red, dark"\n,0,white\n'
    assert np.array_equal(coded(read_sheet(tmp_path / "rows.csv"), CODEC), world.numpy(), equal_nan=True)
