"""What a report says is what the stored trials say."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_runs import SPACE, made_run, metrics_of

from effnas.arch.architecture import Architecture
from effnas.config.recipe import Recipe
from effnas.report.about_search import is_proxy_good
from effnas.report.explanation import importances, path
from effnas.report.facts import Facts
from effnas.report.page import report_search
from effnas.report.parts import against_forecast
from effnas.report.statements import (
    best_so_far,
    costs,
    coverage,
    reasons,
    rung_pairs,
    sensitivity,
)
from effnas.trials.manifest_parts import RewardPart
from effnas.trials.reward import Reward
from effnas.trials.run import load_run
from effnas.trials.trial import Measurement, Trial, Trials

GOLDEN = Path(__file__).parents[1] / "golden/folders"


def records(folder: Path) -> list[dict]:
    """The last line of each trial, read without effnas."""
    lines = [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]
    return list({line["trial"]: line for line in lines}.values())


@pytest.mark.parametrize("name", ["run", "constrained", "rungs"])
def test_statements_follow_from_the_lines_of_a_run(name: str) -> None:
    run, stored = load_run(GOLDEN / name), records(GOLDEN / name)
    complete = [r for r in stored if r["state"] == "COMPLETE"]

    best, found = -math.inf, []
    for record in complete:
        if record["reward"] > best:
            best = record["reward"]
            found.append((record["trial"], best))
    assert best_so_far(run.trials) == found

    ended = [r for r in stored if "duration_s" in r]
    assert sum(c.seconds for c in costs(run)) == pytest.approx(sum(r["duration_s"] for r in ended))

    kernels = Counter(f"k{r['architecture'].split()[1].split('_k')[1][0]}" for r in stored)
    mine = {f"k{c.option}": c.tried for c in coverage(run.space, run.trials)
            if c.decision == "stage2.k"}  # fmt: skip
    assert {k: n for k, n in mine.items() if n} == dict(kernels)

    said = Counter(r["state"] for r in stored if r.get("reason"))
    assert Counter({s: n for s, _, n in reasons(run.trials)}) == said


def test_every_older_run_has_a_report() -> None:
    for folder in sorted(GOLDEN.glob("*/trials.jsonl")):
        page = report_search(load_run(folder.parent))
        assert all(section.answer for section in page.sections), folder


def test_the_winner_for_other_exponents_has_the_highest_reward_there() -> None:
    run = made_run(lambda arch: metrics_of(0.5 + 0.03 * arch.layers, arch))
    found = sensitivity(run.trials, Reward.load("v2"), steps=5)
    assert found is not None
    for p, row in zip(found.size_exponents, found.winners, strict=True):
        for s, winner in zip(found.step_time_exponents, row, strict=True):
            scores = {t.number: t.metrics["accuracy"] * t.metrics["step_time"] ** s
                      * t.metrics["params_ratio"] ** p for t in run.trials}  # fmt: skip
            assert scores[winner] == pytest.approx(max(scores.values()))
    assert sensitivity(run.trials, Reward.load("A - 0.1 * S")) is None


def test_a_rank_correlation_needs_enough_pairs_and_has_an_interval() -> None:
    rng = np.random.default_rng(0)
    trials = [
        Trial(number=n, architecture=SPACE.sample(rng),
              measurement=Measurement(metrics={}, rungs={1: a, 2: a + rng.normal(0, 0.05)}))
        for n, a in enumerate(rng.random(20))
    ]  # fmt: skip
    [pair] = rung_pairs(trials)
    assert pair.tau is not None
    assert -1 <= pair.tau_low < pair.tau < pair.tau_high <= 1
    [few] = rung_pairs(trials[:7])
    assert few.tau is None


def test_a_baseline_is_surely_beaten_only_from_far() -> None:
    run = made_run(lambda arch: metrics_of(0.8, arch), baseline_accuracy=0.5)
    near = made_run(lambda arch: metrics_of(0.8, arch), baseline_accuracy=0.95)
    far, close = (Facts(each, Reward.load("v2")).contenders[0] for each in (run, near))
    assert far.reward_gap.probability > 0.99
    assert far.is_beaten
    assert close.reward_gap.probability < far.reward_gap.probability
    assert close.is_beaten is False
    # Rewards and accuracies that were measured stand beside those with the luck taken off.
    assert far.measured_accuracy_gap == pytest.approx(0.8 - 0.5)
    assert close.measured_gap == pytest.approx(close.best.reward - close.reward)


def kernels_alone(arch: Architecture) -> dict[str, float]:
    return metrics_of(0.5 + 0.2 * (arch.stages[1].k == 5), arch) | {"step_time": 1.0}


def test_the_decision_that_makes_the_difference_is_found() -> None:
    facts = Facts(made_run(kernels_alone, trials=60), Reward.load("A"))
    predictor, winner = facts.predictor, facts.winner
    assert predictor is not None
    assert winner is not None

    found, total = importances(predictor)
    assert found[0].decision == "stage2.k"
    assert found[0].best_option == 5
    assert found[0].low > 0.5
    assert found[1].share < 0.1
    assert total <= 1

    steps = path(predictor, winner.architecture)
    assert steps is not None
    assert steps[0].decision == "stage2.k"
    assert steps[0].gain == pytest.approx(math.log(0.7 / 0.5), abs=0.1)
    assert steps[0].low < steps[0].gain < steps[0].high
    assert all(sum(s.parts.values()) == pytest.approx(s.gain, abs=1e-9) for s in steps)


def test_text_and_figure_give_the_same_shares_of_the_work() -> None:
    run = load_run(GOLDEN / "run")
    timed = [replace(trial, duration_s=3.0, ended=f"2026-01-01T00:00:{10 * n:02}Z")
             for n, trial in enumerate(run.trials)]  # fmt: skip
    page = report_search(replace(run, trials=Trials(timed)))
    section = next(section for section in page.sections if section.name == "cost")
    [bars] = section.figures[0].data
    shares = {
        what: text.rpartition(", ")[2] for what, text in zip(bars["y"], bars["text"], strict=True)
    }
    assert "idle" in shares
    for what, share in shares.items():
        assert (f"{what} {share}" in section.answer) == (what != "idle")


def test_a_forecast_is_held_against_what_was_measured_in_one_way() -> None:
    assert against_forecast(8.74, 13.8) == "37% less than the forecast 14 s"
    assert against_forecast(1.5, 1.0) == "50% more than the forecast 1.0 s"
    assert against_forecast(1.0, 1.001) == "as the forecast 1.0 s"


def test_where_trials_are_short_it_is_said_what_is_likely_best_after_the_whole_time() -> None:
    made = made_run(kernels_alone, trials=8)
    reward = RewardPart.of(Reward.load("accuracy"))
    recipe = Recipe(train_time_s=60.0)
    short = replace(made.manifest, reward=reward, recipe=recipe, full_train_time_s=240.0)
    whole = replace(short, full_train_time_s=60.0)
    said, nothing = (
        is_proxy_good(Facts(replace(made, manifest=each), Reward.load("accuracy"))).answer
        for each in (short, whole)
    )
    assert "after the 4.0 min that the best is to be trained for, learning curves predict" in said
    assert nothing == "This run does not tell: all of its trainings have the same length."
