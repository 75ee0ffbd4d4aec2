"""Long trainings of a few candidates as Ray Tune trials, the weak ones stopped early by ASHA.

A Tune trial is one candidate; each of its steps takes one of its seeds to the next of the levels,
so that candidates are compared by means over the same seeds. Results are stored by the caller and
told to the next run of the same trainings, which repeats none of them, and trainings under way go
on from their checkpoints: what Tune itself would store, pickles among it, is thrown away.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from effnas.arch.architecture import Architecture
from effnas.config.settings import EvaluationConfig
from effnas.errors import SearchFailedError, UserError
from effnas.evaluation.backend import Job, run_job
from effnas.evaluation.evaluator import Evaluator, Task
from effnas.evaluation.ray import start_ray
from effnas.evaluation.workers import MakeImageEvaluator
from effnas.workflows.trainings.folder import Result
from effnas.workflows.trainings.schedule import ETA, Schedule

#: Tune writes logs and tables of its own and catches Ctrl-C, unless it is told not to.
_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # the new one prints boxes whatever `verbose` is
}
#: Attempts at trainings whose worker is lost or meets a bug.
_MAX_ATTEMPTS = 2


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A network to be trained.

    Attributes:
        name: Not that of another candidate.
        architecture: The network.
        config: How it is trained; `checkpoints` is a folder that all workers see.
    """

    name: str
    architecture: Architecture
    config: EvaluationConfig


def train_all(
    candidates: Sequence[Candidate],
    schedule: Schedule,
    known: Sequence[Result],
    *,
    cpus: float,
    gpus: float,
    score: Callable[[str, Sequence[float]], float],
    on_result: Callable[[Result], None],
) -> None:
    """Train candidates, side by side where there is room, the weak ones not to the end.

    Args:
        candidates: In the order in which they are begun.
        schedule: Levels and seeds.
        known: Results that are there already.
        cpus: CPUs of a training.
        gpus: GPUs of a training.
        score: Takes a candidate's name and the accuracies of all its seeds at a level; the larger
            its result, the better.
        on_result: Told each new result as it comes.

    Raises:
        UserError: If the data or a setting cannot be used.
        SearchFailedError: If a training fails although nothing that was given is wrong.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in _SETTINGS.items()})
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    start_ray()
    stored = list(known)

    def took(result: Result) -> None:
        stored.append(result)
        on_result(result)

    for _ in range(_MAX_ATTEMPTS):
        failure = _run(candidates, schedule, tuple(stored), cpus, gpus, score, took)
        if failure is None:
            return
    raise SearchFailedError(
        f"a training failed {_MAX_ATTEMPTS} times, the last with: {failure}; what has ended is "
        "stored, and the same command goes on"
    )


def _run(
    candidates: Sequence[Candidate],
    schedule: Schedule,
    known: tuple[Result, ...],
    cpus: float,
    gpus: float,
    score: Callable[[str, Sequence[float]], float],
    on_result: Callable[[Result], None],
) -> str | None:
    """Train what is not known yet; return what went wrong, if anything did."""
    scheduler = _Scheduler(schedule, known, score, on_result)
    trainable = tune.with_resources(
        tune.with_parameters(
            _Training, candidates=tuple(candidates), schedule=schedule, known=known
        ),
        {"cpu": cpus, "gpu": gpus},
    )
    with tempfile.TemporaryDirectory(prefix="effnas-tune-") as scrap:
        tuner = tune.Tuner(
            trainable,
            param_space={"candidate": tune.grid_search(list(range(len(candidates))))},
            tune_config=tune.TuneConfig(
                metric="reward", mode="max", scheduler=scheduler, reuse_actors=True
            ),
            run_config=tune.RunConfig(
                name="trainings",
                storage_path=scrap,
                verbose=0,
                stop=lambda trial, result: scheduler.error is not None,
            ),
        )
        found = tuner.fit()
    if scheduler.error is not None:
        raise scheduler.error
    return str(found.errors[0]).strip().splitlines()[-1] if found.errors else None


class _Training(tune.Trainable):
    """The trainings of one candidate; after that, with the same images, those of another."""

    def setup(
        self,
        config: dict[str, Any],
        candidates: Sequence[Candidate] = (),
        schedule: Schedule | None = None,
        known: Sequence[Result] = (),
    ) -> None:
        assert schedule is not None
        self._candidates, self._schedule = candidates, schedule
        self._known = {(r.candidate, r.epochs, r.repeat): r for r in known}
        self._evaluator: Evaluator | None = None
        self._made_for: EvaluationConfig | None = None
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._candidate = self._candidates[new_config["candidate"]]
        self._number = 0
        return True

    def step(self) -> dict[str, Any]:
        epochs, repeat = self._schedule.step(self._number)
        self._number += 1
        if found := self._known.get((self._candidate.name, epochs, repeat)):
            return {"result": found}
        try:
            evaluator = self._warm()
        except UserError as error:
            return {"result": error}
        outcome = run_job(
            evaluator, Job.of(0, self._candidate.architecture, Task.TRAIN, repeat, epochs)
        )
        if outcome.user_error is not None:
            return {"result": outcome.user_error}
        if outcome.failure is not None:
            raise RuntimeError(outcome.failure)
        metrics = outcome.measurement.metrics if outcome.measurement else {}
        failed = outcome.infeasible is not None
        return {
            "result": Result(
                candidate=self._candidate.name,
                repeat=repeat,
                epochs=epochs,
                accuracy=None if failed else metrics["accuracy"],
                train_time_s=metrics.get("train_time_s", 0.0),
                reason=outcome.infeasible,
            )
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Trainings keep their own checkpoints."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Trainings keep their own checkpoints."""

    def _warm(self) -> Evaluator:
        config = self._candidate.config
        if self._evaluator is None or self._made_for != config:
            self._evaluator = None  # its images make room for those of the next
            self._evaluator = MakeImageEvaluator(config)()
            self._made_for = config
        return self._evaluator


