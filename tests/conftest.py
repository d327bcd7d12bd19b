"""Shapes and types are checked in tests, at 41 µs a call; nowhere else."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")

import pytest
import torch
from jaxtyping import install_import_hook

# A whole number is a float, as everywhere in Python.
CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
hook = install_import_hook("reverie", CHECKER)
hook.__enter__()

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded(tmp_path_factory, monkeypatch):
    """The same draws in every test whatever ran before it, and no traces in the user's own cache."""
    torch.manual_seed(0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
