"""A reward with a term of your own: device memory beside accuracy, step time and size.

    effnas search --reward rewards/memory_aware.py:memory_aware --space v2 --budget 1000

Copy this file to write another one. A reward receives the metrics of one trial by name and returns
the number to maximize; `effnas.trials.reward.METRICS` lists the names with their units.
"""

from collections.abc import Mapping

MEMORY_BUDGET_BYTES = 4e9


def memory_aware(metrics: Mapping[str, float]) -> float:
    """Return EfficientNetV2's reward, with the peak memory of training weighted like the size."""
    v2: float = (
        metrics["accuracy"] * metrics["step_time"] ** -0.07 * metrics["params_ratio"] ** -0.05
    )
    memory: float = (metrics["peak_memory_bytes"] / MEMORY_BUDGET_BYTES) ** -0.05
    return v2 * memory
