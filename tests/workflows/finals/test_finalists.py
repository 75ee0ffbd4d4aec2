"""Who goes to the finals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from effnas import Measurement, SearchSpace, Trial, TrialState
from effnas.config.recipe import Recipe
from effnas.errors import ConfigError
from effnas.trials.manifest import SearchManifest
from effnas.trials.manifest_parts import DataPart, RewardPart, SourcedSpacePart
from effnas.trials.objectives import Objectives, non_dominated
from effnas.trials.run import Run
from effnas.trials.trial import Trials
from effnas.workflows.finals.finalists import choose_finalists
from effnas.workflows.finals.launch import made_long

SPACE = SearchSpace.load("v2-cifar")


def run_of(metrics: list[dict[str, float]], objectives: str | None = None) -> Run:
    rng = np.random.default_rng(0)
    archs = list(dict.fromkeys(SPACE.sample(rng) for _ in range(2 * len(metrics) + 2)))
    trials = [
        Trial(
            number=n,
            architecture=archs[n],
            state=TrialState.COMPLETE,
            measurement=Measurement(metrics=values),
            reward=values["accuracy"] * values.get("step_time", 1.0) ** -0.07,
        )
        for n, values in enumerate(metrics)
    ]
    trials.append(
        Trial(number=len(metrics), architecture=archs[-1], state=TrialState.INFEASIBLE, reason="x")
    )
    manifest = SearchManifest(space=SourcedSpacePart.of(SPACE), objectives=objectives)
    return Run(Path("runs/x"), manifest, SPACE, Trials(trials))


def drawn(count: int) -> list[dict[str, float]]:
    rng = np.random.default_rng(1)
    return [
        {
            "accuracy": float(rng.uniform(0.3, 0.9)),
            "step_time": float(rng.uniform(0.2, 3)),
            "params": float(rng.uniform(1e5, 2e6)),
        }
        for _ in range(count)
    ]


@pytest.mark.parametrize("top", [1, 3, 50])
def test_the_best_come_first_and_then_members_of_the_front(top: int) -> None:
    run = run_of(drawn(40))
    finalists = choose_finalists(run, top)
    by_reward = [f.trial for f in finalists if f.reason == "reward"]
    assert by_reward == run.trials.ranked()[:top]
    others = [f.trial for f in finalists if f.reason == "front"]
    assert len(others) <= top
    assert len({f.trial.number for f in finalists}) == len(finalists)
    objectives = Objectives.parse("accuracy:max,step_time:min,params:min")
    complete = run.trials.ranked()
    values = [objectives.values(trial.metrics) for trial in complete]
    front = {complete[n].number for n in non_dominated(values)}
    assert {trial.number for trial in others} <= front
    assert all(f.trial.state is TrialState.COMPLETE for f in finalists)


def test_the_front_is_that_of_the_runs_objectives() -> None:
    metrics = drawn(30)
    run = run_of(metrics, objectives="accuracy:max,params:min")
    others = [f.trial for f in choose_finalists(run, 3) if f.reason == "front"]
    for trial in others:
        assert not any(
            m["accuracy"] >= trial.metrics["accuracy"] and m["params"] < trial.metrics["params"]
            for m in metrics
        )


def test_small_runs_have_finals_and_equals_are_taken_once() -> None:
    same = {"accuracy": 0.5, "step_time": 1.0, "params": 1e6}
    assert len(choose_finalists(run_of([same, same, same]), 1)) == 1
    without_step_times = [{"accuracy": 0.4}, {"accuracy": 0.6}]
    assert len(choose_finalists(run_of(without_step_times), 1)) == 1


def test_a_run_without_a_complete_trial_is_refused() -> None:
    with pytest.raises(ConfigError, match="of 1 trial, none is complete"):
        choose_finalists(run_of([]), 5)
    with pytest.raises(ConfigError, match="`top` is 0"):
        choose_finalists(run_of(drawn(3)), 0)


@pytest.mark.parametrize(
    ("trial_s", "full_s", "final_s"), [(60.0, 240.0, 240.0), (60.0, 60.0, 240.0), (30, None, 120)]
)
def test_finals_of_a_search_by_time_last_as_long_as_it_was_for(
    trial_s: float, full_s: float | None, final_s: float
) -> None:
    run = run_of(drawn(2))
    recipe = Recipe(train_time_s=trial_s)
    manifest = replace(run.manifest, recipe=recipe, full_train_time_s=full_s)
    found = made_long(replace(run, manifest=manifest))
    assert found == replace(recipe, train_time_s=final_s)


def test_what_learning_curves_predict_to_be_the_best_takes_part_if_it_is_none_of_the_best() -> None:
    run = run_of([{"accuracy": accuracy, "step_time": 1.0} for accuracy in (0.62, 0.615, 0.61)])
    curves = ((0.58, 0.60, 0.62), (0.58, 0.60, 0.615), (0.44, 0.52, 0.61))
    trials = [
        replace(trial, measurement=replace(
            trial.measurement, curve=tuple(zip((1024, 2048, 4096), curve, strict=True))))
        for trial, curve in zip(list(run.trials)[:3], curves, strict=True)
    ]  # fmt: skip
    reward = RewardPart(name="accuracy", kind="expression", text="A")
    data = DataPart(holdout_images=400)
    manifest = replace(run.manifest, recipe=Recipe(train_time_s=60.0), reward=reward, data=data)
    run = replace(run, manifest=manifest, trials=Trials(trials))
    found = [(f.trial.number, f.reason) for f in choose_finalists(run, 1, 240.0)]
    assert found[:2] == [(0, "reward"), (2, "curve")]
    assert "curve" not in {f.reason for f in choose_finalists(run, 3, 240.0)}
    assert "curve" not in {f.reason for f in choose_finalists(run, 1)}
