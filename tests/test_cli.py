"""The command line as a person meets it: what works, and one line for what cannot."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reverie import fit, open_data
from reverie.cli import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small VAE of digits, trained by the command itself."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    with pytest.raises(SystemExit) as done:
        main(["train", "digits", "--steps", "30", "--out", str(folder), "--model.width", "32", "--model.latent", "8",
              "--model.components", "2", "--threads", "1"])  # fmt: skip
    assert done.value.code == 0
    return folder


def call(capsys, *line: object) -> str:
    """What a command that works prints."""
    with pytest.raises(SystemExit) as done:
        main([str(word) for word in line])
    out, err = capsys.readouterr()
    assert done.value.code == 0, err
    return out


TOLD = ("left out ", "reading ", "measuring ", "trying ", "training on ")


def refused(capsys, *line: object) -> str:
    """The one line that a command prints which cannot work."""
    with pytest.raises(SystemExit) as done:
        main([str(word) for word in line])
    out, err = capsys.readouterr()
    assert done.value.code == 2, (out, err)
    *before, last = [text for text in err.splitlines() if text.strip()] or [""]
    assert last.startswith("reverie: ")
    assert all(text.startswith(TOLD) for text in before), before  # on the way, and not of what went wrong
    return last


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train digits --stepz 5", "no option --stepz; perhaps --steps; reverie train --help lists what there is"),
        ("train digits --model.latnt=3", "no option --model.latnt; perhaps --model.latent"),
        ("train digits --qqq", "no option --qqq; reverie train --help"),
        ("train digits faces", "'faces' is a word too many"),
        ("train digits --steps", "--steps lacks its value"),
        ("train digits --steps abc", "--steps cannot be 'abc': how many rounds to train"),
        ("train digits --model ladder --model.groups a b", "--model.groups cannot be 'a', 'b': latent groups"),
        ("train digits --training.optimiser foo", "--training.optimiser cannot be 'foo'; one of 'adam', 'soap', 'sgd'"),
        ("train", "DATA is not given: a built-in name, a path, or hf:NAME; reverie train --help"),
        ("dream somewhere -n k", "-n/--n cannot be 'k': "),
    ],
)
def test_a_line_that_cannot_be_read_is_answered_in_one_line(capsys, monkeypatch, line, said):
    monkeypatch.setenv("COLUMNS", "40")
    assert said in refused(capsys, *line.split())


def test_training_leaves_a_whole_run(run):
    assert {"config.json", "model.safetensors", "state", "log.jsonl", "scores.json", "dreams", "report.html"} <= {
        p.name for p in run.iterdir()
    }
    page = (run / "report.html").read_text()
    assert "<html" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    names = [s["name"] for s in json.loads((run / "scores.json").read_text())["scores"]]
    assert "bits_per_dim" in names


def test_dreams_are_the_same_for_a_seed(run, tmp_path, capsys):
    for name in ("a.npy", "b.npy"):
        call(capsys, "dream", run, "-n", 5, "--seed", 3, "--out", tmp_path / name)
    a, b = (np.load(tmp_path / name) for name in ("a.npy", "b.npy"))
    assert a.shape == (5, 1, 8, 8)
    assert a.dtype == np.uint8
    assert (a == b).all()
    call(capsys, "dream", run, "-n", 4, "--out", tmp_path / "d.png")
    with Image.open(tmp_path / "d.png") as picture:
        assert picture.size[0] > 16


def test_repair_keeps_what_was_seen(run, tmp_path, capsys):
    x = np.random.default_rng(0).integers(0, 256, (2, 1, 8, 8)).astype(np.uint8)
    np.save(tmp_path / "x.npy", x)
    call(capsys, "repair", run, tmp_path / "x.npy", "--observed", "top", "-n", 3, "--out", tmp_path / "r.npy")
    draws = np.load(tmp_path / "r.npy")
    assert draws.shape == (3, 2, 1, 8, 8)
    assert (draws[..., :4, :] == x[..., :4, :]).all()
    assert (draws[..., 4:, :] != x[..., 4:, :]).any()


def test_surprise_has_a_row_for_each_picture_of_any_size_and_mode(run, tmp_path, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("RGB", (30, 20), "red").save(folder / "a.png")
    Image.new("L", (8, 8), 7).save(folder / "b.jpg")
    (folder / "c.png").write_text("not a picture")
    call(capsys, "surprise", run, folder, "--draws", 5, "--out", tmp_path / "s.csv")
    rows = (tmp_path / "s.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["example", "a.png", "b.jpg"]


def test_evaluate_prints_json_that_others_can_read(run, capsys):
    scores = json.loads(call(capsys, "evaluate", run, "--json", "--draws", 5))["scores"]
    assert {"name", "value", "error", "unit", "better", "floor", "ceiling"} <= set(scores[0])


def test_data_and_help_and_version(capsys):
    assert "faces" in call(capsys, "data")
    assert "2.3764 nats" in call(capsys, "data", "bars")
    assert "train" in call(capsys, "--help")
    assert "--model.latent" in call(capsys, "train", "-h")
    assert call(capsys, "--version").startswith("reverie ")


def test_bad_words(capsys, tmp_path):
    assert "no command" in refused(capsys, "drem")
    assert "no data called" in refused(capsys, "train", "faecs")
    assert "no such path" in refused(capsys, "train", tmp_path / "nothing")
    assert "no model called" in refused(capsys, "train", "digits", "--model", "gpt")
    assert "latent is 0" in refused(capsys, "train", "digits", "--model.latent", 0, "--out", tmp_path / "r")
    assert "minutes" in refused(capsys, "train", "bars", "--minutes", -1, "--out", tmp_path / "r")
    assert "give one of them" in refused(capsys, "train", "bars", "--minutes", 1, "--steps", 3, "--out", tmp_path / "r")
    assert "no use for" in refused(capsys, "train", "bars", "--data.size", 4, 4, "--out", tmp_path / "r")
    assert "linear models" in refused(capsys, "train", "bars", "--model", "linear", "--out", tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_bad_folders_and_files(capsys, tmp_path, run):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no pictures" in refused(capsys, "train", empty)
    assert "exists already" in refused(capsys, "train", "digits", "--out", run)
    assert "not a run folder" in refused(capsys, "dream", empty)
    assert "no run folder" in refused(capsys, "dream", tmp_path / "nowhere")
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object), allow_pickle=True)
    assert "o.npy" in refused(capsys, "surprise", run, tmp_path / "o.npy")
    np.save(tmp_path / "s.npy", np.zeros((3, 1, 9, 9), np.uint8))
    assert "(3, 1, 9, 9)" in refused(capsys, "surprise", run, tmp_path / "s.npy")
    np.save(tmp_path / "n.npy", np.full((1, 1, 8, 8), np.nan))
    assert "not finite" in refused(capsys, "surprise", run, tmp_path / "n.npy")
    (tmp_path / "t.png").write_text("text")
    assert "t.png" in refused(capsys, "repair", run, tmp_path / "t.png", "--observed", "left")
    Image.new("L", (8, 8)).save(tmp_path / "g.png")
    assert "nothing to repair" in refused(capsys, "repair", run, tmp_path / "g.png")
    assert ".png or .npy" in refused(capsys, "dream", run, "--out", tmp_path / "d.gif")
    assert "at least two" in refused(capsys, "compare", run)


def test_a_place_that_cannot_be_written(capsys, run):
    assert "cannot write" in refused(capsys, "dream", run, "-n", 2, "--out", "/proc/nowhere/d.png")
    assert "cannot make" in refused(capsys, "train", "bars", "--steps", 2, "--out", "/proc/nowhere/run")


def test_resume_keeps_its_settings(capsys, run):
    assert "width is 32" in refused(capsys, "train", "digits", "--out", run, "--resume", "--model.width", 64)
    assert "steps is 30" in refused(capsys, "train", "digits", "--out", run, "--resume", "--steps", 60)
    assert "trained on digits" in refused(capsys, "train", "bars", "--out", run, "--resume")
    before = (Path(run) / "model.safetensors").read_bytes()
    call(capsys, "train", "digits", "--out", run, "--resume", "--threads", 1)
    assert (Path(run) / "model.safetensors").read_bytes() == before


def test_a_run_that_goes_on_elsewhere_says_so(capsys, run, tmp_path):
    shutil.copytree(run, tmp_path / "r")
    config = json.loads((tmp_path / "r/config.json").read_text())
    assert (config["device"], config["processes"]) == ("cpu", 1)
    (tmp_path / "r/config.json").write_text(json.dumps(config | {"processes": 2, "device": "cuda"}))
    with pytest.raises(SystemExit):
        main(["train", "digits", "--out", str(tmp_path / "r"), "--resume", "--threads", "1"])
    told = capsys.readouterr().err
    assert "begun with processes 2, going on with 1" in told
    assert "begun with device cuda, going on with cpu" in told


MEAN, COVARIANCE = np.array([10.0, -2.0]), np.array([[4.0, 1.2], [1.2, 0.5]])


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A linear machine (exact) of two correlated columns; the third is left out."""
    folder = tmp_path_factory.mktemp("table")
    points = np.random.default_rng(0).multivariate_normal(MEAN, COVARIANCE, 4000)
    rows = "".join(f"{a},p{i},{b}\n" for i, (a, b) in enumerate(points.tolist()))
    (folder / "people.csv").write_text("height,name,weight\n" + rows)
    with pytest.raises(SystemExit) as done:
        main(["train", str(folder / "people.csv"), "--model", "linear", "--data.drop", "name", "--out",
              str(folder / "run"), "--threads", "1"])  # fmt: skip
    assert done.value.code == 0
    return folder / "run"


