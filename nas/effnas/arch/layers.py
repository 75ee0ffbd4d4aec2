"""The layers of a network, stem and head included, each with the shape of its input.

A training step's time and memory are about the sum of those of the layers, and a space has far
fewer layers than networks.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from effnas.arch.architecture import DEFAULT_STEM_STRIDE, Architecture
from effnas.arch.blocks import Stage
from effnas.arch.counts import downsampled, stage_shapes
from effnas.config.codec import Size


@dataclass(frozen=True, order=True)
class Layer:
    """One layer of a network, in its place.

    Attributes:
        block: The block string of a single layer; `stem_cN` with N channels, `stem_s1_cN` with
            stride 1; or `head_cN_nM` with N channels and M classes.
        channels: Channels of its input.
        size: Height and width of its input in pixels.
    """

    block: str
    channels: Size
    size: Size

    def __str__(self) -> str:
        return f"{self.block} on {self.channels}x{self.size}x{self.size}"


def layers_of(arch: Architecture, *, image_size: int, num_classes: int) -> Counter[Layer]:
    """Return the layers of a network for square images, and how often each occurs."""
    found = Counter([stem_layer(arch.stem, arch.stem_stride, image_size)])
    shapes = stage_shapes(arch, image_size)
    for stage, (channels, size) in zip(arch.stages, shapes, strict=False):
        found.update(layers_of_stage(stage, channels, size))
    channels, size = shapes[-1]
    found[Layer(f"head_c{arch.head}_n{num_classes}", channels, size)] += 1
    return found


def stem_layer(channels: int, stride: int, image_size: int) -> Layer:
    """Return the stem of a network for square RGB images."""
    # Layers of profiles from before the stride could be chosen stay.
    stride_text = "" if stride == DEFAULT_STEM_STRIDE else f"s{stride}_"
    return Layer(f"stem_{stride_text}c{channels}", 3, image_size)


def layers_of_stage(stage: Stage, channels: int, size: int) -> Counter[Layer]:
    """Return the layers of a stage; an `identity` that changes nothing has none."""
    if stage.changes_nothing(channels):
        return Counter()
    first = replace(stage, r=1)
    found = Counter([Layer(str(first), channels, size)])
    if stage.r > 1:
        later = replace(first, s=1)
        found[Layer(str(later), stage.c, downsampled(size, stage.s))] += stage.r - 1
    return found
