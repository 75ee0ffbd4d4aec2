"""Training: it learns, it repeats itself, and it leaves alone what is not its own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import nn

from effnas import Architecture
from effnas.arch.models import build
from effnas.config.settings import Execution, Recipe
from effnas.data.images import ImageSet
from effnas.data.loading import load_search_images
from effnas.errors import ConfigError, InfeasibleError
from effnas.train.augment import random_crop_and_flip
from effnas.train.proxy import ProxyData, ProxyResult, train_proxy
from effnas.train.step import TrainingStep

CPU = torch.device("cpu")
ARCH = Architecture.parse(["fused_r1_k3_s2_e1_c16", "fused_r1_k3_s2_e1_c32"], stem=8, head=64)
RECIPE = Recipe(epochs=4, batch_size=64)


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
def digits() -> ProxyData:
    found = load_search_images("digits", image_size=16, holdout_share=0.2)

    def pixels(images: ImageSet) -> torch.Tensor:
        return torch.from_numpy(images.images).permute(0, 3, 1, 2).contiguous()

    return ProxyData(
        train_images=pixels(found.train),
        train_labels=torch.from_numpy(found.train.labels),
        holdout_images=pixels(found.holdout),
        holdout_labels=torch.from_numpy(found.holdout.labels),
        num_classes=10,
    )


@pytest.fixture(scope="module")
def few(digits: ProxyData) -> ProxyData:
    """Some of the digits."""
    return replace(
        digits,
        train_images=digits.train_images[:200],
        train_labels=digits.train_labels[:200],
        holdout_images=digits.holdout_images[:50],
        holdout_labels=digits.holdout_labels[:50],
    )


def train(
    data: ProxyData,
    recipe: Recipe = RECIPE,
    *,
    seed: int = 0,
    execution: Execution = Execution(),  # noqa: B008 - frozen
    model: nn.Module | None = None,
) -> ProxyResult:
    model = model or network(seed, drop_rate=recipe.drop_rate)
    return train_proxy(model, data, recipe, execution, flip=False, seed=seed)


# -- proxy training


@pytest.fixture(scope="module")
def learned(digits: ProxyData) -> tuple[ProxyResult, nn.Module]:
    """A whole training, which neither read nor changed torch's random state and the images."""
    before = [getattr(digits, name).clone() for name in vars(digits) if name != "num_classes"]
    model = network(3)
    torch.manual_seed(20)
    state = torch.get_rng_state()
    found = train(digits, seed=3, model=model)
    assert torch.equal(torch.get_rng_state(), state)
    after = [getattr(digits, name) for name in vars(digits) if name != "num_classes"]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    return found, model


@pytest.mark.slow
def test_a_tiny_network_learns_the_digits(
    digits: ProxyData, learned: tuple[ProxyResult, nn.Module]
) -> None:
    found, _ = learned
    assert 0.8 < found.accuracy <= 1
    assert 0 < found.train_loss < math.log(10) / 2
    assert found.train_time_s > 0
    images = len(digits.holdout_labels)
    assert found.accuracy * images == pytest.approx(round(found.accuracy * images))


@pytest.mark.slow
def test_the_seed_alone_decides_a_training(few: ProxyData) -> None:
    recipe = replace(RECIPE, epochs=1, drop_rate=0.5)
    results: list[ProxyResult] = []
    weights: list[torch.Tensor] = []
    for seed in (3, 3, 4):
        torch.manual_seed(len(results))
        model = network(3, drop_rate=0.5, drop_path_rate=0.2)
        results.append(train(few, recipe, seed=seed, model=model))
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert results[0].accuracy == results[1].accuracy
    assert results[0].train_loss == results[1].train_loss != results[2].train_loss
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("optimizer", ["nadamw", "sgd"])
@pytest.mark.parametrize("batch_size", [64, 10_000])
def test_a_training_that_diverges_is_infeasible(
    few: ProxyData, optimizer: str, batch_size: int
) -> None:
    wild = replace(RECIPE, epochs=2, learning_rate=1e9, optimizer=optimizer, batch_size=batch_size)
    with pytest.raises(InfeasibleError, match=r"^training diverged: .* finite|times that of"):
        train(few, wild)


def test_an_unknown_optimizer_is_a_mistake_of_the_user(few: ProxyData) -> None:
    with pytest.raises(ConfigError, match="recipe: optimizer 'adamm' cannot be used"):
        train(few, replace(RECIPE, optimizer="adamm"))


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
