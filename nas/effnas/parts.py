"""The parts of a network: stem, layers and head, each with the shape of what comes in.

A training step's time and memory are about the sum of those of its parts, and a space has far fewer
parts than networks.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from effnas.architecture import Architecture, Stage

if TYPE_CHECKING:
    from effnas.space import SearchSpace


@dataclass(frozen=True, order=True)
class Part:
    """One layer of a network, in its place.

    Attributes:
        block: The block string of a single layer, `stem_cN` with N channels, or `head_cN_nM` with
            N channels and M classes.
        channels: Channels of its input.
        size: Height and width of its input in pixels.
    """

    block: str
    channels: int
    size: int

    def __str__(self) -> str:
        return f"{self.block} on {self.channels}x{self.size}x{self.size}"


def parts_of(arch: Architecture, *, image_size: int, num_classes: int) -> Counter[Part]:
    """Return the parts of a network and how often each occurs.

    Args:
        arch: The network.
        image_size: Height and width of the image in pixels.
        num_classes: Outputs of the classifier.
    """
    found = Counter([Part(f"stem_c{arch.stem}", 3, image_size)])
    channels, size = arch.stem, -(-image_size // 2)
    for stage in arch.stages:
        found.update(_layers(stage, channels, size))
        channels, size = stage.c, -(-size // stage.s)
    found[Part(f"head_c{arch.head}_n{num_classes}", channels, size)] += 1
    return found


def parts_of_space(space: SearchSpace, *, num_classes: int) -> list[Part]:
    """Return every part that a network of the space can have, in a fixed order."""
    found = {Part(f"stem_c{space.stem}", 3, space.target.image_size): None}
    inputs = {(space.stem, -(-space.target.image_size // 2)): None}
    for stage_space in space.stages:
        stages = list(stage_space.stages())
        outputs: dict[tuple[int, int], None] = {}
        for channels, size in inputs:
            for stage in stages:
                found |= dict.fromkeys(_layers(stage, channels, size))
                outputs[stage.c, -(-size // stage.s)] = None
        inputs = outputs
    head = f"head_c{space.head}_n{num_classes}"
    found |= {Part(head, channels, size): None for channels, size in inputs}
    return list(found)


def _layers(stage: Stage, channels: int, size: int) -> Counter[Part]:
    """Return the layers of a stage; an `identity` that changes nothing has none."""
    if stage.op == "identity" and stage.s == 1 and stage.c == channels:
        return Counter()
    first = replace(stage, r=1)
    found = Counter([Part(str(first), channels, size)])
    if stage.r > 1:
        again = replace(first, s=1)
        found[Part(str(again), stage.c, -(-size // stage.s))] += stage.r - 1
    return found
