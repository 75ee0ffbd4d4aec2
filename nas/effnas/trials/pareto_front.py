"""The Pareto front of a run: the trials that none dominates, and how it has grown."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil

import numpy as np
from numpy.typing import NDArray

from effnas.trials.objectives import Objectives, hypervolume, non_dominated
from effnas.trials.trial import Trial

#: Points of the curve of hypervolumes.
_STEPS = 10


def pareto_front(trials: Iterable[Trial], objectives: Objectives) -> list[Trial]:
    """Return the COMPLETE trials that none dominates, the best of the first objective first.

    Trials that lack a metric of the objectives are passed over.
    """
    known = [(values, t) for t in trials if (values := objectives.of(t)) is not None]
    best = [known[n] for n in non_dominated([values for values, _ in known])]
    return [trial for _, trial in sorted(best, key=lambda pair: pair[0], reverse=True)]


def hypervolumes(trials: Iterable[Trial], objectives: Objectives) -> list[tuple[int, float]]:
    """Return how the front has grown: pairs of N and the hypervolume of the first N trials.

    Each objective runs from 0 at the worst of all complete trials to 1 at the best of them, and
    the reference point is 0 in all. So a hypervolume is the share, from 0 to 1, of all that lies
    between the worst and the best which those trials dominate. It compares moments of one run;
    that of another run has another scale. An objective that is the same in all trials is 1.

    Args:
        trials: The trials of a run in the order of their numbers; complete ones count.
        objectives: The objectives.

    Returns:
        At most ten points at equal steps, the last one with all trials.
    """
    values = np.array([v for trial in trials if (v := objectives.of(trial)) is not None])
    counts = sorted({ceil(len(values) * step / _STEPS) for step in range(1, _STEPS + 1)})
    return [(n, relative_hypervolume(values[:n], values)) for n in counts if n]


def relative_hypervolume(values: NDArray[np.float64], among: NDArray[np.float64]) -> float:
    """Return the hypervolume of N points on a scale from the worst to the best of others.

    Args:
        values: The points, larger is better, [N, M].
        among: Those that are 0 at their worst and 1 at their best in each objective, [K, M].
    """
    worst, best = among.min(axis=0), among.max(axis=0)
    span = np.where(best > worst, best - worst, 1.0)
    shares = np.where(best > worst, (values - worst) / span, 1.0)
    return hypervolume(shares, np.zeros(len(worst)))
