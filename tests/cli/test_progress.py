"""What the progress line of a search counts, and the time that it says is left."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from effnas import SearchSpace
from effnas.cli import search as search_command
from effnas.cli.search import SearchCommand
from effnas.config.recipe import Recipe
from effnas.search.baselines import PlannedBaseline
from effnas.search.cost_estimate import CostEstimate
from effnas.search.launch import Settings
from effnas.trials.baselines import BaselineResult

NETWORK = SearchSpace.load("tiny").reference


def test_baselines_are_counted_while_the_time_that_is_left_runs_down(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shown: list[tuple[Any, ...]] = []
    monkeypatch.setattr(search_command, "_plan_rows", lambda plan, settings: [])
    monkeypatch.setattr(CostEstimate, "warnings", lambda plan: [])
    monkeypatch.setattr(SearchCommand, "progress", lambda command, *what: shown.append(what))
    planned = [
        PlannedBaseline(name=name, network=NETWORK, seeds=3, left=left, training_s=60, timing_s=120)
        for name, left in (("a", (1, 2)), ("b", (0, 1, 2)))
    ]
    prepared: Any = SimpleNamespace(holdout_images=10)
    settings = Settings(space="tiny", data="digits", out=tmp_path, recipe=Recipe(), budget=4)
    command = SearchCommand(settings, as_json=False)
    command.planned(CostEstimate(None, prepared, 4, 4, 300, 1, planned))  # type: ignore[arg-type]
    results = [("a", 1, {"accuracy": 0.5}), ("a", 2, {"accuracy": 0.5}), ("b", 0, {})]
    for name, repeat, metrics in results:
        command.baseline_ended(
            BaselineResult(baseline=name, network=str(NETWORK), repeat=repeat, metrics=metrics),
            3,
            None,  # type: ignore[arg-type]
        )
    assert shown == [
        ("training the baselines", 0, 5, "about 27 min left in all"),
        ("training the baselines", 1, 5, "about 26 min left in all"),
        ("training the baselines", 2, 5, "about 25 min left in all"),
        # The first training of b was not possible, so there are no others.
        ("searching", 0, 4, "about 20 min left"),
    ]
