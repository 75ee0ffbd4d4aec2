"""The controller of TuNAS (Bender et al. 2020, "Can Weight Sharing Outperform Random ...?")."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from effnas.controllers.policy import CLOSED, PolicyController, pick
from effnas.space.search_space import SearchSpace
from effnas.trials.problem import Problem

#: Ours, see `TunasController`.
LEARNING_RATE = 0.05
#: Adam without a moving average of gradients (beta1 = 0), as published.
BETA2 = 0.999
_EPSILON = 1e-8


class TunasController(PolicyController):
    """REINFORCE over independent categorical decisions.

    Every decision has logits of its own, which start at zero. After each trial they move along the
    gradient of its log-probability times its advantage, scaled by Adam with beta1 = 0 and
    beta2 = 0.999. There is no entropy bonus.

    The learning rate is ours: the published one, 3e-4 at batch 256, belongs to the many thousands
    of steps of training with shared weights, while here every sample is a training of its own.
    With 0.05 a logit can move by about 5 in a hundred trials, if they agree. Neither TuNAS's ramp
    of the rate nor the quarter of all steps without updates is taken over: both wait for shared
    weights to settle.
    """

    name = "tunas"

    def __init__(
        self, space: SearchSpace, seed: int = 0, *, problem: Problem | None = None
    ) -> None:
        super().__init__(space, seed, problem=problem)
        sizes = self.decisions.sizes
        options = np.arange(max(sizes, default=1))
        # Decisions with fewer options than the largest one: the others have probability 0.
        self._exists = options < np.array(sizes, dtype=np.int64).reshape(-1, 1)
        self.logits: NDArray[np.float64] = np.zeros(self._exists.shape)
        self._squares = np.zeros(self._exists.shape)
        self._steps = 0

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Of every option of every decision, [decisions, options]."""
        return self._softmax(self.logits)

    def draw(
        self, rng: np.random.Generator, temperatures: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """Draw a row of decisions for each temperature, [N, decisions]."""
        odds = self._softmax(self.logits / temperatures[:, None, None])
        rows: NDArray[np.int64] = pick(odds, rng.random(odds.shape[:2]))
        for column in range(rows.shape[1]):
            rows[~self.decisions.is_open(rows, column), column] = CLOSED
        return rows

    def reinforce(self, number: int, row: NDArray[np.int64], advantage: float) -> None:
        """Take a step of Adam along the advantage times the gradient of the log-probability."""
        taken = np.arange(self.logits.shape[1]) == row[:, None]
        # d log p(taken) / d logits; a closed decision is no part of the probability.
        gradient = advantage * (taken - self.probabilities) * (row != CLOSED)[:, None]
        self._steps += 1
        self._squares = BETA2 * self._squares + (1 - BETA2) * gradient**2
        scale = np.sqrt(self._squares / (1 - BETA2**self._steps)) + _EPSILON
        self.logits += LEARNING_RATE * gradient / scale

    def _softmax(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        powers = np.exp(logits - logits.max(axis=-1, keepdims=True)) * self._exists
        return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
