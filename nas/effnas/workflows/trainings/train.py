"""Long trainings of a few candidates on the workers of a search, the weak ones stopped early.

Candidates begin one after another; each trains with all of its seeds up to a level, where their
mean decides whether it continues. Free workers train other seeds, then the next candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from effnas.evaluation.evaluator import Job, Task
from effnas.evaluation.work import drain
from effnas.evaluation.workers import Workers, start_workers
from effnas.workflows.trainings.folder import Result, TrainingsFolder
from effnas.workflows.trainings.standings import Comparison

if TYPE_CHECKING:
    from effnas.arch.architecture import Architecture
    from effnas.config.recipe import Recipe
    from effnas.config.settings import EvaluationConfig
    from effnas.evaluation.backend import Backend, Outcome
    from effnas.evaluation.observer import Observer


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A network to train.

    Attributes:
        name: Not that of another candidate.
        architecture: The network.
        recipe: How it is trained, in place of the workers' own recipe.
    """

    name: str
    architecture: Architecture
    recipe: Recipe | None = None


@dataclass(frozen=True, kw_only=True)
class Trainings(Comparison):
    """Trainings of candidates, those that ended and those to come.

    Attributes:
        folder: Stores the results.
        candidates: In the order in which they begin.
        on_result: Called with each new result, which is stored by then.
    """

    folder: TrainingsFolder
    candidates: Sequence[Candidate]
    on_result: Callable[[Result], None]

    def finish(
        self, config: EvaluationConfig, workers: Workers, judged_by: str, observer: Observer
    ) -> None:
        """Train what has not ended; nothing if all of it did, judged by the same.

        Args:
            config: How candidates without a recipe of their own are trained; its `checkpoints` is
                a folder that all workers see.
            workers: Where trainings run.
            judged_by: What decides on which of them continue, such as the text of a reward.
            observer: Receives what takes a while.

        Raises:
            UserError: If the data or a setting cannot be used.
            SearchFailedError: If a training fails although nothing that was given is wrong.
        """
        if self.folder.is_finished(judged_by):
            return
        waiting = next((c for c in self.candidates if self.left(c.name)), None)
        if waiting:
            backend, ready = start_workers(config, workers, observer.preparing, waiting.recipe)
            observer.prepared(ready)
            observer.preparing("training")
            try:
                self.run(backend)
            finally:
                backend.close()
        self.folder.finish(judged_by)

    def run(self, backend: Backend) -> None:
        """Train on a back end, which the caller closes; errors as of `finish`."""
        under_way: dict[int, tuple[str, int, int]] = {}
        numbers = count()

        def next_job() -> Job | None:
            for candidate in self.candidates:
                for epochs, repeat in self.left(candidate.name):
                    training = candidate.name, epochs, repeat
                    if training not in under_way.values():
                        number = next(numbers)
                        under_way[number] = training
                        arch, recipe = candidate.architecture, candidate.recipe
                        return Job(number, arch, Task.TRAIN, repeat, epochs, recipe)
            return None

        def take(outcome: Outcome) -> None:
            name, epochs, repeat = under_way.pop(outcome.trial)
            metrics = outcome.measurement.metrics if outcome.measurement else {}
            result = Result(
                candidate=name,
                repeat=repeat,
                epochs=epochs,
                accuracy=None if outcome.infeasible is not None else metrics["accuracy"],
                train_time_s=metrics.get("train_time_s", 0.0),
                reason=outcome.infeasible,
                confusion=outcome.measurement.confusion if outcome.measurement else (),
            )
            self.folder.add(result)
            self.results.append(result)
            self.on_result(result)

        drain(backend, next_job, take)
