"""Training-aware neural architecture search for convolutional networks, after EfficientNetV2.

`import effnas` is cheap: torch, Ray and pandas are imported when something needs them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from effnas.arch.architecture import Architecture
    from effnas.arch.counts import Counts, count
    from effnas.errors import EffnasError, InfeasibleError, UserError
    from effnas.search.rungs import Rungs
    from effnas.search.search import Search
    from effnas.space.search_space import SearchSpace
    from effnas.trials.reward import Reward
    from effnas.trials.run import Run, load_run
    from effnas.trials.trial import (
        Measurement,
        Trial,
        Trials,
        TrialState,
    )

__version__ = "0.1.0"

_HOMES = {
    "Architecture": "effnas.arch.architecture",
    "Counts": "effnas.arch.counts",
    "EffnasError": "effnas.errors",
    "InfeasibleError": "effnas.errors",
    "Measurement": "effnas.trials.trial",
    "Reward": "effnas.trials.reward",
    "Run": "effnas.trials.run",
    "Rungs": "effnas.search.rungs",
    "Search": "effnas.search.search",
    "SearchSpace": "effnas.space.search_space",
    "Trial": "effnas.trials.trial",
    "TrialState": "effnas.trials.trial",
    "Trials": "effnas.trials.trial",
    "UserError": "effnas.errors",
    "count": "effnas.arch.counts",
    "load_run": "effnas.trials.run",
}

__all__ = [
    "Architecture",
    "Counts",
    "EffnasError",
    "InfeasibleError",
    "Measurement",
    "Reward",
    "Run",
    "Rungs",
    "Search",
    "SearchSpace",
    "Trial",
    "TrialState",
    "Trials",
    "UserError",
    "count",
    "load_run",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'effnas' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
