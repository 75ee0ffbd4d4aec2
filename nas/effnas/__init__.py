"""Training-aware neural architecture search for convolutional networks, after EfficientNetV2.

`import effnas` is cheap: torch, Ray and pandas are imported when something needs them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from effnas.architecture import Architecture
    from effnas.counts import Counts, count
    from effnas.errors import EffnasError, InfeasibleError, UserError
    from effnas.reward import Reward
    from effnas.rungs import Rungs
    from effnas.runs import Run, load_run
    from effnas.search import Search
    from effnas.space import SearchSpace
    from effnas.trial import Measurement, Trial, Trials, TrialState

__version__ = "0.1.0"

_HOMES = {
    "Architecture": "effnas.architecture",
    "Counts": "effnas.counts",
    "EffnasError": "effnas.errors",
    "InfeasibleError": "effnas.errors",
    "Measurement": "effnas.trial",
    "Reward": "effnas.reward",
    "Run": "effnas.runs",
    "Rungs": "effnas.rungs",
    "Search": "effnas.search",
    "SearchSpace": "effnas.space",
    "Trial": "effnas.trial",
    "TrialState": "effnas.trial",
    "Trials": "effnas.trial",
    "UserError": "effnas.errors",
    "count": "effnas.counts",
    "load_run": "effnas.runs",
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
