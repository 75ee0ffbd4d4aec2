"""effnas with one more model for timm: the nine-layer network of the CIFAR-10 speed record.

    python benchmarks/speed_record.py train cifar_speed_record --data cifar10.tar.gz ...

Takes the arguments of `effnas`. The network is that of KellerJordan/cifar10-airbench (94 %, 2024),
from the figures of its description: a 2x2 convolution to 24 channels whose filters whiten patches
and are frozen, three groups of two 3x3 convolutions with 64, 256 and 256 channels, GELU, batch norm
without scale, a classifier without bias whose output is divided by the width. It is trained by
effnas's recipes here, and not by the record's own. The whitening needs images: it is made of the
first batch that the network sees.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.models import register_model
from torch import nn
from torch.nn.functional import conv2d, gelu, max_pool2d

NAME = "cifar_speed_record"
_WIDTHS = (64, 256, 256)
_PATCH, _CHANNELS = 2, 24
_WHITENING_EPS = 5e-4


class Whitening(nn.Module):
    """A frozen convolution with the eigenvectors of patches over the roots of their eigenvalues."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filters", torch.zeros(_CHANNELS, 3, _PATCH, _PATCH))
        self.register_buffer("is_made", torch.zeros((), dtype=torch.bool))
        self.bias = nn.Parameter(torch.zeros(_CHANNELS))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Whiten float images [N, 3, H, W] to [N, 24, H-1, W-1]."""
        if self.training and images.device.type != "meta" and not bool(self.is_made):
            self._make(images.detach().float())
        return conv2d(images, self.filters.to(images.dtype), self.bias)

    @torch.no_grad()
    def _make(self, images: torch.Tensor) -> None:
        parts = images.unfold(2, _PATCH, 1).unfold(3, _PATCH, 1)
        flat = parts.permute(0, 2, 3, 1, 4, 5).reshape(-1, 3 * _PATCH**2)
        values, vectors = torch.linalg.eigh(flat.T @ flat / len(flat))
        filters = (vectors / (values + _WHITENING_EPS).sqrt()).T.reshape(-1, 3, _PATCH, _PATCH)
        self.filters.copy_(torch.cat([filters, -filters]))
        self.is_made.fill_(True)


class Group(nn.Module):
    """Two convolutions, a pooling between them, each with batch norm and GELU."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv1 = _dirac(nn.Conv2d(c_in, c_out, 3, padding=1, bias=False))
        self.conv2 = _dirac(nn.Conv2d(c_out, c_out, 3, padding=1, bias=False))
        self.norm1, self.norm2 = _norm(c_out), _norm(c_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output, with half the size."""
        x = gelu(self.norm1(max_pool2d(self.conv1(x), 2)))
        return gelu(self.norm2(self.conv2(x)))


class SpeedRecord(nn.Module):
    """The network; float images [N, 3, H, W] in, logits [N, classes] out."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.whitening = Whitening()
        widths = (_CHANNELS, *_WIDTHS)
        self.groups = nn.Sequential(*(Group(a, b) for a, b in zip(widths, _WIDTHS, strict=False)))
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.classifier = nn.Linear(_WIDTHS[-1], num_classes, bias=False)
        with torch.no_grad():
            self.classifier.weight.mul_(1 / self.classifier.weight.std())
        self.drop_rate = 0.0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits [N, classes]."""
        x = self.groups(gelu(self.whitening(images)))
        return self.classifier(self.pool(x).flatten(1)) / _WIDTHS[-1]


def _norm(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels, eps=1e-12, momentum=0.4)
    norm.weight.requires_grad_(False)
    return norm


def _dirac(conv: nn.Conv2d) -> nn.Conv2d:
    with torch.no_grad():
        nn.init.dirac_(conv.weight[: conv.in_channels])
    return conv


@register_model
def cifar_speed_record(
    pretrained: bool = False, num_classes: int = 10, **others: Any
) -> SpeedRecord:
    """Return the network, as timm makes models; it has no stochastic depth."""
    del pretrained, others
    return SpeedRecord(num_classes)


if __name__ == "__main__":
    from effnas.cli.app import main

    main()
