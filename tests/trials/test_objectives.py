"""Objectives are read strictly, fronts hold what none dominates, and hypervolumes are exact."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from effnas import (
    Architecture,
    Measurement,
    Search,
    SearchSpace,
    Trial,
    TrialState,
    load_run,
)
from effnas.errors import ConfigError, StoreError
from effnas.trials.manifest import Choices, SearchManifest, SourcedSpacePart
from effnas.trials.objectives import (
    Objective,
    Objectives,
    hypervolume,
    pareto_front,
    scalarise,
)
from effnas.trials.pareto_front import front, hypervolumes
from effnas.trials.store import RunFolder, read_events

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


# -- what the user writes


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
        ("accuracy:max:min,params:min", ["'accuracy:max:min'"]),
        ("accuracy:max,accuracy:min", ["accuracy is there twice"]),
        ("A:max,params:min,accuracy:min", ["accuracy is there twice"]),
        ("acuracy:max,params:min", ["did you mean 'accuracy'"]),
        ("accuracy:max,", ["''"]),
        ("accuracy:max;params:min", ["'accuracy:max;params:min'"]),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_write(text: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        Objectives.parse(text)
    assert all(word in str(error.value) for word in words), error.value
    assert "\n" not in str(error.value)


def test_values_are_turned_so_that_larger_is_better() -> None:
    metrics = {"accuracy": 0.7, "step_time": 1.2, "params": 3.0}
    assert TWO.values(metrics) == (0.7, -1.2)
    with pytest.raises(ConfigError, match=r"need step_time, .* has only accuracy;"):
        TWO.values({"accuracy": 0.7})


# -- which points none dominates


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(4))
def test_the_front_is_what_none_dominates(seed: int, dimensions: int) -> None:
    values = points(seed, 60, dimensions)
    expected = [n for n, p in enumerate(values) if not any(dominates(q, p) for q in values)]
    assert pareto_front(values).tolist() == expected
    order = np.random.default_rng(seed).permutation(len(values))
    assert sorted(order[pareto_front(values[order])].tolist()) == expected


def test_the_front_keeps_duplicates_and_may_be_empty() -> None:
    assert pareto_front([[1, 2], [2, 1], [1, 2], [1, 1]]).tolist() == [0, 1, 2]
    assert pareto_front([]).tolist() == []


# -- how much they dominate


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


@pytest.mark.parametrize("dimensions", [2, 3, 4])
def test_the_hypervolume_is_that_of_monte_carlo(dimensions: int) -> None:
    rng = np.random.default_rng(dimensions)
    values = rng.random((40, dimensions)) ** 0.3
    reference = np.full(dimensions, 0.1)
    drawn = rng.uniform(0.1, 1.0, size=(20_000, dimensions))
    share = (drawn[:, None] < values).all(axis=-1).any(axis=-1).mean()
    box = 0.9**dimensions
    deviation = box * np.sqrt(share * (1 - share) / len(drawn))
    assert abs(hypervolume(values, reference) - box * share) < 4 * deviation


@pytest.mark.slow
@pytest.mark.parametrize("dimensions", [2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_what_does_and_does_not_change_a_hypervolume(seed: int, dimensions: int) -> None:
    rng = np.random.default_rng(seed)
    values, reference = rng.random((30, dimensions)), np.full(dimensions, 0.1)
    volume = hypervolume(values, reference)
    assert hypervolume(rng.permutation(values), reference) == pytest.approx(volume, rel=1e-12)
    axes = rng.permutation(dimensions)
    assert hypervolume(values[:, axes], reference) == pytest.approx(volume, rel=1e-12)
    assert hypervolume(values[pareto_front(values)], reference) == pytest.approx(volume, rel=1e-12)
    dominated = values[0] * rng.random(dimensions)
    assert hypervolume([*values, dominated], reference) == pytest.approx(volume, rel=1e-12)
    assert hypervolume([*values, np.full(dimensions, 1.1)], reference) > volume
    grown = [hypervolume(values[:n], reference) for n in range(31)]
    assert all(before <= after + 1e-12 for before, after in pairwise(grown))


@pytest.mark.slow
def test_the_hypervolume_of_two_hundred_points_of_a_ball() -> None:
    rng = np.random.default_rng(0)
    values = np.abs(rng.normal(size=(200, 4)))
    values /= np.linalg.norm(values, axis=1, keepdims=True)  # none dominates another
    assert len(pareto_front(values)) == 200
    assert 0 < hypervolume(values, np.zeros(4)) < np.pi**2 / 32  # of the ball's part


# -- one figure for several


def test_the_tchebycheff_figure_by_hand() -> None:
    worst, best = [0.0, -10.0], [1.0, 0.0]
    assert scalarise(best, [0.3, 0.7], worst, best) == 0.0
    assert scalarise(worst, [0.3, 0.7], worst, best) == pytest.approx(-(0.7 + 0.05))
    assert scalarise([0.5, -2.0], [0.6, 0.4], worst, best) == pytest.approx(-(0.3 + 0.05 * 0.38))
    assert scalarise([1.0, 2.0], [0.5, 0.5], [1.0, 2.0], [1.0, 2.0]) == 0.0


def test_every_point_of_a_concave_front_has_the_largest_figure_for_some_weights() -> None:
    # Minimising a weighted sum would reach but the two ends of such a front.
    angles = np.linspace(0.05, np.pi / 2 - 0.05, 9)
    concave = 1 - np.stack([np.cos(angles), np.sin(angles)], axis=1)
    values = np.concatenate([concave, concave - 0.1])
    worst, best = values.min(axis=0), values.max(axis=0)
    rng = np.random.default_rng(0)
    weights = [TWO.draw_weights(rng) for _ in range(300)]
    chosen = {int(np.argmax([scalarise(v, w, worst, best) for v in values])) for w in weights}
    assert chosen == set(range(9))


def test_weights_are_uniform_on_the_simplex() -> None:
    three = Objectives.parse("A:max,S:min,P:min")
    rng = np.random.default_rng(0)
    drawn = np.array([three.draw_weights(rng) for _ in range(4000)])
    assert (drawn >= 0).all()
    np.testing.assert_allclose(drawn.sum(axis=1), 1)
    # A share (1 - x)^2 of the triangle has a coordinate above x.
    for x in (0.25, 0.5, 0.75):
        np.testing.assert_allclose((drawn > x).mean(axis=0), (1 - x) ** 2, atol=0.03)


# -- the front of a run


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
    assert [t.number for t in front(trials, TWO)] == [1, 2, 0]
    assert front(trials[4:], TWO) == []


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


def test_an_objective_that_is_always_the_same_leaves_the_others() -> None:
    trials = [trial(n, accuracy=a, step_time=1.0) for n, a in enumerate([0.2, 0.3, 0.6, 0.4])]
    assert hypervolumes(trials, TWO) == [
        (1, 0.0), (2, pytest.approx(0.25)), (3, 1.0), (4, 1.0)
    ]  # fmt: skip


# -- in a search


def cost(arch: Architecture) -> dict[str, float]:
    luck = int(arch.id, 16) % 1000 / 1000
    return {"accuracy": 0.5 + luck / 2, "step_time": 1 + (1 - luck) * arch.layers}


@pytest.mark.slow
def test_a_search_has_a_front_beside_its_best() -> None:
    search = Search(TINY, "A", objectives="accuracy:max,step_time:min,params:min")
    assert search.controller.problem is not None
    assert search.controller.problem.objectives == search.objectives
    assert search.front == []
    search.run(cost, budget=30)
    assert search.objectives is not None
    values = [np.array(search.objectives.values(t.metrics)) for t in search.trials]
    on_it = {t.number for t in search.front}
    for t in search.trials:
        assert (t.number in on_it) != any(dominates(v, values[t.number]) for v in values)
    assert search.front[0] == search.best  # by accuracy
    assert 1 < len(on_it) < 30


def test_a_missing_metric_is_named_and_what_was_told_is_kept(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path) as folder:
        search = Search(TINY, "A", store=folder, objectives=TWO)
        with pytest.raises(ConfigError, match="need step_time"):
            search.tell(search.ask(), accuracy=0.7)
        search.tell(search.ask(), accuracy=0.6, step_time=1.0)
    first, _ = search.trials
    assert (first.state, first.reward) == (TrialState.COMPLETE, 0.7)
    assert [t.number for t in search.front] == [1]
    stored = {t.number: t for t in read_events(tmp_path, stem=TINY.stem, head=TINY.head)}
    assert stored[0] == first


def test_without_objectives_there_is_no_front() -> None:
    search = Search(TINY, "A")
    search.run(cost, budget=3)
    assert search.front == []


def test_objectives_are_fixed_for_a_run() -> None:
    chosen = Choices(objectives=str(TWO))
    chosen.check_continues(chosen, Path("run"))
    for other in (None, "params:min,accuracy:max"):
        with pytest.raises(StoreError, match=r"objectives \(was"):
            chosen.check_continues(Choices(objectives=other), Path("run"))


@pytest.mark.slow
def test_a_stored_run_tells_its_front(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path) as folder:
        search = Search(TINY, "A", store=folder, objectives=TWO)
        search.run(cost, budget=12)
        SearchManifest(space=SourcedSpacePart.of(TINY), objectives=str(TWO)).write(tmp_path)
    run = load_run(tmp_path)
    assert run.objectives == TWO
    assert run.front == search.front


@pytest.mark.slow
def test_a_stopped_search_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    def opened(folder: RunFolder) -> Search:
        search = Search(TINY, "A", "optuna:nsgaii", 3, store=folder, objectives=TWO)
        search.resume(read_events(tmp_path, stem=TINY.stem, head=TINY.head))
        return search

    whole = Search(TINY, "A", "optuna:nsgaii", 3, objectives=TWO)
    whole.run(cost, budget=62)  # the first generation has 50
    for budget in (30, 55, 62):
        with RunFolder.open(tmp_path) as folder:
            search = opened(folder)
            search.run(cost, budget=budget)
            if budget < 62:
                search.ask()  # it is under way when the driver dies
    assert [t.architecture for t in search.trials] == [t.architecture for t in whole.trials]
    assert [t.number for t in search.front] == [t.number for t in whole.front]


@pytest.mark.parametrize("name", ["evolution", "tunas", "optuna:gp", "optuna:cmaes"])
def test_a_controller_that_pursues_the_reward_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} .*those that do are optuna:nsgaii, optuna:tpe"):
        Search(TINY, "A", name, objectives=TWO)
