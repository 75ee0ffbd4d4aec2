"""Whole trainings of a tiny network: stopped and resumed, seeds, micro-batches, precisions."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import ARCH, BLOCKS, RECIPE, images, stop_after, timeless
from torch import nn

from effnas.config.recipe import Recipe
from effnas.config.settings import Execution, Precision
from effnas.data.images import ImageSet
from effnas.train.checkpoints import Checkpoint
from effnas.train.network import make_network
from effnas.train.progress import Watcher
from effnas.train.stages import stages_of
from effnas.train.training import Training

CPU = torch.device("cpu")
TRAIN, MINIVAL = images(80), images(20, seed=1)  # five steps in an epoch


class Notes(Watcher):
    """A watcher that remembers the best model."""

    def __init__(self) -> None:
        self.best: dict[str, torch.Tensor] = {}

    def improved(self, model: nn.Module) -> None:
        self.best = {name: t.clone() for name, t in model.state_dict().items()}


def training(
    recipe: Recipe = RECIPE,
    *,
    seed: int = 0,
    micro_batches: int = 2,
    precision: Precision = "float32",
    train: ImageSet = TRAIN,
    minival: ImageSet | None = MINIVAL,
    model: nn.Module | None = None,
) -> Training:
    if model is None:
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            model = make_network(ARCH, BLOCKS, recipe, num_classes=4)
    stages = stages_of(recipe, steps_per_epoch=len(train) // recipe.batch_size, seed=seed)
    return Training(
        model,
        train,
        minival,
        recipe,
        stages,
        [micro_batches] * len(stages),
        execution=Execution(precision=precision),
        device=CPU,
        flip=True,
        seed=seed,
    )


def flat(state: object, name: str = "") -> dict[str, object]:
    """Return the leaves of nested data by their place; times are left out."""
    if isinstance(state, dict):
        pairs = list(state.items())
    elif isinstance(state, list | tuple):
        pairs = list(enumerate(state))
    else:
        return {name: state}
    return {
        place: leaf
        for key, value in pairs
        if "_time" not in str(key)
        for place, leaf in flat(value, f"{name}/{key}").items()
    }


def assert_same(one: object, other: object) -> None:
    """See that two states are equal, tensors to the bit."""
    first, second = flat(one), flat(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        if isinstance(value, torch.Tensor):
            there = second[name]
            assert isinstance(there, torch.Tensor)
            assert torch.equal(value, there), name
        else:
            assert value == second[name], name


@pytest.fixture(scope="module")
def unbroken() -> tuple[Training, Notes]:
    whole, notes = training(), Notes()
    assert whole.run(notes)
    return whole, notes


@pytest.mark.slow
@pytest.mark.parametrize("stops", [(5,), (1, 7, 8, 14)], ids=str)
def test_a_stopped_training_is_resumed_to_the_same_result(
    unbroken: tuple[Training, Notes], tmp_path: Path, stops: tuple[int, ...]
) -> None:
    whole, best = unbroken
    notes, checkpoint = Notes(), Checkpoint(tmp_path / "state.safetensors", {"seed": 0})
    done = 0
    for stop in stops:
        part = training()
        part.resume(checkpoint)
        assert part.progress.step == done
        assert not part.run(notes, checkpoint, stopping=stop_after(stop - done))
        done = stop
    last = training()
    last.resume(checkpoint)
    assert last.run(notes, checkpoint)
    assert_same(last.state_dict(), whole.state_dict())
    assert_same(last.model.state_dict(), whole.model.state_dict())
    assert_same(notes.best, best.best)
    assert last.progress.best_epoch == whole.progress.best_epoch > 0


def random_states() -> list[object]:
    numpy_state = np.random.get_state(legacy=False)["state"]  # noqa: NPY002  # it is to stay
    return [torch.get_rng_state().tolist(), random.getstate(), str(numpy_state["pos"])]


@pytest.mark.slow
def test_the_seed_fixes_the_result_and_the_global_random_state_is_left_alone(
    unbroken: tuple[Training, Notes],
) -> None:
    again = training()
    before = random_states()
    assert again.run(Notes())
    assert random_states() == before
    assert_same(again.state_dict(), unbroken[0].state_dict())
    other = training(seed=1, model=training().model)  # with the same weights at the start
    assert not other.run(Notes(), stopping=stop_after(5))
    assert timeless(other.progress.rows) != timeless(again.progress.rows)[:1]


def test_the_gradient_of_a_batch_is_the_sum_over_its_micro_batches() -> None:
    class Linear(nn.Module):
        """No batch norm, which would see each alone, and no dropout."""

        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(
                nn.Conv2d(3, 4, 3), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                nn.Linear(4, 4),
            )  # fmt: skip

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.layers(pixels)  # type: ignore[no-any-return]

    # Nothing is drawn, since each micro-batch draws for itself.
    recipe = Recipe(epochs=1, batch_size=15, regime="fixed", image_size=(12, 12), crop_area_min=1.0)
    gradients = []
    for count in (1, 2, 4):  # 15 images in two and in four: they differ in length
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            model = Linear()
        one = training(recipe, micro_batches=count, model=model)
        one._augment.flip = False
        number, micro_batches = next(one.steps())
        assert len(micro_batches) == count
        assert sum(micro_batch.share for micro_batch in micro_batches) == pytest.approx(1)
        for micro_batch, pixels in zip(micro_batches, one.pixels(), strict=False):
            one.add_gradients(micro_batch, pixels, one.stages[number])
        gradients.append([p.grad for p in model.parameters()])
    for found in gradients[1:]:
        torch.testing.assert_close(found, gradients[0], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_lower_precision_is_resumed_to_the_same_result(tmp_path: Path) -> None:
    precision: Precision = "float16"  # which has a loss scale
    recipe = replace(RECIPE, epochs=1)
    whole = training(recipe, precision=precision)
    assert whole.run(Notes())
    checkpoint = Checkpoint(tmp_path / "state.safetensors", {})
    first = training(recipe, precision=precision)
    assert not first.run(Notes(), checkpoint, stopping=stop_after(3))
    stored: Any = checkpoint.load()
    assert "scale" in stored["step"]["scaler"]
    last = training(recipe, precision=precision)
    last.resume(checkpoint)
    assert last.run(Notes())
    assert_same(last.state_dict(), whole.state_dict())
