"""Objectives are read strictly, fronts hold what none dominates, and hypervolumes are exact."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from effnas import Measurement, SearchSpace, Trial, TrialState
from effnas.errors import ConfigError
from effnas.trials.objectives import Objective, Objectives, hypervolume, non_dominated, scalarise
from effnas.trials.pareto_front import hypervolumes, pareto_front

TINY = SearchSpace.load("tiny")
TWO = Objectives.parse("accuracy:max,step_time:min")
Points = NDArray[np.float64]


def points(seed: int, count: int, dimensions: int) -> Points:
    """Points with ties in their coordinates, some of them twice."""
    rng = np.random.default_rng(seed)
    return rng.integers(1, 12, size=(count, dimensions)).astype(np.float64)


def dominates(one: Points, other: Points) -> bool:
    return bool((one >= other).all() and (one > other).any())


def trial(number: int, state: TrialState = TrialState.COMPLETE, **metrics: float) -> Trial:
    arch = TINY.sample(np.random.default_rng(number))
    return Trial(
        number=number, architecture=arch, state=state, measurement=Measurement(metrics=metrics)
    )


def test_objectives_are_read_and_written() -> None:
    found = Objectives.parse(" A:max, step_time : min,P:min")
    assert found == (
        Objective("accuracy", True), Objective("step_time", False), Objective("params_ratio", False)
    )  # fmt: skip
    assert Objectives.parse(str(found)) == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["''", "accuracy"]),
        ("accuracy", ["accuracy:max or accuracy:min"]),
        ("accuracy:max", ["two or more", "`reward`"]),
        ("accuracy:up,params:min", ["'accuracy:up'", "accuracy:max or accuracy:min"]),
        ("accuracy:max,accuracy:min", ["accuracy is there twice"]),
        ("acuracy:max,params:min", ["did you mean 'accuracy'"]),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_write(text: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        Objectives.parse(text)
    assert all(word in str(error.value) for word in words), error.value
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(4))
def test_the_front_is_what_none_dominates(seed: int, dimensions: int) -> None:
    values = points(seed, 60, dimensions)
    expected = [n for n, p in enumerate(values) if not any(dominates(q, p) for q in values)]
    assert non_dominated(values).tolist() == expected
    order = np.random.default_rng(seed).permutation(len(values))
    assert sorted(order[non_dominated(values[order])].tolist()) == expected


@pytest.mark.parametrize(
    ("values", "reference", "volume"),
    [
        ([], [0, 0], 0),
        ([[3]], [1], 2),
        ([[2, 3]], [0, 1], 4),
        ([[1, 3], [2, 2], [3, 1]], [0, 0], 6),
        ([[2, 2], [-1, 9], [5, 0]], [0, 0], 4),  # not better than the reference in all
        ([[1, 1, 2], [1, 2, 1], [2, 1, 1]], [0, 0, 0], 4),
        ([[-1, -1, -1]], [-2, -3, -4], 6),
        ([[2, 1, 1, 1], [1, 2, 1, 1], [1, 1, 2, 1], [1, 1, 1, 2]], [0, 0, 0, 0], 5),
    ],
)
def test_hypervolumes_by_hand(
    values: list[list[float]], reference: list[float], volume: float
) -> None:
    assert hypervolume(values, reference) == volume


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4, 5])
def test_the_hypervolume_is_the_number_of_cells_below_whole_points(dimensions: int) -> None:
    values = points(dimensions, 25, dimensions) // 2
    # Each unit cell is dominated whole or not at all, so that counting them is exact.
    cells = np.stack(np.meshgrid(*[np.arange(6) + 0.5] * dimensions), axis=-1)
    below = (cells[..., None, :] < values).all(axis=-1).any(axis=-1)
    assert hypervolume(values, np.zeros(dimensions)) == below.sum()


def test_the_tchebycheff_figure_by_hand() -> None:
    worst, best = [0.0, -10.0], [1.0, 0.0]
    assert scalarise(best, [0.3, 0.7], worst, best) == 0.0
    assert scalarise(worst, [0.3, 0.7], worst, best) == pytest.approx(-(0.7 + 0.05))
    assert scalarise([0.5, -2.0], [0.6, 0.4], worst, best) == pytest.approx(-(0.3 + 0.05 * 0.38))
    assert scalarise([1.0, 2.0], [0.5, 0.5], [1.0, 2.0], [1.0, 2.0]) == 0.0


def test_the_front_of_trials_is_ordered_and_passes_over_what_is_not_complete() -> None:
    trials = [
        trial(0, accuracy=0.5, step_time=0.5),
        trial(1, accuracy=0.9, step_time=2.0),
        trial(2, accuracy=0.7, step_time=1.0),
        trial(3, accuracy=0.6, step_time=1.0),
        trial(4, TrialState.INFEASIBLE, accuracy=0.99, step_time=0.1),
        trial(5, accuracy=0.99),
        trial(6, TrialState.RUNNING),
    ]
    assert [t.number for t in pareto_front(trials, TWO)] == [1, 2, 0]
    assert pareto_front(trials[4:], TWO) == []


def test_hypervolumes_grow_from_0_to_1_in_at_most_ten_steps() -> None:
    rng = np.random.default_rng(0)
    trials = [
        trial(n, accuracy=a, step_time=s) for n, (a, s) in enumerate(rng.random((37, 2)).tolist())
    ]
    curve = hypervolumes(trials, TWO)
    assert [count for count, _ in curve] == [4, 8, 12, 15, 19, 23, 26, 30, 34, 37]
    values = [value for _, value in curve]
    assert values == sorted(values)
    assert 0 < values[0] < values[-1] < 1
    # The unit of a metric does not matter, nor do trials that are not complete.
    scaled = [trial(t.number, accuracy=t.metrics["accuracy"], step_time=7 * t.metrics["step_time"])
              for t in trials]  # fmt: skip
    again = hypervolumes([*scaled, trial(99, TrialState.RUNNING)], TWO)
    assert [v for _, v in again] == pytest.approx(values, rel=1e-9)
    assert hypervolumes([], TWO) == []
