"""Training: it learns, it repeats itself, and it leaves alone what is not its own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from effnas import Architecture
from effnas.arch.models import build
from effnas.config.settings import Execution, Recipe
from effnas.data.images import ImageSet
from effnas.data.loading import load_search_images
from effnas.errors import ConfigError, InfeasibleError
from effnas.train.augment import normalize, random_crop_and_flip
from effnas.train.proxy import ProxyData, ProxyResult, train_proxy
from effnas.train.step import TrainingStep, cosine_schedule

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


@contextmanager
def torch_random_state_kept() -> Iterator[None]:
    """What happens inside neither reads nor changes torch's global random state."""
    torch.manual_seed(20)
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before)


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


@pytest.mark.slow
def test_a_tiny_network_learns_the_digits(digits: ProxyData) -> None:
    found = train(digits)
    assert 0.8 < found.accuracy <= 1
    assert 0 < found.train_loss < math.log(10) / 2
    assert found.train_time_s > 0
    images = len(digits.holdout_labels)
    assert found.accuracy * images == pytest.approx(round(found.accuracy * images))


@pytest.mark.slow
def test_an_untrained_network_does_not_know_them(digits: ProxyData) -> None:
    barely = replace(RECIPE, epochs=1, learning_rate=1e-9)
    assert train(digits, barely).accuracy < 0.4


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"drop_rate": 0.5, "drop_path_rate": 0.2}])
def test_the_seed_alone_decides_a_training(digits: ProxyData, options: dict[str, float]) -> None:
    recipe = replace(RECIPE, epochs=2, **options)  # type: ignore[arg-type]
    results: list[ProxyResult] = []
    weights: list[torch.Tensor] = []
    for seed in (3, 3, 4):
        torch.manual_seed(len(results))
        model = network(3, **options)
        results.append(train(digits, recipe, seed=seed, model=model))
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert results[0].accuracy == results[1].accuracy
    assert results[0].train_loss == results[1].train_loss != results[2].train_loss
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.slow
def test_training_leaves_torchs_random_state_alone(digits: ProxyData) -> None:
    recipe = replace(RECIPE, epochs=1, drop_rate=0.5)
    model = network(drop_rate=0.5, drop_path_rate=0.2)
    with torch_random_state_kept():
        train(digits, recipe, model=model)


@pytest.mark.slow
def test_training_changes_none_of_the_images(digits: ProxyData) -> None:
    before = [getattr(digits, name).clone() for name in vars(digits) if name != "num_classes"]
    train(digits, replace(RECIPE, epochs=1))
    after = [getattr(digits, name) for name in vars(digits) if name != "num_classes"]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["nadamw", "sgd"])
@pytest.mark.parametrize("batch_size", [64, 10_000])
def test_a_training_that_diverges_is_infeasible(
    digits: ProxyData, optimizer: str, batch_size: int
) -> None:
    wild = replace(RECIPE, epochs=2, learning_rate=1e6, optimizer=optimizer, batch_size=batch_size)
    with pytest.raises(InfeasibleError, match=r"^training diverged: .* finite|times that of"):
        train(digits, wild)


@pytest.mark.slow
def test_an_unknown_optimizer_is_a_mistake_of_the_user(digits: ProxyData) -> None:
    with pytest.raises(ConfigError, match="recipe: optimizer 'adamm' cannot be used"):
        train(digits, replace(RECIPE, optimizer="adamm"))


@pytest.mark.slow
@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
def test_bfloat16_trains_weights_of_float32(digits: ProxyData, memory_format: Any) -> None:
    model = network()
    execution = Execution(precision="bfloat16", memory_format=memory_format)
    assert train(digits, execution=execution, model=model).accuracy > 0.8
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.slow
def test_fewer_images_than_a_batch_are_one_batch(digits: ProxyData) -> None:
    few = replace(
        digits, train_images=digits.train_images[:40], train_labels=digits.train_labels[:40]
    )
    found = train(few, replace(RECIPE, epochs=2, batch_size=128))
    assert math.isfinite(found.train_loss)
    with pytest.raises(InfeasibleError, match="diverged"):  # it does train
        train(few, replace(RECIPE, epochs=2, batch_size=128, learning_rate=1e9, optimizer="sgd"))


# -- one step


@pytest.mark.slow
def test_a_step_returns_its_loss_and_lowers_it() -> None:
    step = TrainingStep(network(), replace(RECIPE, label_smoothing=0.0), Execution(), CPU)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(32, 3, 16, 16, generator=generator)
    labels = torch.arange(32) % 10
    losses = [step(images, labels) for _ in range(15)]
    # Guessing has a loss of log(10); what comes back is that before the step.
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


