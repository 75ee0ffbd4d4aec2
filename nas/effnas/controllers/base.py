"""What a controller is: it proposes architectures and learns from their trials."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from effnas.arch.architecture import Architecture
from effnas.errors import ConfigError, SpaceExhaustedError
from effnas.space.feasible import MAX_ENUMERATED
from effnas.space.search_space import SearchSpace
from effnas.trials.problem import Problem
from effnas.trials.trial import Trial

#: Draws in a row that may repeat an earlier one before the rest of the space is listed.
_MAX_DRAWS = 500
#: Those on the command line that take objectives.
_TAKE_OBJECTIVES = ("optuna:nsgaii", "optuna:tpe", "random", "surrogate")


class Controller(ABC):
    """Base of all controllers.

    The search calls `ask` for a new architecture and `tell` for every change of a trial: once when
    it is RUNNING, and once when it has ended. In a search with rungs, a trial may be WAITING in
    between, with the measurement of a rung, and RUNNING again; if it does not continue, it ends
    PRUNED, with the reward at the rung that it has reached. Trials may end in any order, and `tell`
    may speak of architectures that were never asked for. Everything that a controller knows it has
    from `tell`, so that telling a new one the stored trials again makes it the same controller.

    A controller of your own needs no more than `propose`. `effnas.testing.ControllerContract` has
    the tests that it must pass.

    Args:
        space: The space.
        seed: Seed of all proposals.
        problem: What the search is after; without one, the rewards that trials carry.

    Raises:
        ConfigError: If the problem has objectives and the controller does not take them.
    """

    #: The name on the command line.
    name: str
    #: Proposals in a row that may repeat an earlier one before architectures are drawn at random.
    most_repeats: ClassVar[int] = 500
    #: Whether it pursues the objectives of its problem, if there are any, in place of the reward.
    takes_objectives: ClassVar[bool] = False

    def __init__(
        self, space: SearchSpace, seed: int = 0, *, problem: Problem | None = None
    ) -> None:
        if problem and problem.objectives and not self.takes_objectives:
            raise takes_no_objectives(self.name)
        self.space = space
        self.seed = seed
        self.problem = problem
        self._proposed: set[str] = set()

    def ask(self, number: int) -> Architecture:
        """Return an architecture of the space that no trial has had yet.

        Args:
            number: The trial's number; with the run's seed it fixes all randomness of the proposal.

        Raises:
            SpaceExhaustedError: If there is none left.
        """
        rng = np.random.default_rng((self.seed, number))
        # What a controller would propose may all be used up while the space is not: then draw.
        for propose, most in ((self.propose, self.most_repeats), (self.space.sample, _MAX_DRAWS)):
            for _ in range(most):
                arch = propose(rng)
                if arch.id not in self._proposed:
                    return arch
        if self.space.size <= MAX_ENUMERATED:
            left = [a for a in self.space.architectures() if a.id not in self._proposed]
            if left:
                return left[int(rng.integers(len(left)))]
        raise SpaceExhaustedError(
            f"the space {self.space.name} holds no architecture that was not proposed already"
        )

    def tell(self, trial: Trial) -> None:
        """Learn that a trial has started, paused or ended."""
        self._proposed.add(trial.architecture.id)
        if trial.state.is_finished:
            self.learn(trial)

    @abstractmethod
    def propose(self, rng: np.random.Generator) -> Architecture:
        """Return an architecture of the space; it may repeat an earlier one.

        Called by `ask`, several times if it repeats. All randomness comes from `rng`.
        """

    def learn(self, trial: Trial) -> None:  # noqa: B027  # random search has nothing to learn
        """Learn from an ended trial, with or without a reward. Called by `tell`."""


def takes_no_objectives(name: str) -> ConfigError:
    """Return what is said where a controller that pursues the reward alone is given objectives."""
    return ConfigError(
        f"`controller` {name} pursues the reward and takes no `objectives`; those that do are "
        f"{', '.join(_TAKE_OBJECTIVES)}"
    )
