"""Tables: what a column is, rows with holes, and one clear line for a file that is no table."""

import builtins
import csv
import json

import numpy as np
import pytest
import torch

from reverie.core.errors import BadInput
from reverie.core.space import Column, Space
from reverie.data import open_data
from reverie.data.codecs import codec_from_json
from reverie.data.sheets import read_sheet
from reverie.data.splitting import content_hash, split_by_content
from reverie.data.tables import open_like, worded

RNG = np.random.default_rng(0)


def rows(n=60, share=0.15, rng=RNG):
    """Texts of n rows: a real column, a count, a category, two whole numbers; each cell missing now and then."""
    cells = [
        [repr(round(float(v), 3)) for v in rng.normal(40, 12, n)],
        [str(v) for v in rng.poisson(3, n)],
        rng.choice(["red", "green", "dark, blue", 'so-"called"'], n).tolist(),
        rng.choice(["1", "2"], n).tolist(),
    ]
    gaps = rng.choice(["", "NA", "NaN", "nan", "null", "?"], (4, n)).tolist()
    holes = rng.random((4, n)) < share
    return [[gaps[j][i] if holes[j, i] else cells[j][i] for j in range(4)] for i in range(n)]


NAMES = ["age", "visits", "colour", "ward"]
ROWS = rows()


def save(path, lines, names=NAMES, **how):
    with path.open("w", newline="", encoding=how.pop("encoding", "utf-8")) as file:
        csv.writer(file, **({"lineterminator": "\n"} | how)).writerows([names, *lines])
    return path


def every(data):
    return torch.cat([split.raw() for split in (data.train, data.valid, data.test)])


