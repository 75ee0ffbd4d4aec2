"""Trials: their states, their order, the best of them, and the table that they make."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effnas import Measurement, SearchSpace, Trial, Trials, TrialState

ARCH = SearchSpace.load("tiny").sample(np.random.default_rng(0))
COLUMNS = ["trial", "state", "architecture", "architecture_id", "reward"]


def trial(number: int, reward: float | None = None, **metrics: float) -> Trial:
    state = TrialState.RUNNING if reward is None else TrialState.COMPLETE
    measurement = Measurement(metrics=metrics)
    return Trial(
        number=number, architecture=ARCH, state=state, measurement=measurement, reward=reward
    )


@given(st.permutations(range(8)))
def test_trials_are_in_the_order_of_their_numbers(numbers: list[int]) -> None:
    trials = Trials(trial(number) for number in numbers)
    assert [t.number for t in trials] == list(range(8)) == [trials[n].number for n in range(8)]
    assert [t.number for t in trials[2:4]] == [2, 3]
    assert (len(trials), trials[-1].number) == (8, 7)


rewards = st.lists(st.none() | st.floats(-2, 2))


@pytest.mark.slow
@given(rewards)
def test_the_best_trial_has_the_highest_reward_and_of_equals_is_the_first(
    given_rewards: list[float | None],
) -> None:
    trials = Trials(trial(n, reward) for n, reward in enumerate(given_rewards))
    ranked = [t.reward for t in trials.ranked()]
    known = [reward for reward in given_rewards if reward is not None]
    assert ranked == sorted(known, reverse=True)
    assert (trials.best.number if trials.best else None) == (
        given_rewards.index(max(known)) if known else None
    )


def test_the_table_has_the_documented_columns_in_their_order() -> None:
    frame = Trials(
        [trial(1, 0.5, step_time=2.0), trial(0, 0.4, accuracy=0.7, step_time=1.0), trial(2)]
    ).to_pandas()
    assert list(frame.columns) == [
        *COLUMNS,
        "accuracy",
        "step_time",
        "step_time_source",
        "reason",
        "duration_s",
    ]
    assert frame["trial"].tolist() == [0, 1, 2]
    assert frame["state"].tolist() == ["COMPLETE", "COMPLETE", "RUNNING"]
    assert frame["architecture"].tolist() == [str(ARCH)] * 3
    assert frame["architecture_id"].tolist() == [ARCH.id] * 3
    assert frame["step_time"].tolist()[:2] == [1.0, 2.0]
    assert pd.isna(frame["accuracy"][1])
    assert pd.isna(frame["reward"][2])
