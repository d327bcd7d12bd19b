"""What a hurried person hands over: refused in one line, or understood, and never quietly misread."""

import csv
import io
import os
import stat
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from reverie import fit, open_data, recording, train
from reverie.cli import main
from reverie.core.errors import BadInput
from reverie.core.recipe import TrainingConfig
from reverie.data import DataConfig
from reverie.files import write_atomically
from reverie.inputs import read
from reverie.models.gan import GANConfig
from reverie.models.recurrent import RecurrentConfig
from reverie.models.vae import VAEConfig
from reverie.run import Run
from reverie.training import fabric_for
from tests.test_cli import call, refused

QUICK = TrainingConfig(steps=2, batch=8)
SMALL = VAEConfig(latent=2, width=8, components=1)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return fit("digits", config=SMALL, training=QUICK, out=tmp_path_factory.mktemp("bad") / "d").folder


def test_a_picture_is_made_to_fit_as_those_were_that_were_learned_from(tmp_path, capsys):
    (tmp_path / "wide").mkdir()
    random = np.random.default_rng(0)
    for i in range(30):
        Image.fromarray(random.integers(0, 256, (8, 20), dtype=np.uint8)).save(tmp_path / "wide" / f"{i}.png")
    read_as = {}
    for how in ("pad", "crop"):
        data = open_data(str(tmp_path / "wide"), DataConfig(size=(8, 8), fit=how))
        run = fit(data, config=SMALL, training=QUICK, out=tmp_path / how)
        seen = read(run, str(tmp_path / "wide" / "3.png"))
        rows = torch.cat([part.raw() for part in (data.train, data.valid, data.test)])
        assert (rows == seen).flatten(1).all(1).any()
        read_as[how] = seen
    assert not torch.equal(read_as["pad"], read_as["crop"])


def test_gaussian_noise_is_refused_by_a_machine_of_coins(tmp_path, capsys):
    run = fit(open_data("digits", binarise="dynamic"), config=SMALL, training=QUICK, out=tmp_path / "b")
    Image.new("L", (8, 8), 128).save(tmp_path / "g.png")
    assert "through coins" in refused(capsys, "repair", run.folder, tmp_path / "g.png", "--noise", 25)


def test_a_series_without_a_whole_step_is_scored_all_the_same(tmp_path, capsys):
    x = np.random.default_rng(0).standard_normal((300, 3)).astype(np.float32)
    x[::2, 0], x[1::2, 1] = np.nan, np.nan
    np.save(tmp_path / "x.npy", x)
    call(capsys, "train", tmp_path / "x.npy", "--data.window", 20, "--model", "recurrent", "--steps", 2, "--threads", 1,
         "--model.hidden", 4, "--out", tmp_path / "r")  # fmt: skip
    assert (tmp_path / "r/report.html").exists()
    names = {row["name"] for row in Run.load(tmp_path / "r").scores}
    assert "nats" in names


def test_an_analysis_is_written_over_nothing_of_the_run(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((300, 2)).astype(np.float32))
    data = open_data(str(tmp_path / "x.npy"), DataConfig(window=20))
    run = fit(data, "recurrent", config=RecurrentConfig(latent=3, hidden=4), training=QUICK, out=tmp_path / "r")
    before = (run.folder / "config.json").read_bytes()
    assert "config.json is read" in refused(capsys, "analyse", run.folder, "--out", run.folder / "config.html")
    assert (run.folder / "config.json").read_bytes() == before


def test_a_file_whose_name_is_no_text_is_told_of(tmp_path, capsys, monkeypatch):
    (tmp_path / "pics").mkdir()
    for i in range(20):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (8, 8), dtype=np.uint8)).save(
            tmp_path / "pics" / f"{i}.png"
        )
    broken = os.fsencode(tmp_path / "pics") + b"/caf\xe9.png"
    with open(broken, "wb") as file:
        file.write(b"no picture")
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, "utf-8", "strict", write_through=True))
    with pytest.raises(SystemExit) as done:
        main(["data", str(tmp_path / "pics")])
    assert done.value.code == 0
    assert b"caf\\udce9.png" in out.getvalue()


