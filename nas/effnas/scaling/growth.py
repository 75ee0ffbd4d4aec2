"""Growing a network: more channels and layers, by one factor or by one for each stage."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, isfinite

import numpy as np

from effnas.arch.architecture import Architecture
from effnas.arch.blocks import Stage, round_channels
from effnas.errors import ConfigError

#: Digits that products are rounded to: factors are quotients of small numbers.
_DIGITS = 6


@dataclass(frozen=True)
class LastStage:
    """A stage that is added at the end: the base's last one at stride 1, with other sizes.

    Attributes:
        width: Its channels over those of the base's last stage, above 0.
        depth: Its layers over those of the base's last stage, above 0.
    """

    width: float
    depth: float


@dataclass(frozen=True, kw_only=True)
class Growth:
    """Factors from a base to a larger network; all are 1 or more.

    Attributes:
        width: Factors of the channels, one for all stages or one for each; for a base with
            another number of stages, they are interpolated from its first stage to its last.
        depth: Factors of the layers, likewise.
        stem: Factor of the stem's channels.
        head: Factor of the head's channels.
        last_stage: A stage to add; None for none.
    """

    width: tuple[float, ...] = (1.0,)
    depth: tuple[float, ...] = (1.0,)
    stem: float = 1.0
    head: float = 1.0
    last_stage: LastStage | None = None

    def __post_init__(self) -> None:
        factors = {"width": self.width, "depth": self.depth, "stem": (self.stem,),
                   "head": (self.head,)}  # fmt: skip
        for name, values in factors.items():
            if not values:
                raise ConfigError(f"{name}: a factor is missing")
            for value in values:
                if not (isfinite(value) and value >= 1):
                    raise ConfigError(
                        f"{name} {value:g} shrinks the network: factors are 1 or more"
                    )
        if self.last_stage and not (self.last_stage.width > 0 and self.last_stage.depth > 0):
            raise ConfigError("last_stage: width and depth are above 0")


def grow(base: Architecture, growth: Growth, *, round_limit: float = 0.9) -> Architecture:
    """Return the base with more channels and layers; the base itself if all factors are 1.

    Channels are rounded to the nearest multiple of 8, layers up (`round_filters` and
    `round_repeats` of EfficientNet's code); where the factor is 1, nothing is rounded.

    Args:
        base: The network.
        growth: Its factors.
        round_limit: Channels that rounding would bring below this share of the exact number get 8
            more: 0.9 in EfficientNet, 0 in EfficientNetV2, which has no such rule.
    """

    def channels(count: int, factor: float) -> int:
        return count if factor == 1 else round_channels(count * factor, round_limit)

    widths, depths = (factors_for(f, len(base.stages)) for f in (growth.width, growth.depth))
    before, after = base.stem, channels(base.stem, growth.stem)
    stem = after
    stages: list[Stage] = []
    for stage, width, depth in zip(base.stages, widths, depths, strict=True):
        if stage.op == "identity":
            # An identity of the base stays one.
            passes = stage.s == 1 and stage.c == before
            grown = replace(stage, c=after if passes else channels(stage.c, width))
        else:
            grown = replace(stage, r=_layers(stage.r, depth), c=channels(stage.c, width))
        stages.append(grown)
        before, after = stage.c, grown.c
    if growth.last_stage:
        last = base.stages[-1]
        stages.append(
            replace(
                last,
                s=1,
                r=1 if last.op == "identity" else _layers(last.r, growth.last_stage.depth),
                c=round_channels(last.c * growth.last_stage.width, round_limit),
            )
        )
    head = channels(base.head, growth.head)
    return replace(base, stages=tuple(stages), stem=stem, head=head)


def _layers(count: int, factor: float) -> int:
    return max(1, ceil(round(count * factor, _DIGITS)))


def factors_for(factors: tuple[float, ...], stages: int) -> tuple[float, ...]:
    """Return a factor for each of `stages`."""
    if len(factors) == 1:
        return factors * stages
    if len(factors) == stages:
        return factors
    known, wanted = (np.linspace(0, 1, n) if n > 1 else np.array([0.5])
                     for n in (len(factors), stages))  # fmt: skip
    return tuple(float(value) for value in np.interp(wanted, known, factors))
