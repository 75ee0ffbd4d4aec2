"""Device profiles: a step-time model of one device for the networks of one space, as a JSON file.

A training step's time is modeled as the sum of the times of the network's layers, each measured on
its own as a ratio to the reference network's step, times one factor that is fitted on whole
networks. Peak memory is that of weights and images plus what the layers keep for the backward
pass, times another such factor. Both are checked on networks that were not fitted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from effnas.arch.architecture import DEFAULT_STEM_STRIDE
from effnas.arch.layers import Layer, layers_of
from effnas.config.codec import (
    FORMAT,
    Amount,
    Size,
    dump_json,
    from_plain,
    pick,
    read_object,
    to_plain,
)
from effnas.errors import ConfigError, InfeasibleError, UserError
from effnas.timing.step_time import StepTime, StepTimeSource
from effnas.trials.store import PROFILE_KIND

if TYPE_CHECKING:
    from effnas.arch.architecture import Architecture
    from effnas.space.search_space import SearchSpace

#: Mean absolute error up to which `step_time` auto relies on predictions.
TRUSTED_ERROR = 0.05

#: What something is multiplied by.
_Scale = Annotated[float, Meta(gt=0)]


@dataclass(frozen=True, kw_only=True)
class LayerFigures:
    """What was measured of one layer.

    Attributes:
        forward: Median time of its forward pass over the reference network's step, no unit.
        backward: The same of its backward pass.
        optimizer: The same of the optimizer's step for its weights.
        kept_bytes: Bytes of activations that it keeps for the backward pass.
        weight_bytes: Bytes of weights, buffers, gradients and optimizer states.
    """

    forward: Amount
    backward: Amount
    optimizer: Amount
    kept_bytes: Amount
    weight_bytes: Amount

    @property
    def step_time(self) -> float:
        """The layer's share of S."""
        return self.forward + self.backward + self.optimizer


@dataclass(frozen=True, kw_only=True)
class MeasuredLayer(LayerFigures, Layer):
    """A layer and what was measured of it."""


@dataclass(frozen=True, kw_only=True)
class StepTimeModel:
    """Predicts S and peak memory from the layers of a network.

    Attributes:
        image_size: Height and width in pixels.
        batch_size: Images in a step.
        num_classes: Outputs of the networks.
        factor: Step time of whole networks over the sum of their layers'.
        memory_factor: The same of the bytes that are kept for the backward pass.
        parts: Every layer that was measured.
    """

    image_size: Size
    batch_size: Size
    num_classes: Size
    factor: _Scale
    memory_factor: _Scale
    parts: tuple[MeasuredLayer, ...]

    @cached_property
    def layers(self) -> Mapping[Layer, LayerFigures]:
        """The figures of every layer that was measured."""
        return {pick(Layer, part): part for part in self.parts}

    def unmeasured_layers(self, arch: Architecture) -> list[Layer]:
        """Return the layers of a network that were not measured; none if it can be predicted."""
        return [layer for layer in self._layers_of(arch) if layer not in self.layers]

    def step_time(self, arch: Architecture) -> float:
        """Return S of a network whose layers were all measured."""
        return self.factor * self._sum(arch, lambda figures: figures.step_time)

    def kept_bytes(self, arch: Architecture) -> float:
        """Return the bytes that its layers hold in a step beyond `fixed_bytes`."""
        return self.memory_factor * self._sum(arch, lambda figures: figures.kept_bytes)

    def fixed_bytes(self, arch: Architecture) -> float:
        """Return the bytes of all weights, their gradients and states, and of the images."""
        weights = self._sum(arch, lambda figures: figures.weight_bytes)
        return weights + 4.0 * self.batch_size * 3 * self.image_size**2

    def peak_memory_bytes(self, arch: Architecture) -> float:
        """Return the peak memory of a training step in bytes."""
        return self.kept_bytes(arch) + self.fixed_bytes(arch)

    def _sum(self, arch: Architecture, of: Callable[[LayerFigures], float]) -> float:
        return sum(n * of(self.layers[layer]) for layer, n in self._layers_of(arch).items())

    def _layers_of(self, arch: Architecture) -> Mapping[Layer, int]:
        return layers_of(arch, image_size=self.image_size, num_classes=self.num_classes)


@dataclass(frozen=True, kw_only=True)
class NetworkFigures:
    """Measurements of a whole network, and the profile's predictions of the same."""

    architecture: str
    step_time: Amount
    step_time_low: Amount
    step_time_high: Amount
    step_time_s: _Scale
    peak_memory_bytes: Amount
    predicted_step_time: Amount
    predicted_peak_memory_bytes: Amount


@dataclass(frozen=True, kw_only=True)
class ModelError:
    """How far predictions are from measurements, on networks that were not fitted.

    Attributes:
        networks: Their number.
        mean_absolute: Mean of |predicted / measured - 1|.
        mean_absolute_low: Lower end of its 95 % interval, by bootstrap over the networks.
        mean_absolute_high: Upper end.
        spearman: Rank correlation of predicted and measured, -1 to 1; 0 where it has no value.
        half_width: Half-width of the 95 % interval of a single prediction, a share of it.
    """

    networks: Size
    mean_absolute: Amount
    mean_absolute_low: Amount
    mean_absolute_high: Amount
    spearman: Annotated[float, Meta(ge=-1, le=1)]
    half_width: Amount


