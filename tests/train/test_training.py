"""Training: it learns, it repeats itself, and it leaves alone what is not its own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_training import CPU, make_training, weights
from torch import nn

from effnas import Architecture
from effnas.arch.models import build
from effnas.config.recipe import Recipe
from effnas.config.regularization import Ramp
from effnas.config.settings import Execution
from effnas.data.images import ImageSet
from effnas.data.loading import SearchImages, load_search_images
from effnas.errors import ConfigError, InfeasibleError
from effnas.train.augment import random_crop_and_flip
from effnas.train.progress import Watcher
from effnas.train.step import TrainingStep
from effnas.train.training import Training

ARCH = Architecture.parse(["fused_r1_k3_s2_e1_c16", "fused_r1_k3_s2_e1_c32"], stem=8, head=64)
RECIPE = Recipe(
    epochs=4, batch_size=64, regime="fixed", optimizer="nadamw", learning_rate_per_256=0.024,
    weight_decay=0.02, warmup_epochs=0.4, crop_area_min=0.5,
).sized(16, 16)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Several threads would wait for each other wherever anything else runs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def network(seed: int = 0, **options: float) -> nn.Module:
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return build(ARCH, num_classes=10, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def digits() -> SearchImages:
    return load_search_images("digits", image_size=16, holdout_share=0.2)


@pytest.fixture(scope="module")
def few(digits: SearchImages) -> ImageSet:
    """Some of the digits."""
    train = digits.train
    return replace(train, images=train.images[:200], labels=train.labels[:200])


# -- a whole training


@pytest.mark.slow
def test_a_tiny_network_learns_the_digits_and_changes_nothing_else(digits: SearchImages) -> None:
    before = [part.images.copy() for part in (digits.train, digits.holdout)]
    torch.manual_seed(20)
    state = torch.get_rng_state()
    training = make_training(digits.train, RECIPE, arch=ARCH)
    assert training.run(Watcher())
    accuracy = training.measure(digits.holdout)
    assert 0.8 < accuracy <= 1
    assert 0 < training.train_loss < math.log(10) / 2
    assert training.progress.train_time_s > 0
    count = len(digits.holdout)
    assert accuracy * count == pytest.approx(round(accuracy * count))
    predicted = training.predict(digits.holdout).numpy()
    assert (predicted == digits.holdout.labels).mean() == pytest.approx(accuracy)
    assert torch.equal(torch.get_rng_state(), state)
    after = [part.images for part in (digits.train, digits.holdout)]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.slow
def test_the_seed_alone_decides_a_training(few: ImageSet) -> None:
    recipe = replace(RECIPE, epochs=1, dropout=Ramp(0.5, 0.5), drop_path=Ramp(0.2, 0.2))
    found: list[Training] = []
    for seed in (3, 3, 4):
        torch.manual_seed(len(found))
        found.append(make_training(few, recipe, arch=ARCH, seed=seed))
        found[-1].run(Watcher())
    one, same, other = found
    assert one.train_loss == same.train_loss != other.train_loss
    assert all(map(torch.equal, weights(one), weights(same)))
    assert not all(map(torch.equal, weights(one), weights(other)))


def test_the_average_of_weights_is_measured_where_there_is_one(few: ImageSet) -> None:
    recipes = (replace(RECIPE, ema_decay=0.9), RECIPE)
    averaged, plain = (make_training(few, recipe, arch=ARCH) for recipe in recipes)
    for training in (averaged, plain):
        training.run(Watcher(), until=3)
    count = len(list(plain.model.state_dict()))
    assert all(map(torch.equal, weights(averaged)[count:], weights(plain)[count:]))
    assert not all(map(torch.equal, weights(averaged)[:count], weights(plain)[:count]))


@pytest.mark.parametrize("optimizer", ["nadamw", "sgd"])
@pytest.mark.parametrize("batch_size", [64, 200])
def test_a_training_that_diverges_is_infeasible(
    few: ImageSet, optimizer: str, batch_size: int
) -> None:
    wild = replace(
        RECIPE, epochs=2, learning_rate_per_256=1e9, optimizer=optimizer, batch_size=batch_size
    )
    with pytest.raises(InfeasibleError, match=r"^training diverged: .* finite|times that of"):
        make_training(few, wild, arch=ARCH).run(Watcher())


def test_an_unknown_optimizer_is_a_mistake_of_the_user(few: ImageSet) -> None:
    with pytest.raises(ConfigError, match="recipe: optimizer 'adamm' cannot be used"):
        make_training(few, replace(RECIPE, optimizer="adamm"))


# -- one step


def test_a_step_returns_its_loss_and_lowers_it() -> None:
    step = TrainingStep(network(), replace(RECIPE, label_smoothing=0.0), Execution(), CPU)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(32, 3, 16, 16, generator=generator)
    labels = torch.arange(32) % 10
    losses = [step(images, labels) for _ in range(15)]
    # Guessing has a loss of log(10); the result is the loss before the step.
    assert float(losses[0]) == pytest.approx(math.log(10), abs=0.5)
    assert float(losses[-1]) < float(losses[0]) / 2
    assert not any(loss.requires_grad for loss in losses)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_step_marks_the_end_of_its_three_phases(device: str) -> None:
    place = torch.device(device)
    model = network()
    step = TrainingStep(model, RECIPE, Execution(), place)
    images = torch.zeros(4, 3, 16, 16, device=place)
    labels = torch.zeros(4, dtype=torch.long, device=place)
    weights = [parameter.detach().clone() for parameter in model.parameters()]
    seen: list[tuple[bool, bool]] = []

    def mark() -> None:
        has_gradients = all(p.grad is not None for p in model.parameters())
        has_states = bool(step.optimizer.state)
        seen.append((has_gradients, has_states))

    loss = step(images, labels, mark)
    assert seen == [(False, False), (True, False), (True, True)]
    assert loss.shape == ()
    assert loss.device.type == device
    if device == "cpu":
        changed = zip(weights, model.parameters(), strict=True)
        assert any(not torch.equal(before, after) for before, after in changed)


def test_looking_at_logits_trains_nothing() -> None:
    model = network(drop_rate=0.5)
    step = TrainingStep(model, RECIPE, Execution(), CPU)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    images = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    first = step.logits(images)
    assert first.shape == (8, 10)
    assert torch.equal(step.logits(images), first)  # no dropout
    assert torch.allclose(step.logits(images[:3]), first[:3], atol=1e-5)  # no batch statistics
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert model.training


# -- augmentation


def augment(images: torch.Tensor, area_min: float, *, flip: bool, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return random_crop_and_flip(images, area_min=area_min, flip=flip, generator=generator)


def crops(area_min: float, *, flip: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Signed width and height of many crops, told from images whose pixels are their places."""
    size, count = 32, 800
    places = (torch.arange(size) + 0.5) / size
    rows, columns = torch.meshgrid(places, places, indexing="ij")
    image = torch.stack([columns, rows, torch.ones_like(rows)])
    found = augment(image.expand(count, 3, size, size), area_min, flip=flip)
    # Away from the border, where the crop may touch what lies beyond it.
    inner = slice(2, size - 2)
    width = (found[:, 0, 16, inner].diff(dim=1).mean(1)) * size
    height = (found[:, 1, inner, 16].diff(dim=1).mean(1)) * size
    assert torch.allclose(found[:, 2], torch.ones(()))
    return width, height


@pytest.mark.parametrize("area_min", [0.08, 0.95])
def test_a_crop_has_at_least_the_smallest_area(area_min: float) -> None:
    width, height = crops(area_min, flip=False)
    assert float((width * height).min()) >= area_min - 1e-3
    assert float((width * height).max()) <= 1 + 1e-3
    assert float((width * height).min()) < area_min + 0.1 * (1 - area_min)  # and comes close to it


def test_crops_are_upright_and_mirrored_only_if_asked() -> None:
    for flip in (False, True):
        width, height = crops(0.3, flip=flip)
        assert bool((height > 0).all())
        mirrored = int((width < 0).sum())
        assert abs(mirrored - 400) < 5 * 800**0.5 / 2 if flip else mirrored == 0
        ratio = (width.abs() / height)[(width.abs() < 0.99) & (height < 0.99)]
        assert 3 / 4 - 1e-3 <= float(ratio.min()) < 0.8
        assert 1.25 < float(ratio.max()) <= 4 / 3 + 1e-3
