"""Scaling rules: the members of a family as a YAML file.

    format: 1
    round_limit: 0
    max_image_size: 480
    members:
      s: {image_size: 384, train_image_size: 300, dropout: [0.1, 0.3]}
      m: {width: [1, 1, 80/64], depth: 1.2, last_stage: {width: 2, depth: 1/3}, image_size: 480}

The first member is the base itself. `width` and `depth` are one factor or one for each stage,
`stem` is the first width unless it is given, `head` is 1, `drop_path` is 0.2. A strength is one
number, or one for the first and one for the last stage of a training with growing images.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

from effnas.config.catalog import Node, find, load_keys
from effnas.config.codec import FORMAT
from effnas.config.regularization import STRENGTHS, Ramp, Regularization
from effnas.errors import ConfigError, closest
from effnas.scaling.growth import Growth, LastStage

if TYPE_CHECKING:
    from effnas.config.catalog import Source

_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_QUOTIENT = re.compile(r"([0-9]+)/([1-9][0-9]*)")
_KEYS = ("round_limit", "max_image_size", "members")
_SIZES = ("image_size", "train_image_size", "first_image_size")
_MEMBER_KEYS = ("width", "depth", "stem", "head", "last_stage", *_SIZES, *STRENGTHS)


@dataclass(frozen=True, kw_only=True)
class MemberRule:
    """How one member of a family follows from the base.

    Attributes:
        name: Of the member, in small letters.
        growth: Factors of channels and layers.
        image_size: Pixels at inference, of the published family.
        train_image_size: Pixels at the end of training, `image_size` or less.
        first_image_size: Pixels at the start of a training with growing images.
        regularization: Strengths at the start and at the end of its training.
    """

    name: str
    growth: Growth
    image_size: int
    train_image_size: int
    first_image_size: int
    regularization: Regularization = field(default_factory=Regularization)


@dataclass(frozen=True)
class ScalingRules:
    """A family's members, from the base upwards.

    Attributes:
        name: Of the family.
        members: The first is the base itself.
        round_limit: As in `grow`.
        max_image_size: Pixels that no member exceeds at inference; None for no limit.
        source: The file; None for rules that were not loaded.
    """

    name: str
    members: tuple[MemberRule, ...]
    round_limit: float = 0.9
    max_image_size: int | None = None
    source: Source | None = field(default=None, compare=False, repr=False)

    @classmethod
    def load(cls, name: str) -> ScalingRules:
        """Read rules by the name or the path of their YAML file.

        Raises:
            CatalogError: The file cannot be found or read.
            ConfigError: It breaks the rules of the module, with the place.
        """
        source = find("scaling_rules", name)
        return cls.parse(source.text, str(source.path), source=source)

    @classmethod
    def parse(cls, text: str, name: str, *, source: Source | None = None) -> ScalingRules:
        """Read rules from YAML text.

        Raises:
            ConfigError: With the place of what is wrong.
        """
        top = load_keys(text, name, known=_KEYS, required=("members",), error=ConfigError)
        limit = top["round_limit"].number() if "round_limit" in top else 0.9
        if not 0 <= limit <= 1:
            raise top["round_limit"].error("round_limit is a share, 0 to 1")
        most = top["max_image_size"].integer(minimum=1) if "max_image_size" in top else None
        nodes = top["members"].mapping()
        if not nodes:
            raise top["members"].error("members is empty: the first of them is the base")
        members = tuple(_member(key, node) for key, node in nodes.items())
        if members[0].growth != Growth():
            raise nodes[members[0].name].error(
                "the first member is the base itself: it has no factors but 1, and no last_stage"
            )
        return cls(source.name if source else name, members, limit, most, source)

    def to_text(self) -> str:
        """Return YAML that `parse` reads back to the same rules, except for their name."""
        lines = [f"format: {FORMAT}", f"round_limit: {self.round_limit!r}"]
        if self.max_image_size is not None:
            lines.append(f"max_image_size: {self.max_image_size}")
        lines.append("members:")
        for rule in self.members:
            lines.append(f"  {rule.name}:")
            lines += [f"    {key}: {value}" for key, value in _values(rule).items()]
        return "\n".join(lines) + "\n"

    def member(self, name: str) -> MemberRule:
        """Return a member's rule.

        Raises:
            ConfigError: If there is none of that name.
        """
        for rule in self.members:
            if rule.name == name.lower():
                return rule
        known = [rule.name for rule in self.members]
        raise ConfigError(f"the family {self.name} has no member {name!r}; {closest(name, known)}")


def round_size(pixels: float) -> int:
    """Return the nearest multiple of 4 pixels, as the published image sizes are; 4 or more."""
    return max(4, round(pixels / 4) * 4)


def _member(name: str, node: Node) -> MemberRule:
    if not _NAME.fullmatch(name):
        raise node.error(f"{name!r}: a member's name has small letters, digits, - and _")
    values = node.mapping(known=_MEMBER_KEYS, required=("image_size",))
    sizes = [values[key].integer(minimum=1) if key in values else None for key in _SIZES]
    image_size = sizes[0] or 1
    train_image_size = sizes[1] or image_size
    first_image_size = sizes[2] or train_image_size
    if not first_image_size <= train_image_size <= image_size:
        raise node.error(
            "first_image_size, train_image_size and image_size grow in this order, not "
            f"{first_image_size}, {train_image_size}, {image_size}"
        )
    width = _factors(values["width"]) if "width" in values else (1.0,)
    depth = _factors(values["depth"]) if "depth" in values else (1.0,)
    stem = _factor(values["stem"]) if "stem" in values else width[0]
    head = _factor(values["head"]) if "head" in values else 1.0
    last = _last_stage(values["last_stage"]) if "last_stage" in values else None
    try:
        growth = Growth(width=width, depth=depth, stem=stem, head=head, last_stage=last)
    except ConfigError as error:
        raise node.error(str(error)) from None
    strengths = {key: _ramp(values[key], most) for key, most in STRENGTHS.items() if key in values}
    return MemberRule(
        name=name,
        growth=growth,
        image_size=image_size,
        train_image_size=train_image_size,
        first_image_size=first_image_size,
        regularization=Regularization(**strengths),
    )


def _values(rule: MemberRule) -> dict[str, object]:
    """Return the YAML keys and values of a member."""
    growth, last = rule.growth, rule.growth.last_stage
    values: dict[str, object] = {}
    if growth != Growth():
        values |= {"width": list(growth.width), "depth": list(growth.depth)}
        values |= {"stem": growth.stem, "head": growth.head}
    if last:
        values["last_stage"] = f"{{width: {last.width!r}, depth: {last.depth!r}}}"
    values |= {size: getattr(rule, size) for size in _SIZES}
    for name in STRENGTHS:
        ramp = getattr(rule.regularization, name)
        values[name] = [ramp.first, ramp.last]
    return values


def _last_stage(node: Node) -> LastStage:
    values = node.mapping(known=("width", "depth"), required=("width", "depth"))
    return LastStage(_factor(values["width"]), _factor(values["depth"]))


def _factors(node: Node) -> tuple[float, ...]:
    """Read one factor, or a list with one for each stage."""
    if isinstance(node.value, tuple):
        if not node.value:
            raise node.error("the list is empty: give one factor for each stage")
        return tuple(_factor(item) for item in node.sequence())
    return (_factor(node),)


def _factor(node: Node) -> float:
    """Read a number, or a quotient of whole ones such as 80/64."""
    if isinstance(node.value, str) and (match := _QUOTIENT.fullmatch(node.value)):
        return float(Fraction(int(match[1]), int(match[2])))
    return node.number()


def _ramp(node: Node, most: float) -> Ramp:
    """Read a strength: one number, or the first and the last, which is no smaller."""
    items = node.sequence() if isinstance(node.value, tuple) else [node, node]
    if len(items) != 2:
        raise node.error("a strength is one number, or two: for the first and the last stage")
    first, last = (item.number() for item in items)
    if not 0 <= first <= last <= most:
        raise node.error(f"strengths are 0 to {most:g}, and do not decrease")
    return Ramp(first, last)
