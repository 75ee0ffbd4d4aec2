"""The user's settings of the device that networks are timed on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn

from effnas.config.recipe_file import default_recipe
from effnas.config.settings import CompileMode, Execution, MemoryFormat, Precision
from effnas.errors import check_at_least
from effnas.space.search_space import SearchSpace
from effnas.timing import lock
from effnas.timing.device import available_memory_bytes, open_device
from effnas.timing.execution import choose_execution
from effnas.timing.setup import MeasurementSetup

#: Default sizes: those of ImageNet.
_IMAGE_SIZE, _BATCH_SIZE, _NUM_CLASSES = 224, 32, 1000


@dataclass(frozen=True, kw_only=True)
class DeviceSettings:
    """The user's settings of the device.

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
        check_at_least(1, threads=self.threads, image_size=self.image_size)
        check_at_least(1, batch_size=self.batch_size, classes=self.num_classes)

    def setup(self, space: SearchSpace | None) -> MeasurementSetup:
        """Open the device; return a setup whose execution is still to be chosen.

        Raises:
            ConfigError: If there is no such device.
        """
        if self.threads:
            torch.set_num_threads(self.threads)
        device = open_device(self.device)
        target = space.target if space else None
        return MeasurementSetup(
            device=device,
            recipe=default_recipe(),
            execution=Execution(),
            batch_size=self.batch_size or (target.batch_size if target else _BATCH_SIZE),
            image_size=self.image_size or (target.image_size if target else _IMAGE_SIZE),
            num_classes=self.num_classes or (target and target.num_classes) or _NUM_CLASSES,
            available_bytes=None if device.type == "cuda" else available_memory_bytes(device),
        )

    def with_execution(
        self, setup: MeasurementSetup, make: Callable[[], nn.Module], waiting: lock.Waiting
    ) -> MeasurementSetup:
        """Return the setup with the fastest execution of a network that the settings allow."""
        with lock.timing(setup.device, waiting):
            chosen, _ = choose_execution(
                make, setup, precision=self.precision, memory_format=self.memory_format
            )
        return replace(setup, execution=replace(chosen, compile_mode=self.compile_mode))
