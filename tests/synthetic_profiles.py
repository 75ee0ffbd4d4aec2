"""Device profiles that nobody measured, for tests of what is done with them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from effnas import SearchSpace
from effnas.space.layers import layers_of_space
from effnas.timing.profile import (
    DeviceProfile,
    MeasuredLayer,
    ModelError,
    NetworkFigures,
    StepTimeModel,
)


def model_of(space: SearchSpace, num_classes: int = 10, **changes: Any) -> StepTimeModel:
    """A model that knows every layer of a space, with figures drawn at random."""
    rng = np.random.default_rng(0)
    parts = tuple(
        MeasuredLayer(
            **vars(layer),
            forward=float(rng.uniform(0.001, 0.1)),
            backward=float(rng.uniform(0.001, 0.1)),
            optimizer=float(rng.uniform(0.0, 0.01)),
            kept_bytes=float(rng.integers(10**6)),
            weight_bytes=float(rng.integers(10**4)),
        )
        for layer in layers_of_space(space, num_classes=num_classes)
    )
    model = StepTimeModel(
        image_size=space.target.image_size,
        batch_size=space.target.batch_size,
        num_classes=num_classes,
        factor=1.125,
        memory_factor=0.9,
        parts=parts,
    )
    return replace(model, **changes)


def profile_of(space: SearchSpace, *, error: float = 0.02, **changes: Any) -> DeviceProfile:
    """A profile of a space; `error` is the checked error of its step times."""
    model = model_of(space)
    rng = np.random.default_rng(1)
    networks = tuple(
        NetworkFigures(
            architecture=str(arch),
            step_time=1.1 * model.step_time(arch),
            step_time_low=1.0,
            step_time_high=1.2,
            step_time_s=0.3,
            peak_memory_bytes=1.01 * model.peak_memory_bytes(arch),
            predicted_step_time=model.step_time(arch),
            predicted_peak_memory_bytes=model.peak_memory_bytes(arch),
        )
        for arch in (space.sample(rng) for _ in range(5))
    )
    found = ModelError(
        networks=3,
        mean_absolute=error,
        mean_absolute_low=error / 2,
        mean_absolute_high=2 * error,
        spearman=-0.25,
        half_width=0.0625,
    )
    profile = DeviceProfile(
        created="2026-01-02T03:04:05Z",
        space=space.name,
        reference=str(space.reference),
        stem=space.stem,
        stem_stride=space.stem_stride,
        head=space.head,
        optimizer="nadamw",
        execution={"precision": "float32", "memory_format": "contiguous", "compile_mode": "none"},
        hardware="a board, 2 threads",
        device={"device": "cpu", "threads": 2},
        reference_step_time_s=0.25,
        model=model,
        fitted_on=networks[:2],
        checked_on=networks[2:],
        step_time_error=found,
        memory_error=replace(found, spearman=1.0),
        cost_s={"parts": 10.0, "fit": 1.0, "check": 2.5},
    )
    return replace(profile, **changes)
