"""From a finished search to its finals: who takes part, longer trainings, and the pick."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from effnas.config.recipe import Recipe
from effnas.data.loading import check_test_part
from effnas.errors import check_at_least
from effnas.evaluation.config import config_for_run
from effnas.evaluation.observer import Observer
from effnas.evaluation.workers import Workers
from effnas.trials.manifest import TRAINER, CommandPart
from effnas.trials.run import Run, load_run
from effnas.trials.store import CHECKPOINTS
from effnas.workflows.finals.evaluate_test import evaluate_test_once, stored_test
from effnas.workflows.finals.finalists import Finalist, choose_finalists
from effnas.workflows.finals.folder import FinalsManifest
from effnas.workflows.finals.report import make_report
from effnas.workflows.finals.stored import StoredFinals
from effnas.workflows.trainings.folder import WEIGHTS, Result, TrainingsFolder
from effnas.workflows.trainings.forecast import Forecast, epoch_time
from effnas.workflows.trainings.standings import Schedule
from effnas.workflows.trainings.train import Candidate, Trainings

#: Length of a final over that of the search's trainings, unless these were made short of a time.
_LONGER = 4


def _ids(finalists: Sequence[Finalist]) -> tuple[str, ...]:
    return tuple(finalist.trial.architecture.id for finalist in finalists)


def made_long(run: Run) -> Recipe:
    """Return the recipe of finals: the search's, for the time that it is for, or longer."""
    if run.manifest.is_made_short:
        return replace(run.recipe, train_time_s=run.manifest.winner_time_s)
    return run.recipe.prolonged(_LONGER)


@dataclass(frozen=True, kw_only=True)
class FinalsSettings:
    """What the user asked for.

    Attributes:
        run: Folder of the search.
        out: Folder of the finals.
        top: Trials by reward; as many more at most from the front.
        seeds: Trainings of each.
        recipe: How networks are trained; None takes the search's recipe, as long as
            its winner is to be trained, else four times as long.
        changes: What differs from that recipe, by the names of `Recipe.overridden`; `data_share` is
            1 (all images) unless it is given.
        data: Where the images are now; None takes the place that the run stored.
        data_root: Folder of a timm data set, likewise.
        reward: Another reward than the run's; None takes the run's own.
        test: Whether the test part of the data is read, once, for the network that is picked.
        workers: Where trainings run.
        asked: The command line that this is from, for `asked` of the manifest.
    """

    run: Path
    out: Path
    top: int = 5
    seeds: int = 3
    recipe: Recipe | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    data: str | None = None
    data_root: Path | None = None
    reward: str | None = None
    test: bool = False
    workers: Workers = field(default_factory=Workers)
    asked: CommandPart | None = None

    def __post_init__(self) -> None:
        check_at_least(1, seeds=self.seeds)


class FinalsObserver(Observer):
    """Receives what finals do."""

    def planned(
        self,
        run: Run,
        finalists: Sequence[Finalist],
        recipe: Recipe,
        schedule: Schedule,
        forecast: Forecast | None,
    ) -> None:
        """The trainings are about to begin; how long they take is not always known."""

    def trained(self, finalist: Finalist, result: Result, reward: float | None) -> None:
        """A training has reached a level."""

    def testing(self) -> None:
        """The test part is about to be read."""


def launch_finals(settings: FinalsSettings, observer: FinalsObserver) -> StoredFinals:
    """Train the best of a search longer; what the folder holds is not trained again.

    Raises:
        UserError: If something given is wrong; what is stored already stays.
        SearchFailedError: If a training fails repeatedly.
    """
    run = load_run(settings.run)
    recipe = settings.recipe or made_long(run)
    recipe = replace(recipe, data_share=1.0).overridden(**settings.changes)
    if run.recipe.image_size:
        recipe = recipe.sized(*run.recipe.image_size)
    finalists = choose_finalists(run, settings.top, recipe.train_time_s)
    if stored := FinalsManifest.stored(settings.out):
        without_curves = choose_finalists(run, settings.top)
        if stored.finalists == _ids(without_curves):  # an earlier version began it
            finalists = without_curves
    reward = run.load_reward(settings.reward)

    def score(finalist: Finalist, accuracy: float) -> float:
        """Return the reward with the accuracy of a final: S and P are the search's."""
        return reward.score({**finalist.trial.metrics, "accuracy": accuracy})

    for finalist in finalists:
        score(finalist, finalist.trial.metrics.get("accuracy", 0.5))  # it can be scored
    config = replace(
        config_for_run(run, recipe, data=settings.data, data_root=settings.data_root),
        step_times=None,
        checkpoints=str(settings.out.absolute() / CHECKPOINTS),
        weights=str(settings.out.absolute() / WEIGHTS),
    )
    manifest = FinalsManifest(
        run=run.path.resolve().name,
        run_created=run.manifest.created,
        finalists=_ids(finalists),
        recipe=recipe,
        trainer=TRAINER,
        seeds=settings.seeds,
        top=sum(finalist.reason == "reward" for finalist in finalists),
        asked=settings.asked,
    )
    schedule = Schedule.of(recipe.length, settings.seeds)
    with TrainingsFolder.open(settings.out) as folder:
        if settings.test and not stored_test(settings.out):
            names, root = run.manifest.data.class_names, config.data_root
            check_test_part(config.data or "", classes=names, root=Path(root) if root else None)
        results = folder.begin(manifest)
        by_name = {finalist.trial.architecture.id: finalist for finalist in finalists}

        def trained(result: Result) -> None:
            finalist, accuracy = by_name[result.candidate], result.accuracy
            observer.trained(
                finalist, result, None if accuracy is None else score(finalist, accuracy)
            )

        trainings = Trainings(
            folder=folder,
            candidates=[
                Candidate(name=name, architecture=finalist.trial.architecture)
                for name, finalist in by_name.items()
            ],
            schedule=schedule,
            results=results,
            score=lambda name, accuracy: score(by_name[name], accuracy),
            on_result=trained,
        )
        device = settings.workers.device
        epoch_s = {
            name: epoch_time(run, finalist.trial, recipe, device)
            for name, finalist in by_name.items()
        }
        observer.planned(run, finalists, recipe, schedule, trainings.forecast(epoch_s))
        trainings.finish(config, settings.workers, reward.text, observer)
        report = make_report(finalists, schedule, results, score, run.manifest.data.holdout_images)
        test = evaluate_test_once(
            folder.path,
            report.base.finalist.trial if report.base else None,
            schedule.seeds,
            config,
            settings.workers,
            read=settings.test,
            reading=observer.testing,
        )
    return StoredFinals(
        path=settings.out,
        manifest=FinalsManifest.read(settings.out),
        run=run,
        reward=reward,
        results=results,
        report=replace(report, test=test),
    )
