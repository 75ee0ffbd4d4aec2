"""Every layer that a network of a space can have."""

from __future__ import annotations

from effnas.arch.counts import downsampled
from effnas.arch.layers import Layer, layers_of_stage, stem_layer
from effnas.space.search_space import SearchSpace


def layers_of_space(space: SearchSpace, *, num_classes: int) -> list[Layer]:
    """Return every layer that a network of the space can have, in a fixed order."""
    image_size, stride = space.target.image_size, space.stem_stride
    found = {stem_layer(space.stem, stride, image_size): None}
    inputs = {(space.stem, downsampled(image_size, stride)): None}
    for stage_space in space.stages:
        stages = list(stage_space.stages())
        outputs: dict[tuple[int, int], None] = {}
        for channels, size in inputs:
            for stage in stages:
                found |= dict.fromkeys(layers_of_stage(stage, channels, size))
                outputs[stage.c, downsampled(size, stage.s)] = None
        inputs = outputs
    head = f"head_c{space.head}_n{num_classes}"
    found |= {Layer(head, channels, size): None for channels, size in inputs}
    return list(found)