def test_a_repaired_table_is_written_over_nothing_that_is_read(table, tmp_path, capsys):
    for name in ("r-2.csv", "r-uncertainty.csv"):
        (tmp_path / name).write_text("weight,height\n,13.0\n")
        assert f"{name} is read" in refused(
            capsys, "repair", table, tmp_path / name, "-n", 2, "--out", tmp_path / "r.csv"
        )
        assert (tmp_path / name).read_text() == "weight,height\n,13.0\n"


def test_a_table_is_repaired_as_its_distribution_says(table, tmp_path, capsys):
    (tmp_path / "t.csv").write_text("weight,note,height\n,a,13.0\n-2.50,,9.00\n?,c,8\n-1,d,NA\n")
    out = call(capsys, "repair", table, tmp_path / "t.csv", "-n", 400, "--out", tmp_path / "r.csv")
    assert out.split() == [str(tmp_path / f"r-{k}.csv") for k in [*range(1, 401), "uncertainty"]]
    with (tmp_path / "r-uncertainty.csv").open() as file:
        told = list(csv.DictReader(file))
    assert [(row["row"], row["column"]) for row in told] == [("1", "weight"), ("3", "weight"), ("4", "height")]
    (a, b), ((aa, ab), (_, bb)) = MEAN, COVARIANCE
    truths = [(b + ab / aa * (h - a), bb - ab**2 / aa) for h in (13, 8)] + [(a + ab / bb * (-1 - b), aa - ab**2 / bb)]
    for row, (mean, variance) in zip(told, truths, strict=True):
        error = 5 * (variance / 400) ** 0.5 + 0.02 * variance**0.5  # of the draws, and of what was learned
        assert float(row["value"]) == pytest.approx(mean, abs=error)
        for key, sign in (("low", -1), ("high", 1)):
            assert float(row[key]) == pytest.approx(mean + sign * 1.645 * variance**0.5, abs=2.2 * error)
    with (tmp_path / "r-7.csv").open() as file:
        lines = [line.rstrip("\n").split(",") for line in file]
    assert lines[0] == ["weight", "note", "height"]
    assert lines[2] == ["-2.50", "", "9.00"]
    assert [lines[1][1:], lines[3][1:], lines[4][:2]] == [["a", "13.0"], ["c", "8"], ["-1", "d"]]


