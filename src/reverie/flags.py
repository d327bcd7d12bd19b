"""From knobs to flags."""

import dataclasses
import typing
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


def at_least(value: float, least: float, flag: str) -> None:
    """BadInput, naming the flag, where the value is less (or no number)."""
    if not value >= least:
        raise BadInput(f"{flag} is {value}; it must be at least {least}")
