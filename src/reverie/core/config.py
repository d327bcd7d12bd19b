"""Hyperparameters, each declared once: the flag, the check, the JSON and the docs row come from here."""

import dataclasses
import types
import typing
from typing import Any, Literal, TypeVar

from reverie.core.errors import BadInput

C = TypeVar("C")


def knob(default: Any, help: str, low: float | None = None, high: float | None = None) -> Any:
    """A dataclass field that knows its meaning and its range (both ends included).

    >>> @dataclasses.dataclass(frozen=True)
    ... class Config:
    ...     latent: int = knob(64, "size of z", low=1)
    >>> check(Config(latent=0))
    Traceback (most recent call last):
    reverie.core.errors.BadInput: latent is 0, below its least value 1 (size of z)
    """
    metadata = {"help": help, "low": low, "high": high}
    return dataclasses.field(default=default, metadata=metadata)


def check(config: C) -> C:
    """Returns `config` if every knob has its declared type and lies in its range; raises BadInput otherwise."""
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):  # type: ignore[arg-type]
        _check_one(field, hints[field.name], getattr(config, field.name))
    return config


def _check_one(field: Any, hint: Any, value: Any) -> None:
    help, low, high = (field.metadata.get(key) for key in ("help", "low", "high"))
    if not _fits(value, hint):
        raise BadInput(f"{field.name} is {value!r}, not {_say(hint)} ({help})")
    if low is not None and value is not None and not value >= low:
        raise BadInput(f"{field.name} is {value}, below its least value {low} ({help})")
    if high is not None and value is not None and not value <= high:
        raise BadInput(f"{field.name} is {value}, above its greatest value {high} ({help})")


def to_json(config: Any) -> dict[str, Any]:
    """A plain dict of a flat dataclass; tuples become lists."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(config).items()}


def from_json(cls: type[C], values: Any) -> C:
    """The inverse of `to_json`, trusting nothing: unknown names, wrong types and ranges raise BadInput.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Config:
    ...     size: tuple[int, int] = knob((48, 40), "height and width")
    >>> from_json(Config, {"size": [8, 8]})
    Config(size=(8, 8))
    """
    if not isinstance(values, dict):
        raise BadInput(f"{cls.__name__} settings are not a table of names and values")
    names = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(set(values) - names):
        raise BadInput(f"{cls.__name__} has no setting {unknown[0]!r}; it has {', '.join(sorted(names))}")
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if field.name in given:
            _check_one(field, hints[field.name], given[field.name])
    return check(cls(**given))


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, a) for a in arguments)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        inner = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        return len(value) == len(inner) and all(map(_fits, value, inner))
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _say(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, typing.get_args(hint)))
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}.get(hint, str(hint))
