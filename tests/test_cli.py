"""The command line as a person meets it: what works, and one line for what cannot."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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


def refused(capsys, *line: object) -> str:
    """The one line that a command prints which cannot work."""
    with pytest.raises(SystemExit) as done:
        main([str(word) for word in line])
    out, err = capsys.readouterr()
    assert done.value.code == 2, (out, err)
    last = [text for text in err.splitlines() if text.strip()]
    assert last, "something must be said"
    assert last[-1].startswith("reverie: ")
    assert "Traceback" not in err
    return last[-1]


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
