"""What the commands make is what was asked of them: each flag, against what the library says."""

import csv
import json
import math

import numpy as np
import pytest
import torch

import reverie
from reverie.clock import rounds_in
from reverie.core import abilities
from reverie.core.corruption import PoissonNoise, SaltAndPepper
from reverie.core.recipe import TrainingConfig
from reverie.data import open_data
from reverie.inputs import read_noise
from reverie.models import MODELS
from reverie.run import Run
from reverie.train import free_folder
from reverie.training import State, fabric_for
from tests.test_cli import call


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    """A small machine of digits, a little taught."""
    config = MODELS["vae"].Config(latent=8, width=32, components=20)
    folder = tmp_path_factory.mktemp("results") / "vae"
    return reverie.fit("digits", "vae", out=folder, config=config, training=TrainingConfig(steps=200, batch=64)).folder


@pytest.fixture(scope="module")
def each(tmp_path_factory):
    """A machine of independent pixels for each digit, in closed form."""
    folder = tmp_path_factory.mktemp("results") / "each"
    return reverie.fit("digits", "independent", per_class=True, out=folder).folder


@pytest.fixture(scope="module")
def gan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results") / "gan"
    config = MODELS["gan"].Config(width=4, style=True, inversion=5)
    return reverie.fit("digits", "gan", out=folder, config=config, training=TrainingConfig(steps=3, batch=8)).folder


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two digits that are not alike, each in a file."""
    folder = tmp_path_factory.mktemp("two")
    data = open_data("digits")
    x, labels = data.test.raw().numpy(), data.test.labels.tolist()
    for name, label in (("zero", 0), ("one", 1)):
        np.save(folder / f"{name}.npy", x[labels.index(label)][None])
    return folder / "zero.npy", folder / "one.npy"


def array(capsys, place, *line):
    call(capsys, *line, "--out", place)
    return np.load(place)


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_dream_has_the_seed_and_the_label_that_were_asked_for(vae, each, tmp_path, capsys):
    one, same, other = (array(capsys, tmp_path / "d.npy", "dream", vae, "-n", 3, "--seed", seed) for seed in (3, 3, 4))
    assert (one == same).all()
    assert (one != other).any()
    data = open_data("digits")
    raw, labels = data.train.raw().numpy(), data.train.labels.numpy()
    means = np.stack([raw[labels == y].mean(0) for y in range(10)])
    for label in (0, 7):
        x = array(capsys, tmp_path / "d.npy", "dream", each, "-n", 80, "--given", label, "--exact")
        assert np.abs(x.mean(0) - means).mean((1, 2, 3)).argmin() == label


def test_a_cold_machine_is_surer_of_what_it_dreams(vae, tmp_path, capsys):
    warm, cold = (
        array(capsys, tmp_path / "d.npy", "dream", vae, "-n", 40, "--temperature", t).astype(float) for t in (1, 0.01)
    )
    assert cold.std(0).mean() < 0.3 * warm.std(0).mean()


@pytest.mark.parametrize(
    ("half", "kept"),
    [("left", np.s_[..., :4]), ("right", np.s_[..., 4:]), ("top", np.s_[..., :4, :]), ("bottom", np.s_[..., 4:, :])],
)
def test_the_half_that_was_measured_is_kept_and_the_other_is_not(vae, tmp_path, capsys, half, kept):
    x = np.random.default_rng(0).integers(0, 256, (2, 1, 8, 8)).astype(np.uint8)
    np.save(tmp_path / "x.npy", x)
    draws = array(capsys, tmp_path / "r.npy", "repair", vae, tmp_path / "x.npy", "--observed", half, "-n", 2)
    same = draws == x
    assert same[kept].all()
    assert same.mean() < 0.75


def test_noise_is_read_in_the_units_of_the_data(vae):
    run = Run.load(vae)
    assert read_noise(run, "0") == 0
    assert read_noise(run, "25.5") == pytest.approx(0.2)  # of bytes that are numbers from -1 to 1
    assert read_noise(run, "poisson:20") == PoissonNoise(20.0, -1.0, 1.0)
    assert read_noise(run, "salt-and-pepper:0.3") == SaltAndPepper(0.3, -1.0, 1.0)


def test_noise_is_taken_away_by_the_method_that_was_asked_for(vae, two, tmp_path, capsys):
    for method, words in (("importance", "importance resampling"), ("metropolis", "Metropolis"), ("gibbs", "Gibbs")):
        with pytest.raises(SystemExit) as done:
            reverie.cli.main(["repair", str(vae), str(two[0]), "--noise", "30", "--method", method, "-n", "2", "--out", str(tmp_path / "r.npy")])  # fmt: skip
        assert done.value.code == 0
        assert words in capsys.readouterr().err
        assert (np.load(tmp_path / "r.npy") != np.load(two[0])).any()


def test_a_walk_goes_from_the_first_to_the_second(vae, two, tmp_path, capsys):
    a, b = two
    there, at_a, at_b = (
        array(capsys, tmp_path / "w.npy", "morph", vae, *ends, "--steps", 3) for ends in ((a, b), (a, a), (b, b))
    )
    assert (there[0] == at_a[0]).all()
    assert (there[-1] == at_b[-1]).all()
    assert (there[0] != there[-1]).any()


def test_a_mixture_has_the_coarse_styles_of_the_first(gan, two, tmp_path, capsys):
    model, codec = Run.load(gan).model, Run.load(gan).codec
    a, b = (codec.to_model(torch.from_numpy(np.load(file))) for file in two)
    mixed = array(capsys, tmp_path / "m.npy", "mix", gan, *two, "--layers", 1)
    truth = codec.to_world(model.mix(model.invert(a), model.invert(b), 1)).numpy()
    assert (mixed == truth).all()


def test_an_edit_goes_along_the_direction_of_that_number(gan, two, tmp_path, capsys):
    run = Run.load(gan)
    model, data = run.model, open_data("digits")
    x = run.codec.to_model(torch.from_numpy(np.load(two[0])))
    point = abilities.seek(model, x, None)[0]
    _, ways = abilities.main_directions(model, data.train.x(abilities.SEEN), 2, None)
    truth = run.codec.to_world(abilities.traverse(model, point, ways[1:2], 2.5, 3, 0)[0]).numpy()
    assert (array(capsys, tmp_path / "e.npy", "edit", gan, two[0], "--direction", 2, "--steps", 3) == truth).all()


def test_the_tables_of_surprise_and_of_labels_hold_what_they_say(each, vae, two, tmp_path, capsys):
    call(capsys, "surprise", vae, two[0], "--draws", 20, "--out", tmp_path / "s.csv")
    (row,) = rows_of(tmp_path / "s.csv")
    assert float(row["bits_per_dim"]) == pytest.approx(float(row["nats"]) / 64 / math.log(2), abs=1e-3)
    assert float(row["error"]) > 0
    assert 1 <= float(row["ess"]) <= 20
    call(capsys, "classify", each, two[1], "--out", tmp_path / "c.csv")
    (row,) = rows_of(tmp_path / "c.csv")
    nats = torch.tensor([float(row[f"nats if {y}"]) for y in range(10)])
    chance = torch.softmax(Run.load(each).model.label_shares.log() - nats, 0)
    assert row["label"] == str(int(chance.argmax()))
    assert float(row["chance"]) == pytest.approx(float(chance.max()), abs=1e-3)


def test_runs_are_put_side_by_side_and_reports_are_made_anew(tmp_path, capsys):
    runs = [reverie.fit("bars", name, out=tmp_path / name).folder for name in ("noise", "independent")]
    lines = call(capsys, "compare", *runs).splitlines()
    (row,) = (line for line in lines if line.strip().startswith("bits_per_dim"))
    own = [
        {s["name"]: s["value"] for s in json.loads((run / "scores.json").read_text())["scores"]}["bits_per_dim"]
        for run in runs
    ]
    assert own[0] == pytest.approx(1)
    assert own[0] != own[1]
    found = [float(word) for word in row.replace("±", " ").split()[1:] if word.replace(".", "").isdigit()]
    assert found[0] == pytest.approx(own[0], abs=1e-3)
    assert any(value == pytest.approx(own[1], abs=1e-3) for value in found[1:])
    assert "report.html" in call(capsys, "report", runs[1])
    assert (runs[1] / "report.html").is_file()


def test_the_one_of_a_cohort_that_was_named_is_taken_apart(tmp_path, capsys):
    x = np.random.default_rng(0).standard_normal((200, 2)).astype(np.float32)
    x[100:] = np.cumsum(x[100:], 0)
    np.savez(tmp_path / "two.npz", x=x, lengths=[100, 100], subjects=["ann", "bob"])
    made = tmp_path / "m"
    call(capsys, "train", tmp_path / "two.npz", "--data.window", 20, "--data.split", "time", "--model", "cohort",
         "--model.classes", 2, "--model.hidden", 4, "--steps", 3, "--threads", 1, "--out", made)  # fmt: skip
    found = []
    for name in ("ann", "bob"):
        call(
            capsys,
            "analyse",
            made,
            "--given",
            name,
            "--steps",
            200,
            "--sweep",
            "h1[0]",
            "--points",
            3,
            "--between",
            -2,
            3,
        )
        numbers = json.loads((made / "analysis.json").read_text())
        assert [numbers["sweep"]["values"][i] for i in (0, -1)] == [-2, 3]
        found.append(numbers["members"])
    assert found[0] != found[1]


def test_the_trial_that_was_asked_for_is_foreseen(tmp_path, capsys):
    x = np.concatenate([np.zeros((150, 1)), np.full((150, 1), 100.0)]) + np.random.default_rng(0).standard_normal(
        (300, 1)
    )
    np.savez(tmp_path / "two.npz", x=x.astype(np.float32), lengths=[150, 150])
    made = tmp_path / "m"
    call(capsys, "train", tmp_path / "two.npz", "--data.window", 20, "--data.split", "time", "--model", "recurrent", "--model.hidden", 4,
         "--steps", 150, "--threads", 1, "--out", made)  # fmt: skip
    ends = [
        np.median(
            array(
                capsys,
                tmp_path / "f.npy",
                "forecast",
                made,
                tmp_path / "two.npz",
                "--steps",
                1,
                "-n",
                200,
                "--trial",
                trial,
            )
        )
        for trial in (0, 1)
    ]
    assert ends[0] == pytest.approx(0, abs=30)
    assert ends[1] == pytest.approx(100, abs=30)


def test_minutes_become_rounds_by_the_clock(monkeypatch):
    clock = iter(0.5 * i for i in range(10**6))
    monkeypatch.setattr("reverie.clock.time.perf_counter", lambda: next(clock))
    data = open_data("bars")
    state = State(MODELS["vae"](MODELS["vae"].Config(latent=2, width=8), data.space), TrainingConfig(batch=8))
    before = {name: part.clone() for name, part in state.model.state_dict().items()}
    # Whenever it is looked at, the clock has gone on by half a second: four seconds of patience hold seven rounds.
    assert rounds_in(2.0, state, data, 0, fabric_for("cpu")) == int(0.9 * 120 / (4 / 7))
    assert all(torch.equal(part, before[name]) for name, part in state.model.state_dict().items())


def test_folders_are_never_written_over(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(free_folder("digits", "vae")) == "runs/digits-vae"
    first, second = (reverie.fit("bars", "noise").folder for _ in range(2))
    assert [first.name, second.name] == ["bars-noise", "bars-noise-2"]
