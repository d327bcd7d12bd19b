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
    {"clock"},
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
    for other in imported(ast.parse(path.read_text())):
        assert other == own or level(other) < level(own), f"{own} may not import {other}"


def imported(tree: ast.AST) -> list[str]:
    """The rooms of the house that are entered when a module is, and not only when one of its functions is called: the command line looks its
    commands up when one is called."""
    found = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module] if node.module != "reverie" else [f"reverie.{alias.name}" for alias in node.names]
        found += [name.split(".")[1] for name in modules if name.startswith("reverie.")] + imported(node)
    return found


@pytest.mark.parametrize(
    "text",
    ["from reverie.cli import main", "from reverie import cli", "import reverie.cli", "if True:\n    import reverie.cli as c",
     "class A:\n    import reverie.cli"],
)  # fmt: skip
def test_no_way_in_is_overlooked(text):
    assert imported(ast.parse(text)) == ["cli"]
    assert imported(ast.parse("def f():\n    import reverie.cli")) == []


@pytest.mark.parametrize("path", FILES, ids=str)
def test_files_stay_readable_and_safe(path):
    text = path.read_text()
    assert text.count("\n") <= 320
    assert not re.search(r"\bpickle\.|torch\.load\(|(?<![.\w])eval\(|(?<![.\w])exec\(|allow_pickle=True", text)
