"""From settings to a running search on images: prepare, plan, resume, run."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, cast

from effnas.catalog import find
from effnas.config import EvaluationConfig, Execution, Recipe, known_or_raise
from effnas.controllers import CONTROLLERS
from effnas.errors import ConfigError, StoreError
from effnas.evaluate import IMAGE_METRICS, Evaluator, Preparation
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
        known_or_raise("controller", self.controller, CONTROLLERS)


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
    _check_feasible(space, settings.seed)
    _check_reward(reward, space)
    with RunFolder.open(settings.out) as folder:
        stored = folder.read_manifest()
        backend, prepared = _prepare(settings, space, stored, observer)
        try:
            space = space.with_target(num_classes=space.target.num_classes or prepared.num_classes)
            manifest = _manifest(settings, space, reward, prepared, str(source.path), source.digest)
            if stored:
                _check_same_run(settings.out, stored, manifest)
                manifest["created"] = stored["created"]
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


def _check_feasible(space: SearchSpace, seed: int) -> None:
    import numpy as np

    space.sample(np.random.default_rng(seed))


def _check_reward(reward: Reward, space: SearchSpace) -> None:
    """Try the reward on the reference network, so that its mistakes show before the first trial."""
    measured = dict.fromkeys(IMAGE_METRICS, 1.0) | {"accuracy": _TRIED_ACCURACY}
    reward.check(measured | Search(space, reward).counted(space.reference))


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
        config = _continued(config, stored)
    if settings.backend == "inline":
        return _prepare_inline(settings, config, observer)
    return _prepare_ray(settings, config, observer)


def _prepare_inline(
    settings: Settings, config: EvaluationConfig, observer: Observer
) -> tuple[Backend, Preparation]:
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
        from effnas.image_evaluator import ImageEvaluator

        return ImageEvaluator(self.config)


def _ask_preparation(evaluator: Evaluator) -> Preparation:
    return cast("ImageEvaluator", evaluator).prepare()


# -- the manifest

#: What must be the same for a run to go on: changing it would mix trials that do not compare.
_FIXED: Mapping[str, Callable[[Mapping[str, Json]], Json]] = {
    "space (or its target)": lambda m: _inside(m, "space", "id"),
    "controller": lambda m: m["controller"],
    "seed": lambda m: m["seed"],
    "data": lambda m: _inside(m, "data", "fingerprint"),
    "hardware": lambda m: m["hardware"],
}


def _manifest(
    settings: Settings,
    space: SearchSpace,
    reward: Reward,
    prepared: Preparation,
    space_path: str,
    space_digest: str,
) -> dict[str, Json]:
    reference = space.count(space.reference)
    return {
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "budget": settings.budget,
        "seed": settings.seed,
        "controller": settings.controller,
        "space": {
            "name": space.name,
            "path": space_path,
            "file_sha256": space_digest,
            "id": space.id,
            "text": space.to_text(),
        },
        "reward": {"name": reward.name, "kind": reward.kind, "text": reward.text},
        "reference": {
            "architecture": str(space.reference),
            "params": reference.params,
            "macs": reference.macs,
            "activations": reference.activations,
        },
        "data": {
            "name": settings.data,
            "classes": prepared.num_classes,
            "train_images": prepared.train_images,
            "holdout_images": prepared.holdout_images,
            "fingerprint": prepared.data_fingerprint,
            "skipped_images": list(prepared.skipped_images),
        },
        "recipe": cast("dict[str, Json]", prepared.recipe.to_dict()),
        "execution": cast("dict[str, Json]", asdict(prepared.execution)),
        "timing_batch_size": prepared.timing_batch_size,
        "hardware": prepared.hardware,
        "device": cast("dict[str, Json]", dict(prepared.device)),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("effnas", "torch", "timm", "ray", "numpy")},
        },
    }


def _continued(config: EvaluationConfig, stored: Mapping[str, Json]) -> EvaluationConfig:
    """Measure the rest of a run as its beginning was measured."""
    try:
        execution = Execution(**cast("dict[str, str]", stored["execution"]))  # type: ignore[arg-type]
        batch_size = cast("int", stored["timing_batch_size"])
    except (KeyError, TypeError) as error:
        raise StoreError(f"the run's manifest lacks {error}; choose another --out") from error
    return replace(config, execution=execution, timing_batch_size=batch_size)


def _check_same_run(path: Path, stored: Mapping[str, Json], manifest: Mapping[str, Json]) -> None:
    differing: list[str] = []
    for what, read in _FIXED.items():
        before, now = read(stored), read(manifest)
        if before != now:
            differing.append(f"{what} (was {before}, is {now})")
    for name, now in cast("dict[str, Json]", manifest["recipe"]).items():
        before = _inside(stored, "recipe", name)
        if before != now:
            differing.append(f"{name.replace('_', '-')} (was {before}, is {now})")
    if differing:
        raise StoreError(
            f"{path}: this run was begun with other settings: {'; '.join(differing)}. Give those "
            "again to go on with it, or choose another --out"
        )


def _inside(manifest: Mapping[str, Json], part: str, key: str) -> Json:
    inner = manifest.get(part)
    return inner.get(key) if isinstance(inner, dict) else None
