"""What the tests of exports share: a small network, and weights whose logits are not small."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import nn

from effnas import Architecture
from effnas.train.checkpoints import save_weights, weights_file

ARCH = Architecture.parse(
    "fused_r1_k3_s1_e1_c8 fused_r2_k3_s2_e4_c12 mbconv_r2_k5_s2_e3_c20_se0.25 identity_s1_c24",
    stem=8,
    head=32,
)
CLASSES, SIZE = 7, 24


@cache
def trained_like(arch: Architecture = ARCH, classes: int = CLASSES) -> nn.Module:
    """A network whose moving averages are those of a network that has seen images."""
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        model = arch.build(num_classes=classes)
        for _ in range(20):
            model(torch.randn(4, 3, SIZE, SIZE))
    return model.eval()


def write_weights(folder: Path, arch: Architecture = ARCH, classes: int = CLASSES) -> Path:
    save_weights(folder, arch, 0, trained_like(arch, classes))
    return weights_file(folder, arch, 0)
