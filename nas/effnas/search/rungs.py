"""Rungs of fidelity: all trainings begin, and the best continue.

This is ASHA (Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", algorithm 2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import inf
from statistics import median
from typing import TYPE_CHECKING

from effnas.errors import ConfigError
from effnas.trials.trial import TrialState

if TYPE_CHECKING:
    from effnas.config.settings import Recipe
    from effnas.trials.trial import Trial


def with_early_warmup(recipe: Recipe, rungs: Sequence[int] | None) -> Recipe:
    """Return a recipe whose warm-up ends before the first rung: else it takes half of it.

    Networks are compared there, and during the warm-up none has had its learning rate.
    """
    if not rungs or recipe.warmup_share * recipe.epochs < rungs[0]:
        return recipe
    return replace(recipe, warmup_share=rungs[0] / (2 * recipe.epochs))


@dataclass(frozen=True)
class Rungs:
    """The epochs at which trainings are compared; at all but the last one they pause.

    Of all trials with a result at rung k, or beyond it, the best 1/eta continue to the next one,
    where eta is epochs[k + 1] / epochs[k]: every rung takes about as many epochs in all.

    Attributes:
        epochs: Of each rung, 1 or more, strictly growing, two of them or more; the last is the
            whole training.

    Raises:
        ConfigError: If they are not.
    """

    epochs: tuple[int, ...]

    def __post_init__(self) -> None:
        growing = all(low < high for low, high in pairwise(self.epochs))
        if len(self.epochs) < 2 or self.epochs[0] < 1 or not growing:
            raise ConfigError(
                f"`fidelity` {self} must be two or more numbers of epochs, each larger than the "
                "one before, the first 1 or more: such as 1,2,4"
            )

    @classmethod
    def parse(cls, text: str) -> Rungs:
        """Read rungs such as `1,2,4`.

        Raises:
            ConfigError: If they cannot be read.
        """
        try:
            epochs = tuple(int(part) for part in text.split(","))
        except ValueError:
            raise ConfigError(
                f"`fidelity` {text!r} must be numbers of epochs with commas between: such as 1,2,4"
            ) from None
        return cls(epochs)

    def __str__(self) -> str:
        return ",".join(map(str, self.epochs))

    @property
    def expected_epochs(self) -> float:
        """Epochs of a trial on average, if 1/eta of those at each rung continue."""
        first = self.epochs[0]
        return first + sum(first * (high - low) / high for low, high in pairwise(self.epochs))

    def next_epochs(self, trial: Trial) -> int:
        """Return how many epochs a trial that is not at the last rung has to train for next."""
        return self.epochs[len(trial.measurement.rungs)]

    def promoted(
        self, trials: Iterable[Trial], reward_at: Callable[[Trial, int], float | None]
    ) -> Trial | None:
        """Return the paused trial that continues next, or None if none may.

        The highest rung comes first, and at a rung the best trial; of equals the first.

        Args:
            trials: All trials in the order of their numbers.
            reward_at: Returns the reward of a trial at the epochs of a rung where it has a result;
                None, where there is none, counts as the worst.
        """
        trials = list(trials)
        for low, high in reversed(list(pairwise(self.epochs))):
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


def trained_epochs(trials: Iterable[Trial]) -> int:
    """Return the epochs of all rungs that the trials have reached, in all."""
    return sum(max(trial.measurement.rungs, default=0) for trial in trials)
