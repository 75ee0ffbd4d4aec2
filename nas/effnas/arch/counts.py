"""Exact counts of a network in plain Python: parameters, multiply-accumulates, activations.

"FLOPs" of the EfficientNet papers are multiply-accumulates of convolutions and linear layers;
biases, batch norm, activations and pooling are not counted. Activations are the elements that
convolutions and linear layers put out (Radosavovic et al. 2020). A test holds both against fvcore.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from effnas.arch.architecture import Architecture
from effnas.arch.blocks import Stage, round_channels
from effnas.errors import ConfigError


class Counts(NamedTuple):
    """What one network holds and does for one image.

    Attributes:
        params: Trainable parameters.
        macs: Multiply-accumulates of a forward pass.
        activations: Elements put out by convolutions and linear layers in a forward pass.
    """

    params: int
    macs: int
    activations: int


def count(
    arch: Architecture, image_size: int, num_classes: int = 1000, in_channels: int = 3
) -> Counts:
    """Count a network without building it.

    Args:
        arch: The network.
        image_size: Height and width of the image in pixels.
        num_classes: Outputs of the classifier; 0 leaves the classifier out.
        in_channels: Channels of the image.

    Raises:
        ConfigError: If the image is smaller than one pixel or the classes are negative.
    """
    if image_size < 1 or num_classes < 0 or in_channels < 1:
        raise ConfigError(
            f"cannot count at image_size={image_size}, num_classes={num_classes}, "
            f"in_channels={in_channels}: sizes are 1 or more, classes 0 or more"
        )
    if arch.model:
        from effnas.arch.models import count_model  # takes seconds to import

        return Counts(*count_model(arch.model, image_size, num_classes))
    shapes = stage_shapes(arch, image_size)
    pixels = shapes[0][1] ** 2
    params = 9 * in_channels * arch.stem + 2 * arch.stem
    macs = 9 * in_channels * arch.stem * pixels
    activations = arch.stem * pixels
    for stage, (channels, size) in zip(arch.stages, shapes, strict=False):
        stage_params, stage_macs, stage_activations = count_stage(stage, channels, size)
        params += stage_params
        macs += stage_macs
        activations += stage_activations
    channels, size = shapes[-1]
    pixels = size * size
    head = arch.head
    params += channels * head + 2 * head + head * num_classes + num_classes
    macs += channels * head * pixels + head * num_classes
    activations += head * pixels + num_classes
    return Counts(params, macs, activations)


def downsampled(size: int, stride: int) -> int:
    """Return height and width, in pixels, of what a layer of that stride puts out."""
    return -(-size // stride)


def stage_shapes(arch: Architecture, image_size: int) -> list[tuple[int, int]]:
    """Return channels and size (height and width in pixels) of the input of every stage.

    The last item, one more than there are stages, is the input of the head.
    """
    size = downsampled(image_size, arch.stem_stride)
    shapes = [(arch.stem, size)]
    for stage in arch.stages:
        size = -(-size // stage.s)  # `downsampled`, without the call: counting is hot
        shapes.append((stage.c, size))
    return shapes


@lru_cache(maxsize=1 << 16)
def count_stage(stage: Stage, channels: int, size: int) -> Counts:
    """Count one stage, whose input has `channels` and `size` pixels a side, without building it."""
    if stage.changes_nothing(channels):
        return Counts(0, 0, 0)
    params, macs, activations = _layer(stage, channels, size, stage.s)
    if (more := stage.r - 1) > 0:
        other = _layer(stage, stage.c, -(-size // stage.s), 1)
        params += more * other[0]
        macs += more * other[1]
        activations += more * other[2]
    return Counts(params, macs, activations)


def _layer(stage: Stage, c_in: int, size_in: int, stride: int) -> tuple[int, int, int]:
    """Return params, MACs and activations of one layer of a stage."""
    c_out = stage.c
    size_out = -(-size_in // stride)
    pixels_in, pixels_out = size_in * size_in, size_out * size_out
    kernel_area = stage.k * stage.k
    if stage.op in ("conv", "identity") or (stage.op == "fused" and stage.e == 1):
        weights = kernel_area * c_in * c_out
        return weights + 2 * c_out, weights * pixels_out, c_out * pixels_out

    # A depthwise-separable block (MBConv with expansion 1) has no expanding convolution.
    width = round_channels(c_in * float(stage.e)) if stage.e != 1 else c_in
    params = macs = activations = 0
    if stage.op == "fused":
        weights = kernel_area * c_in * width
        params += weights + 2 * width
        macs += weights * pixels_out
        activations += width * pixels_out
    else:
        if stage.e != 1:
            params += c_in * width + 2 * width
            macs += c_in * width * pixels_in
            activations += width * pixels_in
        params += kernel_area * width + 2 * width
        macs += kernel_area * width * pixels_out
        activations += width * pixels_out
    if stage.se:
        # timm derives the squeezed width from the inner one; the order of operations matters.
        squeezed = round(width * (stage.se / float(stage.e)))
        params += 2 * width * squeezed + squeezed + width
        macs += 2 * width * squeezed
        activations += squeezed + width
    params += width * c_out + 2 * c_out
    macs += width * c_out * pixels_out
    activations += c_out * pixels_out
    return params, macs, activations
