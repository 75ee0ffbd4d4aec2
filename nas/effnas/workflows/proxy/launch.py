"""From settings to a proxy study on real images: workers, trainings, a report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from effnas.config.recipe import Recipe
from effnas.errors import check_at_least
from effnas.evaluation.backend import Backend, Outcome
from effnas.evaluation.config import CandidateSettings, default_image_sizes
from effnas.evaluation.evaluator import Job, Task
from effnas.evaluation.observer import Observer
from effnas.evaluation.work import drain
from effnas.evaluation.workers import Workers, start_workers
from effnas.space.search_space import SearchSpace
from effnas.workflows.proxy.analysis import Study
from effnas.workflows.proxy.networks import MIN_NETWORKS, spread_networks
from effnas.workflows.proxy.study import ProxyCheck, ProxySearch, candidates, higher_fidelity
from effnas.workflows.proxy.trainings import (
    Fidelity,
    Training,
    TrainingJob,
    TrainingOutcome,
    TrainingsFolder,
)

StudyT = TypeVar("StudyT", bound=Study)


@dataclass(frozen=True, kw_only=True)
class ProxySettings(CandidateSettings):
    """What the user asked for.

    Attributes:
        recipe: The proxy; of a search, what its settings are varied from.
        networks: Reference networks, 4 or more.
        seeds: Trainings of each network at the proxy.
        high_seeds: Trainings of each network at the higher fidelity.
        high_epochs: Epochs of the higher fidelity; None takes four times the proxy's.
        workers: Where trainings run.
    """

    networks: int = 12
    seeds: int = 3
    high_seeds: int = 2
    high_epochs: int | None = None
    workers: Workers = field(default_factory=Workers)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(MIN_NETWORKS, networks=self.networks)
        check_at_least(1, high_epochs=self.high_epochs)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Settings that a proxy search tries; what is empty is derived from the recipe."""

    epochs: Sequence[int] = ()
    image_sizes: Sequence[int] = ()
    data_shares: Sequence[float] = ()


class ProxyObserver(Observer):
    """Receives what a proxy check or search does."""

    def planned(self, trainings: int, seconds: float, most_s: float) -> None:
        """The trainings that come next, about how many seconds they take, and all that may come."""

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
    return _launch(settings, observer, lambda base, common: ProxyCheck(proxy=base, **common))


def launch_search(
    settings: ProxySettings, grid: Grid, observer: ProxyObserver
) -> tuple[ProxySearch, list[Training]]:
    """Do the trainings of a search for a proxy; as `launch_check`."""

    def make(base: Recipe, common: dict[str, Any]) -> ProxySearch:
        return ProxySearch(settings=candidates(base, common["high"], **vars(grid)), **common)

    return _launch(settings, observer, make)


def _launch(
    settings: ProxySettings,
    observer: ProxyObserver,
    make_study: Callable[[Recipe, dict[str, Any]], StudyT],
) -> tuple[StudyT, list[Training]]:
    """Start the workers, make the study of a settled recipe, and train until it wants no more."""
    space = SearchSpace.read(settings.source).with_target(image_size=settings.target_image_size)
    config = replace(settings.config(space), step_times=None)
    with TrainingsFolder.open(settings.out) as folder, ExitStack() as stack:
        networks = spread_networks(space, settings.networks, settings.seed)
        backend, prepared = start_workers(config, settings.workers, observer.preparing)
        stack.callback(backend.close)
        # Batch size and mirroring stay as they were given: recipes may differ in fidelity alone.
        base = replace(
            settings.recipe.sized(*(prepared.recipe.image_size or (1, 1))),
            data_share=prepared.recipe.data_share,
        )
        common = {
            "networks": networks,
            "high": higher_fidelity(
                base,
                image_size=default_image_sizes(config, space)[1],
                epochs=settings.high_epochs,
            ),
            "holdout_images": prepared.holdout_images,
            "guessing_accuracy": max(prepared.holdout_class_counts) / prepared.holdout_images,
            "seeds": settings.seeds,
            "high_seeds": settings.high_seeds,
        }
        study = make_study(base, common)
        num_classes = space.target.num_classes or prepared.num_classes
        trainings = folder.begin(
            space.with_target(num_classes=num_classes),
            networks,
            base,
            data_fingerprint=prepared.data_fingerprint,
            seed=settings.seed,
            asked=settings.asked,
        )
        observer.prepared(prepared)
        second_per_work = prepared.training_s / _work(base) / backend.capacity
        while wanted := study.wanted(trainings):
            seconds, most_s = (
                second_per_work * sum(_work(job.recipe) for job in each)
                for each in (wanted, study.possible(trainings))
            )
            observer.planned(len(wanted), seconds, most_s)
            _train(wanted, trainings, base, backend, folder, observer)
    return study, trainings


def _train(
    wanted: Sequence[TrainingJob],
    trainings: list[Training],
    base: Recipe,
    backend: Backend,
    folder: TrainingsFolder,
    observer: ProxyObserver,
) -> None:
    """Train, and add each training to the others as it ends."""
    jobs = (
        # The workers have the images of the proxy already, which is their own recipe.
        Job(
            number,
            job.architecture,
            Task.TRAIN,
            job.repeat,
            recipe=None if job.recipe == base else job.recipe,
        )
        for number, job in enumerate(wanted)
    )

    def take(outcome: Outcome) -> None:
        training = wanted[outcome.trial].ended(
            TrainingOutcome.measured(outcome.measurement)
            if outcome.measurement and outcome.infeasible is None
            else TrainingOutcome(reason=outcome.infeasible)
        )
        folder.add(training)
        trainings.append(training)
        observer.trained(training)

    drain(backend, lambda: next(jobs, None), take)


def _work(recipe: Recipe) -> float:
    """Return what the time of a training is proportional to."""
    fidelity = Fidelity.of(recipe)
    return fidelity.epochs * fidelity.data_share * fidelity.image_size**2
