"""Weights on disk: written whole or not at all, and taken by a model all or none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from effnas.arch.weights import (
    ARCHITECTURE,
    read_weights,
    shapes_of,
    write_weights,
)
from effnas.errors import ConfigError, StoreError

OWNER = {ARCHITECTURE: "0123456789abcdef"}


def network(classes: int = 3, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = nn.Sequential()
        model.add_module("conv", nn.Conv2d(3, 4, 3))
        model.add_module("bn", nn.BatchNorm2d(4))
        model.add_module("head", nn.Linear(4, classes))
    return model


def read(model: nn.Module, file: Path, **options: object) -> None:
    given = {"architecture_id": OWNER[ARCHITECTURE], "remedy": "give another file"} | options
    read_weights(model, file, **given)  # type: ignore[arg-type]


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """A context in which a model keeps all its weights."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    yield
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Weights of a network with 3 classes, in a folder that is made for them."""
    path = tmp_path / "deep" / "w.safetensors"
    write_weights(path, network(), OWNER)
    return path


def test_what_is_written_is_read_and_says_whose_it_is(file: Path) -> None:
    assert [one.name for one in file.parent.iterdir()] == ["w.safetensors"]
    with safe_open(file, framework="pt") as opened:
        assert opened.metadata() == OWNER
    expected = network().state_dict()
    assert shapes_of(file) == {name: tuple(t.shape) for name, t in sorted(expected.items())}
    model = network(seed=1)
    read(model, file)
    assert all(torch.equal(t, expected[name]) for name, t in model.state_dict().items())
    assert load_file(file).keys() == expected.keys()


def test_weights_that_cannot_be_written_leave_the_old_ones(file: Path) -> None:
    before = file.read_bytes()
    file.with_name(f"{file.name}.tmp").mkdir()
    with pytest.raises(StoreError, match=r"w.safetensors: cannot be written \(Is a dir") as raised:
        write_weights(file, network(seed=1), OWNER)
    assert "\n" not in str(raised.value)
    assert file.read_bytes() == before


def test_what_is_left_out_the_model_keeps(file: Path) -> None:
    head = ("head.weight", "head.bias")
    model = network(classes=5, seed=1)
    kept = {name: model.state_dict()[name].clone() for name in head}
    read(model, file, left_out=head)
    expected = {**network().state_dict(), **kept}
    assert all(torch.equal(t, expected[name]) for name, t in model.state_dict().items())


def test_a_hint_is_added_where_a_shape_differs(file: Path) -> None:
    hints = {"head.weight": " (the data have 5 classes)", "conv.weight": " (no)"}
    model = network(classes=5)
    with (
        unchanged(model),
        pytest.raises(ConfigError, match=r"head.weight is \[3, 4\] and must be \[5, 4\]") as raised,
    ):
        read(model, file, hints=hints)
    assert str(raised.value).endswith("; give another file (the data have 5 classes)")
    assert "\n" not in str(raised.value)


def test_weights_of_another_architecture_are_refused_though_shapes_agree(file: Path) -> None:
    model = network(seed=1)
    with unchanged(model), pytest.raises(ConfigError, match=r"weights of effnas_0123456789abcdef;"):
        read(model, file, architecture_id="f" * 16)
    read(model, file, architecture_id=None)  # a model of timm's: shapes are all that is known


def test_a_model_with_a_wrong_tensor_keeps_all_of_its_own(file: Path) -> None:
    wrong = network()
    with torch.no_grad():
        wrong.get_parameter("head.bias")[1] = torch.nan
    write_weights(file, wrong, OWNER)
    model = network(seed=1)
    with (
        unchanged(model),
        pytest.raises(ConfigError, match=r"head\.bias is not finite; give another"),
    ):
        read(model, file)
