"""The operators of a stage and their fields: what the notation and the counts share.

A stage is one operator repeated, in EfficientNet's notation: `mbconv_r6_k3_s2_e4_c128_se0.25`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from math import isfinite

from effnas.errors import SpaceError

#: Field -> what it means. The order is that of the canonical text.
FIELDS: Mapping[str, str] = {
    "r": "layers in the stage",
    "k": "kernel size, odd",
    "s": "stride of the first layer, 1 or 2",
    "e": "expansion, 1 or more",
    "c": "output channels",
    "se": "squeeze-and-excitation ratio, 0 to 1, of the block's input channels",
}


@dataclass(frozen=True)
class Operator:
    """An operator: the fields that it must be given, and those that it may be given."""

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()

    @property
    def fields(self) -> tuple[str, ...]:
        """All fields that the operator takes."""
        return self.required + self.optional


OPERATORS: Mapping[str, Operator] = {
    # Inverted bottleneck with a depthwise convolution (EfficientNet).
    "mbconv": Operator(("r", "k", "s", "e", "c"), ("se",)),
    # The same with expansion and depthwise convolution fused to one (EfficientNetV2, figure 2).
    "fused": Operator(("r", "k", "s", "e", "c"), ("se",)),
    # k×k convolution, batch norm, activation; no residual.
    "conv": Operator(("r", "k", "s", "c")),
    # Passes its input on; a 1×1 convolution where the stride or the channels change.
    "identity": Operator(("s", "c"), ("r",)),
}

Number = int | float
#: Field -> its range, as a condition and in words; all but e and se are whole numbers.
_RANGES: Mapping[str, tuple[Callable[[Number], bool], str]] = {
    "r": (lambda value: value >= 1, "a stage has 1 layer or more"),
    "k": (
        lambda value: value >= 1 and value % 2 == 1,
        "kernels are odd whole numbers (1, 3, 5, ...)",
    ),
    "s": (lambda value: value in (1, 2), "strides are 1 or 2"),
    "e": (lambda value: value >= 1, "expansions are 1 or more"),
    "c": (lambda value: value >= 1, "channels are whole numbers of 1 or more"),
    "se": (lambda value: 0 <= value <= 1, "squeeze-and-excitation ratios are 0 to 1"),
}


def number_text(value: Number) -> str:
    """Return a number as the notation writes it: without an exponent."""
    return format(Decimal(repr(value)), "f")


def problem(field: str, value: Number) -> str | None:
    """Return what is wrong with a field's value, or None where nothing is."""
    if not isfinite(value):
        return f"{field}{value}: numbers are finite"
    whole = isinstance(value, int) and not isinstance(value, bool)
    is_valid, rule = _RANGES[field]
    return (
        None if (whole or field in ("e", "se")) and is_valid(value) else f"{field}{value}: {rule}"
    )


@dataclass(frozen=True, slots=True)
class Stage:
    """One fixed stage; `str(stage)` is its block string and `Stage.parse` reads it back.

    Raises:
        SpaceError: If a value is out of its range or the operator does not take a field.
    """

    op: str
    r: int = 1
    k: int = 1
    s: int = 1
    e: Number = 1
    c: int = 1
    se: Number = 0

    def __post_init__(self) -> None:
        for field in ("e", "se"):  # equal stages have equal texts
            value = getattr(self, field)
            if isinstance(value, float) and value.is_integer():
                object.__setattr__(self, field, int(value))
        operator = OPERATORS.get(self.op)
        if operator is None:
            raise SpaceError(f"unknown operator {self.op!r}; known: {', '.join(OPERATORS)}")
        for field, neutral in (("k", 1), ("e", 1), ("se", 0)):
            if field not in operator.fields and getattr(self, field) != neutral:
                raise SpaceError(
                    f"{self.op} takes no field {field}; its fields: {', '.join(operator.fields)}"
                )
        if self.op == "identity" and self.r != 1:
            raise SpaceError(f"identity has no layers to repeat: r{self.r} must be r1 or left out")
        if self.op == "fused" and self.e == 1 and self.se:
            raise SpaceError(
                "fused with e1 is a single convolution, which has no place for "
                f"squeeze-and-excitation: leave out se{self.se} or choose another expansion"
            )
        for field in FIELDS:
            wrong = problem(field, getattr(self, field))
            if wrong:
                raise SpaceError(wrong)

    def __str__(self) -> str:
        return _block_string(self)

    def changes_nothing(self, channels: int) -> bool:
        """Return whether the stage is no layer at all where its input has `channels`."""
        return self.op == "identity" and self.s == 1 and self.c == channels

    def to_timm(self) -> str:
        """Return the block string of timm's builder that makes the same layers.

        Fused-MBConv with expansion 1 is one k×k convolution, as in Google's code (timm's own
        `er` keeps a second, 1×1 one), and MBConv with expansion 1 has no expanding convolution.
        """
        head = f"r{self.r}_k{self.k}_s{self.s}"
        se = f"_se{number_text(self.se)}" if self.se else ""
        expansion = f"e{number_text(self.e)}"
        if self.op == "identity":
            return f"cn_r1_k1_s{self.s}_c{self.c}"
        if self.op == "conv":
            return f"cn_{head}_c{self.c}"
        if self.op == "fused":
            if self.e == 1:
                return f"cn_{head}_c{self.c}_skip"
            return f"er_{head}_{expansion}_c{self.c}{se}"
        if self.e == 1:
            return f"ds_{head}_c{self.c}{se}"
        return f"ir_{head}_{expansion}_c{self.c}{se}"


def round_channels(channels: float, round_limit: float = 0.9) -> int:
    """Return the nearest multiple of 8 channels, as EfficientNet's code and timm round; 8 or more.

    Args:
        channels: The exact number.
        round_limit: Where rounding would leave less than this share of it, 8 more are taken.
    """
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < round_limit * channels else rounded


@lru_cache(maxsize=1 << 16)  # a search asks for the same stages again and again
def _block_string(stage: Stage) -> str:
    taken = OPERATORS[stage.op].required
    fields = (f"{f}{number_text(getattr(stage, f))}" for f in FIELDS if f in taken)
    text = "_".join([stage.op, *fields])
    return f"{text}_se{number_text(stage.se)}" if stage.se else text
