"""Title, sections and terminal say the same: which network is best, and whom it beats, if any."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from made_runs import made_run, metrics_of
from rich.console import Console

from effnas.arch.architecture import Architecture
from effnas.cli.following import after_search
from effnas.cli.leaderboard import Leaderboard
from effnas.report.facts import Facts
from effnas.report.page import report_search
from effnas.report.parts import Page, chance_text, share_text
from effnas.report.side_by_side import report_runs
from effnas.trials.manifest_parts import ParentPart
from effnas.trials.reward import Reward
from effnas.trials.run import Run
from effnas.trials.step_unit import OVER_MEDIAN


def terminal(run: Run) -> str:
    text = io.StringIO()
    Leaderboard(run, run.load_reward(), 5).show(Console(file=text, width=500))  # type: ignore[arg-type]
    return text.getvalue()


def words(page: Page) -> str:
    """Every sentence, drawing and label of a page."""
    return " ".join([
        page.title,
        *(f"{s.question} {s.answer} {s.sure} {s.content}" for s in page.sections),
        *(f"{f.label} {f.data}" for f in page.figures),
        *(f"{t.name} {[c.title or c.name for c in t.columns]}" for t in page.tables),
    ])  # fmt: skip


def rising(arch: Architecture) -> dict[str, float]:
    return metrics_of(0.5 + 0.03 * arch.layers, arch)


@pytest.mark.parametrize("accuracy", [0.3, 0.6, 0.7, 0.95])
def test_a_baseline_is_beaten_in_the_title_if_it_is_at_the_end_of_the_search(
    accuracy: float,
) -> None:
    run = made_run(rising, baseline_accuracy=accuracy, text="x")
    [contender] = Facts(run, Reward.load("v2")).contenders
    title, said = report_search(run).title, terminal(run)
    assert ("beats net x" in title) == (f"is better than {contender.baseline.name}" in said)
    lost = "does not clearly beat net x" in title or title.startswith("A baseline wins")
    assert lost == ("does not clearly beat net x" in said)
    assert ("beats net x" in title) is contender.is_beaten


def test_what_luck_is_taken_off_stands_beside_what_was_measured() -> None:
    run = made_run(rising, baseline_accuracy=0.7)
    page = report_search(run)
    [row] = next(t for t in page.tables if t.name == "against-baselines").records()
    best, baseline = run.best, run.baselines[0]
    measured = best.metrics["accuracy"] - 0.7
    assert row["measured_accuracy_gap"] == pytest.approx(measured)
    assert row["measured_reward_gap"] == pytest.approx(
        best.reward - baseline.reward(run.load_reward())
    )
    assert row["accuracy_gap_low"] < row["accuracy_gap"] < row["accuracy_gap_high"]
    lines = terminal(run).splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("net"))
    assert lines[at + 1].split() == ["as", "measured", f"{row['measured_reward_gap']:+.4f}",
                                     f"{measured:+.4f}"]  # fmt: skip


def test_where_nothing_beats_guessing_no_winner_is_named() -> None:
    run = made_run(lambda arch: metrics_of(0.1, arch), path=Path("guesses"))
    text = words(report_search(run))
    assert not re.search(r"\bwinn?|\bwon\b", text.replace("none wins", "").replace("not win", ""))
    assert "the accuracies rank nothing" in text
    assert "rank nothing" in terminal(run)
    assert not any("promote" in each for _, line in after_search(run) for each in line)
    learns = made_run(rising, path=Path("learns"))
    several = report_runs([run, learns])
    assert "No trial of guesses is clearly more accurate than guessing" in words(several)
    assert "No trial of learns" not in words(several)
    assert "guesses has the best" not in several.title


def test_runs_that_do_not_compare_share_no_axes() -> None:
    one, two = made_run(rising, path=Path("one")), made_run(rising, path=Path("two"))
    assert [f.name for f in report_runs([one, two]).figures] == ["progress", "trade-offs"]
    other = replace(two, manifest=replace(two.manifest, hardware="another"))
    page = report_runs([one, other])
    assert all(len({trace.get("name") for trace in f.data if trace.get("name")}) == 1
               for f in page.figures)  # fmt: skip
    assert len(page.figures) == 4
    pursued = replace(two, manifest=replace(two.manifest,
                                            objectives="accuracy:max,step_time:min"))  # fmt: skip
    assert "objectives" in report_runs([one, pursued]).title
    assert "two pursued several objectives" in words(report_runs([one, pursued]))


def test_true_rewards_stay_below_those_of_an_accuracy_of_1() -> None:
    run = made_run(lambda arch: metrics_of(0.97, arch))
    reward = Reward.load("v2")
    ranked = Facts(run, reward).ranked
    for each in ranked:
        assert each.high <= reward.score({**each.trial.metrics, "accuracy": 1.0})
    assert max(each.high for each in ranked) > 1
    better = next(s for s in report_search(run).sections if s.name == "better")
    assert "may be above 1" in better.sure


def test_nearly_all_is_not_all() -> None:
    assert [share_text(share) for share in (0, 0.001, 0.5, 0.9958, 1)] == [
        "0%", "<1%", "50%", ">99%", "100%"]  # fmt: skip
    assert [chance_text(chance) for chance in (0.005, 0.995, 1.0)] == ["<1%", ">99%", ">99%"]


def test_what_s_is_over_is_said_as_it_is() -> None:
    run = made_run(rising)
    source = f"table: board.csv; {OVER_MEDIAN}, 0.07 s"
    parent = ParentPart(path="runs/first", trials=30)
    manifest = replace(run.manifest, step_times=source, budget=0, parent=parent)
    moved = report_search(replace(run, manifest=manifest))
    tiles = {what: than for what, _, than in moved.tiles}
    assert tiles["step time"].endswith("the table's median 1")
    assert tiles["trials"].startswith("30 complete, from runs/first")
    assert "times the table's median step time" in moved.sections[0].answer
    assert not re.search(r"reference's step|reference's \(S\)", words(moved))
    assert moved.tables[0].records()[-1]["step_time"] is None  # the reference's is not known
    assert "times the reference's step time" in report_search(run).sections[0].answer
    both = report_runs([replace(run, path=Path("one")),
                        replace(run, path=Path("two"), manifest=manifest)])  # fmt: skip
    assert "unit of S" in both.title