class _Scheduler(AsyncHyperBandScheduler):
    """ASHA over the means of candidates at levels; every result is told before it decides."""

    def __init__(
        self,
        schedule: Schedule,
        known: Sequence[Result],
        score: Callable[[str, Sequence[float]], float],
        on_result: Callable[[Result], None],
    ) -> None:
        super().__init__(
            time_attr="epochs",
            max_t=schedule.levels[-1],
            grace_period=schedule.levels[0],
            reduction_factor=ETA,
        )
        #: What `train_all` is to raise.
        self.error: Exception | None = None
        self._schedule = schedule
        self._score = score
        self._on_result = on_result
        self._known = set(known)
        self._accuracies: dict[tuple[str, int], list[float]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Tune pickles its parts, which nothing here reads; what cannot be pickled is left out."""
        return AsyncHyperBandScheduler, ()

    def on_trial_result(self, tune_controller: Any, trial: Any, result: Mapping[str, Any]) -> str:
        """Say whether a trial goes on; an error ends all of them."""
        try:
            decision = self._decide(tune_controller, trial, dict(result))
        except Exception as error:  # noqa: BLE001  # Tune would hide it, and `train_all` raises it
            self.error = error
            decision = TrialScheduler.STOP
        return str(decision)

    def _decide(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if isinstance(result["result"], UserError):
            raise result["result"]
        found: Result = result["result"]
        if found not in self._known:
            self._on_result(found)
        if found.accuracy is None:
            return str(TrialScheduler.STOP)
        there = self._accuracies.setdefault((found.candidate, found.epochs), [])
        there.append(found.accuracy)
        if len(there) < self._schedule.seeds:
            return str(TrialScheduler.CONTINUE)
        reward = self._score(found.candidate, there)
        result |= {"epochs": found.epochs, "reward": reward}
        return str(super().on_trial_result(tune_controller, trial, result))

    def on_trial_complete(
        self, tune_controller: Any, trial: Any, result: Mapping[str, Any]
    ) -> None:
        """All was said at the trial's last result."""
