"""Rungs of fidelity: all trainings begin, and the best continue; in epochs or in seconds.

This is ASHA (Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", algorithm 2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import inf
from statistics import median
from typing import TYPE_CHECKING

from effnas.config.text import seconds_of, seconds_text
from effnas.errors import ConfigError
from effnas.trials.trial import TrialState

if TYPE_CHECKING:
    from effnas.config.recipe import Recipe
    from effnas.trials.trial import Trial


def _whole(seconds: float) -> int:
    if seconds % 1:
        raise ValueError(seconds)
    return int(seconds)


def with_early_warmup(recipe: Recipe, rungs: Sequence[int] | None) -> Recipe:
    """Return a recipe whose warm-up ends before the first rung: else it takes half of it.

    Networks are compared there, and during the warm-up none has had its learning rate.
    """
    if not rungs:
        return recipe
    first = rungs[0] / rungs[-1] * recipe.epochs
    return recipe if recipe.warmup_epochs < first else replace(recipe, warmup_epochs=first / 2)


@dataclass(frozen=True)
class Rungs:
    """The lengths at which trainings are compared; at all but the last one they pause.

    Of all trials with a result at rung k, or beyond it, the best 1/eta continue to the next one,
    where eta is at[k + 1] / at[k]: every rung takes about as long in all.

    Attributes:
        at: Epochs, or seconds of training, of each rung: 1 or more, strictly growing, two of them
            or more; the last is the whole training.
        in_seconds: Whether they are seconds.

    Raises:
        ConfigError: If they are not.
    """

    at: tuple[int, ...]
    in_seconds: bool = False

    def __post_init__(self) -> None:
        growing = all(low < high for low, high in pairwise(self.at))
        if len(self.at) < 2 or self.at[0] < 1 or not growing:
            raise ConfigError(
                f"`fidelity` {self} must be two or more numbers of epochs, or whole seconds, each "
                "larger than the one before, the first 1 or more: such as 1,2,4 or 15s,30s,60s"
            )

    @classmethod
    def parse(cls, text: str) -> Rungs:
        """Read rungs such as `1,2,4`, or `15s,1m,4m`.

        Raises:
            ConfigError: If they cannot be read.
        """
        parts = text.split(",")
        in_seconds = all(part.strip()[-1:] in ("s", "m", "h") for part in parts)
        try:
            at = [_whole(seconds_of(p, "fidelity")) if in_seconds else int(p) for p in parts]
        except ValueError:
            raise ConfigError(
                f"`fidelity` {text!r} must be numbers of epochs with commas between, such as "
                "1,2,4, or times in whole seconds, such as 15s,30s,60s"
            ) from None
        return cls(tuple(at), in_seconds)

    def __str__(self) -> str:
        return ",".join(self.text_of(each) for each in self.at)

    def text_of(self, at: int) -> str:
        """Return the length of a rung as `parse` reads it: `4`, or `60s`."""
        return seconds_text(at) if self.in_seconds else str(at)

    @property
    def unit(self) -> str:
        """What lengths are counted in, in the plural."""
        return "seconds" if self.in_seconds else "epochs"

    @property
    def expected(self) -> float:
        """Length of a trial's training on average, if 1/eta of those at each rung continue."""
        first = self.at[0]
        return first + sum(first * (high - low) / high for low, high in pairwise(self.at))

    def next_rung(self, trial: Trial) -> int:
        """Return how far a trial that is not at the last rung has to train next."""
        return self.at[len(trial.measurement.rungs)]

    def promoted(
        self, trials: Iterable[Trial], reward_at: Callable[[Trial, int], float | None]
    ) -> Trial | None:
        """Return the paused trial that continues next, or None if none may.

        The highest rung comes first, and at a rung the best trial; of equals the first.

        Args:
            trials: All trials in the order of their numbers.
            reward_at: Returns the reward of a trial at a rung where it has a result; None, where
                there is none, counts as the worst.
        """
        trials = list(trials)
        for low, high in reversed(list(pairwise(self.at))):
            here = {trial.number: trial for trial in trials if low in trial.measurement.rungs}
            paused = {
                number
                for number, trial in here.items()
                if trial.state is TrialState.WAITING and high not in trial.measurement.rungs
            }
            most = len(here) * low // high
            if paused and most:
                rewards = {number: reward_at(trial, low) for number, trial in here.items()}
                losses = {n: inf if reward is None else -reward for n, reward in rewards.items()}
                best = sorted(losses, key=losses.__getitem__)[:most]
                found = next((number for number in best if number in paused), None)
                if found is not None:
                    return here[found]
        return None


def keeps_up(score: float, before: Sequence[float]) -> bool:
    """Return whether a training continues at a rung without a pause: in the better half, or first.

    This is the stopping variant of ASHA, as Ray Tune and Vizier have it.

    Args:
        score: Of the training; the larger, the better.
        before: Scores of the trainings that reached the rung before it.
    """
    return not before or score >= median(before)


def trained_length(trials: Iterable[Trial]) -> int:
    """Return the epochs, or seconds, of all rungs that the trials have reached, in all."""
    return sum(max(trial.measurement.rungs, default=0) for trial in trials)
