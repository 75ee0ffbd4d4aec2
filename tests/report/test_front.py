"""The report of a search for several objectives is about its front, and that is as stored."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from made_runs import made_run, metrics_of

from effnas.arch.architecture import Architecture
from effnas.report.page import report_search, to_html
from effnas.report.parts import Page
from effnas.trials.baselines import BaselineResult, grouped
from effnas.trials.run import Run, load_run

GOLDEN = Path(__file__).parents[1] / "golden/folders"
OBJECTIVES = "accuracy:max,step_time:min"


def rising(arch: Architecture) -> dict[str, float]:
    return metrics_of(0.5 + 0.03 * arch.layers, arch)


def pursued(run: Run, **metrics: float) -> Run:
    """A search for accuracy and step time, beside a baseline of these metrics."""
    manifest = replace(run.manifest, objectives=OBJECTIVES)
    result = BaselineResult(baseline="net", network="net", repeat=0, metrics=metrics)
    return replace(run, manifest=manifest, baselines=grouped([result]))


def records(page: Page, name: str) -> list[dict]:
    return next(table for table in page.tables if table.name == name).records()


def test_the_front_is_what_no_line_dominates() -> None:
    page = report_search(load_run(GOLDEN / "objectives"))
    lines = (GOLDEN / "objectives/trials.jsonl").read_text().splitlines()
    last = {line["trial"]: line for line in map(json.loads, lines)}
    points = {n: (m["accuracy"], -m["step_time"], -m["params"])
              for n, m in ((n, line["metrics"]) for n, line in last.items()
                           if line["state"] == "COMPLETE")}  # fmt: skip
    front = {n for n, mine in points.items()
             if not any(o != mine and all(a >= b for a, b in zip(o, mine, strict=True))
                        for o in points.values())}  # fmt: skip
    assert {row["trial"] for row in records(page, "front")} == front
    verb = "is" if len(front) == 1 else "are"
    trials = "1 trial" if len(front) == 1 else f"{len(front)} trials"
    said = f"{trials} of {len(points)} {verb} on the Pareto front of accuracy, step time and"
    assert page.title.startswith(f"{said} parameters")
    tiles = {what: value for what, value, _ in page.tiles}
    assert tiles["on the front"] == str(len(front))
    assert tiles["best accuracy"] == f"{max(p[0] for p in points.values()):.1%}"
    assert f"{records(page, 'progress')[-1]['hypervolume']:.2f}" == tiles["hypervolume"]
    assert to_html(page)


@pytest.mark.parametrize("accuracy", [0.3, 0.99])
def test_a_baseline_is_dominated_or_not(accuracy: float) -> None:
    run = pursued(made_run(rising), accuracy=accuracy, step_time=2.0, params_ratio=1.0)
    page = report_search(run)
    better = [t for t in run.pareto_front
              if t.metrics["accuracy"] >= accuracy and t.metrics["step_time"] <= 2.0]  # fmt: skip
    assert bool(better) == (accuracy < 0.5)
    assert ("net would be on it" in page.title) != bool(better)
    [row] = records(page, "baselines")
    assert row["dominated_by"] == ", ".join(str(t.number) for t in better)


def test_nothing_is_said_of_a_winner_by_reward() -> None:
    page = report_search(pursued(made_run(rising), accuracy=0.3, step_time=2.0))
    names = [section.name for section in page.sections]
    assert names[:3] == ["front", "baselines", "random"]
    assert not {"best", "better", "why", "decisions", "exponents"} & set(names)
    guessing = report_search(pursued(made_run(lambda arch: metrics_of(0.1, arch)), accuracy=0.1,
                                     step_time=1.0))  # fmt: skip
    assert guessing.title == "No trial of the Pareto front is clearly better than guessing"
    assert "rank nothing" in guessing.sections[0].answer
