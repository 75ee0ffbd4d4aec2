"""A family of networks: a base and larger networks that rules make of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import floor

from effnas.arch.architecture import Architecture
from effnas.config.regularization import Regularization
from effnas.errors import ConfigError
from effnas.scaling.growth import grow
from effnas.scaling.rules import MemberRule, ScalingRules, round_size

#: Training images are about 20 % smaller than those at inference (Tan & Le 2021, section 4).
_TRAIN_SHARE = 0.8
#: Stages of a training with growing images, all of the same number of steps.
STAGES = 4


@dataclass(frozen=True, kw_only=True)
class FamilyMember:
    """One network of a family, and how to train it.

    Attributes:
        name: Within the family.
        architecture: The network.
        image_size: Pixels at inference.
        train_image_size: Pixels at the end of training.
        first_image_size: Pixels at the start of a training with growing images.
        regularization: At the start and at the end of a training.
    """

    name: str
    architecture: Architecture
    image_size: int
    train_image_size: int
    first_image_size: int
    regularization: Regularization

    @property
    def stage_image_sizes(self) -> tuple[int, ...]:
        """Pixels of the stages of a training with growing images (Algorithm 1 of the paper)."""
        low, high = self.first_image_size, self.train_image_size
        if low == high:
            return (high,)
        return tuple(round(low + (high - low) * n / (STAGES - 1)) for n in range(STAGES))


def scale(
    base: Architecture,
    rules: ScalingRules,
    *,
    train_image_size: int | None = None,
    max_image_size: int | None = None,
) -> tuple[FamilyMember, ...]:
    """Return the family of a base, from the base itself upwards.

    Args:
        base: The first member.
        rules: Their factors give the other members.
        train_image_size: Pixels that the base is trained at; all sizes of the rules are scaled to
            it. None takes the sizes of the rules.
        max_image_size: Pixels that no member exceeds at inference; None takes the rules' limit.

    Raises:
        ConfigError: If the limit is below the base's own image size.
    """
    return tuple(
        _member(base, rules, rule, train_image_size, max_image_size) for rule in rules.members
    )


def between(low: FamilyMember, high: FamilyMember, share: float) -> FamilyMember:
    """Return a network between one member and the next.

    Layers and channels are added one by one, in later stages first; a stage that only the higher
    member has is added layer by layer.

    Args:
        low: The network at share 0.
        high: The network at share 1; nowhere smaller.
        share: How far between them, 0 to 1.
    """
    one, other = low.architecture, high.architecture

    def gained(few: int, many: int, unit: int, place: float) -> int:
        """Return a number from `few` to `many`; it grows sooner for a later place, 0 to 1."""
        exact = few + (many - few) * share
        return min(many, max(few, unit * floor(exact / unit + place + 1e-9)))

    count = len(other.stages)
    stages = []
    for n, large in enumerate(other.stages):
        place = (n + 0.5) / count
        is_there = n < len(one.stages)
        small = one.stages[n if is_there else -1]
        layers = gained(small.r if is_there else 0, large.r, 1, place)
        if layers:
            stages.append(replace(large, r=layers, c=gained(small.c, large.c, 8, place)))
    arch = replace(
        one,
        stages=tuple(stages),
        stem=gained(one.stem, other.stem, 8, 0.5 / count),
        head=gained(one.head, other.head, 8, 1 - 0.5 / count),
    )

    def pixels(small: int, large: int) -> int:
        return small if small == large else round_size(small + (large - small) * share)

    return FamilyMember(
        name=f"{low.name}-{high.name}-{share:.3f}",
        architecture=arch,
        image_size=pixels(low.image_size, high.image_size),
        train_image_size=pixels(low.train_image_size, high.train_image_size),
        first_image_size=pixels(low.first_image_size, high.first_image_size),
        regularization=Regularization.between(low.regularization, high.regularization, share),
    )


def _member(
    base: Architecture,
    rules: ScalingRules,
    rule: MemberRule,
    train_image_size: int | None,
    max_image_size: int | None,
) -> FamilyMember:
    base_rule = rules.members[0]
    wanted = train_image_size or base_rule.train_image_size

    def size(pixels: int) -> int:
        if pixels == base_rule.train_image_size:
            return wanted
        exact = pixels * wanted / base_rule.train_image_size
        return int(exact) if exact == pixels else round_size(exact)

    limit = max_image_size or rules.max_image_size
    smallest = max(size(base_rule.image_size), wanted)
    if limit and limit < smallest:
        raise ConfigError(
            f"no image may have more than {limit} px, but the base is trained at {wanted} px and "
            f"used at {smallest} px: take {smallest} or more as `max_image_size`"
        )
    image_size, train_size = size(rule.image_size), size(rule.train_image_size)
    if limit and image_size > limit:
        share = max(_TRAIN_SHARE, rule.train_image_size / rule.image_size)
        image_size, train_size = limit, min(train_size, round_size(limit * share))
    return FamilyMember(
        name=rule.name,
        architecture=grow(base, rule.growth, round_limit=rules.round_limit),
        image_size=max(image_size, train_size),
        train_image_size=train_size,
        first_image_size=min(size(rule.first_image_size), train_size),
        regularization=rule.regularization,
    )
