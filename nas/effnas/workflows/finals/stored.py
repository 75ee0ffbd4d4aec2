"""Finals read back: what is in their folder, and the search that they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from effnas.config.plugins import is_plugin
from effnas.errors import ConfigError, StoreError
from effnas.trials.guessing import Guessing
from effnas.trials.learning_curve import best_after
from effnas.trials.reward import Reward
from effnas.trials.run import Run, load_run
from effnas.trials.store import MANIFEST, TRAININGS, as_typed, read_records
from effnas.trials.uncertainty import Noise
from effnas.workflows.finals.evaluate_test import stored_test
from effnas.workflows.finals.finalists import Finalist, Reason
from effnas.workflows.finals.folder import FinalsManifest
from effnas.workflows.finals.report import FinalistStanding, FinalsReport, make_report
from effnas.workflows.proxy.statistics import seed_deviation
from effnas.workflows.trainings.folder import Result, parse_result
from effnas.workflows.trainings.standings import Schedule


@dataclass(frozen=True, kw_only=True)
class StoredFinals:
    """Finals as their folder tells them.

    Attributes:
        path: The folder.
        manifest: What they were made with.
        run: The search.
        reward: What the networks are judged by.
        results: Of all trainings that have ended, in the order in which they did.
        report: What follows from these.
    """

    path: Path
    manifest: FinalsManifest
    run: Run
    reward: Reward
    results: Sequence[Result]
    report: FinalsReport

    @cached_property
    def noise(self) -> Noise:
        """What makes accuracies of whole trainings unsure, the spread over seeds pooled."""
        accuracies = [each.accuracies for each in self.report.whole]
        spread = seed_deviation(np.array(accuracies)).value if accuracies else None
        return Noise(holdout_images=self.run.manifest.data.holdout_images, seed_spread=spread)

    def accuracy_error(self, standing: FinalistStanding) -> float | None:
        """Return the standard error of a mean accuracy; None where it is not known."""
        if standing.accuracy is None:
            return None
        return self.noise.standard_error(standing.accuracy, len(standing.accuracies))

    @property
    def beats_guessing(self) -> bool | None:
        """Whether the picked network is clearly more accurate than guessing; None: not known."""
        base = self.report.base
        if base is None or base.accuracy is None:
            return None
        guessing = self.run.manifest.data.guessing
        return guessing.is_beaten(base.accuracy, self.noise, len(base.accuracies))

    @property
    def test_guessing(self) -> Guessing:
        """What guessing reaches on the test part, as far as it was read."""
        counts = self.report.test.class_counts if self.report.test else ()
        return replace(self.run.manifest.data.guessing, counts=counts)

    def confusions(self, name: str) -> dict[int, tuple[tuple[int, ...], ...]]:
        """Return what a network's whole trainings take images for, by `repeat`, where stored."""
        return {
            r.repeat: r.confusion
            for r in self.results
            if r.candidate == name and r.epochs == self.report.epochs and r.confusion
        }


def load_finals(path: Path, reward: Reward | None = None) -> StoredFinals:
    """Read finals, finished or under way, and their search. No code that they name is executed.

    Args:
        path: Their folder.
        reward: What they are judged by, where that is a Python function; by default what they
            store.

    Raises:
        StoreError: If there are none, they cannot be read, or their search is neither where it was
            nor beside them.
        ConfigError: If their reward is a Python function, and none is given.
    """
    manifest = FinalsManifest.read(path)
    run = _search_of(path, manifest)
    reward = reward or _reward_of(run, manifest)
    results = list(read_records(path / TRAININGS, parse_result, "result"))
    by_id = {trial.architecture.id: trial for trial in run.trials.ranked()}
    best, finalists = tuple(by_id), []
    time_s = manifest.recipe.train_time_s
    after = best_after(run, time_s) if time_s else None
    for place, name in enumerate(manifest.finalists):
        if name not in by_id:
            raise StoreError(
                f"{path / MANIFEST}: the finalist {name} is no complete trial of {run.path}; put "
                "the search back as it was"
            )
        # The best by reward come first, in their order; how many was not always stored.
        is_best = (
            manifest.finalists[: place + 1] == best[: place + 1]
            if manifest.top is None
            else place < manifest.top
        )
        is_chosen = after is not None and by_id[name] == after.chosen.trial
        reason: Reason = "reward" if is_best else "curve" if is_chosen else "front"
        finalists.append(Finalist(by_id[name], reason))

    def score(finalist: Finalist, accuracy: float) -> float:
        return reward.score({**finalist.trial.metrics, "accuracy": accuracy})

    report = make_report(
        finalists,
        Schedule.of(manifest.recipe.length, manifest.seeds),
        results,
        score,
        run.manifest.data.holdout_images,
    )
    return StoredFinals(
        path=path,
        manifest=manifest,
        run=run,
        reward=reward,
        results=results,
        report=replace(report, test=stored_test(path)),
    )


def _search_of(path: Path, manifest: FinalsManifest) -> Run:
    """Return the search of finals: where the command line had it, else beside them.

    Raises:
        StoreError: If it is at neither place, or cannot be read.
    """
    asked = str(manifest.asked.options.get("search") or "") if manifest.asked else ""
    beside = path.resolve().parent / Path(manifest.run).name
    for place in (Path(asked), beside) if asked else (beside,):
        if (place / MANIFEST).is_file():
            run = load_run(as_typed(place))
            if run.manifest.created == manifest.run_created:
                return run
    raise StoreError(
        f"{path}: their search {manifest.run!r} is not beside them; put its folder back there"
    )


def _reward_of(run: Run, manifest: FinalsManifest) -> Reward:
    asked = manifest.asked.options.get("reward") if manifest.asked else None
    text = manifest.finished or asked
    if text is None or text == run.manifest.reward.text:
        return run.load_reward()
    if is_plugin(str(text).partition(" (sha256 ")[0].strip()):
        raise ConfigError(
            f"{run.path}: the reward of its finals is the Python function {text}, which is not run "
            "because a file says so; `effnas promote` with the same `reward` shows them"
        )
    return Reward.read(str(text))
