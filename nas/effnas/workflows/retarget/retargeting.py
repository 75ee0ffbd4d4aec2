"""Retargeting: the results of a finished search, for another device.

Accuracy and params stay; step times are another device's. Accuracies of trainings of equal time
are, too, since another number of steps fits in: they are predicted from learning curves. Which
networks to time there and which to train, new ones or known ones again, is chosen by expected
improvement (Jones et al. 1998) over the best reward so far, given the Gaussian processes'
predictions of metrics that were not measured.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from effnas.arch.architecture import Architecture
from effnas.config.text import counted
from effnas.errors import ConfigError, InfeasibleError
from effnas.trials.trial import Trials, TrialState
from effnas.workflows.retarget.predictions import Predictions

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from effnas.space.search_space import SearchSpace
    from effnas.trials.learning_curve import LearningCurves
    from effnas.trials.reward import Reward

#: No gain is expected any more below this share of the standard deviation of the old rewards.
MIN_GAIN = 0.002
#: Timings before the model has a say: by turns the best old rewards and what differs most.
_FIRST_TIMINGS = 8
#: Spaces up to this size are looked through one by one.
_MAX_LISTED = 2000
#: Architectures in the population, and new ones at a time; trained parents; look-ups at a time.
_POPULATION, _CHILDREN, _ELITE, _LOOKED_UP = 200, 80, 12, 24
#: Generations before the first choice, and before each further one.
_FIRST_GENERATIONS, _GENERATIONS = 8, 2


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A trained architecture, as the new device has it.

    Attributes:
        architecture: The architecture.
        rank: Counts from 1, by `reward`.
        reward: Reward on the new device; the expected one if it was not timed there.
        reward_deviation: Standard deviation of it; 0 if all that it needs was measured.
        metrics: What was measured in training or counted, and the step time on the new device.
        accuracy_deviation: Standard deviation of an accuracy that is predicted from a learning
            curve; 0 where it is measured.
        step_time: S on the new device, measured or the median prediction.
        step_time_deviation: Relative standard deviation of a prediction; 0 if S was measured.
        timed: Whether S was measured on the new device.
        old_rank: Rank in the finished search; None for what was trained since.
        old_reward: Reward in the finished search.
        old_metrics: Metrics in the finished search; empty for what was trained since.
        slowdown: Its S over its old S, relative to the median of all candidates: above 1, the new
            device likes it less than most. None for what was trained since.
    """

    architecture: Architecture
    rank: int
    reward: float
    reward_deviation: float
    metrics: Mapping[str, float]
    accuracy_deviation: float
    step_time: float
    step_time_deviation: float
    timed: bool
    old_rank: int | None
    old_reward: float | None
    old_metrics: Mapping[str, float]
    slowdown: float | None


