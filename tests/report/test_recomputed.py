"""What the tables of a report say is computed again from the lines of a run, without effnas.

Runs of this folder's versions are read; `EFFNAS_RUNS=runs/first:runs/second` names others.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from effnas.report.page import report_search, write_tables
from effnas.trials.run import load_run

GOLDEN = Path(__file__).parents[1] / "golden/folders"
RUNS = [GOLDEN / name for name in ("run", "constrained", "rungs", "predicted")]
RUNS += [Path(path) for path in os.environ.get("EFFNAS_RUNS", "").split(":") if path]
V2 = re.compile(r"A \* S\^(-[\d.]+) \* P\^(-[\d.]+)")


class Lines:
    """A run as its lines tell it."""

    def __init__(self, folder: Path) -> None:
        self.manifest = json.loads((folder / "manifest.json").read_text())
        trials = _lines(folder / "trials.jsonl")
        self.trials = {line["trial"]: line for line in trials}
        self.complete = {n: t for n, t in self.trials.items() if t["state"] == "COMPLETE"}
        self.baselines: dict[str, list[dict[str, float]]] = defaultdict(list)
        for line in _lines(folder / "baselines.jsonl"):
            if "accuracy" in line.get("metrics", {}):
                self.baselines[line["baseline"]].append(line["metrics"])

    def reward(self, metrics: dict[str, float]) -> float:
        if self.manifest["reward"]["text"] == "A":
            return metrics["accuracy"]
        exponents = V2.fullmatch(self.manifest["reward"]["text"])
        assert exponents, self.manifest["reward"]
        step_time, size = map(float, exponents.groups())
        return float(
            metrics["accuracy"]
            * metrics["step_time"] ** step_time
            * metrics["params_ratio"] ** size
        )

    def standard_error(self, accuracy: float, trainings: int = 1) -> float:
        images = self.manifest["data"]["holdout_images"]
        smooth = (accuracy * images + 1) / (images + 2)
        several = [[m["accuracy"] for m in each] for each in self.baselines.values()]
        several = [each for each in several if len(each) > 1]
        freedom = sum(len(each) - 1 for each in several)
        squares = sum((len(each) - 1) * statistics.variance(each) for each in several)
        seeds = squares / freedom if freedom else 0.0
        return math.sqrt(smooth * (1 - smooth) / images + seeds / trainings)


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture(scope="module", params=RUNS, ids=lambda path: path.name)
def found(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Lines, dict[str, list[dict[str, str]]], str]:
    """The lines of a run, the tables of its report, and the page."""
    folder = tmp_path_factory.mktemp("tables")
    page = report_search(load_run(request.param))
    write_tables(page, folder)
    tables = {}
    for path in folder.glob("*.csv"):
        with path.open(newline="") as file:
            tables[path.stem] = list(csv.DictReader(file))
    return Lines(request.param), tables, page.title


def test_rewards_and_the_order_of_trials(found: Any) -> None:
    lines, tables, title = found
    assert len(tables["trials"]) == len(lines.trials)
    for row in tables["trials"]:
        trial = lines.trials[int(row["trial"])]
        assert row["state"] == trial["state"]
        if trial["state"] == "COMPLETE":
            assert float(row["reward"]) == pytest.approx(lines.reward(trial["metrics"]))
            assert float(row["accuracy"]) == trial["metrics"]["accuracy"]
    best = max(lines.complete.values(), key=lambda trial: trial["reward"])
    first = tables["best"][0]
    assert first["network"] == f"trial {best['trial']}"
    assert float(first["reward"]) == pytest.approx(lines.reward(best["metrics"]))
    named = re.search(r"[Tt]rial (\d+)", title)
    assert named is None or int(named[1]) == best["trial"]


def test_standard_errors_and_baselines(found: Any) -> None:
    lines, tables, _ = found
    if not lines.manifest["data"].get("holdout_images"):
        pytest.skip("the run does not say how many images were held out")
    for row in tables.get("ranking", []):
        expected = lines.standard_error(float(row["accuracy"]))
        assert float(row["accuracy_error"]) == pytest.approx(expected)
    for row in tables["best"][1:]:
        measured = lines.baselines.get(row["network"])
        if not measured:
            continue
        accuracy = statistics.fmean(metrics["accuracy"] for metrics in measured)
        assert float(row["accuracy"]) == pytest.approx(accuracy)
        error = lines.standard_error(accuracy, len(measured))
        assert float(row["accuracy_error"]) == pytest.approx(error)


def test_probabilities_and_shared_ranks_are_possible(found: Any) -> None:
    lines, tables, _ = found
    rows = [row for row in tables.get("ranking", []) if row["best_probability"]]
    if not rows:
        pytest.skip("it is not known how sure the ranking is")
    total = sum(float(row["best_probability"]) for row in rows)
    assert total <= 1.001
    if len(rows) == len(lines.complete):  # else the table has the highest ones
        assert total == pytest.approx(1, abs=0.001)
    for row in rows:
        assert 1 <= int(row["rank"]) <= int(row["last_rank"]) <= len(lines.complete)
        assert float(row["reward_low"]) <= float(row["reward_high"])


def test_the_pareto_front_is_what_nothing_dominates(found: Any) -> None:
    lines, tables, _ = found
    points = {n: (t["metrics"]["accuracy"], -t["metrics"]["step_time"])
              for n, t in lines.complete.items()}  # fmt: skip
    front = {
        n for n, mine in points.items()
        if not any(other != mine and other[0] >= mine[0] and other[1] >= mine[1]
                   for other in points.values())
    }  # fmt: skip
    assert {int(row["trial"]) for row in tables["pareto-front"]} == front


def test_counts_costs_and_classes(found: Any) -> None:
    lines, tables, _ = found
    ended = [trial for trial in lines.trials.values() if trial.get("duration_s")]
    by_kind = {row["what"]: float(row["seconds"]) for row in tables["cost"]}
    own = sum(s for what, s in by_kind.items() if what not in ("baselines", "idle"))
    assert own == pytest.approx(sum(trial["duration_s"] for trial in ended))
    first_stages: dict[str, int] = defaultdict(int)
    for trial in lines.trials.values():
        first_stages[re.findall(r"_k(\d+)", trial["architecture"])[0]] += 1
    for row in tables["coverage"]:
        if row["decision"] == "stage1.k":
            assert int(row["tried"]) == first_stages.get(row["option"], 0)
    held_out = [row["holdout_images"] for row in tables.get("classes", [])]
    if all(held_out):  # older runs do not store them
        assert sum(map(int, held_out)) == (lines.manifest["data"]["holdout_images"] or 0)
