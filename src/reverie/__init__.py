"""Reverie: machines that dream.

>>> import reverie
>>> data = reverie.open_data("kirby")
>>> run = reverie.fit(data, "independent", out=folder)  # doctest: +SKIP
>>> run.model.sample(4).shape  # doctest: +SKIP
torch.Size([4, 1, 3, 3])
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reverie.data import open_data
    from reverie.evaluation import evaluate
    from reverie.models import MODELS
    from reverie.run import Run
    from reverie.train import fit

__all__ = ["MODELS", "Run", "evaluate", "fit", "load", "open_data"]

_homes = {"open_data": "data", "evaluate": "evaluation", "MODELS": "models", "Run": "run", "fit": "train"}


def load(path: str, best: bool = False) -> "Run":
    """The run at `path`: `.model` is ready to use, `.data()` opens what it was trained on. With `best` the machine has
    the weights whose dreams were nearest to held-out examples, where they were kept, as they are of a gan."""
    from reverie.run import Run

    return Run.load(path, best)


def __getattr__(name: str) -> Any:
    # The public names are found when they are first used: `import reverie` costs nothing by itself.
    if name not in _homes:
        raise AttributeError(f"module 'reverie' has no attribute {name!r}")
    return getattr(importlib.import_module(f"reverie.{_homes[name]}"), name)