def test_a_picture_for_a_binarised_machine_is_thrown_as_its_own_bytes(tmp_path):
    data = open_data("digits", binarise="dynamic")
    run = fit(data, config=SMALL, training=QUICK, out=tmp_path / "b")
    Image.fromarray(np.full((8, 8), 128, np.uint8)).save(tmp_path / "grey.png")
    looks = run.codec.to_model(read(run, str(tmp_path / "grey.png")).expand(500, -1, -1, -1))
    assert looks.mean().item() == pytest.approx(128 / 255, abs=0.01)
    np.save(tmp_path / "x.npy", data.test.raw(slice(0, 3)).numpy())
    assert torch.equal(read(run, str(tmp_path / "x.npy")), data.test.raw(slice(0, 3)))


def test_pictures_of_real_numbers(tmp_path, capsys):
    x = np.random.default_rng(0).random((60, 8, 6)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    fit(str(tmp_path / "x.npy"), config=SMALL, training=QUICK, out=tmp_path / "r")
    call(capsys, "data", tmp_path / "x.npy", "--out", tmp_path / "shown.png")
    with Image.open(tmp_path / "shown.png") as picture:
        grey, alpha = np.moveaxis(np.asarray(picture), -1, 0)
    shown = grey[alpha == 255]
    assert shown.mean() == pytest.approx(127.5, abs=5)
    assert shown.std() == pytest.approx(255 / 12**0.5, abs=5)
    Image.new("L", (6, 8), 128).save(tmp_path / "p.png")
    assert "was trained on real numbers" in refused(capsys, "surprise", tmp_path / "r", tmp_path / "p.png")
    np.save(tmp_path / "huge.npy", np.full((1, 8, 6), 1e300))
    assert "not finite" in refused(capsys, "surprise", tmp_path / "r", tmp_path / "huge.npy")


def test_channels_are_known_by_their_names(tmp_path, capsys):
    steps = np.arange(200)
    x, y = np.sin(steps / 5), 5000 + 100 * np.cos(steps / 5)
    for name, columns in (
        ("xy", {"x": x, "y": y}),
        ("yx", {"noise": 0 * x + steps % 7, "y": y, "x": x}),
        ("x", {"x": x, "z": y}),
    ):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([columns, *zip(*(np.round(c, 4) for c in columns.values()), strict=True)])
    data = open_data(str(tmp_path / "xy.csv"), DataConfig(window=20))
    fit(data, "recurrent", config=RecurrentConfig(latent=3, hidden=5), training=QUICK, out=tmp_path / "r")
    told = []
    for name in ("xy", "yx"):
        call(
            capsys,
            "forecast",
            tmp_path / "r",
            tmp_path / f"{name}.csv",
            "--steps",
            3,
            "-n",
            20,
            "--out",
            tmp_path / f"{name}-f.csv",
        )
        told.append((tmp_path / f"{name}-f.csv").read_text())
        call(capsys, "evaluate", tmp_path / "r", tmp_path / f"{name}.csv", "--draws", 5)
    assert told[0] == told[1]
    call(capsys, "forecast", tmp_path / "r", tmp_path / "xy.csv", "--steps", 3, "-n", 20, "--out", tmp_path / "fan.PNG")
    assert (tmp_path / "fan.PNG").read_bytes().startswith(b"\x89PNG")
    assert "has no column 'y'" in refused(capsys, "forecast", tmp_path / "r", tmp_path / "x.csv")
    assert "has no column 'y'" in refused(capsys, "evaluate", tmp_path / "r", tmp_path / "x.csv")


def test_cells_are_cut_where_all_lines_can_be(tmp_path, capsys):
    rows = [f"{60 + i % 9},{i % 10};{1500 + i % 90}" for i in range(40)]
    (tmp_path / "german.csv").write_text("\n".join(["weight, kg;height", *rows]))
    said = refused(capsys, "data", tmp_path / "german.csv")
    assert "line 2, column 'weight, kg': '60,0' is a number with a decimal comma; save the column with a point" in said
    (tmp_path / "share.csv").write_text("\n".join(["share", *(f"{i % 50}%" for i in range(60))]))
    assert "'0%' is a number with a percent sign" in refused(capsys, "data", tmp_path / "share.csv")


def test_labels_are_known_by_their_names(tmp_path, capsys):
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(-3, 0.3, (60, 2)), rng.normal(3, 0.3, (60, 2))]).astype(np.float32)
    np.savez(tmp_path / "ab.npz", x=x, y=np.repeat(["a", "b"], 60))
    np.savez(tmp_path / "bb.npz", x=x[60:], y=np.array(["b"] * 59 + ["a"]))
    np.savez(tmp_path / "bc.npz", x=x, y=np.repeat(["b", "c"], 60))
    config = VAEConfig(latent=2, width=16, components=1, classes=2)
    fit(str(tmp_path / "ab.npz"), config=config, training=QUICK, out=tmp_path / "r")
    call(capsys, "evaluate", tmp_path / "r", tmp_path / "bb.npz", "--draws", 5)
    said = refused(capsys, "evaluate", tmp_path / "r", tmp_path / "bc.npz", "--draws", 5)
    assert "has the label 'c', and r knows a, b" in said


