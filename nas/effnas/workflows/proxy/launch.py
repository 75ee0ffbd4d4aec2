"""From settings to a proxy study on real images: workers, trainings, a report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from effnas.arch.architecture import Architecture
from effnas.config.settings import EvaluationConfig, Recipe
from effnas.errors import check_at_least
from effnas.evaluation.backend import Backend, Job, Outcome
from effnas.evaluation.config import config_for_data, default_image_size
from effnas.evaluation.evaluator import Task
from effnas.evaluation.observer import Observer
from effnas.evaluation.work import drain
from effnas.evaluation.workers import Workers, start_workers
from effnas.space.search_space import SearchSpace
from effnas.trials.worker_info import WorkerInfo
from effnas.workflows.proxy.folder import TrainingsFolder
from effnas.workflows.proxy.networks import spread_networks
from effnas.workflows.proxy.search import ProxySearch, candidates
from effnas.workflows.proxy.study import ProxyCheck, Study, higher_fidelity
from effnas.workflows.proxy.trainings import Training, TrainingJob, TrainingOutcome


@dataclass(frozen=True, kw_only=True)
class ProxySettings:
    """What the user asked for.

    Attributes:
        space: Name or path of the space.
        data: Name or path of the images.
        out: Folder of the trainings.
        recipe: The proxy; of a search, what its settings are varied from.
        networks: Reference networks, 4 or more.
        seeds: Trainings of each network at the proxy.
        high_seeds: Trainings of each network at the higher fidelity.
        high_epochs: Epochs of the higher fidelity; None takes four times the proxy's.
        seed: Of the networks, the hold-out and the trainings; 0 or more.
        data_root: Folder of a timm data set.
        on_bad_image: Whether an image that cannot be decoded is skipped or ends the check.
        workers: Where trainings run.
        target_image_size: Image size of the space's target, in place of its own.
    """

    space: str
    data: str
    out: Path
    recipe: Recipe
    networks: int = 12
    seeds: int = 3
    high_seeds: int = 2
    high_epochs: int | None = None
    seed: int = 0
    data_root: Path | None = None
    on_bad_image: Literal["refuse", "skip"] = "refuse"
    workers: Workers = field(default_factory=Workers)
    target_image_size: int | None = None

    def __post_init__(self) -> None:
        check_at_least(
            1,
            networks=self.networks,
            high_epochs=self.high_epochs,
            target_image_size=self.target_image_size,
        )
        check_at_least(0, seed=self.seed)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Settings that a proxy search tries; what is empty is derived from the recipe."""

    epochs: Sequence[int] = ()
    image_sizes: Sequence[int] = ()
    data_shares: Sequence[float] = ()


class ProxyObserver(Observer):
    """Receives what a proxy check or search does."""

    def planned(self, trainings: int, seconds: float) -> None:
        """The number of trainings that come next, and about how many seconds they will take."""

    def trained(self, training: Training) -> None:
        """A training has ended."""


def launch_check(
    settings: ProxySettings, observer: ProxyObserver
) -> tuple[ProxyCheck, list[Training]]:
    """Do the trainings of a proxy check, except for those that the folder holds already.

    Raises:
        UserError: If something given is wrong; what is stored already stays.
        SearchFailedError: If trainings fail repeatedly.
    """
    with _prepared(settings, observer) as ready:
        study = ProxyCheck(
            networks=ready.networks,
            proxy=ready.base,
            high=ready.high,
            holdout_images=ready.prepared.holdout_images,
            seeds=settings.seeds,
            high_seeds=settings.high_seeds,
        )
        return study, ready.run(study)


