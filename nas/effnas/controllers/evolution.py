"""Regularised evolution (Real et al. 2019, "Regularized Evolution for Image Classifier ...")."""

from __future__ import annotations

from collections import deque

import numpy as np

from effnas.arch.architecture import Architecture
from effnas.controllers.base import Controller
from effnas.errors import ConfigError
from effnas.space.search_space import SearchSpace
from effnas.trials.problem import Problem
from effnas.trials.trial import Trial


class EvolutionController(Controller):
    """Mutates the best of a random sample of the youngest trials.

    The population is the last `population_size` trials with a reward, in the order in which they
    ended: the oldest dies, not the worst. Until it is full, architectures are drawn at random.

    Args:
        population_size: Trials in the population, 2 or more.
        sample_size: Members that compete to be the parent, 1 to `population_size`.
    """

    name = "evolution"

    def __init__(
        self,
        space: SearchSpace,
        seed: int = 0,
        *,
        problem: Problem | None = None,
        population_size: int = 50,
        sample_size: int = 25,
    ) -> None:
        if population_size < 2 or not 1 <= sample_size <= population_size:
            raise ConfigError(
                f"evolution: population_size {population_size} must be 2 or more, and sample_size "
                f"{sample_size} between 1 and it"
            )
        super().__init__(space, seed, problem=problem)
        self.sample_size = sample_size
        self._population: deque[Trial] = deque(maxlen=population_size)

    def propose(self, rng: np.random.Generator) -> Architecture:
        """Mutate the winner of a tournament, or draw while the population is not full."""
        if len(self._population) < (self._population.maxlen or 0):
            return self.space.sample(rng)
        rivals = rng.choice(len(self._population), size=self.sample_size, replace=False)
        rewards = [self._population[rival].reward or 0.0 for rival in rivals]
        parent = self._population[rivals[int(np.argmax(rewards))]]
        return self.space.mutate(parent.architecture, rng)

    def learn(self, trial: Trial) -> None:
        """Let a trial with a reward join, and the oldest die."""
        if trial.reward is not None and self.space.contains(trial.architecture):
            self._population.append(trial)