def test_a_forward_pass_on_no_device_has_a_shape_and_no_numbers() -> None:
    step = TrainingStep(network(), RECIPE, Execution(), torch.device("meta"))
    found = step.forward(torch.empty(10**6, 3, 16, 16, device="meta"))
    assert found.shape == (10**6, 10)
    assert found.is_meta
    assert found.requires_grad


@pytest.mark.slow
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


@pytest.mark.slow
def test_biases_and_norms_are_not_decayed() -> None:
    model = network()
    step = TrainingStep(model, replace(RECIPE, weight_decay=0.3), Execution(), CPU)
    decayed = {
        id(p): group["weight_decay"]
        for group in step.optimizer.param_groups
        for p in group["params"]
    }
    assert {decayed[id(p)] for p in model.parameters() if p.ndim > 1} == {0.3}
    assert {decayed[id(p)] for p in model.parameters() if p.ndim <= 1} == {0.0}


@pytest.mark.slow
@pytest.mark.parametrize("steps", [10, 200, 4321])
@pytest.mark.parametrize("warmup_share", [0.0, 0.1, 0.5])
def test_the_learning_rate_warms_up_and_ends_near_zero(steps: int, warmup_share: float) -> None:
    recipe = Recipe(learning_rate=0.25, warmup_share=warmup_share)
    optimizer = torch.optim.SGD(network().parameters(), lr=recipe.learning_rate)
    schedule = cosine_schedule(optimizer, steps, recipe)
    rates = []
    for n in range(steps):
        schedule.step_update(n)
        rates.append(optimizer.param_groups[0]["lr"])
    warmup = math.ceil(warmup_share * steps)
    assert rates[warmup] == max(rates) == pytest.approx(0.25)
    assert np.all(np.diff(rates[: warmup + 1]) > 0)
    assert np.all(np.diff(rates[warmup:]) < 0)
    assert np.allclose(np.diff(rates[: warmup + 1], 2), 0)  # a straight line
    assert min(rates) > 0
    # Half a cosine from the peak to zero, which would be reached by the step after the last.
    left = steps - warmup
    assert rates[-1] == pytest.approx(0.125 * (1 - math.cos(math.pi / left)))
    middle = warmup + left // 2
    assert rates[middle] == pytest.approx(0.125 * (1 + math.cos(math.pi * (left // 2) / left)))


@pytest.mark.slow
@pytest.mark.parametrize("warmup_share", [0.0, 0.1, 0.9])
def test_a_single_step_has_a_learning_rate(warmup_share: float) -> None:
    recipe = Recipe(warmup_share=warmup_share)
    optimizer = torch.optim.SGD(network().parameters(), lr=recipe.learning_rate)
    cosine_schedule(optimizer, 1, recipe).step_update(0)
    assert 0 < optimizer.param_groups[0]["lr"] <= recipe.learning_rate


# -- augmentation


def augment(images: torch.Tensor, area_min: float, *, flip: bool, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return random_crop_and_flip(images, area_min=area_min, flip=flip, generator=generator)


def noise(count: int, size: int = 12) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_pixels_become_floats_between_minus_one_and_one() -> None:
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(2, 3, 16, 16)
    found = normalize(images)
    assert found.dtype == torch.float32
    assert torch.allclose(found[0, 0].flatten(), torch.linspace(-1, 1, 256), atol=1e-6)
    assert int(images[0, 0, 15, 15]) == 255


@pytest.mark.parametrize("area_min", [0.01, 0.08, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("flip", [False, True])
def test_augmentation_keeps_shape_range_and_input(area_min: float, flip: bool) -> None:
    images = noise(60)
    before = images.clone()
    found = augment(images, area_min, flip=flip)
    assert found.shape == images.shape
    assert found.dtype == images.dtype
    for low, high, mine in zip(images.amin((2, 3)), images.amax((2, 3)), found, strict=True):
        assert bool((mine.amin((1, 2)) >= low - 1e-5).all())
        assert bool((mine.amax((1, 2)) <= high + 1e-5).all())
    assert torch.equal(images, before)
    assert torch.equal(augment(images, area_min, flip=flip), found)
    if area_min < 1:
        assert not torch.equal(augment(images, area_min, flip=flip, seed=1), found)


def test_without_crop_and_flip_nothing_changes() -> None:
    images = noise(50)
    assert torch.equal(augment(images, 1.0, flip=False), images)


def test_flipping_mirrors_about_half_of_the_images() -> None:
    images = noise(2000, size=4)
    found = augment(images, 1.0, flip=True)
    kept = (found == images).flatten(1).all(1)
    mirrored = (found == images.flip(-1)).flatten(1).all(1)
    assert bool((kept ^ mirrored).all())
    assert abs(int(mirrored.sum()) - 1000) < 5 * 2000**0.5 / 2


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


@pytest.mark.parametrize(
    "area_min",
    [
        0.08,
        0.5,
        0.75,
        pytest.param(
            0.95,
        ),
    ],
)
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
