"""From settings to a running search on images: prepare, plan, resume, run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, cast

from effnas.catalog import find
from effnas.config import EvaluationConfig, Recipe
from effnas.errors import ConfigError
from effnas.evaluate import IMAGE_METRICS, Evaluator, Preparation
from effnas.manifest import check_same_run, continued, describe
from effnas.plan import Plan
from effnas.reward import Reward
from effnas.search import Search
from effnas.space import SearchSpace
from effnas.store import Json, RunFolder, read_events
from effnas.trial import Trial

if TYPE_CHECKING:
    from effnas.backends import Backend
    from effnas.image_evaluator import ImageEvaluator

#: Any accuracy will do to see whether the reward can be computed at all.
_TRIED_ACCURACY = 0.5


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the user asked for.

    Attributes:
        space: Name or path of the space.
        data: Name or path of the images.
        reward: Name, path, expression or `file.py:function`.
        controller: Name of the controller.
        budget: Trials in all, 1 or more.
        seed: Of proposals, hold-out and trainings; 0 or more.
        out: The run folder.
        recipe: How networks are trained.
        data_root: Folder of a timm data set.
        on_bad_image: Whether an image that cannot be decoded is skipped or ends the search.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        backend: `ray` or `inline`.
        workers: Workers of Ray; None is one per GPU, or one on a CPU.
        threads: CPU threads of a worker; None shares out what there is.
        target_image_size: Image size of S and P in place of the space's.
        target_batch_size: Batch size of S in place of the space's.
    """

    space: str = "v2"
    data: str = "digits"
    reward: str = "v2"
    controller: str = "random"
    budget: int = 1000
    seed: int = 0
    out: Path
    recipe: Recipe
    data_root: Path | None = None
    on_bad_image: Literal["refuse", "skip"] = "refuse"
    device: str = "auto"
    backend: Literal["ray", "inline"] = "ray"
    workers: int | None = None
    threads: int | None = None
    target_image_size: int | None = None
    target_batch_size: int | None = None

    def __post_init__(self) -> None:
        for name in ("budget", "workers", "threads", "target_image_size", "target_batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                option = name.replace("_", "-")
                raise ConfigError(f"--{option} is {value}, it must be 1 or more")
        if self.seed < 0:
            raise ConfigError(f"--seed is {self.seed}, it must be 0 or more")
        if self.backend == "inline" and (self.workers or 1) > 1:
            raise ConfigError("--backend inline has one worker; leave out --workers or use ray")


class Observer(Protocol):
    """Is told what happens, to show it."""

    def preparing(self, what: str) -> None:
        """Something that takes a while has begun."""
        ...

    def planned(self, plan: Plan) -> None:
        """The first trial is about to start."""
        ...

    def trial_ended(self, trial: Trial, search: Search) -> None:
        """A trial has ended."""
        ...


def launch(settings: Settings, observer: Observer) -> Search:
    """Run a search on images, or go on with the one that the folder holds.

    Raises:
        UserError: If something given is wrong; what is stored already stays.
        SearchFailedError: If the search cannot go on.
    """
    source = find("search_spaces", settings.space)
    space = SearchSpace.read(source).with_target(
        image_size=settings.target_image_size, batch_size=settings.target_batch_size
    )
    reward = Reward.load(settings.reward)
    _check(Search(space, reward, settings.controller, settings.seed))
    with RunFolder.open(settings.out) as folder:
        stored = folder.read_manifest()
        backend, prepared = _prepare(settings, space, stored, observer)
        try:
            space = space.with_target(num_classes=space.target.num_classes or prepared.num_classes)
            manifest = describe(
                source=source,
                space=space,
                reward=reward,
                controller=settings.controller,
                seed=settings.seed,
                budget=settings.budget,
                data=settings.data,
                prepared=prepared,
            )
            if stored:
                check_same_run(settings.out, stored, manifest)
                manifest["created"] = stored.get("created")
            search = Search(space, reward, settings.controller, settings.seed, store=folder)
            search.resume(
                read_events(settings.out, stem=space.stem, head=space.head),
                rescore=stored is not None and stored.get("reward") != manifest["reward"],
            )
            folder.write_manifest(manifest)
            observer.planned(Plan.make(settings.budget, search, prepared, backend.capacity))
            search.run(
                budget=settings.budget,
                backend=backend,
                on_trial=lambda trial: observer.trial_ended(trial, search),
            )
        finally:
            backend.close()
    return search


# -- before the first trial


def _check(search: Search) -> None:
    """Find mistakes of space, controller and reward before anything slow is started."""
    search.ask()
    measured = dict.fromkeys(IMAGE_METRICS, 1.0) | {"accuracy": _TRIED_ACCURACY}
    search.reward.check(measured | search.counted(search.space.reference))


def _prepare(
    settings: Settings,
    space: SearchSpace,
    stored: Mapping[str, Json] | None,
    observer: Observer,
) -> tuple[Backend, Preparation]:
    """Start the workers; the first one loads the images and looks at the device."""
    config = EvaluationConfig(
        space_text=space.to_text(),
        data=settings.data,
        data_root=str(settings.data_root.absolute()) if settings.data_root else None,
        on_bad_image=settings.on_bad_image,
        recipe=settings.recipe,
        seed=settings.seed,
        threads=settings.threads,
    )
    if Path(settings.data).exists():
        config = replace(config, data=str(Path(settings.data).absolute()))
    if stored:
        config = continued(config, stored)
    if settings.backend == "inline":
        return _prepare_inline(settings, config, observer)
    return _prepare_ray(settings, config, observer)


def _prepare_inline(
    settings: Settings, config: EvaluationConfig, observer: Observer
) -> tuple[Backend, Preparation]:
    _let_threads_sleep()
    import torch

    from effnas.backends import InlineBackend
    from effnas.image_evaluator import ImageEvaluator

    best = "cuda" if torch.cuda.is_available() else "cpu"
    device = best if settings.device == "auto" else settings.device
    observer.preparing("loading the images and measuring the device")
    evaluator = ImageEvaluator(replace(config, device=device))
    return InlineBackend(evaluator), evaluator.prepare()


def _prepare_ray(
    settings: Settings, config: EvaluationConfig, observer: Observer
) -> tuple[Backend, Preparation]:
    from effnas.backends.ray import RayBackend, start_ray

    observer.preparing("starting Ray")
    resources = start_ray()
    device = settings.device
    if device == "auto":
        device = "cuda" if resources.gpus else "cpu"
    # Ray hands out GPUs to workers that ask for any; one that is named is taken as it is.
    shared_out = device == "cuda"
    workers = settings.workers or (max(resources.gpus, 1) if shared_out else 1)
    slots, kind = (resources.gpus, "GPUs") if shared_out else (resources.cpus, "CPUs")
    if workers > slots:  # Ray would wait for more to come
        raise ConfigError(
            f"{workers} workers on device {device} need as many {kind}, Ray has {slots}; choose "
            "fewer --workers or another --device"
        )
    cpus = max(resources.cpus // workers, 1)
    config = replace(config, device=device, threads=config.threads or cpus)
    observer.preparing("loading the images and measuring the device")
    backend = RayBackend(_MakeImageEvaluator(config), cpus=cpus, gpus=1 if shared_out else 0)
    try:
        prepared = backend.ask(_ask_preparation)
        settled = replace(
            config,
            recipe=prepared.recipe,
            execution=prepared.execution,
            timing_batch_size=prepared.timing_batch_size,
        )
        backend.grow(_MakeImageEvaluator(settled), workers)
    except BaseException:
        backend.close()
        raise
    return backend, prepared


@dataclass(frozen=True)
class _MakeImageEvaluator:
    """Makes the evaluator in the worker, where torch may be imported."""

    config: EvaluationConfig

    def __call__(self) -> ImageEvaluator:
        _let_threads_sleep()
        from effnas.image_evaluator import ImageEvaluator

        return ImageEvaluator(self.config)


def _let_threads_sleep() -> None:
    """Have OpenMP's threads sleep while they wait for each other; before torch is imported.

    By default they spin for long first. On a machine where anything else runs, a waiting thread
    then takes the processor from the one that it waits for, and a training step may take many
    times as long (docs/measuring.md has figures).
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")


def _ask_preparation(evaluator: Evaluator) -> Preparation:
    return cast("ImageEvaluator", evaluator).prepare()
