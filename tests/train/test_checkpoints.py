"""Trainings that are stopped and resumed: the same to the bit, whatever the checkpoint is."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from effnas import Architecture
from effnas.arch.models import build
from effnas.config.settings import Execution, Recipe
from effnas.errors import ConfigError, StoreError
from effnas.train.checkpoints import Checkpoint
from effnas.train.proxy import ProxyData, ProxyResult, train_proxy

ARCH = Architecture.parse(
    ["fused_r1_k3_s2_e1_c8", "mbconv_r1_k3_s2_e2_c16_se0.25"], stem=8, head=16
)
RECIPE = Recipe(epochs=3, batch_size=16, image_size=16)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data() -> ProxyData:
    generator = torch.Generator().manual_seed(0)

    def part(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.arange(count) % 4
        images = torch.randint(0, 60, (count, 3, 16, 16), generator=generator)
        return (images + 60 * labels[:, None, None, None] // 2).to(torch.uint8), labels

    (train_images, train_labels), (holdout_images, holdout_labels) = part(40), part(20)
    return ProxyData(train_images, train_labels, holdout_images, holdout_labels, num_classes=4)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return Checkpoint.of(tmp_path / "checkpoints", ARCH, seed=3, fidelity="4 epochs")


def train(
    data: ProxyData,
    recipe: Recipe = RECIPE,
    execution: Execution = Execution(),  # noqa: B008 - frozen
    **stop: Any,
) -> tuple[ProxyResult, nn.Module]:
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        model = build(
            ARCH, num_classes=4, drop_rate=recipe.drop_rate, drop_path_rate=recipe.drop_path_rate
        )
    return train_proxy(model, data, recipe, execution, flip=True, seed=3, **stop), model


def same(one: tuple[ProxyResult, nn.Module], other: tuple[ProxyResult, nn.Module]) -> bool:
    """Whether two trainings gave the same to the bit, all but how long they took."""
    weights = [model.state_dict() for _, model in (one, other)]
    return replace(one[0], train_time_s=0.0) == replace(other[0], train_time_s=0.0) and all(
        torch.equal(weights[0][name], weights[1][name]) for name in weights[0]
    )


# Optimizers that keep numbers and tensors, or copies of the weights.
SETTINGS = {
    "dropout": (replace(RECIPE, drop_rate=0.3, drop_path_rate=0.3), Execution()),
    "bfloat16": (RECIPE, Execution(precision="bfloat16", memory_format="channels_last")),
    "lookahead": (replace(RECIPE, optimizer="lookahead_adamw"), Execution()),
}


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_resumed_training_is_an_unbroken_one_to_the_bit(
    data: ProxyData, checkpoint: Checkpoint, setting: str
) -> None:
    recipe, execution = SETTINGS[setting]
    whole = train(data, recipe, execution)
    results = []
    for epochs in (1, 2, 3):
        torch.manual_seed(epochs)  # what must not matter
        found = train(data, recipe, execution, epochs=epochs, checkpoint=checkpoint)
        results.append(found[0])
    assert same(found, whole)
    seconds = [result.train_time_s for result in results]
    assert 0 < seconds[0] < seconds[1] < seconds[2]
    assert len({result.train_loss for result in results}) == 3


@pytest.mark.slow
def test_only_what_the_checkpoint_lacks_is_trained(
    data: ProxyData, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    from effnas.train.step import TrainingStep

    steps = []
    step = TrainingStep.__call__
    monkeypatch.setattr(
        TrainingStep, "__call__", lambda self, *arguments: steps.append(1) or step(self, *arguments)
    )
    counts, found = [], []
    for epochs in (1, 1, 2, 3, 3):  # the second as after a kill before the result was stored
        found.append(train(data, epochs=epochs, checkpoint=checkpoint))
        counts.append(len(steps))
        steps.clear()
    assert counts == [2, 0, 2, 2, 2]
    assert same(found[0], found[1])
    assert found[0][0].train_time_s == found[1][0].train_time_s
    # The file is of the last stop before the end; a shorter training starts again.
    assert same(train(data, epochs=1, checkpoint=checkpoint), found[0])
    assert len(steps) == 2


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def header_without(key: str, path: Path) -> None:
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    del header["__metadata__"][key]
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])


@pytest.mark.parametrize(
    "spoil",
    [
        torn,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\xff" * 5000),
        lambda path: header_without("owner", path),
        lambda path: header_without("state", path),
        lambda path: (path.unlink(), path.mkdir()),
    ],
    ids=["torn", "empty", "noise", "no owner", "no state", "a folder"],
)
def test_a_damaged_checkpoint_is_ignored(checkpoint: Checkpoint, spoil: Any) -> None:
    checkpoint.save({"n": torch.zeros(100)})
    spoil(checkpoint.path)
    assert checkpoint.load() is None


def test_the_checkpoint_of_another_training_is_ignored(
    data: ProxyData, checkpoint: Checkpoint
) -> None:
    for other in ({"seed": 4}, {"fidelity": "8 epochs"}, {"architecture": "0123456789ab"}):
        foreign = replace(checkpoint, owner={**checkpoint.owner, **other})
        foreign.save({"n": 1})
        assert foreign.load() is not None
        assert checkpoint.load() is None
    few = replace(RECIPE, epochs=1)
    assert same(train(data, few, checkpoint=checkpoint), train(data, few))


def test_a_state_is_read_as_it_was_written(checkpoint: Checkpoint) -> None:
    last = torch.arange(24.0).reshape(1, 2, 3, 4).contiguous(memory_format=torch.channels_last)
    state = {
        "nested": {0: {"step": torch.tensor(3.0), "betas": (0.9, 0.1 + 0.2)}, 7: [None, True]},
        "texts": ["tensor", {"dict": "list"}],
        "layout": last,
        "bytes": torch.get_rng_state(),
        "empty": {"t": (), "l": [], "d": {}, "x": torch.zeros(0, 3)},
    }
    checkpoint.save(state)
    found: Any = checkpoint.load()
    assert torch.equal(found["layout"], last)
    assert found["layout"].stride() == last.stride()
    assert torch.equal(found["bytes"], torch.get_rng_state())
    assert torch.equal(found["nested"][0].pop("step"), torch.tensor(3.0))
    assert found["empty"].pop("x").shape == (0, 3)
    assert found["nested"] == {0: {"betas": (0.9, 0.1 + 0.2)}, 7: [None, True]}
    assert found["texts"] == state["texts"]
    assert found["empty"] == {"t": (), "l": [], "d": {}}


def test_a_crash_while_writing_leaves_the_old_file(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save({"n": 1})

    def crash(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save({"n": 2})
    assert checkpoint.load() == {"n": 1}
    checkpoint.delete()
    assert list(checkpoint.path.parent.iterdir()) == []
    checkpoint.delete()  # once more does no harm


def test_what_cannot_be_written_is_an_error(checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="choose another optimizer"):
        checkpoint.save({"n": {"set": {1, 2}}})
    (tmp_path / "checkpoints").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be written"):
        checkpoint.save({"n": 1})
    assert asdict(checkpoint)["owner"]["architecture"] == ARCH.id
