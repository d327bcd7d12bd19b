"""Recordings in the formats of brain research: scans in NIfTI, spikes in NWB."""

import importlib.util
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from reverie.core.errors import BadInput

SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}
SCANS, SPIKES = (".nii", ".nii.gz"), (".nwb",)


def is_scan(path: Path) -> bool:
    return path.name.lower().endswith(SCANS)


def is_spikes(path: Path) -> bool:
    return path.name.lower().endswith(SPIKES)


def read_scan(path: Path, parcels: str) -> np.ndarray:
    """(T, N) the mean over each of the N regions of `parcels`, a NIfTI of whole numbers (0: no region) on the grid of the scan."""
    if not parcels:
        raise BadInput(f"{path.name} is a scan; say which voxels are one region, with --data.parcels ATLAS.nii.gz")
    scan, atlas = _opened(path), _opened(Path(parcels).expanduser())
    if len(scan.shape) != 4 or scan.shape[3] < 2:
        raise BadInput(f"{path} has shape {scan.shape}; a recording is (x, y, z, time)")
    labels = _values(Path(parcels), atlas, ...).squeeze()
    if labels.shape != scan.shape[:3]:
        raise BadInput(
            f"{parcels} has shape {labels.shape}, and {path.name} {scan.shape[:3]}; resample the one to the other"
        )
    if not np.allclose(scan.affine, atlas.affine, atol=1e-3):
        raise BadInput(
            f"{parcels} lies elsewhere in space than {path.name} (their affines differ); resample the one to the other"
        )
    if (labels != np.round(labels)).any() or labels.max() < 1:
        raise BadInput(f"{parcels} holds no regions; a parcellation is whole numbers, 1, 2 …, and 0 elsewhere")
    flat = labels.astype(np.int64).ravel()
    names = np.unique(flat[flat > 0])
    places = [np.flatnonzero(flat == name) for name in names]
    # A volume at a time, so that a long scan need not be in memory at once.
    volumes = (_values(path, scan, (..., t)).astype(np.float64).ravel() for t in range(scan.shape[3]))
    return np.stack([[volume[place].mean() for place in places] for volume in volumes])


def repetition_time(path: Path) -> float:
    """Seconds between two volumes as the header of a scan says; 0 where it does not say, or not in what unit."""
    header = _opened(path).header
    time = header.get_zooms()[3:4]
    return float(time[0]) * SECONDS.get(header.get_xyzt_units()[1], 0.0) if time and time[0] > 0 else 0.0


def read_spikes(path: Path, width: float) -> list[np.ndarray]:
    """The trials of an NWB file, or all of it as one: (T, N) spike counts of N units in bins of `width` seconds."""
    if importlib.util.find_spec("pynwb") is None:
        raise BadInput("reading .nwb needs the package pynwb, which is not installed: pip install 'reverie[brains]'")
    if width <= 0:
        raise BadInput(f"{path.name} holds spike times; say how long a step is, in seconds, with --data.bin")
    from pynwb import NWBHDF5IO

    try:
        with NWBHDF5IO(str(path), "r", load_namespaces=True) as file:
            content: Any = file.read()
            units, trials = content.units, content.trials
            if units is None or "spike_times" not in units.colnames:
                raise BadInput(f"{path} has no table of units with spike times")
            times = [np.asarray(units["spike_times"][i], float) for i in range(len(units))]
            spans = None if trials is None else list(zip(trials["start_time"][:], trials["stop_time"][:], strict=True))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} is not a readable NWB file ({' '.join(str(error).split())[:80]})") from error
    if not any(len(spikes) for spikes in times):
        raise BadInput(f"{path} holds no spikes")
    if not spans:
        spans = [(min(s[0] for s in times if len(s)), max(s[-1] for s in times if len(s)))]
    found = []
    for start, stop in spans:
        steps = max(1, int((stop - start) / width + 1e-9))
        edges = start + width * np.arange(steps + 1)
        found.append(np.stack([np.histogram(spikes, edges)[0] for spikes in times], 1))
    return found


def _opened(path: Path) -> Any:
    if importlib.util.find_spec("nibabel") is None:
        raise BadInput("reading NIfTI needs the package nibabel, which is not installed: pip install 'reverie[brains]'")
    import nibabel

    if not path.is_file():
        raise BadInput(f"no such file: {path}; give a .nii or .nii.gz")
    try:
        return nibabel.load(path)
    except (nibabel.filebasedimages.ImageFileError, OSError, EOFError, ValueError) as error:
        raise BadInput(f"{path} is not a readable NIfTI ({' '.join(str(error).split())[:80]})") from error


def _values(path: Path, scan: Any, where: Any) -> np.ndarray:
    """Some of the numbers of a scan, which are read only now; BadInput where the file ends before them."""
    try:
        return np.asarray(scan.dataobj[where])
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise BadInput(
            f"{path} is damaged or cut short ({' '.join(str(error).split())[:80]}); copy it again"
        ) from error
