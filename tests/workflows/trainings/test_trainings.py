"""Trainings on disk, and how far they go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from effnas.errors import StoreError
from effnas.workflows.trainings.folder import Result, TrainingsFolder
from effnas.workflows.trainings.schedule import Schedule

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


class TestFolder:
    def test_results_come_back_and_other_finals_are_refused(self, tmp_path: Path) -> None:
        with TrainingsFolder.open(tmp_path / "f") as folder:
            assert folder.begin("finals", {"seeds": 2}) == []
            for result in FOUND:
                folder.add(result)
        with TrainingsFolder.open(tmp_path / "f") as folder:
            assert folder.begin("finals", {"seeds": 2}) == FOUND
            with pytest.raises(StoreError, match="begun with another seeds"):
                folder.begin("finals", {"seeds": 3})
            with pytest.raises(StoreError, match="holds no trainings of layers"):
                folder.begin("trainings of layers", {"seeds": 2})

    def test_what_is_finished_stays_so_until_something_else_judges(self, tmp_path: Path) -> None:
        with TrainingsFolder.open(tmp_path / "f") as folder:
            folder.begin("finals", {"seeds": 2})
            (tmp_path / "f" / "checkpoints").mkdir()
            assert not folder.is_finished("A")
            folder.finish("A")
        with TrainingsFolder.open(tmp_path / "f") as folder:
            assert folder.begin("finals", {"seeds": 2}) == []
            assert folder.is_finished("A")
            assert not folder.is_finished("1 - A")
        assert not (tmp_path / "f" / "checkpoints").exists()

    def test_a_torn_line_is_cut_and_a_wrong_one_named(self, tmp_path: Path) -> None:
        found = FOUND[:1]
        with TrainingsFolder.open(tmp_path / "f") as folder:
            folder.begin("finals", {})
            folder.add(found[0])
        file = tmp_path / "f" / "trainings.jsonl"
        whole = file.read_text()
        file.write_text(whole + whole[:20])
        with TrainingsFolder.open(tmp_path / "f") as folder:
            assert folder.begin("finals", {}) == found
        file.write_text(whole.replace("0.5", "5"))
        with (
            TrainingsFolder.open(tmp_path / "f") as folder,
            pytest.raises(StoreError, match=r"trainings.jsonl:1: not a result \(accuracy is 5"),
        ):
            folder.begin("finals", {})

    def test_a_result_is_an_accuracy_or_a_reason(self) -> None:
        for wrong in ({"accuracy": None}, {"reason": "x"}, {"train_time_s": -1.0}):
            with pytest.raises(ValueError, match=r"accuracy|reason|train_time_s"):
                replace(FOUND[0], **wrong)  # type: ignore[arg-type]