def test_surprise_is_of_the_cells_that_are_there(table, tmp_path, capsys):
    rows = [(13.0, -1.5), (13.0, None), (None, -1.5), (None, None)] * 20  # more than are measured at once
    text = "".join(",".join("" if v is None else str(v) for v in row) + "\n" for row in rows)
    (tmp_path / "t.csv").write_text("height,weight\n" + text)
    call(capsys, "surprise", table, tmp_path / "t.csv", "--out", tmp_path / "s.csv")
    with (tmp_path / "s.csv").open() as file:
        told = list(csv.DictReader(file))
    assert [row["example"] for row in told] == [f"t.csv[{i}]" for i in range(80)]
    seen = (
        open_data(table.parent / "people.csv", drop="name").train.raw().numpy()
    )  # the likeliest Gaussian has its moments
    covariance, off = np.cov(seen.T, bias=True), np.array(rows[0]) - seen.mean(0)
    truth = [float(0.5 * np.log(np.linalg.det(2 * np.pi * covariance)) + 0.5 * off @ np.linalg.solve(covariance, off))]
    truth += [
        float(0.5 * np.log(2 * np.pi * v) + 0.5 * d**2 / v) for d, v in zip(off, np.diag(covariance), strict=True)
    ]
    assert [float(row["nats"]) for row in told] == pytest.approx([*truth, 0.0] * 20, abs=2e-3)


