"""The plan of the house, enforced: imports go one way, files stay small, nothing dangerous is read."""

import ast
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "reverie"
FLOORS = [
    {"core"},
    {"nets", "maths", "data", "optimisers", "files"},
    {"models"},
    {"training"},
    {"evaluation", "plots"},
    {"run"},
    {"recording", "report"},
    {"flags", "progress"},
    {"train", "inputs", "outputs"},
    {"commands", "verdicts", "analysis"},
    {"cli"},
    {"__main__"},
]
FILES = sorted(SOURCE.rglob("*.py"))


def room(path: Path) -> str:
    first = path.relative_to(SOURCE).parts[0]
    return first.removesuffix(".py")


def level(name: str) -> int:
    return next(i for i, floor in enumerate(FLOORS) if name in floor)


@pytest.mark.parametrize("path", [p for p in FILES if p.name != "__init__.py" or p.parent != SOURCE], ids=str)
def test_imports_go_one_way(path):
    own = room(path)
    tree = ast.parse(path.read_text())
    # At module level only: the command line looks its commands up when one is called.
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("reverie."):
            other = node.module.split(".")[1]
            assert other == own or level(other) < level(own), f"{own} may not import {other}"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_files_stay_readable_and_safe(path):
    text = path.read_text()
    assert text.count("\n") <= 320
    assert not re.search(r"\bpickle\.|torch\.load\(|(?<![.\w])eval\(|(?<![.\w])exec\(|allow_pickle=True", text)