def test_a_binarised_run_is_held_against_bytes_seen_likewise(tmp_path, capsys):
    fit(open_data("digits", binarise="static"), config=SMALL, training=QUICK, out=tmp_path / "b")
    assert "bits_per_dim" in call(capsys, "evaluate", tmp_path / "b", "digits", "--draws", 2)


def test_what_is_read_is_not_overwritten_and_what_cannot_be_written_is_told_first(digits, tmp_path, capsys):
    Image.new("L", (8, 8), 7).save(tmp_path / "p.png")
    before = (tmp_path / "p.png").read_bytes()
    assert "is read by this command" in refused(
        capsys, "repair", digits, tmp_path / "p.png", "--observed", "left", "--out", tmp_path / "p.png"
    )
    assert (tmp_path / "p.png").read_bytes() == before
    (tmp_path / "t.csv").write_text("a,b\n" + "".join(f"{i}.5,{i % 3}\n" for i in range(40)))
    assert "is read by this command" in refused(capsys, "data", tmp_path / "t.csv", "--out", tmp_path / "t.csv")
    for command in (("surprise", digits, tmp_path / "p.png"), ("dream", digits)):
        for out in (tmp_path, tmp_path / "x.jpg", tmp_path / "p.png" / "x.csv"):
            assert "cannot write" in refused(capsys, *command, "--out", out)


def test_writing_keeps_the_rights_and_the_links_of_its_user(tmp_path):
    before = os.umask(0o077)
    try:
        write_atomically(tmp_path / "private.csv", b"1")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "private.csv").stat().st_mode) == 0o600
    (tmp_path / "link").symlink_to(tmp_path / "private.csv")
    write_atomically(tmp_path / "link", b"2")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "private.csv").read_bytes() == b"2"
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadInput, match="it is no file"):
        write_atomically(tmp_path / "pipe", b"3")


def test_names_that_are_no_text(digits, tmp_path, capsys):
    folder = tmp_path / "x"
    folder.mkdir()
    Image.new("L", (8, 8), 7).save(os.fsencode(folder) + b"/caf\xe9.png", "PNG")
    call(capsys, "surprise", digits, folder, "--draws", 2, "--out", tmp_path / "s.csv")
    assert "caf\\udce9.png" in (tmp_path / "s.csv").read_text()


def test_a_resumed_run_keeps_its_seed_and_its_data(digits, capsys):
    again = ("train", "digits", "--out", digits, "--resume")
    assert "seed is 0" in refused(capsys, *again, "--seed", 5)
    assert "--data.binarise is no" in refused(capsys, *again, "--data.binarise", "static")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.json", lambda old: old.replace(b'"seed": 0', b'"seed": "x"'), "has no seed"),
        ("config.json", lambda old: old.replace(b'"bytes"', b'"standard", "mean": [1, 2, 3], "scale": [1, 1, 1]'), "does not fit"),
        ("scores.json", lambda _: b"{", "scores.json is damaged"),
        ("scores.json", lambda _: b"[]", "scores.json is damaged"),
    ],
)  # fmt: skip
def test_damaged_runs(digits, capsys, name, content, said):
    file = digits / name
    old = file.read_bytes() if file.exists() else None
    try:
        file.write_bytes(content(old))
        assert said in refused(capsys, "report", digits)
    finally:
        file.unlink() if old is None else file.write_bytes(old)


def test_a_log_with_noise_in_it_ends_there(digits):
    file = digits / "log.jsonl"
    whole, before = file.read_bytes(), Run.load(digits).log
    assert len(before) == QUICK.steps
    try:
        for noise in (b"12\n", b"\xff\n", b'{"step": "3"}\n'):
            file.write_bytes(whole + noise)
            assert Run.load(digits).log == before
    finally:
        file.write_bytes(whole)


