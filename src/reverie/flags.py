"""From knobs to flags."""

import contextlib
import dataclasses
import functools
import io
import os
import re
import typing
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import tyro

from reverie.core.config import check
from reverie.core.errors import BadInput


def as_flags(config: Any) -> Any:
    """The values of a config as an instance of a like class, whose knobs carry their help to the command line."""
    cls, hints = type(config), typing.get_type_hints(type(config))
    fields = [
        (f.name, Annotated[hints[f.name], tyro.conf.arg(help=f.metadata.get("help", ""))], getattr(config, f.name))
        for f in dataclasses.fields(cls)
    ]
    spec = [(name, hint, dataclasses.field(default=value)) for name, hint, value in fields]
    made = dataclasses.make_dataclass(cls.__name__, spec, frozen=True)
    made.__doc__ = ""
    return made()


def from_flags(config: type, values: Any) -> Any:
    """The checked config whose values a command line gave."""
    return check(config(**dataclasses.asdict(values)))


def called(function: Callable[..., Any], line: list[str]) -> Any:
    """Calls a command with what its command line says."""

    @functools.wraps(function)
    def asked(*values: Any, **named: Any) -> Callable[[], Any]:
        return functools.partial(function, *values, **named)

    return parsed(asked, line, function.__name__)()


def parsed(made: Any, line: list[str], command: str, description: str | None = None) -> Any:
    """`made` of the values that a command line gives; BadInput in one line for a word or a value that cannot be."""
    prog = f"reverie {command}"
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return tyro.cli(made, args=line, prog=prog, description=description)
    except SystemExit as stop:
        if not stop.code:  # --help
            raise
    # Once more for what is wrong, drawn in one way and not broken into rows.
    said = io.TextIOWrapper(io.BytesIO(), "utf-8")
    with (
        contextlib.redirect_stderr(said),
        contextlib.redirect_stdout(said),
        _columns(10_000),
        contextlib.suppress(SystemExit),
    ):
        tyro.cli(made, args=line, prog=prog, description=description)
    said.seek(0)
    raise BadInput(f"{_refusal(said.read())}; {prog} --help lists what there is")


@contextlib.contextmanager
def _columns(count: int) -> Iterator[None]:
    """What is written in here is written for a terminal of that width."""
    usual = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(count)
    try:
        yield
    finally:
        del os.environ["COLUMNS"]
        if usual is not None:
            os.environ["COLUMNS"] = usual


def _refusal(box: str) -> str:
    """What the parser's box says, in one line."""
    rows = [row.strip("│ ") for row in box.splitlines() if not row.startswith(("╭", "╰"))]
    said = " ".join(rows).split("───")[0].strip()
    if unknown := re.match(r"Unrecognized options: (.+)", said):
        word = next((w for w in unknown[1].split(", ") if w.startswith("-")), None)
        near = next((row.split()[0] for row in rows if row.startswith("--")), None)
        if word is None:
            return f"{unknown[1]!r} is a word too many"
        return f"no option {word.partition('=')[0]}" + (f"; perhaps {near}" if near else "")
    if wrong := re.match(r"Error parsing (\S+): .*?(?:(?:from|arguments:) \[(.+?)\]|: ('.*'))", said):
        about = rows[rows.index("Argument helptext:") + 2 :][:1] if "Argument helptext:" in rows else []
        return f"{wrong[1]} cannot be {wrong[2] or wrong[3]}" + "".join(f": {text}" for text in about)
    if choice := re.match(r"invalid choice ('.*?') for argument '(.*?)'\. Expected one of \((.*?),?\)", said):
        return f"{choice[2]} cannot be {choice[1]}; one of {choice[3]}"
    if lacking := re.match(r"Missing value for argument '(.*?)'", said):
        return f"{lacking[1] if lacking[1].startswith('-') else lacking[1].upper()} lacks its value"
    if lacking := re.match(r"Missing from reverie \w+: (\S+) (.*) \(required\)", said):
        return f"{lacking[1]} is not given: {lacking[2]}"
    return said.rstrip(".")


def at_least(value: float, least: float, flag: str) -> None:
    """BadInput, naming the flag, where the value is less (or no number)."""
    if not value >= least:
        raise BadInput(f"{flag} is {value}; it must be at least {least}")
