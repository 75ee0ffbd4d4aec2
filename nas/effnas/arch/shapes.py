"""The shapes that run through a network: what comes into each of its stages, and into its head."""

from __future__ import annotations

from effnas.arch.architecture import Architecture


def downsampled(size: int, stride: int) -> int:
    """Return height and width, in pixels, of what a layer of that stride puts out."""
    return -(-size // stride)


def stage_shapes(arch: Architecture, image_size: int) -> list[tuple[int, int]]:
    """Return channels and size (height and width in pixels) of the input of every stage.

    The last item, one more than there are stages, is the input of the head.

    Args:
        arch: The network.
        image_size: Height and width of the image in pixels.
    """
    size = downsampled(image_size, 2)
    shapes = [(arch.stem, size)]
    for stage in arch.stages:
        size = -(-size // stage.s)  # `downsampled`, without the call: counting is hot
        shapes.append((stage.c, size))
    return shapes
