"""Recordings in files: what is held out, what is standard, and one clear line for what is no recording."""

import numpy as np
import pytest
import torch

from reverie.core.errors import BadInput
from reverie.data import open_data
from reverie.data.codecs import Counts, Standard, codec_from_json

RNG = np.random.default_rng(0)
WALK = np.cumsum(RNG.normal(size=(400, 3)), 0) * [1, 10, 0.1] + [5, 0, 100]


def opened(tmp_path, array, name="a.npy", **options):
    np.save(tmp_path / name, array) if name.endswith(".npy") else np.savez(tmp_path / name, **array)
    return open_data(tmp_path / name, **{"window": 20} | options)


def steps(split):
    return np.concatenate([trial.x for trial in split.trials])


def test_without_a_window_rows_are_points(tmp_path):
    assert opened(tmp_path, WALK, window=None).space.shape == (3,)


def test_one_trial_is_held_out_in_time(tmp_path):
    data = opened(tmp_path, WALK)
    assert data.space.shape == (20, 3)
    assert data.spec["split"] == "time"
    assert [len(steps(s)) for s in (data.train, data.valid, data.test)] == [320, 40, 40]
    assert np.array_equal(np.concatenate([steps(s) for s in (data.train, data.valid, data.test)]), WALK.astype("f4"))
    assert [len(s) for s in (data.train, data.valid, data.test)] == [301, 2, 2]


def test_many_trials_are_held_out_whole(tmp_path):
    trials = RNG.normal(size=(30, 25, 2))
    data = opened(tmp_path, trials)
    assert data.spec["split"] == "trial"
    assert [len(s.trials) for s in (data.train, data.valid, data.test)] == [24, 3, 3]
    seen = {trial.x.tobytes() for s in (data.train, data.valid, data.test) for trial in s.trials}
    assert seen == {x.tobytes() for x in trials.astype("f4")}
    assert opened(tmp_path, trials, split="time").test.trials[0].x.shape == (3, 2)


def test_the_scale_is_that_of_the_training_part_alone(tmp_path):
    array = WALK.copy()
    array[::7, 1] = np.nan
    array[320:] = 1e6  # held out
    data = opened(tmp_path, array)
    assert isinstance(data.codec, Standard)
    assert data.codec.mean == pytest.approx(np.nanmean(array[:320], 0), rel=1e-5)
    assert data.codec.scale == pytest.approx(np.nanstd(array[:320], 0), rel=1e-5)


def test_nan_is_not_observed_in_batches_and_splits(tmp_path):
    array = np.where(RNG.random(WALK.shape) < 0.3, np.nan, WALK)
    data = opened(tmp_path, array)
    batch = next(data.batches(8, seed=0))
    assert batch.observed.double().mean() == pytest.approx(0.7, abs=0.08)
    assert (batch.x[~batch.observed] == 0).all()
    assert torch.equal(data.valid.observed(), ~data.valid.raw().isnan())


def test_batches_hold_each_window_once_an_epoch(tmp_path):
    data = opened(tmp_path, WALK, split="time")
    batches = data.batches(43, seed=1)
    seen = torch.cat([next(batches).x for _ in range(7)])  # 301 windows
    wanted = data.train.x()
    assert torch.equal(seen[seen[:, 0, 0].argsort()], wanted[wanted[:, 0, 0].argsort()])


def test_trials_of_unequal_lengths_in_three_ways(tmp_path):
    padded = np.full((2, 60, 3), np.nan)
    padded[0, :50], padded[1] = WALK[:50], WALK[50:110]
    ways = [
        opened(tmp_path, padded),
        opened(tmp_path, {"x": WALK[:110], "lengths": np.array([50, 60])}, "a.npz"),
        open_csv(tmp_path, ["run,a,b,c"] + [f"{int(i >= 50)}," + ",".join(map(repr, map(float, WALK[i]))) for i in range(110)],
                 trial="run"),
    ]  # fmt: skip
    for data in ways:
        assert [len(trial) for trial in data.train.trials] == [40, 48]
        assert data.fingerprint == ways[0].fingerprint


def open_csv(tmp_path, lines, **options):
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    return open_data(tmp_path / "a.csv", **{"window": 20} | options)


def test_counts_may_have_holes(tmp_path):
    counts = RNG.poisson(3.0, (200, 4))
    data = opened(tmp_path, counts)
    assert data.space.kind == "count"
    assert isinstance(data.codec, Counts)
    assert not data.train.holes
    holed = opened(tmp_path, np.where(RNG.random(counts.shape) < 0.1, np.nan, counts))
    assert holed.space.kind == "count"
    assert holed.train.holes
    assert opened(tmp_path, counts, kinds="real").space.kind == "real"


