"""The largest network within limits, of a family and of the networks between its members."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from effnas.errors import ConfigError
from effnas.scaling.family import FamilyMember, between

#: Steps from one member to the next; neighbours are often the same network.
_STEPS = 64


@dataclass(frozen=True)
class Limit:
    """The most that a network may cost.

    Attributes:
        metric: Name of the cost; ending in `_ratio`, that over the base's.
        most: Its largest value.
        text: As the user gave it, for messages.
    """

    metric: str
    most: float
    text: str

    @property
    def cost(self) -> str:
        """Name of the cost."""
        return self.metric.removesuffix("_ratio")

    def of(self, costs: Mapping[str, float], base: Mapping[str, float]) -> float | None:
        """Return what is limited, given costs of a network and of the base; None: not known."""
        if self.cost not in costs:
            return None
        return costs[self.cost] / (base[self.cost] if self.cost != self.metric else 1.0)

    def is_exceeded(self, costs: Mapping[str, float], base: Mapping[str, float]) -> bool:
        """Return whether a network is known to cost more."""
        value = self.of(costs, base)
        return value is not None and value > self.most


@dataclass(frozen=True, kw_only=True)
class Fit:
    """The largest network within some limits.

    Attributes:
        member: The network.
        position: 0 for the base, 1 for the first member after it, 1.5 half-way to the next.
        costs: Of the network, by name.
        binding: The limits that the next larger network exceeds; empty if the family has none.
    """

    member: FamilyMember
    position: float
    costs: Mapping[str, float]
    binding: tuple[Limit, ...]


def largest_within(
    members: Sequence[FamilyMember],
    limits: Sequence[Limit],
    costs_of: Callable[[FamilyMember], Mapping[str, float]],
) -> Fit:
    """Return the largest network within limits on the path through a family's members.

    Costs must grow along the path, which is bisected, so that few of them are computed.

    Args:
        members: From the base upwards.
        limits: At least one.
        costs_of: Returns the costs of a network, by name; those that are limited suffice.

    Raises:
        ConfigError: If a member is smaller than the one before it, or the base exceeds a limit;
            names all of them.
    """
    for low, high in pairwise(members):
        if not _grows(low, high):
            raise ConfigError(
                f"the member {high.name} has less of something than {low.name} before it, so there "
                "is no path from one to the other: leave the limits out, or order the family"
            )
    path: list[tuple[float, FamilyMember]] = [(0.0, members[0])]
    for n, (low, high) in enumerate(pairwise(members)):
        for step in range(1, _STEPS):
            member = between(low, high, step / _STEPS)
            if _costly(member) not in (_costly(path[-1][1]), _costly(high)):
                path.append((n + step / _STEPS, member))
        path.append((n + 1.0, high))
    known: dict[int, Mapping[str, float]] = {}

    def broken(n: int) -> list[Limit]:
        if n not in known:
            known[n] = costs_of(path[n][1])
        return [limit for limit in limits if limit.is_exceeded(known[n], known[0])]

    if beyond := broken(0):
        what = " and ".join(
            f"{limit.metric} of {_number(limit.of(known[0], known[0]) or 0.0)}, more than "
            f"{limit.text}"
            for limit in beyond
        )
        raise ConfigError(
            f"the base itself has {what}, and scaling only adds to that: start from a smaller "
            "network or raise the limit"
        )
    fits, breaks = 0, len(path)
    while breaks - fits > 1:
        middle = (fits + breaks) // 2
        fits, breaks = (fits, middle) if broken(middle) else (middle, breaks)
    position, member = path[fits]
    return Fit(
        member=replace(member, name="fit"),
        position=position,
        costs=known[fits],
        binding=tuple(broken(breaks)) if breaks < len(path) else (),
    )


def _grows(low: FamilyMember, high: FamilyMember) -> bool:
    """Return whether `high` is nowhere smaller than `low`."""
    one, other = low.architecture, high.architecture
    sizes = [
        (one.stem, other.stem),
        (one.head, other.head),
        (len(one.stages), len(other.stages)),
        (low.image_size, high.image_size),
        (low.train_image_size, high.train_image_size),
        *((a.r, b.r) for a, b in zip(one.stages, other.stages, strict=False)),
        *((a.c, b.c) for a, b in zip(one.stages, other.stages, strict=False)),
    ]
    return all(small <= large for small, large in sizes)


def _costly(member: FamilyMember) -> tuple[object, ...]:
    """Return everything that a member's costs depend on."""
    return member.architecture, member.image_size, *member.stage_image_sizes


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
