"""Sources of step times: what goes together, and how all else is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from effnas.config.settings import StepTimeConfig
from effnas.errors import ConfigError

SOURCES: Mapping[str, Mapping[str, str]] = {
    "measured": {},
    "predicted": {"profile": "/board.json"},
    "auto": {"profile": "/board.json"},
    "table": {"table": "/times.csv"},
    "command": {"command": "time {arch_json}"},
}
ALL_SOURCES = {name: value for given in SOURCES.values() for name, value in given.items()}


@pytest.mark.parametrize("mode", SOURCES)
def test_a_source_of_step_times_needs_its_file_or_command(mode: str) -> None:
    found = StepTimeConfig(mode=mode, **SOURCES[mode])  # type: ignore[arg-type]
    given = {name: getattr(found, name) for name in ALL_SOURCES}
    assert given == dict.fromkeys(ALL_SOURCES) | dict(SOURCES[mode])
    if SOURCES[mode]:
        with pytest.raises(ConfigError, match=f"^`step_time` {mode} needs "):
            StepTimeConfig(mode=mode)  # type: ignore[arg-type]
    for other in ALL_SOURCES.keys() - SOURCES[mode].keys():
        both = {**SOURCES[mode], other: ALL_SOURCES[other]}
        with pytest.raises(ConfigError, match=r"^`.*` does not go with `.*; choose one"):
            StepTimeConfig(mode=mode, **both)  # type: ignore[arg-type]


def test_the_source_follows_from_what_is_given(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert StepTimeConfig.of() == StepTimeConfig()
    assert StepTimeConfig.of(profile=path) == StepTimeConfig(mode="auto", profile=str(path))
    assert StepTimeConfig.of(table=path) == StepTimeConfig(mode="table", table=str(path))
    assert StepTimeConfig.of(command="x {arch_json}", timeout_s=5.0) == StepTimeConfig(
        mode="command", command="x {arch_json}", timeout_s=5.0
    )
    assert StepTimeConfig.of(mode="predicted", profile=path).mode == "predicted"