def test_other_tables_and_dreams(table, tmp_path, capsys):
    points = np.random.default_rng(1).multivariate_normal(MEAN + 5, COVARIANCE, 300)
    (tmp_path / "t.csv").write_text("weight,height\n" + "".join(f"{b},{a}\n" for a, b in points.tolist()))
    scores = {
        s["name"]: s["value"]
        for s in json.loads(call(capsys, "evaluate", table, tmp_path / "t.csv", "--json"))["scores"]
    }
    entropy = 0.5 * np.log(np.linalg.det(2 * np.pi * np.e * COVARIANCE))
    away = 0.5 * 25 * np.ones(2) @ np.linalg.solve(COVARIANCE, np.ones(2))  # KL of a shifted Gaussian
    assert scores["nats"] == pytest.approx(entropy + away, rel=0.25)  # 30 rows; seen with their own moments it were 0.2
    call(capsys, "dream", table, "-n", 4, "--exact", "--out", tmp_path / "d.csv")
    lines = (tmp_path / "d.csv").read_text().splitlines()
    assert lines[0] == "height,weight"
    assert len(lines) == 5
    assert "height real, weight real" in call(capsys, "data", table.parent / "people.csv", "--data.drop", "name")


def test_bad_tables(table, tmp_path, capsys):
    def says(text, *line):
        (tmp_path / "t.csv").write_text(text)
        return refused(capsys, line[0] if line else "repair", table, tmp_path / "t.csv", *line[1:])

    assert "no column 'weight'" in says("height\n1\n")
    assert "t.csv line 3, column 'weight': 'x' is not a finite number" in says("height,weight\n1,2\n,x\n")
    assert "nothing to repair" in says("height,weight\n1,2\n")
    assert "leave --observed" in says("height,weight\n1,\n", "repair", "--observed", "left")
    assert "ends in .csv" in says("height,weight\n1,\n", "repair", "--out", tmp_path / "r.png")
    assert "missing entries" in says("height,weight\n1,\n", "morph", tmp_path / "t.csv", "--out", tmp_path / "m.csv")
    assert "ends in .csv or .npy" in says("height,weight\n1,\n", "morph", tmp_path / "t.csv")
    assert "is none; give a .csv" in refused(capsys, "repair", table, tmp_path / "t.npy")
    assert "column 'name' has 4000 texts in 4000 rows" in refused(capsys, "data", table.parent / "people.csv")


def test_points_with_holes(tmp_path, capsys):
    rng = np.random.default_rng(0)
    points = rng.multivariate_normal(MEAN, COVARIANCE, 300)
    np.save(tmp_path / "x.npy", points)
    fit(tmp_path / "x.npy", "linear", out=tmp_path / "run")
    holed = np.where(rng.random((5, 2)) < 0.5, np.nan, points[:5]).astype(np.float32)
    assert np.isnan(holed).any()
    np.save(tmp_path / "h.npy", holed)
    call(capsys, "repair", tmp_path / "run", tmp_path / "h.npy", "-n", 3, "--out", tmp_path / "r.npy")
    draws = np.load(tmp_path / "r.npy")
    seen = ~np.isnan(holed)
    assert np.allclose(draws[:, seen], holed[seen], atol=1e-5)
    assert np.isfinite(draws).all()
    noisy = ("repair", tmp_path / "run", tmp_path / "x.npy", "--noise", 1, "--out", tmp_path / "r.npy")
    assert "different scales" in refused(capsys, *noisy)
    np.save(tmp_path / "i.npy", np.full((2, 2), np.inf))
    assert "not finite" in refused(capsys, "surprise", tmp_path / "run", tmp_path / "i.npy")


