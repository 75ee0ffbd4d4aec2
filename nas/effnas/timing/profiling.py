"""Making a device profile: measure a space's layers, fit on some networks, check on others."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np

from effnas.errors import ConfigError, InfeasibleError
from effnas.space.layers import layers_of_space
from effnas.timing.device import describe_device, hardware_id
from effnas.timing.layer_timer import measure_layers
from effnas.timing.lock import Waiting, timing
from effnas.timing.networks import maker, time_networks
from effnas.timing.profile import (
    DeviceProfile,
    MeasuredLayer,
    ModelError,
    NetworkFigures,
    StepTimeModel,
)
from effnas.timing.setup import MeasurementSetup

if TYPE_CHECKING:
    import numpy.typing as npt

    from effnas.arch.architecture import Architecture
    from effnas.arch.layers import Layer
    from effnas.space.search_space import SearchSpace

#: Networks that the model's factors are fitted on, and networks that it is checked on.
FITTED, CHECKED = 8, 16
#: The fewest that the model is checked on, where others do not fit the device.
MIN_CHECKED = 4
#: Networks that are timed in turn, beside the reference.
_NETWORKS_TOGETHER = 8
#: Half-width of the interval that the timing of a network must reach, and seconds for it.
NETWORK_PRECISION, NETWORK_TIME_LIMIT_S = 0.02, 5.0
#: How often each layer is measured.
PASSES = 3
#: More layers would take a day on any device.
_MAX_LAYERS = 20_000
_RESAMPLES = 2_000


def layers_to_time(space: SearchSpace, num_classes: int) -> list[Layer]:
    """Return the layers that a profile of a space is made of.

    Raises:
        ConfigError: If they are too many, or the space has too few networks to fit and check on.
    """
    layers = layers_of_space(space, num_classes=num_classes)
    if len(layers) > _MAX_LAYERS:
        raise ConfigError(
            f"space '{space.name}': its networks are made of {len(layers):,} different layers, too "
            f"many to measure one by one (at most {_MAX_LAYERS:,}); give its stages fewer choices"
        )
    if space.size < FITTED + CHECKED:
        raise ConfigError(
            f"space '{space.name}' has {space.size} networks, and {FITTED + CHECKED} or more are "
            "needed to fit and check a model; time them instead, with `effnas bench`"
        )
    return layers


def make_profile(
    space: SearchSpace,
    setup: MeasurementSetup,
    *,
    seed: int = 0,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
    waiting: Waiting = lambda _: None,
) -> DeviceProfile:
    """Profile a device for the networks of a space.

    Args:
        space: Its target gives image size and batch size.
        setup: Device, sizes and execution.
        seed: Draws the networks that the model is fitted and checked on.
        progress: As in `measure_layers`.
        waiting: As of `effnas.timing.lock.timing`.

    Raises:
        ConfigError: If the space has too many layers, or too few networks fit the device.
    """
    layers = layers_to_time(space, setup.num_classes)
    rng = np.random.default_rng(seed)
    # Before anything else is drawn, so that they depend on the seed alone.
    networks = _draw(space, rng, FITTED + CHECKED)
    started = time.perf_counter()
    with timing(setup.device, waiting):
        try:
            figures, reference_s = measure_layers(
                layers, space.reference, setup, rng, passes=PASSES, progress=progress
            )
        except InfeasibleError as error:
            raise ConfigError(
                f"space '{space.name}': the reference network takes more than half of the memory "
                f"that is free, or a layer does not fit ({error}); take a smaller "
                "`target_batch_size` or `target_image_size`, and the same in the search"
            ) from error
    after_layers = time.perf_counter()
    measured = _measure_networks(networks, space, setup, progress, waiting)
    seconds = time.perf_counter() - after_layers
    summed = StepTimeModel(
        image_size=setup.image_size,
        batch_size=setup.batch_size,
        num_classes=setup.num_classes,
        factor=1.0,
        memory_factor=1.0,
        parts=tuple(
            MeasuredLayer(**vars(layer), **vars(found)) for layer, found in figures.items()
        ),
    )
    model = _fit(summed, measured[:FITTED])
    fitted_on, checked_on = (
        tuple(_figures(arch, metrics, model) for arch, metrics in pairs)
        for pairs in (measured[:FITTED], measured[FITTED:])
    )
    facts = describe_device(setup.device)
    return DeviceProfile(
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        space=space.name,
        reference=str(space.reference),
        stem=space.stem,
        head=space.head,
        stem_stride=space.stem_stride,
        optimizer=setup.recipe.optimizer,
        execution=asdict(setup.execution),
        hardware=hardware_id(facts),
        device=facts,
        reference_step_time_s=reference_s,
        model=model,
        fitted_on=fitted_on,
        checked_on=checked_on,
        step_time_error=model_error(
            np.array([network.predicted_step_time for network in checked_on]),
            np.array([network.step_time for network in checked_on]),
        ),
        memory_error=model_error(
            np.array([network.predicted_peak_memory_bytes for network in checked_on]),
            np.array([network.peak_memory_bytes for network in checked_on]),
        ),
        cost_s={
            "parts": after_layers - started,
            "fit": seconds * len(fitted_on) / len(measured),
            "check": seconds * len(checked_on) / len(measured),
        },
    )


def model_error(
    predicted: npt.NDArray[np.float64], measured: npt.NDArray[np.float64]
) -> ModelError:
    """Compare predictions with measurements of N networks, 2 or more.

    Args:
        predicted: Positive values, [N].
        measured: Positive values, [N].
    """
    from scipy import stats

    count = len(measured)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        correlation = stats.spearmanr(predicted, measured).statistic
    errors = np.abs(predicted / measured - 1)
    drawn = np.random.default_rng(0).integers(count, size=(_RESAMPLES, count))
    low, high = np.quantile(errors[drawn].mean(axis=1), [0.025, 0.975])
    # Of a further network: around the factor as it was fitted, so the mean is not subtracted.
    spread = np.sqrt(np.mean(np.log(predicted / measured) ** 2))
    return ModelError(
        networks=count,
        mean_absolute=float(errors.mean()),
        mean_absolute_low=float(low),
        mean_absolute_high=float(high),
        spearman=float(np.nan_to_num(correlation)),
        half_width=float(np.expm1(stats.t.ppf(0.975, count) * spread)),
    )


def _fit(
    summed: StepTimeModel, networks: Sequence[tuple[Architecture, Mapping[str, float]]]
) -> StepTimeModel:
    """Return the model with the factors that fit some networks."""
    ratios = [found["step_time"] / summed.step_time(arch) for arch, found in networks]
    memory_ratios = [
        (found["peak_memory_bytes"] - summed.fixed_bytes(arch)) / summed.kept_bytes(arch)
        for arch, found in networks
    ]
    # Medians: one bad timing must not change them.
    return replace(
        summed, factor=float(np.median(ratios)), memory_factor=float(np.median(memory_ratios))
    )


def _figures(
    arch: Architecture, found: Mapping[str, float], model: StepTimeModel
) -> NetworkFigures:
    measured = ("step_time", "step_time_low", "step_time_high", "step_time_s", "peak_memory_bytes")
    return NetworkFigures(
        architecture=str(arch),
        **{name: found[name] for name in measured},
        predicted_step_time=model.step_time(arch),
        predicted_peak_memory_bytes=model.peak_memory_bytes(arch),
    )


def _draw(space: SearchSpace, rng: np.random.Generator, count: int) -> list[Architecture]:
    """Return distinct random networks of the space; fewer if it has fewer."""
    found: dict[Architecture, None] = {}
    for _ in range(20 * count):
        found[space.sample(rng)] = None
        if len(found) == min(count, space.size):
            break
    return list(found)


def _measure_networks(
    networks: Sequence[Architecture],
    space: SearchSpace,
    setup: MeasurementSetup,
    progress: Callable[[str, int, int], None],
    waiting: Waiting,
) -> list[tuple[Architecture, Mapping[str, float]]]:
    """Time networks beside the reference, in groups; those that do not fit are left out."""
    found: list[tuple[Architecture, Mapping[str, float]]] = []
    for start in range(0, len(networks), _NETWORKS_TOGETHER):
        progress("networks", start, len(networks))
        group = networks[start : start + _NETWORKS_TOGETHER]
        _, *timed = time_networks(
            [maker(network, setup.num_classes) for network in (space.reference, *group)],
            setup,
            precision=NETWORK_PRECISION,
            time_limit_s=NETWORK_TIME_LIMIT_S * len(group),
            waiting=waiting,
        )
        for network, metrics in zip(group, timed, strict=True):
            if not isinstance(metrics, InfeasibleError):
                found.append((network, metrics))
    if len(found) < FITTED + MIN_CHECKED:
        raise ConfigError(
            f"space '{space.name}': only {len(found)} of {len(networks)} random networks fit the "
            f"device at batch {setup.batch_size} and {setup.image_size} px; take a "
            "smaller `target_batch_size` or `target_image_size`"
        )
    return found