def refused(path, content, **options):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadInput) as caught:
        open_data(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_columns_are_what_they_seem_and_the_table_comes_back(tmp_path):
    data = open_data(save(tmp_path / "a.csv", ROWS))
    columns = (
        Column("age", "real"),
        Column("visits", "count"),
        Column("colour", "category", 4),
        Column("ward", "category", 2),
    )
    assert data.space == Space((4,), "mixed", columns)
    assert data.codec.levels[2:] == (("dark, blue", "green", "red", 'so-"called"'), ("1", "2"))
    told = [["" if cell in ("NA", "NaN", "nan", "null", "?") else cell for cell in row] for row in ROWS]
    back = []
    for split in (data.train, data.valid, data.test):
        world = data.codec.to_world(split.x())
        observed = split.observed()
        seen = ~split.raw().isnan() if observed is None else observed
        back += worded(data.codec, torch.where(seen, world, torch.nan).numpy())

    def numbers(table):
        return sorted([[c and float(c) if j != 2 else c for j, c in enumerate(row)] for row in table], key=repr)

    assert numbers(back) == numbers(told)  # 40.0 and 40 are the same number


def test_training_moments_are_those_of_what_was_measured(tmp_path):
    data = open_data(save(tmp_path / "a.csv", ROWS))
    age = data.train.raw()[:, 0].numpy()
    assert data.codec.mean[0] == pytest.approx(np.nanmean(age), rel=1e-12)
    assert data.codec.scale[0] == pytest.approx(np.nanstd(age), rel=1e-12)
    x, observed = data.train.x(), data.train.observed()
    assert torch.equal(x[~observed], torch.zeros(int((~observed).sum())))
    assert x.dtype == torch.float32
    assert 0 < (~observed).sum() < observed.numel()


def test_neither_the_order_of_the_rows_nor_how_holes_are_written_matters(tmp_path):
    first = open_data(save(tmp_path / "a.csv", ROWS))
    shuffled = [["?" if c in ("", "NA", "null") else c for c in ROWS[i]] for i in RNG.permutation(len(ROWS))]
    other = open_data(save(tmp_path / "b.csv", shuffled))
    assert other.fingerprint == first.fingerprint
    for a, b in ((first.train, other.train), (first.valid, other.valid), (first.test, other.test)):
        assert a.raw().numpy().tobytes() == b.raw().numpy().tobytes()


def test_copies_with_other_labels_do_not_make_the_order_matter(tmp_path):
    lines = [[str(i % 7), f"l{i % 3}"] for i in range(42)]
    first = open_data(save(tmp_path / "a.csv", lines, ["n", "what"]), label="what")
    other = open_data(save(tmp_path / "b.csv", lines[::-1], ["n", "what"]), label="what")
    assert other.fingerprint == first.fingerprint


@pytest.mark.parametrize(
    "how",
    [
        {"lineterminator": "\r\n"}, {"encoding": "utf-8-sig"}, {"quoting": csv.QUOTE_ALL}, {"delimiter": ";"},
        {"delimiter": "\t"}, {"lineterminator": "\n\n"},
    ],
    ids=str,
)  # fmt: skip
def test_ways_to_write_a_table(tmp_path, how):
    plain = open_data(save(tmp_path / "a.csv", ROWS))
    assert open_data(save(tmp_path / "b.csv", ROWS, **how)).fingerprint == plain.fingerprint


def test_parquet_is_the_same_table(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    def typed(j, cell):
        if cell in ("", "NA", "NaN", "nan", "null", "?"):
            return float("nan") if j == 0 and cell == "NaN" else None
        return (float, int, str, int)[j](cell)

    columns = {name: [typed(j, row[j]) for row in ROWS] for j, name in enumerate(NAMES)}
    table = pyarrow.table(columns)
    table = table.set_column(2, "colour", table["colour"].dictionary_encode())
    parquet.write_table(table, tmp_path / "a.parquet")
    assert open_data(tmp_path / "a.parquet").fingerprint == open_data(save(tmp_path / "a.csv", ROWS)).fingerprint
    parquet.write_table(pyarrow.table({"a": [[1], [2], [3]]}), tmp_path / "b.parquet")
    with pytest.raises(BadInput, match=r"column 'a' holds list<.*neither numbers nor text"):
        open_data(tmp_path / "b.parquet")
    assert "not a whole parquet file" in refused(tmp_path / "c.parquet", (tmp_path / "a.parquet").read_bytes()[:200])


def test_parquet_without_its_package_names_the_remedy(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "pip install 'reverie[tables]'" in refused(tmp_path / "a.parquet", b"PAR1")


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ("1.5 2 3", "real"), ("-1 0 1", "real"), ("1990 1995 2000", "real"), ("0 1 101", "real"), ("1e3 .5 -2.", "real"),
        ("0 1 2", "count"), ("1 7 100", "count"), ("0 0 0", "count"), ("0.0 1.0 5.0", "count"),
        ("0 1 1", "category"), ("1.0 2.0 ?", "category"), ("7 9 9", "category"), ("1 2 3+", "category"), ("1_0 2 3", "category"),
        ("inf x y", "category"),
    ],
)  # fmt: skip
def test_what_a_column_seems_to_be(tmp_path, cells, kind):
    lines = [[cell, str(i / 7)] for i, cell in enumerate(cells.split() * 4)]
    assert open_data(save(tmp_path / "a.csv", lines, ["a", "b"])).codec.columns[0].kind == kind


def test_kinds_can_be_told_and_columns_dropped(tmp_path):
    lines = [[f"name {i}", str(i % 5), str(i % 2), str(1.5 * i), "ab"[i % 2]] for i in range(30)]
    path = save(tmp_path / "a.csv", lines, ["name", "n", "flag", "size, cm", "class"])
    data = open_data(path, kinds='n=category,flag=count,"size, cm=real"', drop="name", label="class")
    assert [(c.name, c.kind, c.levels) for c in data.codec.columns] == [
        ("n", "category", 5), ("flag", "count", 0), ("size, cm", "real", 0)
    ]  # fmt: skip
    assert data.classes == ("a", "b")
    for split in (data.train, data.valid, data.test):
        assert torch.equal(split.raw()[:, 1].long(), split.labels)
    again = open_data(**json.loads(json.dumps(data.spec)))
    assert again.fingerprint == data.fingerprint
    assert codec_from_json(json.loads(json.dumps(data.codec.to_json()))) == data.codec


def test_a_table_of_real_columns_is_of_real_points(tmp_path):
    lines = [[repr(float(v)) for v in row] for row in RNG.normal([1e9, 0], [1, 1e-6], (50, 2))]
    data = open_data(save(tmp_path / "a.csv", lines, ["a", "b"]))
    assert data.space == Space((2,), "real")
    assert data.train.observed() is None
    assert data.train.x().std(0, correction=0).tolist() == pytest.approx([1, 1], abs=1e-5)
    assert sorted(every(data)[:, 0].tolist()) == sorted(float(row[0]) for row in lines)  # in 64 bits


def test_one_is_one_point_zero_and_a_constant_is_not_stretched(tmp_path):
    lines = [[("1", "1.0", "2", "")[i % 4], "0.1", str(i / 3)] for i in range(40)]
    data = open_data(save(tmp_path / "a.csv", lines, ["a", "b", "c"]))
    assert data.codec.levels[0] == ("1", "2")
    assert data.codec.scale[1] == 1.0
    assert every(data)[:, 0].nansum() == 10  # of the category with number 1


def test_new_data_are_seen_as_the_old_ones(tmp_path):
    data = open_data(save(tmp_path / "a.csv", ROWS))
    few = [["99.5", "7", "red", "2"], ["1", "0", "green", "1"], ["", "250", "red", "2"]]
    turned = save(tmp_path / "b.csv", [[*row[::-1], "more"] for row in few], [*NAMES[::-1], "extra"])
    other = open_like(turned, data.codec)
    assert other.space == data.space
    seen = sorted(worded(data.codec, every(other).numpy()))
    assert seen == [["", "250", "red", "2"], ["1.0", "0", "green", "1"], ["99.5", "7", "red", "2"]]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        ("\n\n", "is empty"),
        ("a,b\n", "no rows"),
        ("1,2\n3,4\n5,6\n", "no header"),
        (",a\n1,2\n", "column 1 has no name"),
        ("a,b,\n1,2,3\n", "column 3 has no name"),
        ("a,b, a\n1,2,3\n", "two columns called 'a'"),
        ("a,b\n1,2\n\n3\n", "line 4 has 1 cells, and the header 2"),
        ('a,b\n"1\n2",x\n1,2,3\n', "line 4 has 3 cells"),
        ('a,b\n1,"2\n3,4\n', "line 2: "),
        ('a,b\n1,2\n"3"x,4\n', "line 3: "),
        ("a,b\n" + "x" * 200_000 + ",1\n", "line 2: field larger"),
        ("a,b\n1,\0\n", "not text"),
        ("a,b\n1,é\n".encode("latin-1"), "not UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "not UTF-8"),
        ("a,b\n1.5,1\ninf,2\n3,4\n2,2\n", "line 3, column 'a': 'inf' is not a finite number"),
        ("a,b\n1.5,1\n1e99,2\n3,4\n2,2\n", "'1e99' is not a finite number"),
        ("a,b\n1,\n2,NA\n3,?\n4,null\n", "column 'b' has no measured cell"),
        ("a\n1\n2\n", "at least 3"),
        ("a\n1\n1\n1\n", "only 1 different"),
        ("a,b\n" + "\n".join(f"u{i},{i % 3}" for i in range(50)), "column 'a' has 50 texts in 50 rows.*--data.drop a"),
        ("a,b\n" + "\n".join(f"{i * 1.5},{i % 3}" for i in range(50)) + "\nfour,4\n", "line 52, column 'a': 'four' is not a number"),
    ],
)  # fmt: skip
def test_what_is_no_table_is_one_line(tmp_path, content, says):
    import re

    assert re.search(says, refused(tmp_path / "a.csv", content))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"kinds": "a"}, "is not NAME=real"), ({"kinds": "a=word"}, "is not NAME=real"), ({"kinds": "z=real"}, "no column 'z'"),
        ({"kinds": "t=real"}, "line 3, column 't': 'y' is not a finite number"),
        ({"kinds": "a=count"}, "line 2, column 'a': '0.5' is not a count"),
        ({"drop": "z"}, "no column 'z'; it has a, t, l"), ({"drop": "a,t,l"}, "no columns left"),
        ({"label": "z"}, "no column 'z'"), ({"label": "l"}, "line 3, column 'l' is empty"), ({"size": (4, 4)}, "no use for --data.size"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_asked_must_fit(tmp_path, options, says):
    lines = "\n".join(f"{i + 0.5},{'1' if i != 1 else 'y'},{'' if i == 1 else 'k'}" for i in range(9))
    assert says in refused(tmp_path / "a.csv", f"a,t,l\n{lines}\n", **options)


def test_options_of_tables_are_no_use_elsewhere():
    with pytest.raises(BadInput, match=r"no use for --data\.drop"):
        open_data("bars", drop="a")


def test_a_column_that_no_training_row_measures(tmp_path):
    def held_out(value):
        """Is the one row in which b is measured kept from training, were it `value`?"""
        raw = np.stack([np.arange(40) + 0.5, np.where(np.arange(40) == 7, value, np.nan)], 1)
        order, cuts = split_by_content(np.array([content_hash(row.tobytes()) for row in raw], np.uint64))
        return list(order).index(7) >= cuts[0]

    def table(value):
        return save(tmp_path / "a.csv", [[str(i + 0.5), str(value) if i == 7 else ""] for i in range(40)], ["a", "b"])

    values = [v + 0.5 for v in range(60)]
    with pytest.raises(BadInput, match=r"a\.csv: column 'b' is measured in no training row.*--data\.drop b"):
        open_data(table(next(v for v in values if held_out(v))))
    assert open_data(table(next(v for v in values if not held_out(v)))).codec.mean[1] in values


def test_messages_of_cells_stay_short(tmp_path):
    data = open_data(save(tmp_path / "a.csv", ROWS))
    for place, cell, says in (
        (2, "pink" * 50, "line 2, column 'colour': 'pinkpink"),
        (0, "old", "line 2, column 'age': 'old' is not a finite number"),
        (1, "1.5", "line 2, column 'visits': '1.5' is not a count"),
        (1, "-1", "is not a count"),
        (1, str(2**24), "is not a count"),
        (3, "3", "is not one of its categories (1, 2)"),
    ):
        row = ["1", "1", "red", "1"]
        row[place] = cell
        with pytest.raises(BadInput) as caught:
            open_like(save(tmp_path / "b.csv", [row] * 3), data.codec)
        assert says in str(caught.value)
        assert len(str(caught.value)) < 160
    with pytest.raises(BadInput, match=r"no column 'ward'; it has age, visits, colour\. Add it"):
        open_like(save(tmp_path / "b.csv", [row[:3] for row in ROWS], NAMES[:3]), data.codec)


def test_cells_keep_their_text(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b\n 1.50 ,x\n")
    assert read_sheet(path).rows == [[" 1.50 ", "x"]]
    assert read_sheet(path).cells("a") == ["1.50"]
