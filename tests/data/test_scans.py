"""Scans through a parcellation and spikes from NWB, on files made here."""

from datetime import UTC, datetime

import nibabel
import numpy as np
import pytest
from pynwb import NWBHDF5IO, NWBFile

from reverie.core.errors import BadInput
from reverie.data import open_data


def nifti(path, array, affine=None):
    nibabel.save(nibabel.Nifti1Image(array, np.diag([3.0, 3.0, 3.0, 1.0]) if affine is None else affine), path)
    return path


@pytest.fixture
def scan(tmp_path):
    """Two regions of 3 x 2 x 2 voxels: in each voxel its region's signal, and a part that cancels over the region."""
    random = np.random.default_rng(0)
    labels = np.zeros((3, 2, 2), np.int16)
    labels[0], labels[2] = 7, 4
    signals = {7: random.standard_normal(60), 4: random.standard_normal(60)}
    x = random.standard_normal((3, 2, 2, 60))
    for name, signal in signals.items():
        x[labels == name] += signal - x[labels == name].mean(0)
    return nifti(tmp_path / "scan.nii.gz", x), nifti(tmp_path / "atlas.nii", labels), signals


def test_a_channel_is_the_mean_of_a_region(scan):
    path, atlas, signals = scan
    data = open_data(path, window=6, parcels=str(atlas))
    found = np.concatenate([part.trials[0].x for part in (data.train, data.valid, data.test)])
    np.testing.assert_allclose(found, np.stack([signals[4], signals[7]], 1), atol=1e-5)
    assert data.space.shape == (6, 2)


def test_a_scan_knows_the_seconds_between_its_volumes(scan, tmp_path):
    path, atlas, _ = scan
    options = {"window": 6, "parcels": str(atlas)}
    assert open_data(path, **options).space.tr == 0  # its header names no unit
    image = nibabel.load(path)
    for unit, value in (("sec", 0.72), ("msec", 720.0)):
        image.header.set_xyzt_units("mm", unit)
        image.header.set_zooms((3.0, 3.0, 3.0, value))
        nibabel.save(image, tmp_path / "timed.nii.gz")
        data = open_data(tmp_path / "timed.nii.gz", **options)
        assert data.space.tr == pytest.approx(0.72)
        assert "tr" not in data.spec
    told = open_data(tmp_path / "timed.nii.gz", **options, tr=2.0)
    assert told.space.tr == 2.0
    assert open_data(**told.spec).space.tr == 2.0


@pytest.mark.parametrize("name", ["scan.nii.gz", "scan.nii"])
def test_a_scan_that_was_cut_short_is_told(scan, tmp_path, name):
    path, atlas, _ = scan
    (tmp_path / "whole").mkdir()
    nibabel.save(nibabel.load(path), tmp_path / "whole" / name)
    whole = (tmp_path / "whole" / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: 2 * len(whole) // 3])
    with pytest.raises(BadInput, match="damaged or cut short"):
        open_data(tmp_path / name, window=6, parcels=str(atlas))


def test_what_is_wrong_with_a_scan_is_told(scan, tmp_path):
    path, atlas, _ = scan
    for match, options in (
        ("--data.parcels", {"window": 6}),
        ("--data.window", {"parcels": str(atlas)}),
        ("no such file", {"window": 6, "parcels": "nowhere.nii"}),
        ("resample", {"window": 6, "parcels": str(nifti(tmp_path / "a.nii", np.ones((3, 2, 3), np.int16)))}),
        (
            "elsewhere",
            {"window": 6, "parcels": str(nifti(tmp_path / "b.nii", np.ones((3, 2, 2), np.int16), np.eye(4)))},
        ),
        ("no regions", {"window": 6, "parcels": str(nifti(tmp_path / "c.nii", np.zeros((3, 2, 2), np.int16)))}),
        ("no use for", {"window": 6, "parcels": str(atlas), "bin": 0.1}),
    ):
        with pytest.raises(BadInput, match=match):
            open_data(path, **options)
    with pytest.raises(BadInput, match="time"):
        open_data(atlas, window=6, parcels=str(atlas))
    (tmp_path / "bad.nii").write_bytes(b"no scan")
    with pytest.raises(BadInput, match="readable"):
        open_data(tmp_path / "bad.nii", window=6, parcels=str(atlas))


def nwb(path, trials):
    file = NWBFile("made", "made", datetime(2026, 1, 1, tzinfo=UTC))
    random = np.random.default_rng(0)
    times = [np.sort(random.uniform(0, 10, n)) for n in (200, 50)]
    for spikes in times:
        file.add_unit(spike_times=spikes)
    for start, stop in trials:
        file.add_trial(start_time=start, stop_time=stop)
    with NWBHDF5IO(str(path), "w") as out:
        out.write(file)
    return times


def test_spikes_are_counted_within_their_trials(tmp_path):
    times = nwb(tmp_path / "s.nwb", [(1.0, 4.0), (5.0, 9.0)])
    data = open_data(tmp_path / "s.nwb", window=5, bin=0.1)
    trials = [[part.trials[i].x for part in (data.train, data.valid, data.test)] for i in range(2)]
    for whole, (start, stop) in zip(map(np.concatenate, trials), [(1.0, 4.0), (5.0, 9.0)], strict=True):
        assert len(whole) == round((stop - start) / 0.1)
        assert whole.sum(0).tolist() == [int(((t >= start) & (t <= stop)).sum()) for t in times]
    assert data.space.kind == "count"


def test_spikes_without_trials_are_one_and_what_is_wrong_is_told(tmp_path):
    times = nwb(tmp_path / "s.nwb", [])
    data = open_data(tmp_path / "s.nwb", window=5, bin=0.25)
    found = sum(part.trials[0].x.sum() for part in (data.train, data.valid, data.test))
    assert 0 <= sum(map(len, times)) - int(found) <= 15  # of the last, broken bin
    with pytest.raises(BadInput, match=r"--data\.bin"):
        open_data(tmp_path / "s.nwb", window=5)
    (tmp_path / "bad.nwb").write_bytes(b"no file")
    with pytest.raises(BadInput, match="readable"):
        open_data(tmp_path / "bad.nwb", window=5, bin=0.25)
