"""What finals say: means, spreads, the proxy's ranks, and how sure the pick is."""

from __future__ import annotations

import numpy as np
import pytest
from test_finalists import drawn, run_of

from effnas.workflows.finals.finalists import Finalist
from effnas.workflows.finals.report import make_report
from effnas.workflows.trainings.folder import Result
from effnas.workflows.trainings.standings import Schedule

FINALISTS = [Finalist(trial, "reward") for trial in run_of(drawn(12)).trials.ranked()[:4]]
SCHEDULE = Schedule(levels=(2, 4), seeds=3)


def results(accuracies: list[list[float]], epochs: int) -> list[Result]:
    return [
        Result(
            candidate=finalist.trial.architecture.id,
            repeat=repeat,
            epochs=epochs,
            accuracy=accuracy,
            train_time_s=float(epochs),
        )
        for finalist, each in zip(FINALISTS, accuracies, strict=False)
        for repeat, accuracy in enumerate(each)
    ]


def score(finalist: Finalist, accuracy: float) -> float:
    return 2 * accuracy


def test_those_trained_farthest_come_first_and_the_best_of_them_is_picked() -> None:
    first = results([[0.5, 0.5, 0.5], [0.6, 0.6, 0.6], [0.9, 0.9, 0.9], [0.1, 0.1, 0.1]], 2)
    second = results([[0.7, 0.71, 0.72], [0.80, 0.81, 0.82]], 4)
    report = make_report(FINALISTS, SCHEDULE, [*first, *second], score)
    order = [each.finalist for each in report.standings]
    assert order == [FINALISTS[1], FINALISTS[0], FINALISTS[2], FINALISTS[3]]
    assert [each.epochs for each in report.standings] == [4, 4, 2, 2]
    base = report.base
    assert base is not None
    assert base.finalist is FINALISTS[1]
    assert base.mean == pytest.approx(1.62)
    assert base.spread == pytest.approx(0.02)
    assert base.train_time_s == 3 * 4
    chances = [each.chance for each in report.standings]
    assert chances[0] is not None
    assert chances[0] > 0.99
    assert chances == [chances[0], pytest.approx(1 - chances[0], abs=1e-9), None, None]
    # All reached the first level, where the proxy's ranks are compared.
    assert (report.correlation_epochs, report.correlated) == (2, 4)
    assert report.correlation.value is None


@pytest.mark.parametrize(("gap", "low", "high"), [(0.0, 0.4, 0.6), (0.01, 0.6, 0.95)])
def test_the_closer_two_are_the_less_sure_is_the_pick(gap: float, low: float, high: float) -> None:
    accuracies = [[0.5, 0.51, 0.52], [0.5 + gap, 0.51 + gap, 0.52 + gap]]
    report = make_report(FINALISTS[:2], SCHEDULE, results(accuracies, 4), score)
    assert report.base is not None
    sure = report.standings[0].chance
    assert sure is not None
    assert low < sure < high
    # Few held-out images make it less sure.
    few = make_report(FINALISTS[:2], SCHEDULE, results(accuracies, 4), score, 100)
    assert 0.4 < (few.standings[0].chance or 0) <= max(sure, 0.6)


@pytest.mark.parametrize("accuracies", [[[0.5, 0.6, 0.7]], [[0.5], [0.9]]], ids=["one", "one seed"])
def test_it_is_not_known_which_is_best_of_one_network_or_of_one_seed_each(
    accuracies: list[list[float]],
) -> None:
    schedule = Schedule(levels=(4,), seeds=len(accuracies[0]))
    found = results(accuracies, 4)
    report = make_report(FINALISTS[: len(accuracies)], schedule, found, score, 1_000)
    assert report.base is not None
    assert {each.chance for each in report.standings} == {None}
    assert (report.base.spread is None) == (schedule.seeds == 1)


@pytest.mark.slow
def test_chances_are_those_that_repeated_finals_show() -> None:
    """Of many finals of two networks whose means are apart, the pick is right as often as said."""
    rng = np.random.default_rng(0)
    right, said = [], []
    for _ in range(300):
        true = rng.normal(0.5, 0.01, 2)
        accuracies = [list(rng.normal(mean, 0.01, 3)) for mean in true]
        report = make_report(FINALISTS[:2], SCHEDULE, results(accuracies, 4), score)
        first = report.standings[0]
        right.append(FINALISTS.index(first.finalist) == int(np.argmax(true)))
        said.append(first.chance)
    assert np.mean(right) == pytest.approx(np.mean(said), abs=0.06)


def test_one_that_cannot_be_trained_is_told_with_its_reason() -> None:
    failed = Result(
        candidate=FINALISTS[1].trial.architecture.id, repeat=0, epochs=2, reason="it diverged"
    )
    report = make_report(FINALISTS[:2], SCHEDULE, [*results([[0.5, 0.5, 0.5]], 4), failed], score)
    assert [each.reason for each in report.standings] == [None, "it diverged"]
    assert report.base is not None
    nothing = make_report(FINALISTS[1:2], SCHEDULE, [failed], score)
    assert nothing.base is None
    assert nothing.correlation.value is None
