"""More trials gain much while there is much to find, and nothing when all is known."""

from __future__ import annotations

import numpy as np
import pytest

from effnas import Architecture, Reward, Search, SearchSpace
from effnas.trials.outlook import MIN_TRIALS, Outlook, outlook
from effnas.trials.trial import Measurement, Trial, Trials, TrialState
from effnas.trials.uncertainty import Noise, Ranking, rank_trials

TINY = SearchSpace.load("tiny")
REWARD = Reward.load("A * P^-0.05")
NOISE = Noise(holdout_images=100_000)


def measure(arch: Architecture) -> dict[str, float]:
    layers, kernels = arch.layers, sum(stage.k for stage in arch.stages)
    return {"accuracy": 0.5 + 0.03 * layers + 0.005 * kernels, "step_time": 1.0}


def ranking(trials: Trials, noise: Noise = NOISE) -> Ranking:
    return rank_trials(trials, REWARD, noise)


def complete(number: int, arch: Architecture, reward: Reward, **metrics: float) -> Trial:
    return Trial(
        number=number,
        architecture=arch,
        state=TrialState.COMPLETE,
        measurement=Measurement(metrics=metrics),
        reward=reward.score(metrics),
    )


def searched(controller: str, budget: int, seed: int = 1) -> Search:
    search = Search(TINY, REWARD, controller, seed)
    search.run(measure, budget=budget)
    return search


def figures(found: Outlook) -> tuple[float, float, float]:
    assert found.expected is not None
    assert found.high is not None
    assert found.probability is not None
    return found.expected, found.high, found.probability


def test_independent_trials_gain_about_what_is_expected() -> None:
    rng = np.random.default_rng(3)
    archs = list(dict.fromkeys(TINY.sample(rng) for _ in range(80)))[:40]
    reward, drawn, expected, below = Reward.load("A"), [], [], []
    for _ in range(15):
        true = rng.normal(0.7, 0.02, 40)
        trials = [
            complete(n, arch, reward, accuracy=float(true[n])) for n, arch in enumerate(archs)
        ]
        found = rank_trials(Trials(trials), reward, NOISE)
        mean, high, _ = figures(outlook(found, learns=False, more=40))
        expected.append(mean)
        drawn.append(np.maximum(rng.normal(0.7, 0.02, (500, 40)).max(axis=1) - true.max(), 0.0))
        below.append(np.mean(drawn[-1] <= high))
    assert 0.6 < np.mean(expected) / np.mean(drawn) < 1.6
    assert np.mean(below) > 0.75  # the shape of the end is not known exactly


def test_more_trials_and_learning_gain_more_and_what_was_tried_gains_nothing() -> None:
    found = ranking(searched("random", 60).trials)
    few, many = (figures(outlook(found, learns=False, more=more)) for more in (5, 500))
    assert few < many
    assert figures(outlook(found, learns=False)) < figures(outlook(found, learns=True))
    assert figures(outlook(found, learns=True, complete=0.0)) == (0.0, 0.0, 0.0)
    left = figures(outlook(found, learns=False, more=500, untried=5))
    assert left == pytest.approx(few, rel=0.01)
    assert "every architecture" in (outlook(found, learns=True, untried=0).reason or "")


def test_where_nothing_can_be_said_there_is_a_reason() -> None:
    trials = searched("random", MIN_TRIALS - 1).trials
    few = outlook(ranking(trials), learns=True)
    assert few.expected is None
    assert few.reason == "19 complete trials are too few; it takes 20"
    unknown = outlook(ranking(trials, Noise(holdout_images=None)), learns=True)
    assert "not known" in (unknown.reason or "")
