"""What is said of the true rewards of trials is as sure as it claims to be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from effnas import Architecture, Reward, SearchSpace
from effnas.trials.baselines import Baseline, BaselineResult
from effnas.trials.trial import Measurement, Trial, Trials, TrialState
from effnas.trials.uncertainty import LEVEL, Noise, Ranking, images_to_tell_apart, rank_trials

TINY = SearchSpace.load("tiny")
REWARD = Reward.load("A * S^-0.07 * P^-0.05")
RNG = np.random.default_rng(0)
ARCHS = list(dict.fromkeys(TINY.sample(RNG) for _ in range(60)))


def complete(number: int, arch: Architecture, reward: Reward = REWARD, **metrics: float) -> Trial:
    metrics = {"step_time": 1.0, **TINY.counted_metrics(arch), **metrics}
    return Trial(
        number=number,
        architecture=arch,
        state=TrialState.COMPLETE,
        measurement=Measurement(metrics=metrics),
        reward=reward.score(metrics),
    )


def ranked(
    accuracies: list[float], images: int | None = 500, reward: Reward = REWARD, **metrics: float
) -> Ranking:
    trials = [
        complete(n, arch, reward, accuracy=accuracy, **metrics)
        for n, (arch, accuracy) in enumerate(zip(ARCHS, accuracies, strict=False))
    ]
    return rank_trials(Trials(trials), reward, Noise(holdout_images=images))


@pytest.mark.slow
def test_it_is_calibrated_where_truth_is_normal() -> None:
    inside, best, claimed = [], [], []
    for _ in range(25):
        true = RNG.normal(0.7, 0.02, 30)
        rows = ranked([RNG.binomial(400, a) / 400 for a in true], 400, Reward.load("A"))
        truths = np.array([true[row.trial.number] for row in rows])
        ranks = (-truths).argsort().argsort() + 1
        for row, truth, rank in zip(rows, truths, ranks, strict=True):
            assert row.low is not None
            assert row.high is not None
            inside.append((row.low <= truth <= row.high, row.rank <= rank <= row.last_rank))
        best.append(any(row.trial.number == true.argmax() for row in rows.best_set))
        claimed.append(sum(row.best_probability or 0.0 for row in rows.best_set))
    assert np.mean(inside, axis=0) == pytest.approx(LEVEL, abs=0.07)
    assert np.mean(best) == pytest.approx(np.mean(claimed), abs=0.15)


@pytest.mark.parametrize(
    "accuracies",
    [[0.5], [0.6, 0.6, 0.6], [1.0, 1.0, 0.99], [0.0, 0.1], list(np.linspace(0.1, 0.9, 40))],
)
def test_nothing_is_out_of_bounds(accuracies: list[float]) -> None:
    rows = ranked(accuracies, 143)
    assert sum(row.best_probability or 0.0 for row in rows) == pytest.approx(1.0)
    for row in rows:
        assert 1 <= row.rank <= row.last_rank <= len(rows)
        for low, middle, high in (
            (row.low, row.reward, row.high),
            (row.accuracy_low, row.accuracy, row.accuracy_high),
        ):
            assert low is not None
            assert middle is not None
            assert high is not None
            assert low <= middle <= high
        assert 0 <= (row.accuracy_low or 0.0) <= (row.accuracy_high or 0.0) <= 1
    assert rows.best_set


def test_without_noise_ranks_are_those_that_were_measured() -> None:
    rows = ranked(list(np.linspace(0.5, 0.6, 30)), 10**9)
    assert [(row.rank, row.last_rank) for row in rows] == [(n, n) for n in range(1, 31)]
    assert rows.best_set == [rows[0]]
    assert rows[0].best_probability == 1.0


def test_more_images_tell_more_apart() -> None:
    accuracies = list(RNG.normal(0.7, 0.02, 40))
    sizes = [len(ranked(accuracies, images).best_set) for images in (100, 3_000, 100_000)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 2 * sizes[-1]


def test_where_noise_is_not_known_there_is_the_measured_order() -> None:
    unknown = [
        ranked([0.5, 0.7, 0.7], None, Reward.load("A")),
        ranked([0.5, 0.7, 0.7], 500, Reward.load("A - 0.1 * train_loss"), train_loss=1.0),
    ]
    for rows in unknown:
        assert [(row.rank, row.last_rank) for row in rows] == [(1, 2), (1, 2), (3, 3)]
        assert not rows.is_known
        assert rows.best_set == []
        assert rows[0].best_probability is None
        assert rows.compare(rows[0].trial, rows[1].trial) is None


def test_an_accuracy_that_is_predicted_is_as_unsure_as_its_prediction() -> None:
    def widths(deviation: float | None) -> list[float]:
        trials = [complete(n, a, accuracy=0.6 + n / 100) for n, a in enumerate(ARCHS[:12])]
        found = trials[-1].measurement
        trials[-1] = replace(trials[-1], measurement=replace(found, accuracy_deviation=deviation))
        by_number = {r.trial.number: r for r in rank_trials(Trials(trials), REWARD, noise)}
        last = by_number[trials[-1].number]
        if deviation is not None:
            assert last.accuracy_error == deviation
        rows = (last, by_number[0])
        return [(row.high or 0.0) - (row.low or 0.0) for row in rows]

    noise = Noise(holdout_images=2_000)
    measured, sure, unsure = widths(None), widths(1e-6), widths(0.1)
    assert sure == measured  # no prediction is surer than a measurement
    assert unsure[0] > 1.3 * measured[0]
    assert unsure[1] < 1.3 * measured[1]


def test_step_times_are_unsure_too() -> None:
    reward = Reward.load("1 / S")
    rows = ranked([0.5, 0.5], 500, reward, step_time_low=0.9, step_time_high=1.1)
    assert [(row.rank, row.last_rank) for row in rows] == [(1, 2), (1, 2)]
    assert rows[0].high > 1.02  # type: ignore[operator]


def test_one_lucky_trial_is_not_believed_in_full() -> None:
    rows = ranked([0.8, *RNG.binomial(100, 0.7, 40) / 100], 100)
    row = rows[0]
    assert row.accuracy is not None
    assert 0.7 < row.accuracy < 0.76
    # against a baseline with many trainings that measured as much as the lucky trial
    results = [
        BaselineResult(baseline="b", network="", repeat=n, metrics=row.trial.metrics)
        for n in range(3)
    ]
    found = rows.compare(row.trial, Baseline(name="b", results=results), of="accuracy")
    assert found is not None
    assert found.probability < 0.3
    assert found.low < found.expected < 0


def test_what_a_difference_needs() -> None:
    assert images_to_tell_apart(0.5, 0.01) == pytest.approx(2 * 0.25 * 196**2, rel=0.001)
    accuracies = list(np.linspace(0.7, 0.6, 20))
    rows = ranked(accuracies, 20_000, Reward.load("A"))
    tenth, last = rows.images_to_tell(10), rows.images_to_tell(20)
    assert tenth is not None
    assert last is not None
    assert tenth > 3 * last
    assert rows.above(rows[0].trial, 0.65) == 1.0
    assert rows.above(rows[0].trial, 0.75) == 0.0
