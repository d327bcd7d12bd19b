"""From knobs to flags."""

import dataclasses
import typing
from typing import Annotated, Any

import tyro

from reverie.core.config import check


def flags(config: type) -> type[Any]:
    """A dataclass with the same fields, whose knobs carry their help to the command line."""
    hints = typing.get_type_hints(config)
    fields = [
        (f.name, Annotated[hints[f.name], tyro.conf.arg(help=f.metadata.get("help", ""))], f.default)
        for f in dataclasses.fields(config)  # type: ignore[arg-type]
    ]
    made = dataclasses.make_dataclass(
        config.__name__, [(n, t, dataclasses.field(default=d)) for n, t, d in fields], frozen=True
    )
    made.__doc__ = ""
    return made


def as_flags(config: Any) -> Any:
    """The values of a config as an instance of its `flags` class."""
    return flags(type(config))(**{f.name: getattr(config, f.name) for f in dataclasses.fields(config)})


def from_flags(config: type, values: Any) -> Any:
    """The checked config whose values a command line gave."""
    return check(config(**dataclasses.asdict(values)))
