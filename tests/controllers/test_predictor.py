"""Of thousands of trials, models learn from those that matter, whenever they are asked."""

from __future__ import annotations

import numpy as np
import pytest

from effnas.controllers import predictor
from effnas.controllers.predictor import MOST_TRIALS, Predictor, trials_that_matter
from effnas.testing import MNASNET
from effnas.trials.trial import Measurement, Trial, TrialState


@pytest.mark.parametrize("count", [0, 1, MOST_TRIALS])
def test_all_trials_matter_where_they_are_few(count: int) -> None:
    assert trials_that_matter(np.zeros(count)).tolist() == list(range(count))


@pytest.mark.parametrize("count", [1_001, 1_200, 1_201, 4_999, 10_000])
def test_of_many_the_highest_the_latest_and_some_of_all_others_matter(count: int) -> None:
    values = np.random.default_rng(count).permutation(count).astype(float)
    found = trials_that_matter(values)
    assert 800 <= len(found) <= MOST_TRIALS
    assert (np.diff(found) > 0).all()
    assert count - 1 in found
    settled = (count - 1) // 200 * 200
    assert set(np.argsort(-values[:settled])[:400]) <= set(found)
    tenths = np.histogram(found, 10, (0, count))[0]
    assert tenths.min() >= 0.03 * len(found)


def test_the_choice_stays_for_a_while() -> None:
    values = np.random.default_rng(0).normal(size=3_000)
    before, after = (trials_that_matter(values[:n]) for n in (2_801, 3_000))
    assert before.tolist() == after[: len(before)].tolist()


def trials(count: int) -> list[Trial]:
    rng, found = np.random.default_rng(0), {}
    while len(found) < count:
        arch = MNASNET.sample(rng)
        found[arch] = 0.5 + 0.01 * sum(s.r for s in arch.stages) + 0.001 * rng.normal()
    return [
        Trial(number=n, architecture=arch, state=TrialState.COMPLETE, reward=value,
              measurement=Measurement(metrics={"accuracy": value}))
        for n, (arch, value) in enumerate(found.items())
    ]  # fmt: skip


def test_predictions_of_many_trials_follow_from_the_trials_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(predictor, "MOST_TRIALS", 90)
    monkeypatch.setattr(predictor, "_SETTLED_AFTER", 20)
    told = trials(150)
    once, often = Predictor(MNASNET), Predictor(MNASNET)
    for trial in told:
        once.tell(trial)
        often.tell(trial)
        if trial.number % 7 == 0:
            often.update()
    once.update()
    often.update()
    archs = [MNASNET.sample(np.random.default_rng(n)) for n in range(20)]
    [(_, a), (_, b)] = (each.metrics(archs) for each in (once, often))
    assert a["reward"].mean.tolist() == b["reward"].mean.tolist()
    assert a["reward"].deviation.tolist() == b["reward"].deviation.tolist()
    # They still know: far better than the mean of all would.
    truth = np.array([0.5 + 0.01 * sum(s.r for s in arch.stages) for arch in archs])
    assert np.corrcoef(np.exp(a["reward"].mean), truth)[0, 1] > 0.95