def test_a_machine_for_each_class_classifies(tmp_path, capsys, run):
    folder = tmp_path / "each"
    call(capsys, "train", "digits", "--model", "helmholtz", "--per-class", "--steps", 60, "--out", folder,
         "--model.layers", 6, 2, "--model.draws", 2, "--training.rate", 0.01, "--threads", 1)  # fmt: skip
    out = call(capsys, "classify", folder, "--out", tmp_path / "c.csv", "--draws", 5)
    wrong = float(out.split("wrong: ")[1].split("%")[0])
    assert wrong < 50  # of ten labels
    rows = list(csv.reader((tmp_path / "c.csv").read_text().splitlines()))
    assert rows[0][:3] == ["example", "label", "chance"]
    assert len(rows[0]) == 13
    nats = np.array([row[3:] for row in rows[1:]], float)
    told = np.array([row[1] for row in rows[1:]], int)
    assert (nats.argmin(1) == told).mean() > 0.9  # but for the shares of the labels
    call(capsys, "dream", folder, "--given", 3, "-n", 4, "--out", tmp_path / "d.npy")
    assert np.load(tmp_path / "d.npy").shape == (4, 1, 8, 8)
    assert "knows no labels" in refused(capsys, "classify", run)
    assert "no labels" in refused(capsys, "train", "kirby", "--per-class", "--out", tmp_path / "none")


def test_each_machine_repairs_what_it_is_given(tmp_path, capsys):
    folder = tmp_path / "each"
    call(capsys, "train", "digits", "--model", "helmholtz", "--per-class", "--steps", 120, "--out", folder,
         "--model.layers", 6, 2, "--model.draws", 2, "--training.rate", 0.02, "--threads", 1)  # fmt: skip
    data = open_data("digits")
    seen = data.train.raw(slice(0, 1000)).numpy()
    means = {label: seen[data.train.labels[:1000] == label].mean(0) for label in (0, 1)}
    np.save(tmp_path / "x.npy", np.zeros((1, 1, 8, 8), np.uint8))
    np.save(tmp_path / "nothing.npy", np.zeros((1, 8, 8), bool))  # was measured
    for label, other in ((0, 1), (1, 0)):
        call(capsys, "repair", folder, tmp_path / "x.npy", "--observed", tmp_path / "nothing.npy", "-n", 60,
             "--given", label, "--out", tmp_path / "r.npy")  # fmt: skip
        mean = np.load(tmp_path / "r.npy").mean((0, 1))
        mean = mean / mean.max() * means[label].max()
        assert np.abs(mean - means[label]).mean() < np.abs(mean - means[other]).mean()


def test_a_walk_has_the_labels_of_its_ends(tmp_path, capsys):
    folder = tmp_path / "labelled"
    call(capsys, "train", "digits", "--model.classes", 10, "--model.width", 16, "--model.latent", 4, "--steps", 20,
         "--model.prior", "normal", "--out", folder, "--threads", 1)  # fmt: skip
    x = open_data("digits").test.raw(slice(0, 2)).numpy()
    for i in range(2):
        np.save(tmp_path / f"{i}.npy", x[i : i + 1])
    walk = ("morph", folder, tmp_path / "0.npy", tmp_path / "1.npy", "--steps", 3, "--out", tmp_path / "w.npy")
    ways = []
    for given in ([3], [3, 3], [3, 5]):
        call(capsys, *walk, "--given", *given)
        ways.append(np.load(tmp_path / "w.npy"))
    assert np.array_equal(ways[0], ways[1])
    assert np.array_equal(ways[0][0], ways[2][0])  # where both walks have the label 3
    assert not np.array_equal(ways[0][-1], ways[2][-1])
    assert "label" in refused(capsys, *walk)
    assert "two ends" in refused(capsys, *walk, "--given", 3, 4, 5)


