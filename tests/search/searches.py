"""What tests of searches share: a small space, its stored trials, and workers in disorder."""

from __future__ import annotations

import random
from pathlib import Path

from effnas import SearchSpace, Trial, Trials
from effnas.evaluation.backend import Outcome, run_job
from effnas.evaluation.evaluator import Evaluator, Job
from effnas.trials.store import read_events

TINY = SearchSpace.load("tiny")


def events(path: Path) -> list[Trial]:
    """The stored changes of trials."""
    return list(read_events(path, TINY))


def stored(path: Path) -> Trials:
    """The stored trials as they are at the end."""
    return Trials({trial.number: trial for trial in events(path)}.values())


def summary(trials: Trials) -> list[tuple[object, ...]]:
    """All of each trial but how long it took."""
    return [(t.number, t.architecture, t.state, t.measurement, t.reward, t.reason) for t in trials]


class Shuffled:
    """Three workers whose jobs end in an order of their own."""

    capacity = 3

    def __init__(self, evaluator: Evaluator, seed: int = 1) -> None:
        self.evaluator, self.random = evaluator, random.Random(seed)
        self.jobs: list[Job] = []
        self.most = 0

    def submit(self, job: Job) -> None:
        assert job.trial not in [other.trial for other in self.jobs]
        self.jobs.append(job)
        self.most = max(self.most, len(self.jobs))

    def next_done(self) -> Outcome:
        return run_job(self.evaluator, self.jobs.pop(self.random.randrange(len(self.jobs))))

    def close(self) -> None:
        self.jobs.clear()