@dataclass(frozen=True, kw_only=True)
class DeviceProfile:
    """Step times and memory of a device for the networks of a space; see the module.

    Attributes:
        created: UTC time in ISO format.
        space: Name of the space.
        reference: Block strings of the reference network.
        stem: Channels of the stem of the space's networks.
        head: Channels of their head.
        stem_stride: Stride of their stem.
        optimizer: The optimizer of the steps.
        execution: Precision, memory format and compile mode, by name.
        hardware: One line that names the device.
        device: Facts about the device, by name.
        reference_step_time_s: Median seconds of the reference network's step.
        model: Predicts step time and memory.
        fitted_on: Networks that the model's factors were fitted on.
        checked_on: Other networks, that its errors were found on.
        step_time_error: Of S.
        memory_error: Of peak memory.
        cost_s: Seconds that making the profile took: `parts` (layers), `fit` and `check`.
    """

    created: str
    space: str
    reference: str
    stem: Size
    head: Size
    stem_stride: Size = DEFAULT_STEM_STRIDE
    optimizer: str
    execution: Mapping[str, str]
    hardware: str
    device: Mapping[str, str | int]
    reference_step_time_s: _Scale
    model: StepTimeModel
    fitted_on: tuple[NetworkFigures, ...]
    checked_on: tuple[NetworkFigures, ...]
    step_time_error: ModelError
    memory_error: ModelError
    cost_s: Mapping[str, float]

    @classmethod
    def load(cls, path: str | Path) -> DeviceProfile:
        """Read a profile.

        Raises:
            ConfigError: With the path, if it cannot be read or is not a profile of this version.
        """
        try:
            return from_plain(read_object(path, PROFILE_KIND), cls)
        except UserError as error:
            raise ConfigError(
                f"{path}: not a device profile ({error}); `effnas profile` makes one"
            ) from None

    def to_json(self) -> str:
        """Return the profile as JSON text that `load` reads back."""
        plain = {"kind": PROFILE_KIND, "format": FORMAT, **to_plain(self)}
        return dump_json(plain, indent=1) + "\n"

    @property
    def description(self) -> str:
        """The device and the date, in words."""
        return f"predicted by the profile of {self.hardware}, made {self.created}"

    def check_space(self, space: SearchSpace, path: str | Path) -> None:
        """Check that the profile is for the networks of a space at its target.

        Classes are not compared where the target leaves them to the data.

        Raises:
            ConfigError: If it is not; names the file and what differs.
        """
        target, model = space.target, self.model
        pairs = {
            "stem": (self.stem, space.stem),
            "stem stride": (self.stem_stride, space.stem_stride),
            "head": (self.head, space.head),
            "image size": (model.image_size, target.image_size),
            "batch size": (model.batch_size, target.batch_size),
            "classes": (model.num_classes, target.num_classes or model.num_classes),
        }
        differing = [f"{name} {was} (here {now})" for name, (was, now) in pairs.items()
                     if was != now]  # fmt: skip
        if not differing and model.unmeasured_layers(space.reference):
            differing = [f"space {self.space} (here {space.name})"]
        if differing:
            raise ConfigError(
                f"{path}: the profile is for {', '.join(differing)}; make one with `effnas "
                "profile` for this space, with `target_image_size`, `target_batch_size` and "
                "`classes`"
            )

    @property
    def is_trusted(self) -> bool:
        """Whether the checked error is small enough to search by predictions."""
        return self.step_time_error.mean_absolute <= TRUSTED_ERROR

    def __call__(self, arch: Architecture) -> StepTime:
        """Predict S, with a 95 % interval, the seconds of a step, and peak memory.

        Raises:
            InfeasibleError: If a layer of the network was not measured.
        """
        if unknown := self.model.unmeasured_layers(arch):
            others = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
            raise InfeasibleError(f"outside the device profile: not measured: {unknown[0]}{others}")
        step_time, spread = self.model.step_time(arch), 1 + self.step_time_error.half_width
        ratios = {"": step_time, "_low": step_time / spread, "_high": step_time * spread}
        metrics = {f"step_time{end}": ratio for end, ratio in ratios.items()}
        metrics |= {
            f"step_time{end}_s": ratio * self.reference_step_time_s for end, ratio in ratios.items()
        }
        metrics["peak_memory_bytes"] = self.model.peak_memory_bytes(arch)
        return StepTime(metrics=metrics, source="predicted", hardware=self.hardware)


@dataclass(frozen=True)
class PredictedOrMeasured:
    """Predicts where the profile's checked error allows it, and measures the other networks.

    Attributes:
        profile: The profile of this device.
        measured: Times a network on it.
    """

    profile: DeviceProfile
    measured: StepTimeSource

    @property
    def description(self) -> str:
        """The profile, or why it is not used."""
        if self.profile.is_trusted:
            return f"{self.profile.description}; the best are measured"
        error = self.profile.step_time_error.mean_absolute
        return f"measured, not {self.profile.description}, whose error is {error:.1%}"

    def __call__(self, arch: Architecture) -> StepTime:
        """Predict or measure a step time; errors are those of the source that is used."""
        if self.profile.is_trusted and not self.profile.model.unmeasured_layers(arch):
            return self.profile(arch)
        return self.measured(arch)