def test_a_recurrent_machine_is_taken_apart(run, tmp_path, capsys):
    x = np.stack([np.sin(np.arange(400) / 9), np.cos(np.arange(400) / 9)], 1)
    np.save(tmp_path / "rec.npy", x.astype(np.float32))
    made = tmp_path / "moving"
    call(capsys, "train", tmp_path / "rec.npy", "--data.window", 50, "--data.tr", 2, "--model", "recurrent", "--model.hidden", 5,
         "--model.members", 2, "--steps", 5, "--threads", 1, "--out", made)  # fmt: skip
    told = call(capsys, "analyse", made, "--steps", 200, "--sweep", "h1[0]", "--points", 4, "--member", 1)
    assert "exponents" in told
    numbers = json.loads((made / "analysis.json").read_text())
    assert numbers["member"] == 1
    assert len(numbers["members"]) == 2
    assert numbers["complete_periods"] == [1, 2]
    assert all(cycle["residual"] < 1e-8 for cycle in numbers["cycles"])
    assert len(numbers["sweep"]["values"]) == 4
    assert "<html" in (made / "analysis.html").read_text()
    assert "recurrent" in refused(capsys, "analyse", run)
    for name in ("f.npy", "f.csv", "f.png"):
        call(capsys, "forecast", made, tmp_path / "rec.npy", "--steps", 7, "-n", 20, "--out", tmp_path / name)
    draws = np.load(tmp_path / "f.npy")
    assert draws.shape == (20, 7, 2)
    lines = list(csv.DictReader((tmp_path / "f.csv").read_text().splitlines()))
    assert len(lines) == 14
    assert float(lines[3]["median"]) == pytest.approx(np.median(draws[:, 1, 1]), rel=1e-4)
    with Image.open(tmp_path / "f.png") as picture:
        assert picture.width > 500
    np.save(tmp_path / "wide.npy", np.zeros((30, 3)))
    assert "3 channels" in refused(capsys, "forecast", made, tmp_path / "wide.npy")
    assert "no such file" in refused(capsys, "forecast", made, tmp_path / "none.npy")
    assert "recurrent" in refused(capsys, "forecast", run, tmp_path / "rec.npy")
    assert "every 0.7 s" in refused(capsys, "forecast", made, tmp_path / "rec.npy", "--data.tr", 0.7)
    assert "counted from 0" in refused(capsys, "analyse", made, "--member", 2)
    assert "no inputs" in refused(capsys, "analyse", made, "--input", 1)
    assert "shape" in refused(capsys, "analyse", made, "--sweep", "h1[7]")
    assert "empty" in refused(capsys, "analyse", made, "--sweep", "h1[0]", "--between", 1, 1)


def test_a_driven_machine_is_told_what_will_act(tmp_path, capsys):
    random = np.random.default_rng(0)
    light = (random.random(400) < 0.5).astype(np.float32)
    x = np.zeros(400)
    for t in range(1, 400):
        x[t] = 0.5 * x[t - 1] + 2 * light[t] - 1
    lines = ["rate,light", *(f"{a},{b}" for a, b in zip(x, light, strict=True))]
    (tmp_path / "rec.csv").write_text("\n".join(lines))
    made, acts = tmp_path / "driven", ("--data.inputs", "light")
    call(capsys, "train", tmp_path / "rec.csv", *acts, "--data.window", 40, "--model", "recurrent", "--model.hidden", 8, "--model.inputs", 1,
         "--steps", 400, "--training.rate", 0.02, "--threads", 1, "--out", made)  # fmt: skip
    line = ("forecast", made, tmp_path / "rec.csv", *acts, "--steps", 5, "-n", 50, "--out", tmp_path / "f.npy")
    ends = []
    for value in (0, 1):
        np.save(tmp_path / "future.npy", np.full((6, 1), value))
        call(capsys, *line, "--acting", tmp_path / "future.npy")
        ends.append(np.median(np.load(tmp_path / "f.npy")[:, -1, 0]))
    assert ends[1] - ends[0] > 2  # the truth: -1.9 and 1.9, from wherever it began
    (tmp_path / "future.csv").write_text("light,tone\n" + "1,0\n" * 5)
    call(capsys, *line, "--acting", tmp_path / "future.csv")
    assert np.median(np.load(tmp_path / "f.npy")[:, -1, 0]) == pytest.approx(ends[1], abs=1e-6)
    assert "--acting FILE" in refused(capsys, *line)
    assert "no such file" in refused(capsys, *line, "--acting", tmp_path / "none.npy")
    np.save(tmp_path / "short.npy", np.zeros((4, 1)))
    assert "4 steps of 1 inputs; 5 of 1" in refused(capsys, *line, "--acting", tmp_path / "short.npy")
    np.save(tmp_path / "gap.npy", np.full((9, 1), np.nan))
    assert "with gaps" in refused(capsys, *line, "--acting", tmp_path / "gap.npy")
    (tmp_path / "future.csv").write_text("tone\n" + "1\n" * 5)
    assert "no column 'light'" in refused(capsys, *line, "--acting", tmp_path / "future.csv")


