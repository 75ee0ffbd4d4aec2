"""A family of networks: a base and what it grows to by some rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from effnas.errors import ConfigError
from effnas.scaling.growth import grow
from effnas.scaling.rules import MemberRule, Ramp, ScalingRules, round_size

if TYPE_CHECKING:
    from effnas.architecture import Architecture

#: Training sees about 20 % less than inference (Tan & Le 2021, section 4).
_TRAIN_SHARE = 0.8
#: Stages of a training with growing images, all of the same number of steps.
STAGES = 4


@dataclass(frozen=True, kw_only=True)
class FamilyMember:
    """One network of a family, and how it is to be trained.

    Attributes:
        name: Within the family.
        architecture: The network.
        image_size: Pixels at inference.
        train_image_size: Pixels at the end of training.
        first_image_size: Pixels at the start of a training with growing images.
        dropout: Before the classifier.
        randaugment: Magnitude.
        mixup: Its alpha.
    """

    name: str
    architecture: Architecture
    image_size: int
    train_image_size: int
    first_image_size: int
    dropout: Ramp
    randaugment: Ramp
    mixup: Ramp

    @property
    def stage_image_sizes(self) -> tuple[int, ...]:
        """Pixels of the stages of a training with growing images (Algorithm 1 of the paper)."""
        low, high = self.first_image_size, self.train_image_size
        if low == high:
            return (high,)
        return tuple(round(low + (high - low) * n / (STAGES - 1)) for n in range(STAGES))


@dataclass(frozen=True)
class ModelFamily:
    """A base and its members, from the smallest to the largest."""

    rules: ScalingRules
    base: Architecture
    members: tuple[FamilyMember, ...]


def scale(
    base: Architecture,
    rules: ScalingRules,
    *,
    train_image_size: int | None = None,
    max_image_size: int | None = None,
) -> ModelFamily:
    """Return the family that a base grows to.

    Args:
        base: What the first member is.
        rules: What the others have for what it has.
        train_image_size: Pixels that the base is trained at: all sizes of the rules are multiplied
            so that its own becomes this. None takes the sizes of the rules.
        max_image_size: Pixels that no member exceeds at inference; None takes the rules' limit.

    Raises:
        ConfigError: If the limit is below the base's own image size.
    """
    members = tuple(
        member_of(base, rules, rule, train_image_size, max_image_size) for rule in rules.members
    )
    return ModelFamily(rules, base, members)


def member_of(
    base: Architecture,
    rules: ScalingRules,
    rule: MemberRule,
    train_image_size: int | None = None,
    max_image_size: int | None = None,
) -> FamilyMember:
    """Return one member; see `scale`.

    Raises:
        ConfigError: If the limit is below the base's own image size.
    """
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
            f"used at {smallest} px: take {smallest} or more as --max-image-size"
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
        dropout=rule.dropout,
        randaugment=rule.randaugment,
        mixup=rule.mixup,
    )
