"""Accuracies that follow from learning curves, and what the engine makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, log2

import numpy as np
import pytest

from effnas import Architecture, Reward, SearchSpace, Trials, TrialState
from effnas.trials.learning_curve import LearningCurves
from effnas.trials.trial import Measurement, StageTimes, Trial
from effnas.trials.uncertainty import Noise
from effnas.workflows.retarget.curve_accuracies import CurveAccuracies
from effnas.workflows.retarget.retargeting import Retargeting

SPACE = SearchSpace.parse(
    "stages: ['fused_r<1..4>_k<3|5>_s2_e<1|4>_c<8|16>']\nreference: [fused_r1_k3_s2_e1_c8]\n"
)
ARCHS = list(SPACE.architectures())
REWARD = Reward.load("accuracy")
TIME_S = 64.0


def old_s(arch: Architecture) -> float:
    return 0.1 + 0.01 * arch.stages[0].r * arch.stages[0].e


def new_s(arch: Architecture) -> float:
    """A device that is quick, and dislikes large kernels."""
    return 0.25 * old_s(arch) * (8 if arch.stages[0].k == 5 else 1)


def accuracy(arch: Architecture, steps: float) -> float:
    """Grows with width, and with the logarithm of the steps."""
    size = 0.2 * arch.stages[0].r + (0.5 if arch.stages[0].c == 16 else 0.0)
    return 1 / (1 + exp(-(size + 0.3 * log2(steps / 256))))


def steps_there(arch: Architecture) -> int:
    return int(TIME_S / new_s(arch))


def trial(number: int, arch: Architecture) -> Trial:
    steps = int(TIME_S / old_s(arch))
    # Within a training, the curve is steeper than accuracies of longer ones are.
    curve = tuple(
        (n, accuracy(arch, steps / (steps / n) ** 2)) for n in (steps // 4, steps // 2, steps)
    )
    return Trial(
        number=number,
        architecture=arch,
        state=TrialState.COMPLETE,
        reward=curve[-1][1],
        measurement=Measurement(
            metrics={"accuracy": curve[-1][1], "step_time": old_s(arch) / 0.11},
            stages=(StageTimes(8, steps, old_s(arch)),),
            curve=curve,
        ),
    )


TRIALS = Trials(trial(n, arch) for n, arch in enumerate(ARCHS[::2]))
CURVES = LearningCurves.of(TRIALS, Noise(holdout_images=2_000))


def there(arch: Architecture) -> Mapping[str, float]:
    return {"step_time": new_s(arch) / (0.25 * 0.11), "step_time_s": new_s(arch)}


def engine_of(trials: Trials = TRIALS) -> Retargeting:
    return Retargeting(
        SPACE, REWARD, trials, curves=CURVES, step_time_of=there,
        steps_of=lambda arch, metrics: steps_there(arch),
    )  # fmt: skip


def test_steps_that_are_not_known_follow_from_step_times() -> None:
    found = CurveAccuracies(CURVES, TRIALS)

    def slowdown(archs: list[Architecture]) -> tuple[np.ndarray, np.ndarray]:
        ratios = [log2(new_s(arch) / old_s(arch) / 0.25) for arch in archs]
        return np.array(ratios), np.full(len(archs), 0.01)

    before = found.predicted(slowdown)
    assert set(before) == {t.architecture.id for t in TRIALS}
    told, guessed = TRIALS[:4], TRIALS[4:]
    unsure = [before[t.architecture.id].deviation for t in guessed]
    for each in told:
        assert found.tell_steps(each.architecture, steps_there(each.architecture))
    after = found.predicted(slowdown)
    for each in guessed:
        key, steps = each.architecture.id, int(TIME_S / old_s(each.architecture))
        exact = CURVES.predict(each, log2(steps_there(each.architecture) / steps))
        assert after[key].accuracy == pytest.approx(exact.accuracy, abs=0.005)
        assert exact.deviation < 1.01 * after[key].deviation  # to the rounding of steps
    assert sum(after[t.architecture.id].deviation for t in guessed) < sum(unsure)
    # One that was trained there is no prediction; a network of no trial has none.
    found.tell_trained(told[0].architecture)
    assert told[0].architecture.id not in found.predicted(slowdown)
    assert not found.tell_steps(ARCHS[1], 100)


def test_accuracies_there_are_predictions_until_networks_are_trained_there() -> None:
    engine = engine_of()
    for candidate in engine.ranking():
        slower = candidate.architecture.stages[0].k == 5
        old = candidate.old_metrics["accuracy"]
        assert (candidate.metrics["accuracy"] < old) == slower
        assert candidate.accuracy_deviation > 0
        assert candidate.reward_deviation == pytest.approx(candidate.accuracy_deviation, rel=0.05)
    old = {t.architecture.id for t in TRIALS}
    again, new = [], []
    for _ in range(40):
        arch = engine.next_to_train()
        if arch is None:
            break
        (again if arch.id in old else new).append(arch)
        engine.tell_trained(arch, {**there(arch), "accuracy": accuracy(arch, steps_there(arch))})
    assert again
    assert new
    assert len({arch.id for arch in [*again, *new]}) == len(again) + len(new) < 40
    ranking = engine.ranking()
    trained = {arch.id for arch in [*again, *new]}
    for candidate in ranking:
        assert (candidate.accuracy_deviation == 0) == (candidate.architecture.id in trained)
    best = max(ARCHS, key=lambda arch: accuracy(arch, steps_there(arch)))
    assert ranking[0].architecture == best
    assert ranking[0].metrics["accuracy"] == accuracy(best, steps_there(best))


def test_what_is_under_way_or_infeasible_is_not_asked_for() -> None:
    engine = engine_of()
    first = engine.next_to_train()
    assert first is not None
    other = engine_of()
    other.tell_started(first)
    assert other.next_to_train() != first
    third = engine_of()
    third.tell_infeasible(first)
    assert third.next_to_train() != first
    assert first.id not in {c.architecture.id for c in third.ranking()}


def test_only_what_meets_a_limit_is_proposed_and_all_is_ranked() -> None:
    engine = engine_of()
    limit = float(np.median([SPACE.count(arch).macs for arch in ARCHS]))
    engine.narrow([f"macs <= {limit!r}"])
    assert len(engine.ranking()) == len(TRIALS)
    old = {t.architecture.id for t in TRIALS}
    for _ in range(12):
        if (arch := engine.next_to_train()) is None:
            break
        assert arch.id in old or SPACE.count(arch).macs <= limit
