"""A network as a drawing: its stages as rows of bars, one bar a layer, as wide as its channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from effnas.arch.architecture import Architecture
from effnas.arch.blocks import Stage, number_text
from effnas.arch.counts import stage_shapes

#: Pixels: of the drawing, of a line of text, and of a bar with the gap below it.
WIDTH, _LINE, _BAR = 360, 20, 7
#: Bars of a stage that are drawn at most.
_MOST_BARS = 12
_OPERATORS = {"mbconv": "MBConv", "fused": "Fused-MBConv", "conv": "Conv", "identity": "Identity"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """A stage, the stem or the head.

    Attributes:
        y: Of its text, in pixels.
        kind: The operator; `end` for stem and head.
        words: Its parts in words, each with whether the reference has another one.
        shape: Output channels and size.
        bars: y of each bar.
        width: Of the bars, in pixels.
    """

    y: int
    kind: str
    words: Sequence[tuple[str, bool]]
    shape: str
    bars: Sequence[int]
    width: float


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A network to draw.

    Attributes:
        name: What it is.
        rows: From the stem to the head.
        height: Pixels.
        text: The block strings.
    """

    name: str
    rows: Sequence[Row]
    height: int
    text: str

    @property
    def has_marks(self) -> bool:
        """Whether anything is marked that another network has otherwise."""
        return any(differs for row in self.rows for _, differs in row.words)


def draw(
    name: str, arch: Architecture, image_size: int, other: Architecture | None = None
) -> Drawing:
    """Return the drawing of a network; what another one has otherwise is marked."""
    widest = sqrt(max(arch.stem, arch.head, *(stage.c for stage in arch.stages)))
    others = other.stages if other and len(other.stages) == len(arch.stages) else None
    shapes = stage_shapes(arch, image_size)
    rows: list[Row] = []
    y = _LINE

    def add(
        kind: str, words: Sequence[tuple[str, bool]], channels: int, size: int, layers: int
    ) -> None:
        nonlocal y
        bars = [y + 6 + _BAR * n for n in range(min(layers, _MOST_BARS))]
        rows.append(Row(y=y, kind=kind, words=words, shape=f"{channels} ch · {size}×{size}",
                        bars=bars, width=WIDTH * sqrt(channels) / widest))  # fmt: skip
        y = bars[-1] + _BAR + _LINE

    add("end", [("stem, conv 3×3", False)], arch.stem, shapes[0][1], 1)
    for n, stage in enumerate(arch.stages):
        words = _words(stage, others[n] if others else None)
        add(stage.op, words, stage.c, shapes[n + 1][1], stage.r)
    add("end", [("head, conv 1×1", False)], arch.head, shapes[-1][1], 1)
    return Drawing(name=name, rows=rows, height=y - _LINE + 4, text=str(arch))


def _words(stage: Stage, other: Stage | None) -> list[tuple[str, bool]]:
    def differs(field: str) -> bool:
        return other is not None and getattr(stage, field) != getattr(other, field)

    words = [(_OPERATORS.get(stage.op, stage.op), differs("op"))]
    if stage.op != "identity":
        words += [(f"×{stage.r}", differs("r")), (f"{stage.k}×{stage.k}", differs("k"))]
    if stage.op in ("mbconv", "fused"):
        words.append((f"e{number_text(stage.e)}", differs("e")))
        if stage.se or differs("se"):
            shown = f"SE {number_text(stage.se)}" if stage.se else "no SE"
            words.append((shown, differs("se")))
    return words
