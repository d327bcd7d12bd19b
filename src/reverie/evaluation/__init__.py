"""How good a model is, in numbers that say their unit, their error and what they stand between."""

from reverie.evaluation.scores import Score, from_json, to_json
from reverie.evaluation.scoring import evaluate

__all__ = ["Score", "evaluate", "from_json", "to_json"]
