"""Draws of true rewards, from those of true accuracies and the intervals of step times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from effnas.trials.reward import METRICS, Reward

#: A 95 % interval of a normal distribution has this half-width in standard deviations.
Z95 = 1.96
#: Metrics whose noise nobody knows; a reward that depends on one, or on a metric that is not
#: effnas's own, is not sure in a known way.
_NOISE_UNKNOWN = frozenset({"train_loss", "train_time_s"})
#: Step times, and the ends of their 95 % intervals.
_STEP_TIMES = (
    ("step_time", "step_time_low", "step_time_high"),
    ("step_time_s", "step_time_low_s", "step_time_high_s"),
)


class Draws(NamedTuple):
    """Draws of the true accuracies and rewards of N networks.

    Attributes:
        accuracy: [draws, N].
        reward: [draws, N].
        slope: How much the reward rises with accuracy, [N].
    """

    accuracy: NDArray[np.float64]
    reward: NDArray[np.float64]
    slope: NDArray[np.float64]

    def of(self, what: Literal["reward", "accuracy"]) -> NDArray[np.float64]:
        """Return the draws of one of them."""
        return self.reward if what == "reward" else self.accuracy


def drawn_rewards(
    metrics: Sequence[Mapping[str, float]],
    accuracies: NDArray[np.float64],
    reward: Reward,
    rng: np.random.Generator,
) -> Draws | None:
    """Return draws of accuracies, [draws, N], with the rewards that follow.

    A reward may be any function and costly, so it is taken at three accuracies of each network,
    and to be straight in between. None where it has no value, or depends on what has unknown noise.
    """
    shared = set.intersection(*(set(m) for m in metrics))
    columns = {name: np.array([m[name] for m in metrics]) for name in sorted(shared)}

    def score(**other: NDArray[np.float64]) -> NDArray[np.float64]:
        return reward.score_vectorized({**columns, **other})

    middle = accuracies.mean(axis=0)
    step = np.maximum(1.5 * accuracies.std(axis=0), 1e-9)
    at = score(accuracy=middle)
    if not np.isfinite(at).all() or _depends_on_unknown(
        reward, {**columns, "accuracy": middle}, at
    ):
        return None
    up = (score(accuracy=np.minimum(middle + step, 1.0)) - at) / step
    down = (at - score(accuracy=np.maximum(middle - step, 0.0))) / step
    up, down = np.where(np.isfinite(up), up, down), np.where(np.isfinite(down), down, up)
    up, down = np.nan_to_num(up), np.nan_to_num(down)
    ahead = accuracies - middle
    rewards = at + np.where(ahead > 0, up, down) * ahead
    for name, low, high in _STEP_TIMES:
        if {name, low, high} <= columns.keys():
            error = np.maximum(columns[high] - columns[low], 0.0) / (2 * Z95)
            slower = score(**{"accuracy": middle, name: columns[name] + error})
            change = np.nan_to_num(slower - at)
            if change.any():
                rewards += change * rng.standard_normal(rewards.shape)
    return Draws(accuracies, rewards, (up + down) / 2)


def _depends_on_unknown(
    reward: Reward, columns: Mapping[str, NDArray[np.float64]], at: NDArray[np.float64]
) -> bool:
    """Return whether rewards change with a metric whose noise is not known."""
    for name in columns.keys() & _NOISE_UNKNOWN | columns.keys() - METRICS.keys():
        changed = reward.score_vectorized({**columns, name: 1.01 * columns[name] + 1e-6})
        if not np.array_equal(changed, at):
            return True
    return False
