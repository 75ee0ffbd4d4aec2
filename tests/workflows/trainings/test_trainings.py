"""Trainings on disk, and how far they go."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest

from effnas.errors import StoreError
from effnas.trials.manifest import must_match
from effnas.workflows.trainings.folder import Result, TrainingsFolder, TrainingsManifest
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
        ("before", "after", "said"),
        [
            ("0.5", "5", "accuracy: Expected `float` <= 1"),
            ("2.0", "-2.0", "train_time_s"),
            ("0.5", "null", "either an accuracy or a reason"),
        ],
    )
    def test_a_torn_line_is_cut_and_a_wrong_one_named(
        self, tmp_path: Path, before: str, after: str, said: str
    ) -> None:
        with TrainingsFolder.open(tmp_path / "f") as folder:
            folder.begin(Made())
            folder.add(FOUND[0])
        file = tmp_path / "f" / "trainings.jsonl"
        whole = file.read_text()
        file.write_text(whole + whole[:20])
        with TrainingsFolder.open(tmp_path / "f") as folder:
            assert folder.begin(Made()) == FOUND[:1]
        file.write_text(whole.replace(before, after))
        with (
            TrainingsFolder.open(tmp_path / "f") as folder,
            pytest.raises(StoreError, match=rf"trainings.jsonl:1: not a result \(.*{said}"),
        ):
            folder.begin(Made())
