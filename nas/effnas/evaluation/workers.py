"""Starting what evaluates architectures: in this process, or on Ray workers that share a device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from effnas.config.recipe import Recipe
from effnas.config.settings import EvaluationConfig
from effnas.config.text import counted
from effnas.errors import ConfigError, UserError, check_at_least
from effnas.evaluation.backend import InlineBackend, Worker
from effnas.evaluation.evaluator import Evaluator, Network
from effnas.timing.runtime import configure_process
from effnas.trials.worker_info import WorkerInfo

if TYPE_CHECKING:
    from effnas.evaluation.backend import Backend
    from effnas.evaluation.image_evaluator import ImageEvaluator


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Where evaluations run.

    Attributes:
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        backend: `ray` or `inline`.
        count: Workers of Ray; None is one per GPU, or one on a CPU.
        threads: CPU threads of a worker; None shares out what there is.
    """

    device: str = "auto"
    backend: Literal["ray", "inline"] = "ray"
    count: int | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        check_at_least(1, workers=self.count, threads=self.threads)
        if self.backend == "inline" and (self.count or 1) > 1:
            raise ConfigError("`backend` inline has one worker; leave out `workers` or use ray")


def start_workers(
    config: EvaluationConfig,
    workers: Workers,
    preparing: Callable[[str], None],
    recipe: Recipe | None = None,
    baselines: Mapping[str, Network] | None = {},
) -> tuple[Backend, WorkerInfo]:
    """Start the workers; the first one loads the images and looks at the device.

    Args:
        config: What they need; the device is that of `workers`.
        workers: Where they run.
        preparing: Receives what takes a while.
        recipe: Of the first job, if it has one of its own.
        baselines: What the cost of is estimated, too: `effnas.evaluation.baselines`.

    Returns:
        The back end, which the caller closes, and what the first worker has found out.

    Raises:
        UserError: If the data, the device or a setting cannot be used.
        SearchFailedError: If Ray or a worker does not start.
    """
    question = partial(_ask_preparation, baselines=baselines)
    what = f"{'loading the images and ' if config.data else ''}measuring the device"
    if workers.backend == "inline":
        preparing(what)
        config = replace(config, device=workers.device, threads=workers.threads)
        worker = Worker(MakeImageEvaluator(config))
        prepared = worker.ask(question, recipe)
        if isinstance(prepared, UserError):
            raise prepared
        worker.use(_settled(config, prepared))
        return InlineBackend(worker), prepared
    from effnas.evaluation.ray import RayBackend

    preparing("starting Ray")
    share = divide_resources(workers)
    config = replace(config, device=share.device, threads=share.threads)
    preparing(what)
    backend = RayBackend(MakeImageEvaluator(config), cpus=share.cpus, gpus=share.gpus)
    try:
        prepared = backend.ask(question, recipe)
        backend.grow(_settled(config, prepared), share.workers)
    except BaseException:
        backend.close()
        raise
    return backend, prepared


@dataclass(frozen=True, kw_only=True)
class WorkerResources:
    """What a worker has of what Ray has.

    Attributes:
        workers: How many share it.
        device: `cpu`, `cuda` (one of its own), or what was named.
        cpus: CPUs that it asks Ray for.
        gpus: GPUs that it asks Ray for.
        threads: CPU threads.
    """

    workers: int
    device: str
    cpus: int
    gpus: int
    threads: int


def divide_resources(workers: Workers) -> WorkerResources:
    """Start Ray, or join its cluster, and share out what it has.

    Raises:
        ConfigError: If there is too little for that many workers.
        SearchFailedError: If Ray does not start.
    """
    from effnas.evaluation.ray import start_ray

    all_cpus, gpus = start_ray()
    device = workers.device
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    # Ray hands out GPUs to workers that ask for any; one that is named is taken as it is.
    shared_out = device == "cuda"
    count = workers.count or (max(gpus, 1) if shared_out else 1)
    slots, kind = (gpus, "GPU") if shared_out else (all_cpus, "CPU")
    if count > slots:  # Ray would wait for more to come
        raise ConfigError(
            f"{counted(count, 'worker')} on device {device}: Ray has {counted(slots, kind)}; "
            "choose fewer `workers` or another `device`"
        )
    cpus = max(all_cpus // count, 1)
    return WorkerResources(
        workers=count,
        device=device,
        cpus=cpus,
        gpus=1 if shared_out else 0,
        threads=workers.threads or cpus,
    )


def _settled(config: EvaluationConfig, prepared: WorkerInfo) -> MakeImageEvaluator:
    """Return what makes all evaluators after the first: what that one found is not sought again."""
    return MakeImageEvaluator(
        replace(
            config,
            recipe=prepared.recipe,
            execution=prepared.execution,
            timing_batch_size=prepared.timing_batch_size,
        )
    )


@dataclass(frozen=True)
class MakeImageEvaluator:
    """Makes the evaluator in the worker, where torch may be imported."""

    config: EvaluationConfig

    def __call__(self, recipe: Recipe | None = None) -> ImageEvaluator:
        """Configure the process and make the evaluator, with another recipe than its own if given.

        Where recipes vary, a network can be trained at several image sizes: each has a folder of
        checkpoints.
        """
        configure_process()
        from effnas.evaluation.image_evaluator import ImageEvaluator

        config, folder = self.config, self.config.checkpoints
        if recipe is not None:
            config = replace(
                config,
                recipe=recipe,
                checkpoints=folder and str(Path(folder, f"{recipe.last_image_size}px")),
            )
        return ImageEvaluator(config)


def _ask_preparation(
    evaluator: Evaluator, *, baselines: Mapping[str, Network] | None
) -> WorkerInfo:
    return cast("ImageEvaluator", evaluator).prepare(baselines)
