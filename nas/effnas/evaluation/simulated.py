"""The back end with a simulated clock: long parallel searches, run in no time."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from effnas.config.text import counted
from effnas.controllers.encoding import Encoding
from effnas.controllers.gaussian_process import MIN_VALUES, GaussianProcess
from effnas.errors import ConfigError, InfeasibleError, check_at_least
from effnas.evaluation.backend import Outcome, run_job
from effnas.evaluation.evaluator import Evaluator, Job
from effnas.trials.trial import Measurement, Trial, TrialState

if TYPE_CHECKING:
    from effnas.space.search_space import SearchSpace


class SimulatedBackend:
    """Runs jobs when they are submitted, and has them end by a clock of its own.

    So trials end in the order in which they would on that many workers, and nobody waits.

    Args:
        evaluator: Gives what a job would measure; `TabularEvaluator`, `FittedEvaluator`, or any
            other that is quick.
        capacity: Jobs under way at once, 1 or more.
        duration_s: Returns the seconds that a job takes, 0 or more; by default 1.

    Attributes:
        now_s: Seconds since the beginning, by the simulated clock.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        *,
        capacity: int = 1,
        duration_s: Callable[[Job], float] = lambda job: 1.0,
    ) -> None:
        check_at_least(1, capacity=capacity)
        self.capacity = capacity
        self.now_s = 0.0
        self._evaluator = evaluator
        self._duration_s = duration_s
        #: End, place in the order of submission (jobs that end together end in it), outcome.
        self._under_way: list[tuple[float, int, Outcome]] = []
        self._submitted = 0

    def submit(self, job: Job) -> None:
        """Start a job."""
        duration_s = self._duration_s(job)
        outcome = replace(run_job(self._evaluator, job), duration_s=duration_s)
        heapq.heappush(self._under_way, (self.now_s + duration_s, self._submitted, outcome))
        self._submitted += 1

    def next_done(self) -> Outcome:
        """Advance the clock to the end of the next job, and return its outcome."""
        self.now_s, _, outcome = heapq.heappop(self._under_way)
        return outcome

    def close(self) -> None:
        """Forget the jobs that are under way."""
        self._under_way.clear()


class TabularEvaluator:
    """Looks up what trials have measured; an architecture without one is infeasible.

    Args:
        trials: Trials; those that are not COMPLETE stay as they are.
    """

    def __init__(self, trials: Iterable[Trial]) -> None:
        self._trials = {trial.architecture: trial for trial in trials}

    def __call__(self, job: Job) -> Measurement:
        """Return the measurement of a trial; after some epochs, with the accuracy at that rung.

        Raises:
            InfeasibleError: If there is none, or the trial was infeasible itself.
            ConfigError: If the trial has no accuracy after that many epochs.
        """
        trial = self._trials.get(job.architecture)
        if trial is None:
            raise InfeasibleError("the table does not have this architecture")
        if trial.state is not TrialState.COMPLETE:
            raise InfeasibleError(trial.reason or f"{trial.state} in the table")
        if job.until is None:
            return trial.measurement
        at = trial.measurement.rungs
        if job.until not in at:
            raise ConfigError(
                f"trial {trial.number} of the table has no accuracy after "
                f"{counted(job.until, 'epoch')}; it "
                f"has those after {', '.join(map(str, at)) or 'the whole training alone'}"
            )
        metrics = {**trial.metrics, "accuracy": at[job.until]}
        return replace(trial.measurement, metrics=metrics)


class FittedEvaluator:
    """Predicts what any architecture of a space would measure, from trials of the space.

    Every metric that all COMPLETE trials have gets a Gaussian process
    (`effnas.controllers.gaussian_process`), on a logarithmic scale where all values are positive.
    Metrics that a space counts are left to it.

    Args:
        space: The space.
        trials: Trials of it, 3 or more of them COMPLETE.

    Raises:
        ConfigError: If there are fewer.
    """

    def __init__(self, space: SearchSpace, trials: Sequence[Trial]) -> None:
        complete = [t for t in trials if t.state is TrialState.COMPLETE]
        if len(complete) < MIN_VALUES:
            raise ConfigError(
                f"{len(complete)} complete trials are too few to fit; it takes {MIN_VALUES} or more"
            )
        self._encoding = Encoding(space)
        points = self._encoding.matrix([trial.architecture for trial in complete])
        counted = space.counted_metrics(space.reference)
        names = set.intersection(*(set(trial.metrics) for trial in complete)) - set(counted)
        self._models: dict[str, tuple[bool, GaussianProcess]] = {}
        for name in sorted(names):
            values = np.array([trial.metrics[name] for trial in complete])
            is_log = bool(values.min() > 0)
            model = GaussianProcess(self._encoding.groups).fit(
                points, np.log(values) if is_log else values
            )
            self._models[name] = is_log, model

    def __call__(self, job: Job) -> Measurement:
        """Return what is expected of an architecture; accuracy stays within 0 and 1.

        Raises:
            ConfigError: If it is asked for a part of the training.
        """
        if job.until is not None:
            raise ConfigError("a fit to whole trainings has no rungs; use a table, or a function")
        point = self._encoding.matrix([job.architecture])
        metrics = {}
        for name, (is_log, model) in self._models.items():
            mean = float(model.predict(point)[0][0])
            metrics[name] = float(np.exp(mean)) if is_log else mean
        if "accuracy" in metrics:
            metrics["accuracy"] = min(max(metrics["accuracy"], 0.0), 1.0)
        return Measurement(metrics=metrics)
