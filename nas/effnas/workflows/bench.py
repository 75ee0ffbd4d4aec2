"""Timing networks side by side: what `effnas bench` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from effnas.errors import ConfigError, InfeasibleError
from effnas.space.search_space import SearchSpace
from effnas.timing.device import describe_device
from effnas.timing.device_settings import DeviceSettings
from effnas.timing.networks import time_networks
from effnas.trials.network_ref import find_network


@dataclass(frozen=True, kw_only=True)
class BenchResult:
    """Measurements of some networks.

    Attributes:
        rows: A row for each network: its name, params, images a second and metrics; or the reason
            why it cannot be timed.
        setup: Sizes, optimizer and execution, by name.
        hardware: Facts about the device, by name.
    """

    rows: list[dict[str, Any]]
    setup: dict[str, Any]
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
        settings: Device and sizes.
        space: Name or path of a space, for the stem and head of block strings and for the sizes.
        precision: Wanted half-width of each 95 % interval, a share, above 0.
        time_limit_s: Seconds after the warm-up at which the timing ends, above 0.
        notify: Receives what takes a while.

    Raises:
        UserError: If a network cannot be found or built, or the device cannot be used.
    """
    for name, value in (("interval", precision), ("time_limit", time_limit_s)):
        if not 0 < value < float("inf"):
            raise ConfigError(f"`{name}` is {value}, it must be above 0")
    home = SearchSpace.load(space) if space else None
    found = [find_network(text, home) for text in networks]
    spaces = [network.space for network in found if network.space]
    setup = settings.setup(home or (spaces[0] if spaces else None))
    makes = [network.maker(setup.num_classes) for network in found]
    with torch.random.fork_rng([]):
        params = [sum(p.numel() for p in make().parameters() if p.requires_grad) for make in makes]

    def waiting(holder: str) -> None:
        notify(f"waiting for the device, which {holder} uses")

    notify("choosing precision and memory format")
    setup = settings.with_execution(setup, makes[0], waiting)
    notify(f"timing {len(makes)} networks in turn" if len(makes) > 1 else "timing")
    try:
        timed = time_networks(
            makes, setup, precision=precision, time_limit_s=time_limit_s, waiting=waiting
        )
    except InfeasibleError as error:
        raise ConfigError(f"{found[0].name}: {error}") from error
    rows = []
    for network, count, metrics in zip(found, params, timed, strict=True):
        row: dict[str, Any] = {"network": network.name, "params": count}
        if isinstance(metrics, InfeasibleError):
            row |= {"reason": str(metrics), **metrics.metrics}
        else:
            row |= {"images_per_s": setup.batch_size / metrics["step_time_s"], **metrics}
        rows.append(row)
    sizes = {name: getattr(setup, name) for name in ("image_size", "batch_size", "num_classes")}
    return BenchResult(
        rows=rows,
        setup={**sizes, "optimizer": setup.recipe.optimizer, **asdict(setup.execution)},
        hardware=describe_device(setup.device),
    )
