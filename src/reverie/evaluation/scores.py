"""A score, and how it is written down."""

import math
from typing import Any, NamedTuple

from reverie.core.errors import BadInput
from reverie.core.model import Estimate


class Score(NamedTuple):
    """One number about a model: its standard error, and what noise (floor) and real data (ceiling) reach in its place.

    >>> Score("nats", 5.0, 0.1, "nats", "lower", 9.0, None, "exact").better
    'lower'
    """

    name: str
    value: float | None
    error: float | None
    unit: str
    better: str  # "lower", "higher", or "near" (the ceiling)
    floor: float | None
    ceiling: float | None
    method: str  # estimator, feature extractor and its hash, counts


def score(name: str, found: Estimate, floor: float | None, ceiling: float | None, *more: str) -> Score:
    """An Estimate between its floor and its ceiling; `more` adds to its method."""
    method = ", ".join([found.method, *more])
    return Score(name, float(found.value), float(found.error), found.unit, found.better, floor, ceiling, method)


def to_json(scores: list[Score]) -> dict[str, Any]:
    """A plain dict; numbers that are not finite become None."""
    return {"scores": [{k: _finite(v) for k, v in row._asdict().items()} for row in scores]}


def from_json(values: Any) -> list[Score]:
    """The inverse of `to_json`; BadInput for anything else.

    >>> one = Score("nats", 5.0, 0.1, "nats", "lower", 9.0, None, "exact")
    >>> from_json(to_json([one])) == [one]
    True
    """
    try:
        return [_checked(Score(**row)) for row in values["scores"]]
    except (TypeError, KeyError) as error:
        raise BadInput("these are no scores; make them anew with reverie evaluate") from error


def _checked(row: Score) -> Score:
    numbers = row.value, row.error, row.floor, row.ceiling
    texts = row.name, row.unit, row.better, row.method
    if not (all(isinstance(n, int | float | None) for n in numbers) and all(isinstance(t, str) for t in texts)):
        raise TypeError
    return row


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
