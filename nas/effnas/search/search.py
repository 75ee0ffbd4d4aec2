"""The search: ask the controller, have the architecture evaluated, score, store, tell.

The driver owns this loop. It computes rewards itself, from stored metrics, so that a run can be
scored again without an accelerator.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING

from effnas.arch.architecture import Architecture
from effnas.controllers.base import Controller
from effnas.controllers.registry import make_controller
from effnas.errors import ConfigError, RewardError, SpaceExhaustedError
from effnas.evaluation.backend import InlineBackend, Outcome
from effnas.evaluation.evaluator import FunctionEvaluator, Job, Task
from effnas.evaluation.work import drain
from effnas.search.failures import Failures
from effnas.search.guarded import GuardedController
from effnas.search.rungs import Rungs
from effnas.search.scoring import Scoring
from effnas.space.search_space import SearchSpace
from effnas.trials.baselines import Baseline
from effnas.trials.constraints import Constraints
from effnas.trials.manifest import utc_now
from effnas.trials.objectives import Objectives
from effnas.trials.pareto_front import pareto_front
from effnas.trials.problem import FreeMetrics, Problem, no_free_metrics
from effnas.trials.reward import Reward
from effnas.trials.store import MemoryStore, Store
from effnas.trials.trial import Measurement, Trial, Trials, TrialState

if TYPE_CHECKING:
    from effnas.evaluation.backend import Backend


class Search:
    """A search over one space with one reward and one controller.

    Args:
        space: A space, its name, or its path.
        reward: A reward, its name or path, an expression, or `file.py:function`.
        controller: A controller's name, or one that was made for the same space.
        seed: Seed of all proposals.
        free_metrics: Returns, for each of N architectures, the metrics that it has without a trial,
            such as a predicted step time, for controllers. Counted ones need not be among them.
        objectives: What a controller that is given by its name pursues in place of the reward,
            such as `accuracy:max,step_time:min`.
        constraints: Conditions that every architecture must meet, such as `params <= 5e6`. Those
            over the space's quantities or known metrics narrow what is proposed; a trial that
            breaks another one is INFEASIBLE.
        store: Where trials are kept; nowhere by default.
        first_number: Number of the first new trial.
        rungs: Epochs at which trainings pause, so that only the best continue; by default all are
            evaluated to the end.

    Raises:
        UserError: If a name or file cannot be found or read, or the controller takes no objectives.
    """

    def __init__(
        self,
        space: SearchSpace | str = "v2",
        reward: Reward | str = "v2",
        controller: Controller | str = "surrogate",
        seed: int = 0,
        *,
        free_metrics: FreeMetrics = no_free_metrics,
        objectives: Objectives | str | None = None,
        constraints: Sequence[str] = (),
        store: Store | None = None,
        first_number: int = 0,
        rungs: Rungs | None = None,
    ) -> None:
        space = SearchSpace.load(space) if isinstance(space, str) else space
        self.reward = Reward.load(reward) if isinstance(reward, str) else reward
        self.objectives = (
            Objectives.parse(objectives) if isinstance(objectives, str) else objectives
        )
        self.constraints = Constraints.parse(constraints, space)
        self.space = self.constraints.narrowed(free_metrics)
        self.problem = Problem(
            self.reward, free_metrics, self.objectives, self.constraints.of_metrics
        )
        self.controller = (
            make_controller(controller, self.space, seed, problem=self.problem)
            if isinstance(controller, str)
            else controller
        )
        self.constraints.check_narrowed(self.controller.space)
        self._guarded = GuardedController(self.controller, self.space)
        self.scoring = Scoring(self.problem, self.constraints)
        self.seed = seed
        self.rungs = rungs
        self.exhausted = False
        #: Seconds after which a worker of Ray that has not come back with a trial is given up.
        self.trial_timeout_s: float | None = None
        #: What the trials are compared with; only a search on images has them.
        self.baselines: tuple[Baseline, ...] = ()
        self._store = store or MemoryStore()
        self._first_number = first_number
        self._trials: dict[int, Trial] = {}
        self._failures = Failures()

    @property
    def trials(self) -> Trials:
        """All trials so far, in the order of their numbers."""
        return Trials(self._trials.values())

    @property
    def best(self) -> Trial | None:
        """The trial with the highest reward, or None while there is none."""
        return self.trials.best

    @property
    def pareto_front(self) -> list[Trial]:
        """The complete trials that none dominates, the best of the first objective first.

        Empty if there are no objectives.
        """
        return pareto_front(self.trials, self.objectives) if self.objectives else []

    # -- ask and tell

    def ask(self) -> Architecture:
        """Return an architecture to evaluate; `tell` takes its result.

        Raises:
            SpaceExhaustedError: If every architecture of the space was proposed already.
        """
        return self._start_trial().architecture

    def tell(self, arch: Architecture, *, reason: str | None = None, **metrics: float) -> Trial:
        """Take the result of an architecture.

        Args:
            arch: What `ask` gave, or any other architecture.
            reason: Why it is infeasible, if it is.
            metrics: Its metrics by name, such as `accuracy` (0 to 1) and `step_time` (S); params,
                params_ratio (P), macs and activations are counted where they are not given.

        Returns:
            The trial, with its reward.

        Raises:
            RewardError: If the reward cannot be computed from the metrics; they are stored.
            ConfigError: If a metric is no finite number, or the objectives or a constraint lack
                one; the others are stored then.
        """
        metrics = {name: float(value) for name, value in metrics.items()}
        for name, value in metrics.items():
            if not isfinite(value):
                raise ConfigError(
                    f"{name} is {value}: tell a finite number, or why there is none as reason=..."
                )
        running = (
            t for t in self._trials.values() if t.architecture == arch and not t.state.is_finished
        )
        trial = next(running, None) or self._record(
            Trial(number=self._new_number(), architecture=arch)
        )
        if reason is not None:
            return self._infeasible(trial, reason, Measurement(metrics=metrics))
        return self._complete(trial, Measurement(metrics=metrics))

    def take(self, trial: Trial) -> Trial:
        """Store a trial of this search that another program runs, and return it with its reward.

        Raises:
            RewardError, ConfigError: As `tell`.
        """
        if trial.state is TrialState.COMPLETE:
            return self._complete(trial, trial.measurement)
        if trial.state is TrialState.PRUNED:
            trial = self.scoring.counted(trial, trial.measurement)
            reward = self.scoring.reward_at(trial, max(trial.measurement.rungs))
            trial = replace(trial, reward=reward)
        return self._record(trial)

    def take_timing(self, trial: Trial, outcome: Outcome) -> Trial:
        """Store a complete trial with the step time that was found, and score it again.

        The controller does not receive a trial that it knows.

        Args:
            trial: A trial of this search or of another one.
            outcome: A timing, or why the network cannot be timed.

        Returns:
            The trial, INFEASIBLE if it cannot be timed or breaks a constraint.
        """
        is_ours = trial.number in self._trials
        before_s = (trial.duration_s or 0.0) if is_ours else 0.0
        trial = self.scoring.retimed(trial, outcome, before_s=before_s)
        if not is_ours:
            return self._record(trial)
        self._store.append(trial, durable=True)
        self._trials[trial.number] = trial
        return trial

    # -- the loop

    def run(
        self,
        evaluate: Callable[..., Mapping[str, float]] | None = None,
        *,
        budget: int,
        backend: Backend | None = None,
        on_trial: Callable[[Trial], None] | None = None,
        again: Callable[[], Trial | None] | None = None,
    ) -> Trials:
        """Search until `budget` trials have been proposed and have ended.

        Trials that an earlier run left unfinished come first and count; those that failed there are
        tried again when nothing else is left to do, until some have failed again. With rungs,
        trials that are still paused when nothing else is left to do are PRUNED, which is final.

        Args:
            evaluate: Takes an architecture and returns its metrics; it may raise
                `InfeasibleError`. Runs in this process. With rungs it takes `epochs`, too, and
                returns the accuracy after that many, among others.
            budget: Trials in all, 1 or more.
            backend: Runs evaluations elsewhere; takes the place of `evaluate`. The caller closes
                it.
            on_trial: Called with every trial that has ended, and with one that pauses at a rung.
            again: Gives a complete trial to evaluate again before any new one; None: none.

        Returns:
            All trials.

        Raises:
            RewardError: If a reward cannot be computed; the trial's metrics are stored.
            ConfigError: With rungs, if `evaluate` has no parameter `epochs` or gives no accuracy.
            SearchFailedError: If evaluations fail time after time.
        """
        if budget < 1:
            raise ConfigError(f"the budget is {budget} trials, it must be 1 or more")
        if backend is None:
            if evaluate is None:
                raise ConfigError("give run() a function that evaluates, or a backend")
            backend = InlineBackend(FunctionEvaluator(evaluate))
        unfinished = deque(t for t in self.trials if t.state is TrialState.RUNNING)
        failed_before = deque(t for t in self.trials if t.state is TrialState.FAILED)
        self._failures = Failures(trial.number for trial in failed_before)
        ended = on_trial or (lambda trial: None)

        def next_job() -> Job | None:
            old = again() if again and not unfinished else None
            trial = self._restart(old) if old else self._next(unfinished, budget)
            if trial is None and failed_before and self._failures.may_try_again:
                trial = self._restart(failed_before.popleft())
            return self._job(trial) if trial else None

        def failed(outcome: Outcome, is_last: bool) -> None:
            trial = self._fail(outcome, is_last)
            if is_last:
                ended(trial)
            else:
                self._restart(trial)

        drain(backend, next_job, lambda outcome: ended(self._finish(outcome)), failed)
        for trial in self._prune():
            ended(trial)
        return self.trials

    def resume(self, events: Iterable[Trial], *, rescore: bool = False) -> None:
        """Take over the stored changes of trials, in the order in which they happened.

        Args:
            events: The changes.
            rescore: Whether rewards are computed again and stored, because the reward has changed.
        """
        history = list(events)
        last = {trial.number: trial for trial in history}
        if rescore:
            for number, trial in last.items():
                if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
                    last[number] = replace(trial, reward=self.reward.score(trial.metrics))
                    self._store.append(last[number], durable=True)
        sent: set[tuple[int, TrialState, int]] = set()
        for event in history:
            if event.step not in sent:
                sent.add(event.step)
                final = last[event.number]
                self._guarded.tell(final if event.step == final.step else event)
        self._trials = last

    # -- the steps of the loop

    def _next(self, unfinished: deque[Trial], budget: int) -> Trial | None:
        """Return the next trial: an unfinished one, a paused one, or a new one in the budget."""
        trial = unfinished.popleft() if unfinished else None
        if trial is None and self.rungs:
            trial = self.rungs.promoted(self.trials, self.scoring.reward_at)
        if trial is not None:
            return self._restart(trial)
        if len(self._trials) >= budget or self.exhausted:
            return None
        try:
            return self._start_trial()
        except SpaceExhaustedError:
            self.exhausted = True
            return None

    def _new_number(self) -> int:
        return max((*self._trials, self._first_number - 1)) + 1

    def _start_trial(self) -> Trial:
        number = self._new_number()
        first = self.space.with_default_recipe(self.space.reference)
        # Where the recipe is open, a search begins with what is known to work.
        begins = self.space.recipe and not self._trials and self.space.contains(first)
        arch = first if begins else self._guarded.ask(number)
        return self._record(Trial(number=number, architecture=arch))

    def _restart(self, trial: Trial) -> Trial:
        return self._record(replace(trial, state=TrialState.RUNNING, reason=None))

    def _job(self, trial: Trial) -> Job:
        """Return the job of a trial: only up to the first rung does it find the step time."""
        job = Job(trial.number, trial.architecture, limit_s=self.trial_timeout_s)
        if self.rungs is None:
            return job
        task = Task.TRAIN if trial.measurement.rungs else Task.EVALUATE
        until, stages = self.rungs.next_rung(trial), trial.measurement.stages
        return replace(job, task=task, until=until, stages=stages)

    def _ended(self, outcome: Outcome) -> Trial:
        """Return the trial of an outcome, with the seconds that it took."""
        trial = self._trials[outcome.trial]
        before_s = (trial.duration_s or 0.0) if trial.measurement.rungs else 0.0
        return replace(trial, duration_s=before_s + outcome.duration_s)

    def _finish(self, outcome: Outcome) -> Trial:
        """Store the result of a trial and tell the controller."""
        trial = self._ended(outcome)
        self._failures.succeeded()
        found = outcome.measurement or Measurement(metrics={})
        if outcome.infeasible is not None:
            return self._infeasible(trial, outcome.infeasible, trial.measurement.continued(found))
        return self._reach_rung(trial, found) if self.rungs else self._complete(trial, found)

    def _infeasible(self, trial: Trial, reason: str, measurement: Measurement) -> Trial:
        return self._record(
            replace(trial, state=TrialState.INFEASIBLE, reason=reason, measurement=measurement)
        )

    def _reach_rung(self, trial: Trial, found: Measurement) -> Trial:
        """Take the accuracy at a rung: at the last one the trial is complete, before it pauses."""
        assert self.rungs is not None
        if "accuracy" not in found.metrics:
            raise ConfigError(
                "a search with rungs compares accuracies, and the evaluation gave none: return the "
                "metric accuracy"
            )
        rung = self.rungs.next_rung(trial)
        rungs = {**trial.measurement.rungs, rung: found.metrics["accuracy"]}
        measurement = replace(trial.measurement.continued(found), rungs=rungs)
        if rung == self.rungs.at[-1]:
            return self._complete(trial, measurement)
        trial = replace(self.scoring.counted(trial, measurement), state=TrialState.WAITING)
        self._record(trial)
        self.reward.score(trial.metrics)  # a reward that cannot be computed is reported at once
        return trial

    def _prune(self) -> list[Trial]:
        """Stop the trials that are still paused, with the reward at the rung that they reached."""
        paused = [trial for trial in self.trials if trial.state is TrialState.WAITING]
        return [self.take(replace(trial, state=TrialState.PRUNED)) for trial in paused]

    def _complete(self, trial: Trial, measurement: Measurement) -> Trial:
        """Count, check, score, store and tell."""
        trial = replace(self.scoring.counted(trial, measurement), state=TrialState.COMPLETE)
        try:
            trial = self.scoring.scored(trial)
            if self.objectives and trial.state is TrialState.COMPLETE:
                self.objectives.values(trial.metrics)
        except (RewardError, ConfigError):
            self._record(trial)  # what was measured stays, whatever cannot be computed from it
            raise
        return self._record(trial)

    def _fail(self, outcome: Outcome, is_last: bool) -> Trial:
        trial = replace(self._ended(outcome), state=TrialState.FAILED, reason=outcome.failure)
        self._record(trial)
        if is_last:
            self._failures.failed(trial.number, outcome.failure)
        return trial

    def _record(self, trial: Trial) -> Trial:
        """Store a change of a trial, then tell the controller: never the other way round."""
        trial = replace(trial, ended=utc_now() if trial.state.is_finished else None)
        self._store.append(trial, durable=trial.state is not TrialState.RUNNING)
        self._trials[trial.number] = trial
        self._guarded.tell(trial)
        return trial