def launch_search(
    settings: ProxySettings, grid: Grid, observer: ProxyObserver
) -> tuple[ProxySearch, list[Training]]:
    """Do the trainings of a search for a proxy; as `launch_check`."""
    with _prepared(settings, observer) as ready:
        study = ProxySearch(
            networks=ready.networks,
            settings=candidates(
                ready.base,
                ready.high,
                epochs=grid.epochs,
                image_sizes=grid.image_sizes,
                data_shares=grid.data_shares,
            ),
            high=ready.high,
            holdout_images=ready.prepared.holdout_images,
            seeds=settings.seeds,
            high_seeds=settings.high_seeds,
        )
        return study, ready.run(study)


@contextmanager
def _prepared(settings: ProxySettings, observer: ProxyObserver) -> Iterator[_Ready]:
    """Start the proxy's workers and open the folder; stop and close them at the end."""
    space = SearchSpace.load(settings.space).with_target(image_size=settings.target_image_size)
    config = replace(
        config_for_data(
            space,
            settings.data,
            settings.recipe,
            data_root=settings.data_root,
            on_bad_image=settings.on_bad_image,
            seed=settings.seed,
        ),
        step_times=None,
    )
    with TrainingsFolder.open(settings.out) as folder:
        networks = spread_networks(space, settings.networks, settings.seed)
        backend, prepared = start_workers(config, settings.workers, observer.preparing)
        ready = _Ready(settings, observer, config, folder, backend, prepared, space, networks)
        try:
            yield ready
        finally:
            ready.backend.close()


class _Ready:
    """Workers for one recipe at a time, and the folder of their trainings."""

    def __init__(
        self,
        settings: ProxySettings,
        observer: ProxyObserver,
        config: EvaluationConfig,
        folder: TrainingsFolder,
        backend: Backend,
        prepared: WorkerInfo,
        space: SearchSpace,
        networks: Sequence[Architecture],
    ) -> None:
        # Batch size and mirroring stay as they were given: recipes may differ in fidelity alone.
        self.base = settings.recipe.overridden(
            image_size=prepared.recipe.image_size, data_share=prepared.recipe.data_share
        )
        self.high = higher_fidelity(
            self.base,
            image_size=default_image_size(config, space),
            epochs=settings.high_epochs,
        )
        self.networks = networks
        self.prepared = prepared
        self.backend = backend
        self._settings = settings
        self._observer = observer
        self._folder = folder
        self._space = space.with_target(
            num_classes=space.target.num_classes or prepared.num_classes
        )

    def run(self, study: Study) -> list[Training]:
        """Train until the study wants nothing more; return all trainings."""
        trainings = self._folder.begin(
            self._space,
            self.networks,
            self.base,
            data_fingerprint=self.prepared.data_fingerprint,
            seed=self._settings.seed,
        )
        while wanted := study.wanted(trainings):
            self._observer.planned(len(wanted), sum(map(self._seconds, wanted)))
            self._train(wanted, trainings)
        return trainings

    def _train(self, wanted: Sequence[TrainingJob], trainings: list[Training]) -> None:
        """Train, and add each training to the others as it ends."""
        jobs = (
            # The workers have the images of the proxy already, which is their own recipe.
            replace(
                Job.of(number, job.architecture, Task.TRAIN, job.repeat),
                recipe=None if job.recipe == self.base else job.recipe,
            )
            for number, job in enumerate(wanted)
        )

        def take(outcome: Outcome) -> None:
            training = wanted[outcome.trial].ended(
                TrainingOutcome.measured(outcome.measurement)
                if outcome.measurement and outcome.infeasible is None
                else TrainingOutcome(reason=outcome.infeasible)
            )
            self._folder.add(training)
            trainings.append(training)
            self._observer.trained(training)

        drain(self.backend, lambda: next(jobs, None), take)

    def _seconds(self, job: TrainingJob) -> float:
        """Return about how many seconds a training takes: the reference's, scaled by its work."""
        base, own = self.base, job.fidelity
        assert base.image_size is not None
        assert base.data_share is not None
        work = own.epochs * own.data_share * own.image_size**2
        of_base = base.epochs * base.data_share * base.image_size**2
        return self.prepared.training_s * work / of_base / self.backend.capacity
