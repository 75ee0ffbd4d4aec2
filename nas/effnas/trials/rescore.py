"""Finished trials under other rewards: ranks, and who wins as the constants of a reward change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import inf, isfinite, nan, prod

import numpy as np

from effnas.errors import ConfigError, RewardError
from effnas.trials.manifest_parts import RewardPart
from effnas.trials.reward import Reward
from effnas.trials.run import Run, load_run
from effnas.trials.store import RunFolder
from effnas.trials.trial import Trial, Trials, TrialState

#: The reward of EfficientNetV2, with its exponents open.
OPEN_REWARD = "A * S^w * P^v"
#: What they are where they do not vary.
_EXPONENTS = {"w": "-0.07", "v": "-0.05"}
_MAX_POINTS = 100_000
#: Rewards that are computed at once: so few stay in the cache of a processor.
_VALUES_AT_ONCE = 100_000
_STEPS = 10


@dataclass(frozen=True, kw_only=True)
class Region:
    """The part of a grid that one trial wins.

    Attributes:
        trial: Number of the trial; None where no trial has a reward.
        share: Of all points, above 0 to 1.
        ranges: The lowest and the highest value of each constant there.
    """

    trial: int | None
    share: float
    ranges: Mapping[str, tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """The best trial at each point of a grid of constants.

    Attributes:
        reward: The reward in words, with the values of constants that do not vary.
        names: Of the constants that do.
        points: Their values, in this order.
        winners: Number of the best trial at each point; None where no trial has a reward.
        rewards: Its reward at each point; None likewise.
    """

    reward: str
    names: tuple[str, ...]
    points: tuple[tuple[float, ...], ...]
    winners: tuple[int | None, ...]
    rewards: tuple[float | None, ...]

    @property
    def regions(self) -> list[Region]:
        """What each winner wins, the largest part first."""
        found: dict[int | None, list[tuple[float, ...]]] = {}
        for winner, point in zip(self.winners, self.points, strict=True):
            found.setdefault(winner, []).append(point)
        return [
            Region(
                trial=winner,
                share=len(points) / len(self.points),
                ranges={
                    name: (min(values), max(values))
                    for name, values in zip(self.names, zip(*points, strict=True), strict=True)
                },
            )
            for winner, points in sorted(found.items(), key=lambda item: -len(item[1]))
        ]


def sweep(trials: Iterable[Trial], text: str, values: Mapping[str, Sequence[float]]) -> Sweep:
    """Return which complete trial is the best for each combination of constants.

    Args:
        trials: Of a search.
        text: A reward in which they are named, such as `A * S^w * P^v`, or one of the catalog with
            constants of these names.
        values: Of each constant.

    Raises:
        RewardError: If the reward cannot be read, is a function, or lacks one of the constants.
        ConfigError: If there are over 100,000 combinations.
    """
    if prod(map(len, values.values())) > _MAX_POINTS:
        raise ConfigError(f"`sweep` has over {_MAX_POINTS:,} combinations; take fewer steps")
    kept = {n: usual for n, usual in _EXPONENTS.items() if text == OPEN_REWARD and n not in values}
    given = text
    for name, usual in kept.items():
        text = text.replace(name, usual)
    reward = Reward.load(text, extra_metrics=values)
    words = f"{given} with {' and '.join(f'{n} = {usual}' for n, usual in kept.items())}"
    if not kept:
        words = given if reward.text == given else f"{given} = {reward.text}"
    if missing := [name for name in values if name not in reward.metrics]:
        raise RewardError(
            f"the reward '{reward.text}' has no constant {missing[0]}; write it where it varies, "
            f"as in '{OPEN_REWARD}'"
        )
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    metrics = {
        name: np.array([trial.metrics.get(name, nan) for trial in complete])
        for name in sorted(reward.metrics - values.keys())
    }
    points = tuple(product(*values.values()))
    if not complete:
        nothing = (None,) * len(points)
        return Sweep(
            reward=words, names=tuple(values), points=points, winners=nothing, rewards=nothing
        )
    winners: list[int | None] = []
    best: list[float | None] = []
    at_once = max(_VALUES_AT_ONCE // len(complete), 1)
    for some in (points[n : n + at_once] for n in range(0, len(points), at_once)):
        constants = np.repeat(some, len(complete), axis=0).T
        vectors = {name: np.tile(column, len(some)) for name, column in metrics.items()}
        vectors |= zip(values, constants, strict=True)
        rewards = np.nan_to_num(reward.score_vectorized(vectors), nan=-inf)
        rewards = rewards.reshape(len(some), len(complete))
        for n, value in zip(rewards.argmax(axis=1), rewards.max(axis=1), strict=True):
            winners.append(complete[n].number if isfinite(value) else None)
            best.append(float(value) if isfinite(value) else None)
    return Sweep(
        reward=words,
        names=tuple(values),
        points=points,
        winners=tuple(winners),
        rewards=tuple(best),
    )


def parse_sweep(texts: Iterable[str]) -> dict[str, tuple[float, ...]]:
    """Return the values of constants that are given as `name=low..high` or `name=low..high:steps`.

    Raises:
        ConfigError: Names the one that is something else.
    """
    found: dict[str, tuple[float, ...]] = {}
    for text in (part for each in texts for part in each.split()):
        name, _, range_text = text.partition("=")
        ends, _, steps_text = range_text.partition(":")
        low, dots, high = ends.partition("..")
        try:
            steps = int(steps_text or _STEPS)
            values = np.linspace(float(low), float(high), steps) if dots and steps > 0 else None
        except ValueError:
            values = None
        if values is None or not np.isfinite(values).all() or not name.isidentifier():
            raise ConfigError(f"`sweep` {text!r}: give NAME=LOW..HIGH, or NAME=LOW..HIGH:STEPS")
        if name in found:
            raise ConfigError(f"`sweep` has {name} twice")
        # Without the digits that rounding leaves: 0.05 and not 0.05000000000000002.
        found[name] = tuple(float(f"{value:.12g}") for value in values)
    return found


def rescored(trials: Iterable[Trial], reward: Reward) -> Trials:
    """Return trials with another reward; a trial that it has no value for has none.

    Raises:
        RewardError: If it has no value for any complete trial.
    """
    found, error = [], None
    for trial in trials:
        value = None
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
            try:
                value = reward.score(trial.metrics)
            except RewardError as failed:
                error = failed
        found.append(replace(trial, reward=value))
    again = Trials(found)
    if error and again.best is None:
        raise error
    return again


def store_rescored(run: Run, reward: Reward) -> None:
    """Store a run's trials, and its manifest, with another reward, as a search that resumes does.

    Raises:
        RewardError: If it has no value for a trial; nothing is changed then.
        StoreError: If the folder cannot be written, or a command is writing there.
    """
    with RunFolder.open(run.path) as folder:
        run = load_run(run.path)  # nobody writes there now
        scored = [t for t in run.trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
        again = [replace(trial, reward=reward.score(trial.metrics)) for trial in scored]
        for trial in again:
            folder.append(trial, durable=trial is again[-1])
        replace(run.manifest, reward=RewardPart.of(reward)).write(run.path)