def test_inputs_and_subjects_come_with_their_windows(tmp_path):
    """Every window is told the inputs of its own steps, and whose it is."""
    subjects = np.array(["ann", "bob", "ann", "cy"])
    x = np.arange(4)[:, None, None] * 1000.0 + np.arange(60)[None, :, None] + 0.5
    data = opened(tmp_path, {"x": x, "inputs": x - 0.5, "subjects": subjects}, "a.npz")
    assert data.classes == ("ann", "bob", "cy")
    batch = next(data.batches(16, seed=0))
    world = data.codec.to_world(batch.x)
    torch.testing.assert_close(batch.inputs, world - 0.5, atol=1e-2, rtol=0)
    whose = [data.classes[i] for i in batch.given]
    assert whose == [subjects[int(row[0, 0] // 1000)] for row in world]
    told = data.valid.batch(3)
    assert told.inputs.shape == (3, 20, 1)
    assert (told.inputs[:, 6:] == 0).all()  # filled up: six steps of each trial are held out here


def test_columns_of_a_table_have_parts_to_play(tmp_path):
    lines = ["run,who,light,v,t"] + [f"{i // 30},{'ab'[i // 60]},{i % 2},{i / 7},x{i % 3}" for i in range(120)]
    data = open_csv(tmp_path, lines, trial="run", label="who", inputs="light", drop="t")
    assert data.space.shape == (20, 1)
    assert data.classes == ("a", "b")
    assert next(data.batches(4, seed=0)).inputs.shape == (4, 20, 1)
    again = open_data(**data.spec)
    assert again.fingerprint == data.fingerprint


def test_a_test_set_of_its_own(tmp_path):
    np.save(tmp_path / "test.npy", WALK[:100] + 1)
    data = opened(tmp_path, WALK, test=str(tmp_path / "test.npy"))
    assert [len(steps(s)) for s in (data.train, data.valid, data.test)] == [360, 40, 100]
    assert open_data(**data.spec).fingerprint == data.fingerprint
    np.save(tmp_path / "test.npy", WALK[:100, :2])
    with pytest.raises(BadInput, match=r"test\.npy \(2, 0\); they must agree"):
        opened(tmp_path, WALK, test=str(tmp_path / "test.npy"))


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        (WALK[0], {}, r"shape \(3,\)"),
        (np.full((50, 2), np.nan), {}, "nothing was measured"),
        (np.full((50, 2), np.inf), {}, "100 values that are infinite"),
        (WALK[:12], {}, "fewer than 20 steps"),
        (np.array([["a"]]), {}, "not numbers"),
        (WALK, {"kinds": "count"}, "other numbers than 0, 1, 2"),
        (WALK, {"kinds": "a=real"}, "no column .a.; it has 1, 2, 3"),
        (WALK, {"window": 1}, "below its least value 2"),
        (WALK, {"binarise": "static"}, "no use for"),
        (WALK, {"test": "nowhere.npy"}, "is no file"),
        (WALK, {"trial": "run"}, "no use for"),
        (RNG.normal(size=(2, 30, 2)), {"split": "trial"}, "at least 3"),
    ],
    ids=str,
)
def test_what_is_no_recording_is_told_in_one_line(tmp_path, given, options, words):
    with pytest.raises(BadInput, match=words) as caught:
        opened(tmp_path, given, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": WALK, "y": WALK}, "a recording has x"),
        ({"x": WALK, "lengths": np.array([100, 200])}, "sum to 300"),
        ({"x": WALK, "lengths": np.array([400.0])}, "whole numbers"),
        ({"x": WALK, "inputs": WALK[:7]}, "as many steps"),
        ({"x": WALK, "inputs": WALK * np.nan}, "all of them known"),
        ({"x": WALK, "subjects": np.array(["a", "b"])}, "name one for each"),
    ],
    ids=str,
)
def test_arrays_that_do_not_fit_together(tmp_path, arrays, words):
    with pytest.raises(BadInput, match=words):
        opened(tmp_path, arrays, "a.npz")


@pytest.mark.parametrize(
    ("lines", "options", "words"),
    [
        (["a", *["1.5"] * 30, "x", *["1.5"] * 30], {}, "line 32, column 'a': 'x' is not a number"),
        (["a,b", *["1,1"] * 30, "1,", *["1,1"] * 30], {"inputs": "b"}, "must be known"),
        (["a,b", *["1,1"] * 30, "1,2", *["1,1"] * 30], {"trial": "b"}, "not together"),
        (["a,b", *["1,1"] * 30, "1,2"], {"label": "b"}, "more than one 'b'"),
        (["a", *["1"] * 30], {"drop": "a"}, "no channels left"),
        (["a", *["1"] * 30], {"inputs": "z"}, "no column 'z'"),
    ],
    ids=str,
)
def test_tables_that_are_no_recording(tmp_path, lines, options, words):
    with pytest.raises(BadInput, match=words):
        open_csv(tmp_path, lines, **options)


def test_a_channel_must_be_measured_in_training(tmp_path):
    array = WALK.copy()
    array[:330, 2] = np.nan
    with pytest.raises(BadInput, match="channel 2 is measured in no training step"):
        opened(tmp_path, array)


def test_the_seconds_between_steps_are_told_for_series(tmp_path):
    data = opened(tmp_path, WALK, tr=1.5)
    assert data.space.tr == 1.5
    assert open_data(**data.spec).space.tr == 1.5
    with pytest.raises(BadInput, match=r"no use for --data\.tr"):
        open_data("lorenz", tr=1.0)


