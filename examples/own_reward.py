"""A reward of your own: a Python function from the metrics of a trial to a number.

    python examples/own_reward.py
    effnas search --reward examples/own_reward.py:accuracy_points --space tiny --data digits

This one could be an expression, `100 * A - 2 * max(log(S / 0.5) / log(2), 0)`, which also stays in
the run folder; take a function where a formula is not enough. `effnas.trials.reward.METRICS` lists
the metrics with their units.
"""

from collections.abc import Mapping
from math import log2

import effnas


def accuracy_points(metrics: Mapping[str, float]) -> float:
    """Return accuracy in points, less two for each doubling of step time beyond 0.5."""
    doublings = log2(metrics["step_time"] / 0.5)
    return 100 * metrics["accuracy"] - 2 * max(doublings, 0.0)


if __name__ == "__main__":
    reward = effnas.Reward.load(f"{__file__}:accuracy_points")
    search = effnas.Search("tiny", reward, "random", seed=0)
    fast = search.tell(search.ask(), accuracy=0.90, step_time=0.5)
    slow = search.tell(search.ask(), accuracy=0.93, step_time=2.0)
    print(f"fast {fast.reward:.1f}, slow {slow.reward:.1f}")
