"""What the timer runs: training steps of whole networks and of single layers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from effnas.arch.architecture import DEFAULT_STEM_STRIDE, Architecture, parse_stage
from effnas.arch.layers import Layer
from effnas.arch.models import build
from effnas.timing.setup import MeasurementSetup
from effnas.train.step import TrainingStep


class NetworkRun:
    """Training steps of a copy of a network on one batch of noise; the network stays as it is.

    Args:
        model: Float images [N, 3, H, W] in, logits [N, classes] out.
        setup: Device, sizes and execution.
    """

    def __init__(self, model: nn.Module, setup: MeasurementSetup) -> None:
        self.step = TrainingStep(copy.deepcopy(model), setup.recipe, setup.execution, setup.device)
        self._images, self._labels = noise_batch(
            setup.device, setup.batch_size, setup.image_size, setup.num_classes
        )

    def __call__(self, mark: Callable[[], None] = lambda: None) -> None:
        """Train on the batch once; `mark` is called after each of the three phases."""
        self.step(self._images, self._labels, mark)


class LayerRun:
    """A training step of a single layer, in three phases that are run one by one.

    In a network, a layer finds its input in the cache, but its activations are no longer there in
    the backward pass; so the phases of several layers are interleaved as in a network.

    Args:
        layer: With its own image size and classes.
        setup: Device, batch size and execution.
    """

    def __init__(self, layer: Layer, setup: MeasurementSetup) -> None:
        device = setup.device
        self.step = TrainingStep(build_layer(layer), setup.recipe, setup.execution, device)
        generator = torch.Generator().manual_seed(0)
        shape = (setup.batch_size, layer.channels, layer.size, layer.size)
        images = torch.randn(shape, generator=generator).to(device)
        # In the step's format, so that nothing is converted there.
        self._input = images.contiguous(memory_format=self.step.memory_format)
        # The stem's input are images, which need no gradient.
        self._needs_gradient = not layer.block.startswith("stem")
        self._gradient = torch.randn_like(self.step.forward(self._input).detach())
        self._output: torch.Tensor | None = None

    @property
    def buffer_bytes(self) -> int:
        """Bytes of its input and of its output's gradient, and of a copy of the latter."""
        return self._input.nbytes + 2 * self._gradient.nbytes

    def forward(self, mark: Callable[[], None]) -> None:
        """Run the forward pass between two marks."""
        fresh = self._input.clone().requires_grad_(self._needs_gradient)
        mark()
        self._output = self.step.forward(fresh)
        mark()

    def backward(self, mark: Callable[[], None]) -> None:
        """Run the backward pass of the last forward pass between two marks."""
        assert self._output is not None
        self.step.optimizer.zero_grad(set_to_none=True)
        fresh = self._gradient.clone()
        mark()
        self._output.backward(fresh)  # type: ignore[no-untyped-call]
        self._output = None
        mark()

    def optimize(self, mark: Callable[[], None]) -> None:
        """Run the optimizer between two marks."""
        mark()
        self.step.optimizer.step()
        mark()


def build_layer(layer: Layer) -> nn.Module:
    """Build one layer as timm builds it inside a network.

    Raises:
        InfeasibleError: If timm cannot build it.
    """
    if layer.block.startswith("stem"):
        name, channels = layer.block.split("c")
        stride = int(name[6:-1] or DEFAULT_STEM_STRIDE)
        arch = _around("conv_r1_k1_s1_c8", stem=int(channels), stem_stride=stride)
        model = build(arch, num_classes=1)
        names = ["conv_stem", "bn1"]
    elif layer.block.startswith("head"):
        head, classes = layer.block[6:].split("_n")
        block = f"conv_r1_k1_s1_c{layer.channels}"
        model = build(_around(block, head=int(head)), num_classes=int(classes))
        names = ["conv_head", "bn2", "global_pool", "classifier"]
    else:
        model = build(_around(layer.block, stem=layer.channels), num_classes=1)
        names = ["blocks"]
    return nn.Sequential(*(model.get_submodule(name) for name in names))


def _around(
    block: str, *, stem: int = 8, head: int = 8, stem_stride: int = DEFAULT_STEM_STRIDE
) -> Architecture:
    return Architecture((parse_stage(block),), stem=stem, head=head, stem_stride=stem_stride)


def noise_batch(
    device: torch.device, batch_size: int, image_size: int, num_classes: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return normal noise [N, 3, H, W] and labels [N] on the device, always the same."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch_size, 3, image_size, image_size, generator=generator)
    labels = torch.randint(max(num_classes, 1), (batch_size,), generator=generator)
    return images.to(device), labels.to(device)


@contextmanager
def fixed_random_state(device: torch.device) -> Iterator[None]:
    """Seed torch's random state with 0, and restore the old one at the end."""
    is_cuda = device.type == "cuda"
    with torch.random.fork_rng([device] if is_cuda else []):
        torch.default_generator.manual_seed(0)  # torch.manual_seed would seed every GPU, too
        if is_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(0)
        yield