def several(tmp_path, **options):
    lines = ["volts,spikes,state,mood,light"]
    for i in range(100):
        volts = "" if i % 17 == 3 else f"{np.sin(i / 5):.3f}"
        lines.append(f"{volts},{i % 4},{('rest', 'run', 'sleep')[i % 3]},{('low', 'high', 'middle')[i % 3]},{i % 2}")
    return open_csv(tmp_path, lines, **options)


def test_channels_of_a_table_are_what_its_columns_seem(tmp_path):
    data = several(tmp_path, kinds="mood=low<middle<high", inputs="light")
    told = [(c.name, c.kind, c.levels) for c in data.space.columns]
    assert told == [("volts", "real", 0), ("spikes", "count", 0), ("state", "category", 3), ("mood", "ordered", 3)]
    assert data.space.shape == (20, 4)
    assert data.codec.levels == ((), (), ("rest", "run", "sleep"), ("low", "middle", "high"))
    raw = steps(data.train)
    assert raw[:4, 1:].tolist() == [[0, 0, 0], [1, 1, 2], [2, 2, 1], [3, 0, 0]]
    assert np.isnan(raw[3, 0])
    seen = raw[~np.isnan(raw[:, 0]), 0]
    assert data.codec.mean[0] == pytest.approx(seen.mean(), rel=1e-5)
    assert codec_from_json(data.codec.to_json()) == data.codec
    x = data.train.x(5)
    world = data.codec.to_world(x)
    known = ~data.train.raw(slice(0, 5)).isnan()
    torch.testing.assert_close(world[known], data.train.raw(slice(0, 5)).double()[known])
    assert open_data(**data.spec).fingerprint == data.fingerprint
    assert [c.kind for c in several(tmp_path, drop="mood").space.columns] == ["real", "count", "category", "category"]


def test_channels_of_one_kind_are_what_they_were(tmp_path):
    rows = [f"{i % 3},{i % 7}" for i in range(60)]
    assert open_csv(tmp_path, ["a,b", *rows]).space.kind == "count"
    assert open_csv(tmp_path, ["a,b", *rows], kinds="real").space.kind == "real"
    assert [c.kind for c in open_csv(tmp_path, ["a,b", *rows], kinds="a=category").space.columns] == [
        "category",
        "count",
    ]
    assert open_csv(tmp_path, ["a,b", *(f"{np.sin(i):.3f},{i % 7 - 3}" for i in range(60))]).space.kind == "real"


def test_channels_of_an_array_are_of_several_kinds_where_they_are_said_to_be(tmp_path):
    x = np.stack([WALK[:, 0], np.arange(400) % 3, np.arange(400) % 5], 1)
    assert opened(tmp_path, x).space.kind == "real"
    data = opened(tmp_path, x, kinds="2=category")
    assert [(c.name, c.kind) for c in data.space.columns] == [("1", "real"), ("2", "category"), ("3", "count")]
    assert data.codec.levels[1] == ("0", "1", "2")
    named = {"x": x.reshape(4, 100, 3), "channels": np.array(["volts", "stage", "spikes"])}
    data = opened(tmp_path, named, "a.npz", kinds="stage=ordered")
    assert [(c.name, c.kind) for c in data.space.columns] == [
        ("volts", "real"),
        ("stage", "ordered"),
        ("spikes", "count"),
    ]
    assert len(data.train.trials) == 4
    np.testing.assert_array_equal(data.train.trials[0].x, x[:80].astype("f4"))


def test_a_test_set_is_of_the_kinds_of_what_was_learned_from(tmp_path):
    lines = ["v,s", *(f"{np.sin(i):.3f},{'abc'[i % 3]}" for i in range(60))]
    (tmp_path / "test.csv").write_text("\n".join(["v,s", *(f"{i},{'ca'[i % 2]}" for i in range(40))]))
    data = open_csv(tmp_path, lines, test=str(tmp_path / "test.csv"))
    assert data.codec.levels[1] == ("a", "b", "c")
    assert steps(data.test)[:2].tolist() == [[0, 2], [1, 0]]
    (tmp_path / "test.csv").write_text("\n".join(["v,s", *(f"{i},d" for i in range(40))]))
    with pytest.raises(BadInput, match=r"'d' is not one of its categories \(a, b, c\)"):
        open_csv(tmp_path, lines, test=str(tmp_path / "test.csv"))


@pytest.mark.parametrize(
    ("column", "kinds", "words"),
    [
        ("a a b", "w=ordered", "order of the words in 'w' is not known; say --data.kinds 'w=a<b'"),
        ("a a b", "w=a<a", "names a level twice"),
        ("a a b", "w=a<c", "'b' is not one of its categories"),
        ("a a a", "", "'w' is always the same"),
        ("a a b", "w=word", "is not NAME=real"),
        ("a 1 b", "", "'a' is not a number; mend it"),
    ],
)
def test_kinds_that_do_not_fit_are_told(tmp_path, column, kinds, words):
    with pytest.raises(BadInput, match=words):
        open_csv(tmp_path, ["v,w", *(f"{np.sin(i):.3f},{column.split()[i % 3]}" for i in range(60))], kinds=kinds)
