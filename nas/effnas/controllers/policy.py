"""What controllers share that learn a probability for every option of every decision."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from effnas.arch.architecture import Architecture
from effnas.config.text import Option
from effnas.controllers.base import Controller
from effnas.space.decisions import RECIPE
from effnas.space.search_space import SearchSpace
from effnas.space.stage_space import StageSpace
from effnas.trials.problem import Problem
from effnas.trials.trial import Trial, TrialState

#: The index that stands for a decision which an earlier one has closed.
CLOSED = -1
#: How much of the baseline a new reward leaves (NASNet and TuNAS alike).
BASELINE_DECAY = 0.95
#: Architectures that are drawn at once, in the order in which they are looked at: what the logits
#: are divided by. A policy that is sure of itself repeats what it has proposed; flatter ones, which
#: stay close to it, then find what is new.
TEMPERATURES = np.repeat([1.0, 2.0, 4.0, 8.0], 16)


class Decisions:
    """The decisions of a space as columns of a table of indices, one architecture a row.

    Columns stand in the order in which decisions are asked for: stage by stage, the operator first,
    then the expansion, since these may close others; those of the recipe come last. An entry is
    the index of the option taken, or `CLOSED`.

    Attributes:
        sizes: Number of options, by column.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._options: dict[str, tuple[Option, ...]] = {}
        # Column -> the columns of operator and expansion, and whether it is open, by their indices.
        self._rules: list[tuple[int | None, int | None, NDArray[np.bool_]]] = []
        for n, stage in enumerate(space.stages, start=1):
            names = sorted(stage.choices, key=lambda name: (name != "op", name != "e"))
            first = len(self._options)
            op, e = (first + names.index(x) if x in names else None for x in ("op", "e"))
            is_open = _openness(stage)
            for name in names:
                self._options[f"stage{n}.{name}"] = stage.choices[name]
                self._rules.append((op, e, is_open[name]))
        for each in space.recipe:
            self._options[f"{RECIPE}{each.name}"] = each.options
            self._rules.append((None, None, np.ones((1, 1), dtype=bool)))
        self.sizes = tuple(len(options) for options in self._options.values())

    def encode(self, arch: Architecture) -> NDArray[np.int64] | None:
        """Return the row of an architecture, or None if it is not in the space."""
        decisions = self._space.decisions(arch)
        if decisions is None:
            return None
        return np.array(
            [
                options.index(decisions[name]) if name in decisions else CLOSED
                for name, options in self._options.items()
            ],
            dtype=np.int64,
        )

    def architecture(self, row: Sequence[int]) -> Architecture:
        """Return the architecture of a row; the entries of closed decisions are not looked at."""
        taken = dict(zip(self._options, row, strict=True))
        return self._space.architecture_by(lambda name, options: options[taken[name]])

    def is_open(self, rows: NDArray[np.int64], column: int) -> NDArray[np.bool_]:
        """Say in which rows a decision is open, [N], by the columns left of it."""
        op, e, is_open = self._rules[column]
        # The operator's own column and the expansion's are not filled yet; nothing there matters.
        of_op = rows[:, op] if op is not None and op < column else 0
        of_e = rows[:, e] if e is not None and e < column else 0
        return np.broadcast_to(is_open[of_op, of_e], len(rows))


def _openness(stage: StageSpace) -> dict[str, NDArray[np.bool_]]:
    """Return by decision whether it is open, [operators, expansions]."""
    ops, es = (stage.choices.get(name, ("",)) for name in ("op", "e"))
    is_open = {name: np.zeros((len(ops), len(es)), dtype=bool) for name in stage.choices}
    for i, op in enumerate(ops):
        for j, e in enumerate(es):

            def choose(
                name: str,
                options: tuple[Option, ...],
                at: tuple[int, int] = (i, j),
                first: tuple[Option, Option] = (op, e),
            ) -> Option:
                is_open[name][at] = True
                return {"op": first[0], "e": first[1]}.get(name, options[0])

            stage.decide_by(choose)
    return is_open


def pick(probabilities: NDArray[np.float64], numbers: NDArray[np.float64]) -> NDArray[np.int64]:
    """Pick an option for each number in [0, 1), by the inverse of the cumulated probabilities.

    Args:
        probabilities: Of the options, [..., options]; they need not sum to 1 exactly.
        numbers: Uniform random numbers, [...].
    """
    sums = probabilities.cumsum(axis=-1)
    return np.asarray((sums > numbers[..., None] * sums[..., -1:]).argmax(axis=-1))


class PolicyController(Controller):
    """Base of controllers that draw from a learned policy and learn from reward minus baseline.

    The baseline is an exponential moving average of the rewards told before, and starts at the
    first one (the papers do not say where theirs start). The advantage is the plain difference, as
    published: the controllers' Adam makes the size of a step independent of the rewards' scale.

    An INFEASIBLE trial counts with the lowest reward so far, so that the policy leaves where
    nothing can be built; MnasNet has no such trials. A PRUNED one counts with the reward that it
    carries. Others without a reward say nothing.

    Proposals are samples of the policy that meet the constraints and were not proposed before. If
    16 draws hold none, logits are divided by 2, 4 and 8 in turn, and then the draw is uniform. The
    papers do not need this: their controllers may propose the same again.
    """

    # `propose` itself looks for an architecture that is new.
    most_repeats = 1

    def __init__(
        self, space: SearchSpace, seed: int = 0, *, problem: Problem | None = None
    ) -> None:
        super().__init__(space, seed, problem=problem)
        self.decisions = Decisions(space)
        self._baseline: float | None = None
        self._lowest: float | None = None
        self._learned: set[int] = set()

    def propose(self, rng: np.random.Generator) -> Architecture:
        """Draw from the policy until something new meets the constraints; at last uniformly."""
        if self.decisions.sizes:
            for row in dict.fromkeys(map(tuple, self.draw(rng, TEMPERATURES).tolist())):
                arch = self.decisions.architecture(row)
                if arch.id not in self._proposed and not self.space.violated(arch):
                    return arch
        return self.space.sample(rng)

    def learn(self, trial: Trial) -> None:
        """Move the policy towards a trial that is better than the baseline, or away from it."""
        reward = trial.reward
        if trial.state is TrialState.INFEASIBLE:
            reward = self._lowest
        # A trial that is received twice counts once.
        if reward is None or trial.number in self._learned or not self.decisions.sizes:
            return
        row = self.decisions.encode(trial.architecture)
        if row is None or self.space.violated(trial.architecture):
            return
        self._learned.add(trial.number)
        baseline = reward if self._baseline is None else self._baseline
        self._baseline = BASELINE_DECAY * baseline + (1 - BASELINE_DECAY) * reward
        self._lowest = reward if self._lowest is None else min(self._lowest, reward)
        self.reinforce(trial.number, row, reward - baseline)

    @abstractmethod
    def draw(
        self, rng: np.random.Generator, temperatures: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """Draw a row of decisions for each temperature, [N, decisions]."""

    @abstractmethod
    def reinforce(self, number: int, row: NDArray[np.int64], advantage: float) -> None:
        """Learn from a trial's decisions and its advantage: its reward minus the baseline."""
