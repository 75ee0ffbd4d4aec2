"""Weights of files: only those of the network are taken, and what differs is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from networks import ARCH, CLASSES, write_weights
from safetensors.torch import load_file, save_file
from torch import Tensor

from effnas import Architecture
from effnas.errors import ConfigError
from effnas.export.weights import classes_of, make_model

State = dict[str, Tensor]
WIDER = Architecture.parse(str(ARCH).replace("c12", "c16"), stem=8, head=32)
#: Of the same shapes, but without the residual.
PLAIN = Architecture.parse("conv_r2_k3_s1_c8", stem=8, head=16)
RESIDUAL = Architecture.parse("fused_r2_k3_s1_e1_c8", stem=8, head=16)


def test_random_weights_are_the_same_always_and_leave_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    one, other = (make_model(ARCH, CLASSES, None).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s | {"extra": torch.zeros(1)}, "the network has no tensor extra"),
        (
            lambda s: s | {"conv_stem.weight": s["conv_stem.weight"].half()},
            "conv_stem.weight is torch.float16 and must be torch.float32",
        ),
        (lambda s: s | {"bn2.bias": torch.zeros(3)}, r"bn2.bias is \[3\] and must be \[32\]"),
        (lambda s: {}, "lacks the tensor conv_stem.weight"),
    ],
)
def test_the_first_tensor_that_differs_is_named(
    tmp_path: Path, change: Callable[[State], State], words: str
) -> None:
    file = tmp_path / "w.safetensors"
    save_file(change(load_file(write_weights(tmp_path))), file)
    with pytest.raises(ConfigError, match=words) as raised:
        make_model(ARCH, CLASSES, file)
    assert str(raised.value).startswith(str(file))
    assert "\n" not in str(raised.value)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"blocks\.1\.0\.conv_pwl\.weight is \[16, 32, 1, 1\]"):
        make_model(ARCH, CLASSES, write_weights(tmp_path, WIDER))
    with pytest.raises(ConfigError, match=f"weights of effnas_{PLAIN.id}"):
        make_model(RESIDUAL, 5, write_weights(tmp_path, PLAIN, 5))
    with pytest.raises(ConfigError, match=r"classifier\.weight .*or leave out `classes`"):
        make_model(ARCH, CLASSES + 1, write_weights(tmp_path))


def test_what_is_no_safetensors_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    assert classes_of(write_weights(tmp_path)) == {"num_classes": CLASSES}
    with pytest.raises(ConfigError, match="cannot be read"):
        classes_of(file)
    torch.save({"conv_stem.weight": torch.zeros(1)}, file)  # a pickle
    with pytest.raises(ConfigError, match="not a whole safetensors file"):
        classes_of(file)
    whole = write_weights(tmp_path).read_bytes()
    for content in (b"", whole[: len(whole) // 2]):
        file.write_bytes(content)
        with pytest.raises(ConfigError, match="not a whole safetensors file"):
            make_model(ARCH, CLASSES, file)