class Retargeting:
    """Ranks the networks of a finished search for a new device, and says what to measure next.

    The caller asks what to time or train and tells the results, in any order. Nothing is proposed
    twice. All choices are fixed by the seed and by what was asked and told.

    Args:
        space: The space of the finished search; what lies outside it is left out.
        reward: Is maximized. Metrics that it needs and that are not known yet are predicted: those
            of timing from the architecture and their values on the old device, others from the
            architecture. Metrics that are neither of timing nor counted, such as accuracy, are
            assumed to be the same on every device, unless there are `curves`.
        trained: The finished search.
        seed: Seed of all proposals.
        step_time_of: Gives the metrics of timing on the new device where they cost nothing (a
            table, a predictive model), or raises `InfeasibleError`. Then nothing is to be timed.
        pool: The only architectures that may be trained, such as those of a table; all of the space
            by default.
        curves: Of trials of equal training time; their accuracies on the new device are predicted
            from how many steps fit there, and they may be trained again.
        steps_of: With those, and where step times cost nothing: gives the steps of a training that
            fit there, from the metrics of timing, or raises `InfeasibleError`.

    Raises:
        ConfigError: If no trial is COMPLETE with a step time above 0 and within the space.
        RewardError: If the reward cannot be computed for the trials.
    """

    def __init__(
        self,
        space: SearchSpace,
        reward: Reward,
        trained: Trials,
        seed: int = 0,
        *,
        step_time_of: Callable[[Architecture], Mapping[str, float]] | None = None,
        pool: Iterable[Architecture] | None = None,
        curves: LearningCurves | None = None,
        steps_of: Callable[[Architecture, Mapping[str, float]], int] | None = None,
    ) -> None:
        self.space = space
        self.reward = reward
        self._seed = seed
        self._step_time_of, self._steps_of = step_time_of, steps_of
        # The last of several trials of one architecture counts.
        within = {
            trial.architecture.id: trial
            for trial in trained
            if trial.state is TrialState.COMPLETE
            and trial.metrics.get("step_time", 0.0) > 0
            and space.contains(trial.architecture)
        }
        if not within:
            raise ConfigError(
                f"of {counted(len(trained), 'trial')}, none is COMPLETE with a step time "
                f"above 0 and within the space {space.name}: there is nothing to retarget"
            )
        self._old = {key: trial.metrics for key, trial in within.items()}
        self._old_reward = {
            key: reward.score(space.counted_metrics(t.architecture) | dict(t.metrics))
            for key, t in within.items()
        }
        ranked = sorted(self._old, key=lambda key: -self._old_reward[key])
        self._old_rank = {key: rank for rank, key in enumerate(ranked, start=1)}
        self._least_gain = MIN_GAIN * float(np.std(list(self._old_reward.values())))
        self._predictions = Predictions(
            space, reward, list(within.values()), self._old_reward, curves
        )
        self._candidates = {key: trial.architecture for key, trial in within.items()}
        self._infeasible: set[str] = set()
        self._asked_to_time: dict[str, Architecture] = {}
        self._asked_to_train: dict[str, Architecture] = {}
        self._pool = None if pool is None else [a for a in dict.fromkeys(pool) if space.contains(a)]
        self._population: list[Architecture] = []
        if step_time_of is not None:
            self._look_up(self._candidates.values())

    def narrow(self, constraints: Sequence[str]) -> None:
        """Propose for training only what meets some more conditions."""
        self.space = self.space.constrained(constraints)
        if self._pool is not None:
            self._pool = [arch for arch in self._pool if self.space.contains(arch)]

    # -- telling

    def tell_step_time(
        self, arch: Architecture, metrics: Mapping[str, float], steps: int | None = None
    ) -> None:
        """Take the metrics of a timing on the new device, `step_time` among them.

        Args:
            arch: What was timed.
            metrics: Of the timing.
            steps: That fit into the training time there; None where trainings are by epochs.
        """
        if not metrics.get("step_time", 0.0) > 0:
            raise ConfigError(f"step_time is {metrics.get('step_time')}: tell a number above 0")
        self._asked_to_time[arch.id] = arch
        self._predictions.add_timing(arch, metrics, steps)

    def tell_trained(self, arch: Architecture, metrics: Mapping[str, float]) -> None:
        """Take the metrics of a training; those of a timing on the new device may be among them."""
        if arch.id not in self._candidates:
            self._asked_to_train[arch.id] = self._candidates[arch.id] = arch
        self._predictions.add_training(arch, metrics)
        if "step_time" in metrics:
            self.tell_step_time(arch, metrics)

    def tell_started(self, arch: Architecture) -> None:
        """Take that the training of an architecture has begun, asked for or not."""
        self._asked_to_train[arch.id] = arch

    def tell_infeasible(self, arch: Architecture) -> None:
        """Leave out an architecture that cannot be timed or trained on the new device."""
        self._infeasible.add(arch.id)
        self._asked_to_time[arch.id] = arch

    # -- asking

    def next_to_time(self) -> Architecture | None:
        """Return the trained architecture whose step time tells most, or None if all were asked.

        First those that may be the best on the new device; if none may, the one whose step time is
        least certain.
        """
        waiting = [arch for arch in self._usable_candidates() if arch.id not in self._asked_to_time]
        if not waiting:
            return None
        if len(self._asked_to_time) < _FIRST_TIMINGS:
            choice = self._first_timing(waiting)
        else:
            known = [arch for arch in self._usable_candidates() if self._predictions.is_timed(arch)]
            best = float(self._predictions.rewards(known).mean.max()) if known else -np.inf
            gain = self._predictions.rewards(waiting).expected_improvement(best)
            if gain.max() <= self._least_gain:
                gain = self._predictions.device("step_time", waiting)[1]
            choice = waiting[int(np.argmax(gain))]
        self._asked_to_time[choice.id] = choice
        return choice

    def next_to_train(self) -> Architecture | None:
        """Return the architecture from whose training most gain is expected.

        It was not trained before; or only on the old device, for whose steps its accuracy holds.

        Returns:
            None when the expected gain of the whole population is below `MIN_GAIN`, or nothing is
            left.
        """
        trained = self._usable_candidates()
        rewards = self._predictions.rewards(trained).mean
        best = float(rewards.max()) if trained else -np.inf
        elite = [trained[n] for n in np.argsort(-rewards, kind="stable")[:_ELITE]]
        again, gain_again = self._best_again(best)
        population, gain = self._evolved(elite, best)
        while population:
            order = np.argsort(-gain, kind="stable")
            choice = population[int(order[0])]
            if gain[order[0]] <= max(self._least_gain, gain_again):
                break
            if self._step_time_of is None or self._predictions.is_timed(choice):
                self._asked_to_train[choice.id] = choice
                return choice
            self._look_up(population[n] for n in order[:_LOOKED_UP])
            population = self._fresh(population)
            gain = self._predictions.rewards(population).expected_improvement(best)
        if again is None or gain_again <= self._least_gain:
            return None
        self._asked_to_train[again.id] = again
        return again

    def ranking(self) -> list[Candidate]:
        """Return all trained architectures that the new device can run, the best first."""
        archs = self._usable_candidates()
        rewards = self._predictions.rewards(archs)
        deviations = self._predictions.device("step_time", archs)[1]
        metrics = self._predictions.metrics(archs)
        by_curve = self._predictions.predicted_accuracies()
        slowdown = {
            arch.id: m["step_time"] / self._old[arch.id]["step_time"]
            for arch, m in zip(archs, metrics, strict=True)
            if arch.id in self._old
        }
        middle = float(np.median(list(slowdown.values()))) if slowdown else 1.0
        order = np.argsort(-rewards.mean, kind="stable").tolist()
        return [
            Candidate(
                architecture=archs[n],
                rank=rank,
                reward=float(rewards.mean[n]),
                reward_deviation=float(rewards.deviation[n]),
                metrics=metrics[n],
                accuracy_deviation=by_curve[key].deviation if key in by_curve else 0.0,
                step_time=metrics[n]["step_time"],
                step_time_deviation=float(deviations[n]),
                timed=self._predictions.is_timed(archs[n]),
                old_rank=self._old_rank.get(key),
                old_reward=self._old_reward.get(key),
                old_metrics=self._old.get(key, {}),
                slowdown=slowdown[key] / middle if key in slowdown else None,
            )
            for rank, n in enumerate(order, start=1)
            for key in [archs[n].id]
        ]

    # -- what to time

    def _first_timing(self, waiting: Sequence[Architecture]) -> Architecture:
        """Return by turns the best old reward and what differs most from all that was asked."""
        if len(self._asked_to_time) % 2 == 0:
            return min(waiting, key=lambda arch: self._old_rank.get(arch.id, np.inf))
        asked = self._predictions.device_matrix("step_time", list(self._asked_to_time.values()))
        others = self._predictions.device_matrix("step_time", waiting)
        distances = ((others[:, None, :] - asked[None, :, :]) ** 2).sum(axis=2).min(axis=1)
        return waiting[int(np.argmax(distances))]

    # -- what to train

    def _best_again(self, best: float) -> tuple[Architecture | None, float]:
        """Return what is to be trained again rather than others, if any, and its expected gain."""
        by_curve = self._predictions.predicted_accuracies()
        unsure = [
            arch
            for arch in self._usable_candidates()
            if arch.id in by_curve
            and by_curve[arch.id].deviation > 0
            and arch.id not in self._asked_to_train
        ]
        if not unsure:
            return None, 0.0
        gain = self._predictions.rewards(unsure).expected_improvement(best)
        place = int(np.argmax(gain))
        return unsure[place], float(gain[place])

    def _evolved(
        self, elite: Sequence[Architecture], best: float
    ) -> tuple[list[Architecture], NDArray[np.float64]]:
        """Evolve the elite of the trained; return untrained ones and their gain over `best`."""
        listed = self._pool
        if listed is None and self.space.size <= _MAX_LISTED:
            listed = list(self.space.architectures())
        population = self._fresh(self._population if listed is None else listed)
        gain = self._predictions.rewards(population).expected_improvement(best)
        if listed is not None:
            return population, gain
        rng = np.random.default_rng((self._seed, 1, len(self._asked_to_train)))
        for _ in range(_GENERATIONS if self._population else _FIRST_GENERATIONS):
            children = self._children([*elite, *population[: 2 * _ELITE]], rng)
            children = self._fresh(children, but={arch.id for arch in population})
            population += children
            its = self._predictions.rewards(children).expected_improvement(best)
            gain = np.concatenate([gain, its])
            kept = np.argsort(-gain, kind="stable")[:_POPULATION]
            population, gain = [population[n] for n in kept], gain[kept]
        self._population = population
        return population, gain

    def _fresh(
        self, archs: Iterable[Architecture], but: Collection[str] = ()
    ) -> list[Architecture]:
        """Return those that may be proposed for training, each once."""
        known = {*but, *self._candidates, *self._asked_to_train, *self._infeasible}
        return [arch for key, arch in {a.id: a for a in archs}.items() if key not in known]

    def _children(
        self, parents: Sequence[Architecture], rng: np.random.Generator
    ) -> list[Architecture]:
        """Return mutants and crossings of the parents, and some drawn at random."""
        children = [self.space.sample(rng) for _ in range(_CHILDREN // 8)]
        while len(children) < _CHILDREN and parents:
            first, second = (parents[int(n)] for n in rng.integers(len(parents), size=2))
            child = first
            if rng.random() < 0.3:
                stages = (
                    pair[int(rng.integers(2))]
                    for pair in zip(first.stages, second.stages, strict=True)
                )
                options = (
                    pair[int(rng.integers(2))]
                    for pair in zip(first.recipe, second.recipe, strict=True)
                )
                crossing = replace(first, stages=tuple(stages), recipe=tuple(options))
                child = crossing if self.space.contains(crossing) else first
            for _ in range(int(rng.geometric(0.5))):
                child = self.space.mutate(child, rng)
            children.append(child)
        return children

    def _look_up(self, archs: Iterable[Architecture]) -> None:
        """Take step times that cost nothing."""
        assert self._step_time_of is not None
        for arch in archs:
            if not self._predictions.is_timed(arch):
                try:
                    metrics = self._step_time_of(arch)
                    steps = self._steps_of(arch, metrics) if self._steps_of else None
                    self.tell_step_time(arch, metrics, steps)
                except InfeasibleError:
                    self.tell_infeasible(arch)

    def _usable_candidates(self) -> list[Architecture]:
        return [arch for key, arch in self._candidates.items() if key not in self._infeasible]
