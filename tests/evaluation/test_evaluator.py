"""What is known of an architecture before it is tried."""

from __future__ import annotations

from pathlib import Path

import pytest

from effnas import Architecture, SearchSpace
from effnas.config.settings import StepTimeConfig
from effnas.evaluation.evaluator import metrics_before_trial, named_source, source_without_timing
from effnas.trials.problem import FreeMetrics
from synthetic_profiles import model_of, profile_of

TINY = SearchSpace.load("tiny").with_target(num_classes=10)
STRANGER = Architecture.parse("fused_r1_k7_s1_e1_c16 " * 3, stem=TINY.stem, head=TINY.head)


def known_by(config: StepTimeConfig, space: SearchSpace) -> FreeMetrics:
    return metrics_before_trial(source_without_timing(named_source(config, space), config.mode))


def stored(folder: Path, error: float) -> str:
    path = folder / "profile.json"
    path.write_text(profile_of(TINY, error=error).to_json())
    return str(path)


@pytest.mark.parametrize(
    ("mode", "error", "is_known"),
    [("predicted", 0.5, True), ("auto", 0.02, True), ("auto", 0.5, False)],
)
def test_a_profile_tells_step_times_where_the_search_will_take_them_from_it(
    tmp_path: Path, mode: str, error: float, is_known: bool
) -> None:
    config = StepTimeConfig(mode=mode, profile=stored(tmp_path, error))  # type: ignore[arg-type]
    known = known_by(config, TINY)
    first, second = known([TINY.reference, STRANGER])
    assert second == {}  # it has parts that were not measured
    if is_known:
        assert first["step_time"] == pytest.approx(model_of(TINY).step_time(TINY.reference))
    else:
        assert first == {}


def test_a_table_tells_the_step_times_in_it_and_what_takes_time_none(tmp_path: Path) -> None:
    path = tmp_path / "times.csv"
    path.write_text(f"architecture,step_time\n{TINY.reference},1.5\n")
    known = known_by(StepTimeConfig(mode="table", table=str(path)), TINY)
    first, second = known([TINY.reference, STRANGER])
    assert first["step_time"] == 1.5
    assert second == {}
    assert known_by(StepTimeConfig(), TINY)([TINY.reference]) == [{}]
    command = StepTimeConfig(mode="command", command="time {arch_json}")
    assert known_by(command, TINY)([TINY.reference]) == [{}]
