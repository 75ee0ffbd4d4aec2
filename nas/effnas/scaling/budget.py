"""The largest network of a family that stays within limits: between its members, if need be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from effnas.errors import ConfigError
from effnas.scaling.family import FamilyMember, member_of

if TYPE_CHECKING:
    from effnas.architecture import Architecture
    from effnas.scaling.rules import ScalingRules

#: Steps from one member to the next; neighbours are often the same network.
_STEPS = 64


@dataclass(frozen=True)
class Limit:
    """What a network may cost at most.

    Attributes:
        metric: Name of the cost.
        most: Its largest value.
        text: As the user gave it, `--params 60e6`.
    """

    metric: str
    most: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What fits some limits.

    Attributes:
        member: The largest network within them.
        position: 0 for the base, 1 for the first member after it, 1.5 half-way to the next.
        costs: Of the network, by name.
        binding: The limits that the next larger network would break; none if there is no larger one
            in the family.
    """

    member: FamilyMember
    position: float
    costs: Mapping[str, float]
    binding: tuple[Limit, ...]


def largest_within(
    base: Architecture,
    rules: ScalingRules,
    limits: Sequence[Limit],
    costs_of: Callable[[FamilyMember], Mapping[str, float]],
    *,
    train_image_size: int | None = None,
    max_image_size: int | None = None,
) -> Fit:
    """Return the largest network within limits on the way through a family's members.

    Members are steps on a way on which everything grows together; between two of them, all factors,
    image sizes and strengths are what lies between. Costs are to grow along the way, and few are
    asked for: the way is bisected.

    Args:
        base: The first member.
        rules: The family.
        limits: At least one.
        costs_of: Gives the costs of a network, all that there is a limit of.
        train_image_size: See `scale`.
        max_image_size: See `scale`.

    Raises:
        ConfigError: If the base itself is beyond a limit; names all that it breaks.
    """
    way: list[tuple[float, FamilyMember]] = []
    for n in range((len(rules.members) - 1) * _STEPS + 1):
        rule = rules.between(n / _STEPS)
        member = member_of(base, rules, rule, train_image_size, max_image_size)
        if way and _same(way[-1][1], member):
            if n % _STEPS:
                continue
            way.pop()  # a member goes by its own position
        way.append((n / _STEPS, member))
    known: dict[int, Mapping[str, float]] = {}

    def broken(n: int) -> list[Limit]:
        if n not in known:
            known[n] = costs_of(way[n][1])
        return [limit for limit in limits if known[n][limit.metric] > limit.most]

    if beyond := broken(0):
        what = " and ".join(
            f"{known[0][limit.metric]:.4g} ({limit.metric}), more than {limit.text}"
            for limit in beyond
        )
        raise ConfigError(
            f"the base itself needs {what}, and scaling only adds to that: start from a smaller "
            "network or raise the limit"
        )
    low, high = 0, len(way)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if broken(middle) else (middle, high)
    position, member = way[low]
    return Fit(
        member=replace(member, name="fit"),
        position=position,
        costs=known[low],
        binding=tuple(broken(high)) if high < len(way) else (),
    )


def _same(one: FamilyMember, other: FamilyMember) -> bool:
    """Say whether two members cost the same."""
    return replace(one, name="", dropout=other.dropout, randaugment=other.randaugment,
                   mixup=other.mixup) == replace(other, name="")  # fmt: skip
