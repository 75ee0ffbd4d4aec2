"""A Pareto front against guessing and baselines: as measured, and what is sure of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from effnas.report.front_texts import above_guessing_text, against_text, front_title
from effnas.trials.baselines import BaselineResult, grouped
from effnas.trials.front_standing import FrontStanding
from effnas.trials.objectives import Objectives
from effnas.trials.run import Run, load_run
from effnas.trials.trial import Trials

OBJECTIVES = Objectives.parse("accuracy:max,step_time:min,params:min")
FOLDER = Path(__file__).parents[1] / "golden" / "folders" / "objectives"


def standing(
    *trials: tuple[float, float, float], images: int = 10_000, **baseline: float
) -> FrontStanding:
    """Return a front of trials with accuracy, step time and parameters, against one baseline."""
    run = load_run(FOLDER)
    names = [objective.metric for objective in OBJECTIVES]
    made = [
        replace(
            trial,
            measurement=replace(trial.measurement, metrics=dict(zip(names, values, strict=True))),
            reward=values[0],
        )
        for trial, values in zip(run.trials, trials, strict=False)
    ]
    results = [
        BaselineResult(baseline="net", network="net", repeat=n, metrics=baseline) for n in range(3)
    ]
    data = replace(
        run.manifest.data,
        holdout_images=images,
        classes=10,
        holdout_class_counts=(images // 10,) * 10,
    )
    manifest = replace(run.manifest, data=data, objectives=str(OBJECTIVES))
    found: Run = replace(run, trials=Trials(made), manifest=manifest, baselines=grouped(results))
    return FrontStanding(found, OBJECTIVES)


def test_what_dominates_is_told_and_what_does_so_clearly() -> None:
    trials = ((0.9, 0.5, 10.0), (0.81, 0.4, 9.0), (0.2, 1.1, 2.0), (0.5, 2.0, 8.0))
    found = standing(*trials, accuracy=0.8, step_time=1.0, params=10.0)
    assert [trial.number for trial in found.front] == [0, 1, 3, 2]
    [against] = found.against
    assert (against.dominated_by, against.clearly_by) == ((0, 1), (0, 1))
    # A smaller hold-out does not tell 0.81 from 0.8.
    [against] = standing(*trials, images=200, accuracy=0.8, step_time=1.0, params=10.0).against
    assert (against.dominated_by, against.clearly_by) == ((0, 1), (0,))
    assert against_text(against) == (
        "net is clearly dominated by trial 0 (95%), as measured also by trial 1"
    )


def test_a_baseline_may_be_on_the_front_itself_or_not_compare() -> None:
    trials = ((0.9, 0.5, 10.0), (0.5, 1.0, 5.0))
    found = standing(*trials, accuracy=0.6, step_time=1.0, params=4.0)
    assert against_text(found.against[0]) == (
        "net is dominated by none: it would be on the front, without trial 1"
    )
    assert front_title(found) == (
        "2 trials of 2 are on the Pareto front of accuracy, step time and parameters; net would "
        "be on it"
    )
    [lacking] = standing(*trials, accuracy=0.6, params=4.0).against
    assert against_text(lacking) == "net is not compared: it has no step_time"


@pytest.mark.parametrize(
    ("accuracies", "images", "above"),
    [((0.9, 0.8), 1000, (0, 1)), ((0.9, 0.1), 1000, (0,)), ((0.11, 0.1), 100, ())],
)
def test_what_is_above_guessing_is_told(
    accuracies: tuple[float, float], images: int, above: tuple[int, ...]
) -> None:
    trials = [(a, 1.0 - n / 2, 10.0) for n, a in enumerate(accuracies)]
    found = standing(*trials, images=images, accuracy=0.5, step_time=1.0, params=10.0)
    assert found.above_guessing == above
    text = above_guessing_text(found)
    assert text.startswith(("All", "Clearly", "No")[2 - len(above)])
    data = found.run.manifest.data
    for part in (replace(data, classes=None, holdout_class_counts=()),
                 replace(data, holdout_class_counts=())):  # fmt: skip
        run = replace(found.run, manifest=replace(found.run.manifest, data=part))
        # Above chance may still be the largest class.
        assert FrontStanding(run, OBJECTIVES).above_guessing == (
            () if part.classes and not above else None
        )