def test_damaged_arrays(digits, tmp_path, capsys):
    (tmp_path / "empty.npy").write_bytes(b"")
    np.savez(tmp_path / "many", x=np.zeros((2, 8, 8), np.uint8))
    (tmp_path / "many.npz").rename(tmp_path / "many.npy")
    Image.new("L", (8, 8), 7).save(tmp_path / "p.png")
    for name in ("empty.npy", "many.npy"):
        assert "not a readable .npy array" in refused(capsys, "surprise", digits, tmp_path / name)
        assert "not a readable .npy array" in refused(
            capsys, "repair", digits, tmp_path / "p.png", "--observed", tmp_path / name
        )


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--seed", -1), "--seed is -1"),
        (("--seed", 10**23), "--seed is 1"),
        (("--minutes", "nan"), "--minutes is nan"),
        (("--minutes", "inf"), "--minutes is inf"),
        (("--accelerator", "foo"), "--accelerator foo"),
        (("--devices", 0), "--devices is 0"),
        (("--threads", -1), "--threads is -1"),
        (("--training.settled", 5), "not pairs of a round and a number of rounds"),
        (("--training.settled", 5, 9, 5, 8), "not pairs of a round and a number of rounds"),
        (("--training.settled", 5, 0), "not pairs of a round and a number of rounds"),
        (("--minutes", 1, "--training.settled", 5, 9), "leave --training.settled out"),
        (("--training.batch", 10**11), "--training.batch is 100,000,000,000"),
    ],
)
def test_flags_of_training_that_cannot_be_met(tmp_path, capsys, flags, said):
    assert said in refused(capsys, "train", "digits", "--out", tmp_path / "r", *flags)
    assert not (tmp_path / "r").exists()


def test_places_that_are_none(digits, capsys, tmp_path):
    assert "no such path: ~nobody-of-that-name/x" in refused(capsys, "data", "~nobody-of-that-name/x")
    assert "cannot write" in refused(capsys, "dream", digits, "--out", tmp_path / ("x" * 300 + ".png"))


def test_crossed_pictures_of_two_channels_are_told_before_they_are_made(tmp_path, capsys):
    x = np.random.default_rng(0).integers(0, 256, (40, 2, 8, 8)).astype(np.uint8)
    np.save(tmp_path / "x.npy", x)
    fit(str(tmp_path / "x.npy"), "gan", config=GANConfig(latent=2, width=4), training=QUICK, out=tmp_path / "g")
    assert "no pictures that could be shown" in refused(capsys, "dream", tmp_path / "g")
    call(capsys, "dream", tmp_path / "g", "-n", 3, "--out", tmp_path / "g.npy")


def test_ctrl_c_tells_what_is_kept(tmp_path, capsys, monkeypatch):
    def stopped(run, data, fabric, until):
        for report in recording.record(run, data, fabric):
            if report.step == 25:
                raise KeyboardInterrupt
            yield report

    monkeypatch.setattr(train, "record", stopped)
    for seldom, kept in ((1e9, "no round was kept yet"), (0.0, "round 25 of 40 and all before it are kept")):
        monkeypatch.setattr(recording, "SAVE_EVERY", seldom)
        folder = tmp_path / f"{seldom}"
        with pytest.raises(SystemExit) as done:
            main(["train", "digits", "--steps", "40", "--out", str(folder), "--model.width", "8", "--threads", "1"])
        assert done.value.code == 130
        told = capsys.readouterr().err
        assert kept in told
        assert told.rstrip().endswith("--resume --threads 1")


def test_bfloat16_is_refused_where_it_is_emulated(tmp_path, monkeypatch, capsys):
    coarse = ("train", "digits", "--training.steps", 2, "--training.precision", "bfloat16", "--model.width", 8)
    monkeypatch.setattr(train, "bfloat16_costs", lambda: 40.0)
    assert "takes 40 times as long in bfloat16" in refused(capsys, *coarse, "--out", tmp_path / "r")
    assert not (tmp_path / "r").exists()
    monkeypatch.setattr(train, "bfloat16_costs", lambda: 0.25)
    begun = train.begin(
        open_data("digits"), "vae", SMALL, TrainingConfig(steps=2, precision="bfloat16"), tmp_path / "r", None, 0, fabric_for("cpu"), ""
    )  # fmt: skip
    assert begun[0].training.precision == "bfloat16"
