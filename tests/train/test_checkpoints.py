"""Trainings that are stopped and resumed: the same to the bit, whatever the checkpoint is."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_training import ARCH, make_training, weights

from effnas.config.recipe import Recipe
from effnas.config.regularization import Ramp
from effnas.config.settings import Execution
from effnas.data.images import ImageSet
from effnas.errors import ConfigError, StoreError
from effnas.train.checkpoints import Checkpoint
from effnas.train.progress import Watcher

RECIPE = Recipe(
    epochs=3, batch_size=16, stages=2, image_size=(12, 16), optimizer="nadamw", ema_decay=0.9
)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def images() -> ImageSet:
    labels = np.arange(40) % 4
    pixels = np.random.default_rng(0).integers(0, 60, (40, 16, 16, 3), dtype=np.uint8)
    pixels += (30 * labels).astype(np.uint8)[:, None, None, None]
    return ImageSet(images=pixels, labels=labels, classes=tuple("abcd"))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return Checkpoint.of(tmp_path / "checkpoints", ARCH, seed=3, fidelity="4 epochs")


# Optimizers that keep numbers and tensors, or copies of the weights.
SETTINGS = {
    "dropout": (replace(RECIPE, dropout=Ramp(0.1, 0.3), drop_path=Ramp(0.3, 0.3)), Execution()),
    "bfloat16": (RECIPE, Execution(precision="bfloat16", memory_format="channels_last")),
    "lookahead": (replace(RECIPE, optimizer="lookahead_adamw", ema_decay=None), Execution()),
}


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_resumed_training_is_an_unbroken_one_to_the_bit(
    images: ImageSet, checkpoint: Checkpoint, setting: str
) -> None:
    recipe, execution = SETTINGS[setting]
    whole = make_training(images, recipe, execution=execution, flip=True)
    whole.run(Watcher())
    seconds = []
    for step in (1, 4, 6):  # in an epoch, at an end of one, and at that of all
        torch.manual_seed(step)  # what must not matter
        found = make_training(images, recipe, execution=execution, flip=True)
        found.resume(checkpoint)
        assert found.run(Watcher(), checkpoint, until=step) == (step == 6)
        assert found.progress.step == step
        seconds.append(found.progress.train_time_s)
    assert found.train_loss == whole.train_loss
    assert all(map(torch.equal, weights(found), weights(whole)))
    assert 0 < seconds[0] < seconds[1] < seconds[2]


def test_a_state_that_cannot_be_used_is_not_passed_over(
    images: ImageSet, checkpoint: Checkpoint
) -> None:
    replace(checkpoint, owner={**checkpoint.owner, "seed": 4}).save({"n": 1})
    with pytest.raises(StoreError, match="state cannot be used"):
        make_training(images, RECIPE).resume(checkpoint)


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


def test_the_checkpoint_of_another_training_is_ignored(checkpoint: Checkpoint) -> None:
    for other in ({"seed": 4}, {"fidelity": "8 epochs"}, {"architecture": "0123456789ab"}):
        foreign = replace(checkpoint, owner={**checkpoint.owner, **other})
        foreign.save({"n": 1})
        assert foreign.load() is not None
        assert checkpoint.load() is None


def test_what_belongs_to_a_training_is_stored_with_every_state(checkpoint: Checkpoint) -> None:
    planned = replace(checkpoint, beside={"plan": [[8, 3, 0.5]]})
    planned.save({"n": 1})
    assert checkpoint.load() == {"n": 1, "plan": [[8, 3, 0.5]]}


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