def test_a_subject_of_a_cohort_is_taken_apart(tmp_path, capsys):
    x = np.random.default_rng(0).standard_normal((200, 2)).astype(np.float32)
    np.savez(tmp_path / "two.npz", x=x, lengths=[100, 100], subjects=["ann", "bob"])
    line = ("train", tmp_path / "two.npz", "--data.window", 20, "--data.split", "time", "--model", "cohort", "--steps", 3,
            "--threads", 1, "--model.hidden", 4, "--out", tmp_path / "m")  # fmt: skip
    assert "--model.classes" in refused(capsys, *line)
    assert "driven by no inputs" in refused(capsys, *line, "--model.classes", 2, "--model.inputs", 1)
    assert not (tmp_path / "m").exists()
    call(capsys, *line, "--model.classes", 2)
    assert "--given" in refused(capsys, "analyse", tmp_path / "m")
    assert "--given" in refused(capsys, "forecast", tmp_path / "m", tmp_path / "two.npz")
    assert "ann, bob" in refused(capsys, "analyse", tmp_path / "m", "--given", "eve")
    assert "exponents" in call(capsys, "analyse", tmp_path / "m", "--given", "bob", "--steps", 200)


def test_a_gan_is_bold_or_timid_and_crosses_two_pictures(run, tmp_path, capsys):
    made = tmp_path / "gan"
    call(capsys, "train", "digits", "--model", "gan", "--model.style", "--model.width", 4, "--model.depth", 1, "--model.inversion", 4,
         "--steps", 3, "--threads", 1, "--out", made)  # fmt: skip
    for psi, name in ((0.0, "a.npy"), (1.0, "b.npy")):
        call(capsys, "dream", made, "-n", 4, "--psi", psi, "--out", tmp_path / name)
    timid, bold = (np.load(tmp_path / name) for name in ("a.npy", "b.npy"))
    assert (timid == timid[:1]).all()
    assert not (bold == bold[:1]).all()
    np.save(tmp_path / "one.npy", bold[:1])
    call(capsys, "mix", made, tmp_path / "one.npy", tmp_path / "one.npy", "--out", tmp_path / "mix.npy")
    mixed = np.load(tmp_path / "mix.npy")
    assert len(mixed) > 1
    assert (mixed == mixed[:1]).all()  # of one picture with itself there is one mixture
    assert "from 1 to" in refused(capsys, "mix", made, tmp_path / "one.npy", tmp_path / "one.npy", "--layers", 99)
    call(capsys, "edit", made, tmp_path / "one.npy", "--direction", 2, "--steps", 3, "--out", tmp_path / "edit.npy")
    edited = np.load(tmp_path / "edit.npy")
    assert len(edited) == 3
    assert (edited[0] != edited[2]).any()
    call(capsys, "edit", made, tmp_path / "one.npy", "--reach", 0, "--steps", 2, "--out", tmp_path / "edit.npy")
    edited = np.load(tmp_path / "edit.npy")
    assert (edited[0] == edited[1]).all()
    assert "no direction to 'beard'" in refused(capsys, "edit", made, tmp_path / "one.npy", "--label", "beard")
    call(capsys, "dream", made / "best.safetensors", "-n", 4, "--out", tmp_path / "best.npy")
    assert "has no best" in refused(capsys, "dream", run / "best.safetensors")
    assert "--psi" in refused(capsys, "dream", run, "--psi", 0.5)
    assert "no styles" in refused(capsys, "mix", run, tmp_path / "one.npy", tmp_path / "one.npy")
    page = (made / "report.html").read_text()
    assert all(f'id="{room}"' in page for room in ("boldness", "mixing", "inversion", "walk", "directions"))


