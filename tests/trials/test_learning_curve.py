"""Accuracies after other numbers of steps: what must hold whatever the curves are."""

from __future__ import annotations

import re
from dataclasses import replace
from math import log2
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effnas.arch.architecture import Architecture
from effnas.config.recipe import Recipe
from effnas.space.search_space import SearchSpace
from effnas.trials.learning_curve import LearningCurves, best_after, doublings_of
from effnas.trials.manifest import SearchManifest
from effnas.trials.manifest_parts import RewardPart, SpacePart
from effnas.trials.run import Run
from effnas.trials.trial import Measurement, StageTimes, Trial, Trials, TrialState
from effnas.trials.uncertainty import Noise

ARCH = Architecture.parse(["fused_r1_k3_s2_e1_c8"], stem=8, head=16)
NOISE = Noise(holdout_images=400, seed_spread=0.01)
SPACE = SearchSpace.load("tiny")
SHARES = st.floats(0, 1)


def trial(*accuracies: float, steps: int = 64, number: int = 0) -> Trial:
    """A trial whose steps have doubled from each accuracy to the next."""
    points = [(steps >> n, a) for n, a in enumerate(reversed(accuracies))]
    return Trial(
        number=number,
        architecture=ARCH,
        state=TrialState.COMPLETE,
        measurement=Measurement(
            metrics={"accuracy": accuracies[-1]},
            stages=(StageTimes(8, steps // 2, 0.1), StageTimes(12, steps // 2, 0.2)),
            curve=tuple(reversed(points)),
        ),
    )


RUNS = st.lists(st.tuples(SHARES, SHARES, SHARES), min_size=1, max_size=8).map(
    lambda curves: [trial(*curve, number=n) for n, curve in enumerate(curves)]
)
DOUBLINGS = st.floats(-8, 8)


@given(RUNS, st.floats(0.96, 1.04))
def test_about_the_same_steps_give_the_accuracy_that_was_measured(
    run: list[Trial], ratio: float
) -> None:
    curves = LearningCurves.of(run, NOISE)
    for each in run:
        assert curves.predict(each, log2(ratio)) == (each.metrics["accuracy"], 0.0)


@given(RUNS, DOUBLINGS, DOUBLINGS)
def test_more_steps_are_never_worse_and_accuracies_are_shares(
    run: list[Trial], one: float, other: float
) -> None:
    curves = LearningCurves.of(run, NOISE)
    fewer, more = sorted((one, other))
    for each in run:
        few, many = curves.predict(each, fewer), curves.predict(each, more)
        assert 0 <= few.accuracy <= many.accuracy <= 1


@given(RUNS, DOUBLINGS, st.floats(1, 4))
def test_what_is_further_off_is_less_sure_and_never_surer_than_what_was_measured(
    run: list[Trial], doublings: float, factor: float
) -> None:
    curves = LearningCurves.of(run, NOISE)
    for each in run:
        near, far = curves.predict(each, doublings), curves.predict(each, factor * doublings)
        error = NOISE.standard_error(each.metrics["accuracy"]) or 0.0
        assert near.deviation <= far.deviation * (1 + 1e-9)
        if near.deviation:
            assert error <= near.deviation * (1 + 1e-9)
        guessed = curves.predict(each, doublings or 1.0, doublings_deviation=0.5)
        assert guessed.deviation >= curves.predict(each, doublings or 1.0).deviation


@given(RUNS, DOUBLINGS, st.randoms(use_true_random=False))
def test_the_order_of_trials_and_of_points_does_not_matter(
    run: list[Trial], doublings: float, random: object
) -> None:
    mixed = [
        replace(t, measurement=replace(t.measurement, curve=t.measurement.curve[::-1])) for t in run
    ]
    random.shuffle(mixed)  # type: ignore[attr-defined]
    one, other = LearningCurves.of(run, NOISE), LearningCurves.of(mixed, NOISE)
    assert one == other
    by_number = {each.number: each for each in mixed}
    for each in run:
        assert one.predict(each, doublings) == other.predict(by_number[each.number], doublings)


def test_a_slope_is_drawn_to_those_of_the_others_as_far_as_it_is_noise() -> None:
    alike = [trial(0.5, 0.6, 0.7, number=n) for n in range(6)]
    odd = trial(0.2, 0.4, 0.7, number=9)
    alone, among = LearningCurves.of([odd], NOISE), LearningCurves.of([*alike, odd], NOISE)
    same = LearningCurves.of(alike, NOISE)
    gains = [curves.predict(odd, 1.0).accuracy - 0.7 for curves in (alone, among, same)]
    assert gains[0] > gains[1] > gains[2] > 0
    # On more images its slope is its own.
    sure = LearningCurves.of([*alike, odd], Noise(holdout_images=100_000))
    assert sure.predict(odd, 1.0).accuracy > among.predict(odd, 1.0).accuracy
    # Twice the steps gain less than the curve did in its last doubling; half of them lose less.
    half = alone.predict(odd, -1.0).accuracy
    assert 0.4 < half < 0.7
    assert gains[0] < 0.3


def test_a_curve_that_falls_predicts_no_loss_from_more_steps() -> None:
    falling = trial(0.8, 0.7, 0.6)
    curves = LearningCurves.of([falling], NOISE)
    assert curves.predict(falling, 2.0).accuracy == pytest.approx(0.6)
    assert curves.predict(falling, -2.0).accuracy == pytest.approx(0.6)


def test_without_a_curve_the_others_tell_and_without_any_nothing_is_gained() -> None:
    bare = trial(0.7)
    others = [trial(0.5, 0.6, 0.7, number=n) for n in (1, 2)]
    assert LearningCurves.of([bare, *others], NOISE).predict(bare, 1.0).accuracy > 0.7
    assert LearningCurves.of([bare], NOISE).predict(bare, 1.0).accuracy == pytest.approx(0.7)


def test_doublings_are_of_the_steps_of_all_stages() -> None:
    assert doublings_of(128, trial(0.5, steps=64)) == 1
    assert doublings_of(16, trial(0.5, steps=64)) == -2


def search(*trials: Trial, reward: str = "A") -> Run:
    """A finished search by time, of 60 s."""
    manifest = SearchManifest(
        space=SpacePart.of(SPACE),
        reward=RewardPart(text=reward),
        recipe=Recipe(train_time_s=60.0),
    )
    scored = (replace(each, reward=each.metrics["accuracy"]) for each in trials)
    return Run(Path("x"), manifest, SPACE, Trials(scored))


QUICK, SLOW, UNKNOWN = (
    trial(0.58, 0.60, 0.62, number=0, steps=4096),
    trial(0.44, 0.52, 0.61, number=1, steps=4096),
    trial(0.10, 0.20, 0.45, number=2, steps=4096),  # rises most, but from far below
)


def test_what_rises_more_steeply_is_the_best_after_a_longer_training() -> None:
    run = search(QUICK, SLOW, UNKNOWN)
    after = best_after(run, 240.0)
    assert after is not None
    assert after.is_other
    chosen, best = after
    assert (chosen.trial.number, best.trial.number) == (1, 0)
    assert chosen.predicted.accuracy > best.predicted.accuracy > 0.62
    assert re.fullmatch(r"6\d\.\d% ±\d\.\d of trial 0", str(best))
    assert str(after).endswith(f"and {best}, the best of the search")
    shorter = best_after(run, 15.0)
    assert shorter is not None
    assert not shorter.is_other
    assert str(shorter).endswith("of trial 0, the best of the search, and of no other trial more")
    for time_s in (60.0, 80.0):  # about as long as the search's
        assert best_after(run, time_s) is None
    assert best_after(search(QUICK, SLOW, reward="A * S ** -0.07"), 240.0) is None
