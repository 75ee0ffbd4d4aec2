"""The ways to scale a base that are tried against each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from effnas.arch.architecture import DEFAULT_STEM_STRIDE, Architecture
from effnas.arch.counts import count
from effnas.config.codec import Size
from effnas.config.text import counted
from effnas.errors import ConfigError
from effnas.scaling.budget import Limit
from effnas.scaling.compound import CompoundScaling
from effnas.scaling.family import FamilyMember, scale
from effnas.scaling.growth import Growth
from effnas.scaling.rules import MemberRule, ScalingRules
from effnas.scaling.sizing import MemberCosts

#: How far layers grow at most, and how finely growing is looked at.
_MAX_GROWTH, _STEP = 8.0, 0.02


@dataclass(frozen=True, kw_only=True)
class ScaledNetwork:
    """A scaled network that is trained against others.

    Attributes:
        name: Says how it was scaled; not that of another candidate.
        blocks: Block strings of the network.
        stem: Channels of its stem.
        head: Channels of its head.
        stem_stride: Stride of its stem.
        image_size: Pixels of its training.
        costs: By name: `params`, `macs` at that size, and what limits or equal step times needed.
        how: How it was scaled: `alpha`, `beta` and `gamma`, or the `layers` of the stages.
    """

    name: str
    blocks: tuple[str, ...]
    stem: int
    head: int
    image_size: Size
    costs: Mapping[str, float]
    how: Mapping[str, Any]
    stem_stride: int = DEFAULT_STEM_STRIDE

    def __post_init__(self) -> None:
        _ = self.architecture  # raises if it is none

    @classmethod
    def of(cls, arch: Architecture, **others: Any) -> ScaledNetwork:
        """Return the candidate for an architecture."""
        return cls(blocks=tuple(arch.blocks), **{**arch.ends, **others})

    @cached_property
    def architecture(self) -> Architecture:
        """The network."""
        return Architecture.parse(
            self.blocks, stem=self.stem, head=self.head, stem_stride=self.stem_stride
        )


def compound_candidates(
    base: Architecture,
    grid: Sequence[CompoundScaling],
    *,
    image_size: int,
    limits: Sequence[Limit],
    round_limit: float,
    costs: MemberCosts,
    progress: Callable[[str, int, int], None],
) -> list[ScaledNetwork]:
    """Return the networks that a base grows to at φ = 1, those within all limits.

    The problem is that of EfficientNet's paper (Tan & Le 2019, equation 2): the most accurate
    network within given MACs and memory. Of coefficients that rounding makes the same network, the
    first stand for all.

    Args:
        base: What grows.
        grid: Coefficients to try.
        image_size: Pixels of the base.
        limits: On `macs`, `peak_memory_bytes`; a metric ending in `_ratio` is over the base's.
        round_limit: Of the channels, see `effnas.scaling.growth.grow`.
        costs: Finds out what networks cost.
        progress: Receives how many coefficients have been looked at.

    Raises:
        ConfigError: If fewer than two are within the limits; says which limit binds.
        InfeasibleError: If one cannot be trained at all.
    """
    # What is counted comes before memory, whose dry runs take a while.
    order = sorted({limit.cost for limit in limits} - {"macs", "params"})
    unscaled = scale(base, CompoundScaling().rules([], image_size=image_size))[0]
    own = costs.limited(unscaled, order)
    found: dict[tuple[Architecture, int], ScaledNetwork] = {}
    seen: set[tuple[Architecture, int]] = set()
    beyond: dict[str, int] = {limit.text: 0 for limit in limits}
    for n, coefficients in enumerate(grid):
        progress("finding out what the grid costs", n, len(grid))
        rules = coefficients.rules([1], image_size=image_size)
        grown = scale(base, replace(rules, round_limit=round_limit))[1]
        key = grown.architecture, grown.train_image_size
        if key in seen or key == (base, image_size):
            continue
        seen.add(key)
        broken: list[Limit] = []
        for names in ([], order) if order else ([],):
            its = costs.limited(grown, names)
            broken = [limit for limit in limits if limit.is_exceeded(its, own)]
            if broken:
                break
        for limit in broken:
            beyond[limit.text] += 1
        if not broken:
            found[key] = ScaledNetwork.of(
                grown.architecture,
                name=str(coefficients),
                image_size=grown.train_image_size,
                costs=its,
                how={name: getattr(coefficients, name) for name in ("alpha", "beta", "gamma")},
            )
    if len(found) < 2:
        what = " and ".join(f"{text} ({count} of them)" for text, count in beyond.items() if count)
        raise ConfigError(
            f"{len(found)} of the {counted(len(seen), 'network')} of the grid can be trained"
            + (f"; what binds: {what}. Raise it, or the `tolerance`" if what else
               ", so there is nothing to compare; take a larger `tolerance` or a finer `grid_step`")
        )  # fmt: skip
    # One after another with the same images, which a worker then decodes once.
    return sorted(found.values(), key=lambda one: (one.image_size, one.costs["macs"]))


def layer_candidates(
    base: Architecture,
    rules: ScalingRules,
    rule: MemberRule,
    *,
    slopes: Sequence[float],
    tolerance: float,
    image_size: int,
    costs: MemberCosts,
) -> list[ScaledNetwork]:
    """Return members that grow in other stages than the rule's own, of the same step time.

    With slope s, stage i of n grows by a factor of d·(1 + s·(2i/(n-1) - 1)), at least 1: all alike
    with 0, the later ones more above it. d is what brings the step time nearest to that of the
    rule's member. Each is tried with the rule's last stage and without it. Channels and images are
    those of the rule.

    Args:
        base: What grows.
        rules: Rules of the family.
        rule: Rule of the member.
        slopes: Slopes to try.
        tolerance: Largest share by which a step time may differ from the rule's member's.
        image_size: Pixels that the base is trained at.
        costs: Finds out step times.

    Raises:
        ConfigError: If fewer than two come near enough to that step time.
        InfeasibleError: If a network does not fit the device.
    """

    def grown(growth: Growth) -> FamilyMember:
        pair = replace(rules, members=(rules.members[0], replace(rule, growth=growth)))
        return scale(base, pair, train_image_size=image_size)[1]

    def costs_of(member: FamilyMember) -> Mapping[str, float]:
        return costs.limited(member, ["step_time"])

    own = grown(rule.growth)
    wanted = costs_of(own)["step_time"]
    candidates = [_layered(f"as {rules.name}'s {rule.name}", own, costs_of(own), base)]
    tried = {own.architecture}
    left_out = []
    lasts = [None] if rule.growth.last_stage is None else [None, rule.growth.last_stage]
    for slope in slopes:
        for last in lasts:
            way = [grown(replace(rule.growth, depth=depth, last_stage=last))
                   for depth in _depths(base, slope)]  # fmt: skip
            member = _nearest(way, wanted, lambda one: costs_of(one)["step_time"])
            its = costs_of(member)
            name = f"slope {slope:g}{', last stage' if last else ''}"
            if abs(its["step_time"] / wanted - 1) > tolerance:
                left_out.append(f"{name} ({its['step_time'] / wanted - 1:+.0%})")
            elif member.architecture not in tried:
                tried.add(member.architecture)
                candidates.append(_layered(name, member, its, base))
    if len(candidates) < 2:
        raise ConfigError(
            f"no other growth of the layers comes within {tolerance:.1%} of the step time of "
            f"{rule.name}{': ' + ', '.join(left_out) if left_out else ''}; take a larger "
            "`tolerance`, other `slopes` or a larger member"
        )
    return candidates


def _layered(
    name: str, member: FamilyMember, costs: Mapping[str, float], base: Architecture
) -> ScaledNetwork:
    stages = member.architecture.stages
    return ScaledNetwork.of(
        member.architecture,
        name=name,
        image_size=member.train_image_size,
        costs={**costs, "macs": float(count(member.architecture, member.train_image_size).macs)},
        how={"layers": [stage.r for stage in stages], "last_stage": len(stages) > len(base.stages)},
    )


def _depths(base: Architecture, slope: float) -> Iterator[tuple[float, ...]]:
    """Yield the factors of the layers on the way up, a layer or two at a time."""
    layers = [stage.r for stage in base.stages]
    last = max(len(layers) - 1, 1)
    before = None
    for n in range(round((_MAX_GROWTH - 1) / _STEP) + 1):
        d = 1 + n * _STEP
        factors = [max(1.0, d * (1 + slope * (2 * i / last - 1))) for i in range(len(layers))]
        reached = [max(r, round(r * factor)) for r, factor in zip(layers, factors, strict=True)]
        if reached != before:
            before = reached
            yield tuple(one / r for one, r in zip(reached, layers, strict=True))


def _nearest(
    way: Sequence[FamilyMember], wanted: float, step_time: Callable[[FamilyMember], float]
) -> FamilyMember:
    """Return the member whose step time is nearest, of some whose step times grow."""
    low, high = 0, len(way) - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if step_time(way[middle]) <= wanted else (low, middle)
    return min((way[low], way[high]), key=lambda one: abs(step_time(one) - wanted))
