"""Trainings of candidates: on disk, which continue, and that stops change nothing."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from effnas import InfeasibleError, Measurement, SearchSpace
from effnas.config.recipe import Recipe
from effnas.errors import StoreError
from effnas.evaluation.backend import Backend, InlineBackend, Worker
from effnas.evaluation.evaluator import Evaluator, Job, Task
from effnas.evaluation.simulated import SimulatedBackend
from effnas.trials.differences import must_match
from effnas.workflows.trainings.folder import Result, TrainingsFolder, TrainingsManifest
from effnas.workflows.trainings.forecast import Forecast
from effnas.workflows.trainings.standings import Comparison, Schedule
from effnas.workflows.trainings.train import Candidate, Trainings

FOUND = [
    Result(candidate="a", repeat=0, epochs=2, accuracy=0.5, train_time_s=2.0),
    Result(candidate="a", repeat=1, epochs=2, accuracy=0.25, train_time_s=2.0),
]


@pytest.mark.parametrize(
    ("epochs", "levels"), [(1, (1,)), (2, (1, 2)), (10, (2, 4, 8, 10)), (16, (4, 8, 16))]
)
def test_levels_are_at_a_quarter_and_doubled(epochs: int, levels: tuple[int, ...]) -> None:
    schedule = Schedule.of(epochs, 3)
    assert schedule.levels == levels
    assert schedule.steps == 3 * len(levels)


@dataclass(frozen=True, kw_only=True)
class Made(TrainingsManifest):
    kind: ClassVar[str] = "finals"
    what: ClassVar[str] = "finals"
    seeds: int = field(default=2, metadata=must_match("seeds"))


@dataclass(frozen=True, kw_only=True)
class Others(TrainingsManifest):
    kind: ClassVar[str] = "trainings of layers"
    what: ClassVar[str] = "layers"


class TestFolder:
    def test_results_come_back_and_other_finals_are_refused(self, tmp_path: Path) -> None:
        with TrainingsFolder.open(tmp_path / "f") as folder:
            assert folder.begin(Made()) == []
            for result in FOUND:
                folder.add(result)
        with TrainingsFolder.open(tmp_path / "f") as folder:
            assert folder.begin(Made()) == FOUND
            with pytest.raises(StoreError, match=r"the finals began .* seeds \(was 2, is 3\)"):
                folder.begin(Made(seeds=3))
            with pytest.raises(StoreError, match="holds no layers"):
                folder.begin(Others())

    def test_what_is_finished_stays_so_until_something_else_judges(self, tmp_path: Path) -> None:
        with TrainingsFolder.open(tmp_path / "f") as folder:
            folder.begin(Made())
            (tmp_path / "f" / "checkpoints").mkdir()
            assert not folder.is_finished("A")
            folder.finish("A")
        with TrainingsFolder.open(tmp_path / "f") as folder:
            assert folder.begin(Made()) == []
            assert folder.is_finished("A")
            assert not folder.is_finished("1 - A")
        assert not (tmp_path / "f" / "checkpoints").exists()

    @pytest.mark.parametrize(
        ("after", "said"),
        [("5", "accuracy: Expected `float` <= 1"), ("null", "either an accuracy")],
    )
    def test_a_torn_line_is_cut_and_a_wrong_one_named(
        self, tmp_path: Path, after: str, said: str
    ) -> None:
        with TrainingsFolder.open(tmp_path / "f") as folder:
            folder.begin(Made())
            folder.add(FOUND[0])
        file = tmp_path / "f" / "trainings.jsonl"
        whole = file.read_text()
        file.write_text(whole + whole[:20])
        with TrainingsFolder.open(tmp_path / "f") as folder:
            assert folder.begin(Made()) == FOUND[:1]
        file.write_text(whole.replace("0.5", after))
        with (
            TrainingsFolder.open(tmp_path / "f") as folder,
            pytest.raises(StoreError, match=rf"trainings.jsonl:1: not a result \(.*{said}"),
        ):
            folder.begin(Made())


# -- trainings of candidates

ARCHS = list(SearchSpace.load("tiny").architectures())[:6]
SCHEDULE = Schedule.of(8, 2)
RNG = np.random.default_rng(0)
QUALITY = dict(zip(ARCHS, RNG.permutation(len(ARCHS)) / 10, strict=True))


class Trains:
    """Gives each training its accuracy; stops the driver after a number of trainings."""

    def __init__(self, calls: int | None = None, infeasible: int = -1) -> None:
        self.calls, self.infeasible = calls, infeasible
        self.asked: list[tuple[int, int, int, int | None]] = []

    def make(self, recipe: Recipe | None = None) -> Evaluator:
        size = recipe.last_image_size if recipe else None

        def evaluate(job: Job) -> Measurement:
            arch, epochs, repeat = job.architecture, job.until, job.repeat
            assert job.task is Task.TRAIN
            assert epochs is not None
            if len(self.asked) == self.calls:
                raise KeyboardInterrupt
            number = ARCHS.index(arch)
            self.asked.append((number, epochs, repeat, size))
            if number == self.infeasible and epochs > 2:
                raise InfeasibleError("training diverged")
            accuracy = QUALITY[arch] * (1 - 0.5**epochs) + repeat / 100
            return Measurement(metrics={"accuracy": accuracy, "train_time_s": float(epochs)})

        return evaluate


def train(
    path: Path, trains: Trains, backend: Backend | None = None, sizes: tuple[int, ...] = ()
) -> list[Result]:
    """Train what a folder lacks."""
    candidates = [
        Candidate(
            name=str(n),
            architecture=arch,
            recipe=Recipe(image_size=(sizes[n], sizes[n])) if sizes else None,
        )
        for n, arch in enumerate(ARCHS)
    ]
    with TrainingsFolder.open(path) as folder:
        trainings = Trainings(
            folder=folder,
            candidates=candidates,
            schedule=SCHEDULE,
            results=folder.begin(Made()),
            score=lambda name, accuracy: accuracy,
            on_result=lambda result: None,
        )
        trainings.run(backend or InlineBackend(Worker(trains.make)))
    return trainings.results


def untimed(results: list[Result]) -> list[Result]:
    return [replace(result, train_time_s=0.0) for result in results]


def test_candidates_train_one_after_another_and_the_weaker_half_stops(tmp_path: Path) -> None:
    results = train(tmp_path, Trains())
    assert [r.candidate for r in results] == sorted(r.candidate for r in results)
    means: dict[int, list[float]] = {level: [] for level in SCHEDULE.levels}
    for n, arch in enumerate(ARCHS):
        mine = [(r.epochs, r.repeat) for r in results if r.candidate == str(n)]
        expected = []
        for level in SCHEDULE.levels:
            expected += [(level, 0), (level, 1)]
            before, mean = list(means[level]), QUALITY[arch] * (1 - 0.5**level) + 0.005
            means[level].append(mean)
            if before and mean < np.median(before):
                break
        assert mine == expected
    comparison = Comparison(schedule=SCHEDULE, results=results, score=lambda name, a: a)
    standings = comparison.ranked([str(n) for n in range(6)])
    assert ARCHS[int(standings[0].name)] == max(ARCHS, key=lambda arch: QUALITY[arch])


@pytest.mark.parametrize("stops", [[0], [3, 5, 2], [11]], ids=str)
def test_trainings_stopped_anywhere_continue_as_if_they_had_not_been(
    tmp_path: Path, stops: list[int]
) -> None:
    whole, asked = Trains(), []
    expected = train(tmp_path / "whole", whole)
    for calls in stops:
        trains = Trains(calls)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "stopped", trains)
        asked += trains.asked
    trains = Trains()
    assert untimed(train(tmp_path / "stopped", trains)) == untimed(expected)
    assert asked + trains.asked == whole.asked
    nothing = Trains()
    train(tmp_path / "stopped", nothing)
    assert nothing.asked == []


@pytest.mark.parametrize("capacity", [2, 7])
def test_several_workers_train_seeds_side_by_side_and_nothing_twice(
    tmp_path: Path, capacity: int
) -> None:
    trains = Trains()
    backend = SimulatedBackend(trains.make(), capacity=capacity)
    results = train(tmp_path, trains, backend)
    assert len(set(trains.asked)) == len(trains.asked) == len(results)
    assert backend.now_s <= len(results) / capacity + 2 * SCHEDULE.steps  # none waits idly
    best = str(max(range(6), key=lambda n: QUALITY[ARCHS[n]]))
    assert {r.epochs for r in results if r.candidate == best} == set(SCHEDULE.levels)


def test_an_infeasible_candidate_stops_and_image_sizes_are_those_of_candidates(
    tmp_path: Path,
) -> None:
    trains = Trains(infeasible=0)
    results = train(tmp_path, trains, sizes=(16, 16, 24, 24, 24, 32))
    first = [r for r in results if r.candidate == "0"]
    assert [r.reason for r in first] == [None, None, *["training diverged"] * (len(first) - 2)]
    assert first[-1].epochs == 4
    assert {(number, size) for number, *_, size in trains.asked} == {
        (n, size) for n, size in enumerate((16, 16, 24, 24, 24, 32))
    }


def test_the_epochs_that_are_expected_are_right_on_average_and_none_at_the_end() -> None:
    rng, names = np.random.default_rng(0), [str(n) for n in range(5)]
    surplus = []
    for _ in range(200):
        comparison = Comparison(schedule=SCHEDULE, results=[], score=lambda name, a: a)
        expected, trained = [], []
        for name in names:
            while left := comparison.left(name):
                epochs, repeat = left[0]
                expected.append(sum(comparison.expected_epochs(names).values()))
                before = max((level for level in SCHEDULE.levels if level < epochs), default=0)
                trained.append(epochs - before)
                comparison.results.append(
                    Result(candidate=name, repeat=repeat, epochs=epochs, accuracy=rng.random())
                )
        assert comparison.forecast(dict.fromkeys(names, 1.0)) == Forecast(epochs=0.0, seconds=0.0)
        to_come = np.cumsum(trained[::-1])[::-1]
        surplus += [(expected[n] - to_come[n]) / to_come[n] for n in (0, len(trained) // 2)]
    assert abs(np.mean(surplus)) < 0.1


def test_a_forecast_takes_each_networks_own_time_and_is_none_without_one() -> None:
    comparison = Comparison(schedule=Schedule.of(4, 2), results=[], score=lambda name, a: a)
    found = comparison.forecast({"a": 1.0, "b": 10.0})
    # The first trains all 4 epochs; the other 1, and with one half each 1 more, and then 2.
    assert found == Forecast(epochs=8 + 4, seconds=8 + 2 * 10 * (1 + 1 / 2 + 2 / 4))
    assert comparison.forecast({"a": 1.0, "b": None}) is None
