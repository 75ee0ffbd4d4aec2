"""Timing any networks side by side: what `effnas bench` does."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from effnas.architecture import OPERATORS, Architecture, load_architecture
from effnas.config import CompileMode, Execution, MemoryFormat, Precision, Recipe
from effnas.errors import ConfigError, InfeasibleError
from effnas.measure import (
    Conditions,
    available_memory_bytes,
    choose_execution,
    describe_device,
    lock,
    open_device,
    time_networks,
)
from effnas.models import build, build_timm
from effnas.runs import Run, load_run
from effnas.space import SearchSpace
from effnas.trial import Trial

#: How block strings begin, and no name of timm's.
_BLOCK = re.compile(rf"({'|'.join(OPERATORS)})_")
#: Sizes where neither an option, a run nor a space says otherwise: those of ImageNet.
_IMAGE_SIZE, _BATCH_SIZE, _NUM_CLASSES = 224, 32, 1000


@dataclass(frozen=True, kw_only=True)
class DeviceSettings:
    """What the user asked of the device.

    Attributes:
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        threads: CPU threads; None takes all.
        image_size: Height and width in pixels; None takes the space's, else 224.
        batch_size: Images in a step; None takes the space's, else 32.
        num_classes: Outputs; None takes the space's, else 1000.
        precision: Of the arithmetic; None takes the fastest, as measured.
        memory_format: Layout of images and weights; None takes the fastest.
        compile_mode: How torch.compile treats the networks.
    """

    device: str = "auto"
    threads: int | None = None
    image_size: int | None = None
    batch_size: int | None = None
    num_classes: int | None = None
    precision: Precision | None = None
    memory_format: MemoryFormat | None = None
    compile_mode: CompileMode = "none"

    def __post_init__(self) -> None:
        for option, value in (
            ("threads", self.threads),
            ("image-size", self.image_size),
            ("batch-size", self.batch_size),
            ("classes", self.num_classes),
        ):
            if value is not None and value < 1:
                raise ConfigError(f"--{option} is {value}, it must be 1 or more")

    def conditions(self, space: SearchSpace | None) -> Conditions:
        """Open the device; return the conditions with everything but the execution settled.

        Raises:
            ConfigError: If there is no such device.
        """
        if self.threads:
            torch.set_num_threads(self.threads)
        device = open_device(self.device)
        target = space.target if space else None
        return Conditions(
            device=device,
            recipe=Recipe(),
            execution=Execution(),
            batch_size=self.batch_size or (target.batch_size if target else _BATCH_SIZE),
            image_size=self.image_size or (target.image_size if target else _IMAGE_SIZE),
            num_classes=self.num_classes or (target and target.num_classes) or _NUM_CLASSES,
            available_bytes=None if device.type == "cuda" else available_memory_bytes(device),
        )

    def with_execution(
        self, conditions: Conditions, make: Callable[[], nn.Module], waiting: Callable[[], None]
    ) -> Conditions:
        """Return the conditions with the fastest way to run a network, of those asked for."""
        with lock.timing(conditions.device, waiting):
            chosen, _ = choose_execution(
                make,
                conditions,
                precision=self.precision,
                memory_format=self.memory_format,
            )
        return replace(conditions, execution=replace(chosen, compile_mode=self.compile_mode))


@dataclass(frozen=True, kw_only=True)
class BenchResult:
    """What was measured.

    Attributes:
        rows: A row for each network: its name, params, images a second and metrics; or the reason
            why it cannot be timed.
        conditions: What was measured under, by name.
        hardware: Facts about the device, by name.
    """

    rows: list[dict[str, Any]]
    conditions: dict[str, Any]
    hardware: dict[str, str | int]


def bench(
    networks: Sequence[str],
    settings: DeviceSettings,
    *,
    space: str | None = None,
    precision: float = 0.02,
    time_limit_s: float = 60.0,
    notify: Callable[[str], None] = lambda text: None,
) -> BenchResult:
    """Time networks in turn.

    Args:
        networks: Architecture files, block strings, RUN:NUMBER, RUN:best, or names of timm's
            models; ratios are to the first.
        settings: Where and at what sizes.
        space: Name or path of a space, for the stem and head of block strings and for the sizes.
        precision: Wanted half-width of each 95 % interval, a share, above 0.
        time_limit_s: Seconds after the warm-up at which the timing ends in any case, above 0.
        notify: Is told what takes a while.

    Raises:
        UserError: If a network cannot be found or built, or the device cannot be used.
    """
    for option, value in (("interval", precision), ("time-limit", time_limit_s)):
        if not 0 < value < float("inf"):
            raise ConfigError(f"--{option} is {value}, it must be above 0")
    home = SearchSpace.load(space) if space else None
    subjects = [find_network(text, home) for text in networks]
    spaces = [subject.space for subject in subjects if subject.space]
    conditions = settings.conditions(home or (spaces[0] if spaces else None))
    makes = [subject.maker(conditions.num_classes) for subject in subjects]
    with torch.random.fork_rng([]):
        params = [sum(p.numel() for p in make().parameters() if p.requires_grad) for make in makes]

    def waiting() -> None:
        notify("waiting for the device: another process times or trains on it")

    notify("choosing precision and memory format")
    conditions = settings.with_execution(conditions, makes[0], waiting)
    notify(f"timing {len(makes)} networks in turn" if len(makes) > 1 else "timing")
    try:
        found = time_networks(
            makes, conditions, precision=precision, time_limit_s=time_limit_s, waiting=waiting
        )
    except InfeasibleError as error:
        raise ConfigError(f"{subjects[0].name}: {error}") from error
    rows = []
    for subject, count, metrics in zip(subjects, params, found, strict=True):
        row: dict[str, Any] = {"network": subject.name, "params": count}
        if isinstance(metrics, InfeasibleError):
            row |= {"reason": str(metrics), **metrics.metrics}
        else:
            row |= {"images_per_s": conditions.batch_size / metrics["step_time_s"], **metrics}
        rows.append(row)
    return BenchResult(
        rows=rows,
        conditions={
            "image_size": conditions.image_size,
            "batch_size": conditions.batch_size,
            "num_classes": conditions.num_classes,
            "optimizer": conditions.recipe.optimizer,
            **asdict(conditions.execution),
        },
        hardware=describe_device(conditions.device),
    )


@dataclass(frozen=True)
class Subject:
    """A network to be timed: an architecture, or a model of timm's that goes by its name.

    Attributes:
        name: As the user knows it.
        arch: The architecture, if it is one.
        run: The run that it is from, if any.
        trial: Its trial there.
        file: The architecture file that it is from, if any.
    """

    name: str
    arch: Architecture | None = None
    run: Run | None = None
    trial: Trial | None = None
    file: Path | None = None

    @property
    def space(self) -> SearchSpace | None:
        """The space that it belongs to, if that is known."""
        return self.run.space if self.run else None

    def maker(self, num_classes: int) -> Callable[[], nn.Module]:
        """Return what makes the network."""
        arch = self.arch
        if arch is None:
            return lambda: build_timm(self.name, num_classes=num_classes)
        return lambda: build(arch, num_classes=num_classes)


def find_network(text: str, home: SearchSpace | None) -> Subject:
    """Return the network that a text of the user's means.

    Args:
        text: An architecture file, block strings, RUN:NUMBER, RUN:best, or a name of timm's.
        home: Gives the stem and head of block strings; None takes those of `v2`.

    Raises:
        UserError: If it is none of these.
    """
    if text.endswith(".json"):
        return Subject(text, load_architecture(text), file=Path(text))
    folder, colon, number = text.rpartition(":")
    if colon and Path(folder).is_dir():
        run = load_run(folder)
        numbered = (trial for trial in run.trials if str(trial.number) == number)
        trial = run.best if number == "best" else next(numbered, None)
        if trial is None:
            raise ConfigError(
                f"{folder}: no trial {number!r} among {len(run.trials)}; give a number, or best: "
                "the complete one with the highest reward"
            )
        return Subject(text, trial.architecture, run, trial)
    if colon and (number == "best" or number.isdigit()):
        raise ConfigError(f"{folder}: no run there; RUN:best and RUN:NUMBER name a folder's trial")
    if _BLOCK.match(text.strip()):
        around = home or SearchSpace.load("v2")
        return Subject(text, Architecture.parse(text, stem=around.stem, head=around.head))
    return Subject(text)


def find_architecture(text: str, home: SearchSpace | None) -> tuple[Subject, Architecture]:
    """Return the network that a text of the user's means, with its architecture.

    Raises:
        UserError: As `find_network`, or if it is a name of timm's.
    """
    subject = find_network(text, home)
    if subject.arch is None:
        raise ConfigError(
            f"{text}: no architecture of effnas; give an architecture file (.json), block strings, "
            "RUN:NUMBER or RUN:best (what is timm's can be had from timm alone)"
        )
    return subject, subject.arch