def test_a_recording_of_several_modalities_is_learned_told_of_and_foreseen(tmp_path, capsys):
    rng = np.random.default_rng(0)
    sine = np.sin(np.arange(400) / 5)
    lines = ["volts,state,spikes,mood"]
    for value in sine:
        mood = ("low", "middle", "high")[int(np.searchsorted([-0.5, 0.5], value))]
        lines.append(f"{value:.3f},{'run' if value > 0 else 'rest'},{rng.poisson(np.exp(value))},{mood}")
    (tmp_path / "rec.csv").write_text("\n".join(lines))
    kinds = ("--data.kinds", "mood=low<middle<high")
    call(capsys, "train", tmp_path / "rec.csv", "--data.window", 20, *kinds, "--model", "recurrent", "--model.hidden", 4,
         "--steps", 5, "--out", tmp_path / "m", "--threads", 1)  # fmt: skip
    page = (tmp_path / "m" / "report.html").read_text()
    assert 'id="beside"' in page
    assert "volts" in page
    names = {s["name"] for s in json.loads((tmp_path / "m" / "scores.json").read_text())["scores"]}
    assert {"nats", "d_stsp", "pe_20"} <= names
    out = call(capsys, "data", tmp_path / "rec.csv", "--data.window", 20, "--data.kinds", "mood=low<middle<high")
    assert "volts real, state category (2), spikes count, mood ordered (3)" in out
    call(capsys, "forecast", tmp_path / "m", tmp_path / "rec.csv", "--steps", 2, "-n", 20, "--out", tmp_path / "f.csv")
    rows = list(csv.DictReader((tmp_path / "f.csv").read_text().splitlines()))
    assert [row["channel"] for row in rows[:4]] == ["volts", "state", "spikes", "mood"]
    assert rows[1]["value"] in ("run", "rest")
    assert float(rows[1]["probability"]) >= 0.5
    call(capsys, "forecast", tmp_path / "m", tmp_path / "rec.csv", "--steps", 3, "-n", 9, "--out", tmp_path / "f.png")
    call(capsys, "evaluate", tmp_path / "m", tmp_path / "rec.csv", "--draws", 5)
    call(capsys, "analyse", tmp_path / "m", "--steps", 100, "--periods", 1)
    call(capsys, "dream", tmp_path / "m", "-n", 2, "--exact", "--out", tmp_path / "d.npy")
    dreamt = np.load(tmp_path / "d.npy")
    assert dreamt.shape == (2, 20, 4)
    holed = dreamt.copy()
    holed[:, ::3, 1] = np.nan
    np.save(tmp_path / "holed.npy", holed)
    call(capsys, "repair", tmp_path / "m", tmp_path / "holed.npy", "-n", 3, "--out", tmp_path / "r.npy")
    repaired = np.load(tmp_path / "r.npy")
    assert set(repaired[..., 1].ravel()) <= {0.0, 1.0}
    np.testing.assert_allclose(
        repaired[:, ~np.isnan(holed)], dreamt[~np.isnan(holed)].repeat(3).reshape(-1, 3).T, rtol=1e-5
    )
    call(capsys, "surprise", tmp_path / "m", tmp_path / "holed.npy", "--out", tmp_path / "s.csv")
    holed[0, 0, 1] = 2
    np.save(tmp_path / "holed.npy", holed)
    assert "'state' holds other values" in refused(capsys, "surprise", tmp_path / "m", tmp_path / "holed.npy")
    assert "use --model recurrent" in refused(
        capsys, "train", tmp_path / "rec.csv", "--data.window", 20, "--model", "vae"
    )
