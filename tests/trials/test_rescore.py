"""Who wins as the constants of a reward change."""

from __future__ import annotations

from pathlib import Path

import pytest

from effnas.errors import UserError
from effnas.trials.rescore import OPEN_REWARD, parse_sweep, sweep
from effnas.trials.reward import Reward
from effnas.trials.run import load_run

RUN = Path(__file__).parents[1] / "golden" / "folders" / "run"


def test_a_sweep_finds_the_winners_that_scoring_finds() -> None:
    trials = load_run(RUN).trials
    found = sweep(trials, OPEN_REWARD, parse_sweep(["w=-3..0:3 v=-1..0:4"]))
    assert len(found.points) == 12
    for (w, v), winner, value in zip(found.points, found.winners, found.rewards, strict=True):
        reward = Reward.load(f"A * S^({w}) * P^({v})")
        best = max(trials, key=lambda trial: reward.score(trial.metrics))
        assert winner == best.number
        assert value == pytest.approx(reward.score(best.metrics))
    assert sum(region.share for region in found.regions) == pytest.approx(1)
    assert len(found.regions) > 1


def test_an_exponent_that_does_not_vary_is_that_of_the_paper() -> None:
    trials = load_run(RUN).trials
    alone = sweep(trials, OPEN_REWARD, parse_sweep(["w=-0.1..0:3"]))
    assert alone.reward == f"{OPEN_REWARD} with v = -0.05"
    assert alone.rewards == sweep(trials, "A * S^w * P^-0.05", parse_sweep(["w=-0.1..0:3"])).rewards


def test_constants_of_a_stored_reward_can_vary() -> None:
    found = sweep(load_run(RUN).trials, "mnasnet-soft", parse_sweep(["w=-0.1..0:2"]))
    assert found.rewards[1] == pytest.approx(0.3496503)  # the accuracy alone


@pytest.mark.parametrize(
    ("reward", "ranges"),
    [("v2", ["w=-1..0"]), ("A * w", ["w=0"]), ("A * w", ["w=0..nan"]), ("A * w", ["w=0..1:0"]),
     ("A * w * v", ["w=0..1:1000", "v=0..1:1000"]), ("A * w", ["w=0..1", "w=0..1"])],
)  # fmt: skip
def test_what_cannot_be_swept_is_refused(reward: str, ranges: list[str]) -> None:
    with pytest.raises(UserError):
        sweep(load_run(RUN).trials, reward, parse_sweep(ranges))
