"""What a step trains on depends on the seed and the step alone, however it is split."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from effnas.config.recipe import Recipe
from effnas.data.images import ImageSet
from effnas.data.source import LabelLists
from effnas.train.batches import Augmentation, MicroBatch, Order, TrainPixels
from effnas.train.process_group import ProcessGroup
from effnas.train.stages import Stage, Strengths

patient = settings(deadline=None)  # the machine may be busy
CPU = torch.device("cpu")
COUNT, SIZE, CLASSES = 40, 16, 5
OFF = Strengths(dropout=0, randaugment=0, mixup=0, cutmix=0, drop_path=0)
STAGE = Stage(first_step=0, steps=10, image_size=12, strengths=OFF)
PLAIN = Recipe(crop_area_min=1)


def images(*, lists: bool = False) -> ImageSet:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (COUNT, SIZE, SIZE, 3), dtype=np.uint8)
    labels = np.arange(COUNT) % CLASSES
    several = None
    if lists:  # image i has 1 + i % 3 labels
        owned = [[(i + k) % CLASSES for k in range(1 + i % 3)] for i in range(COUNT)]
        borders = np.cumsum([0, *(len(one) for one in owned)])
        several = LabelLists(np.concatenate(owned).astype(np.int64), borders)
    names = tuple("abcde"[:CLASSES])
    return ImageSet(images=pixels, labels=labels, classes=names, label_lists=several)


IMAGES = images()


def micro_batch(step: int = 3, number: int = 1, n: int = 8) -> MicroBatch:
    return MicroBatch(step=step, number=number, chosen=np.arange(n), share=0.5)


def augmented(
    one: MicroBatch,
    *,
    recipe: Recipe = PLAIN,
    seed: int = 0,
    flip: bool = False,
    of: ImageSet = IMAGES,
    **strengths: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    augment = Augmentation(images=of, recipe=recipe, flip=flip, seed=seed, device=CPU)
    stage = replace(STAGE, strengths=replace(OFF, **strengths))
    pixels = next(TrainPixels(of, CPU).of(iter([one])))
    with torch.random.fork_rng([]):
        return augment(one, pixels, stage)


# -- which images


orders = st.integers(1, 60).flatmap(
    lambda count: st.builds(
        Order, count=st.just(count), batch_size=st.integers(1, count), seed=st.integers(0, 2**64)
    )
)


@pytest.mark.slow
@patient
@given(orders, st.integers(0, 30), st.integers(1, 30), st.integers(1, 4), st.integers(1, 3))
def test_the_micro_batches_of_all_processes_are_the_batches_of_the_epochs(
    order: Order, first: int, steps: int, processes: int, each: int
) -> None:
    stage = replace(STAGE, first_step=first, steps=steps)
    groups = [ProcessGroup(rank=rank, size=processes) for rank in range(processes)]
    shared = [list(order.micro_batches(stage, processes * each, group)) for group in groups]
    alone = list(order.micro_batches(stage, 1, ProcessGroup()))
    assert len(alone) == steps
    epochs: dict[int, list[int]] = {}
    for at, (whole,) in enumerate(alone):
        step = first + at
        micro_batches = sorted((c for one in shared for c in one[at]), key=lambda c: c.number)
        assert [c.number for c in micro_batches] == list(range(processes * each))
        assert all(len(one[at]) == each for one in shared)
        assert {c.step for c in (*micro_batches, whole)} == {step}
        assert np.concatenate([c.chosen for c in micro_batches]).tolist() == whole.chosen.tolist()
        assert [c.share * order.batch_size for c in micro_batches] == pytest.approx(
            [len(c.chosen) for c in micro_batches]
        )
        assert (len(whole.chosen), whole.share) == (order.batch_size, 1)
        epochs.setdefault(step // order.steps_per_epoch, []).extend(whole.chosen.tolist())
    for seen in epochs.values():  # no image twice
        assert len(set(seen)) == len(seen)
        assert set(seen) <= set(range(order.count))


@pytest.mark.slow
@patient
@given(orders, st.integers(0, 20), st.integers(1, 20), st.integers(0, 50))
def test_a_resumed_training_takes_the_same_images(
    order: Order, first: int, steps: int, first_step: int
) -> None:
    stage = replace(STAGE, first_step=first, steps=steps)
    whole = [one.chosen.tolist() for (one,) in order.micro_batches(stage, 1, ProcessGroup())]
    rest = [
        one.chosen.tolist() for (one,) in order.micro_batches(stage, 1, ProcessGroup(), first_step)
    ]
    assert rest == whole[max(first_step - first, 0) :]


# -- augmented how

HARD: dict[str, Any] = {
    "recipe": Recipe(crop_area_min=0.3, cutout=0.3),
    "flip": True,
    "randaugment": 9,
    "mixup": 0.4,
    "cutmix": 0.4,
}


def test_a_micro_batch_is_augmented_by_the_seed_the_step_and_its_number_alone() -> None:
    pixels, targets = augmented(micro_batch(), **HARD)
    torch.manual_seed(99)  # the global state has no part in it
    again = augmented(micro_batch(), **HARD)
    assert torch.equal(again[0], pixels)
    assert torch.equal(again[1], targets)
    for other in (
        augmented(micro_batch(step=4), **HARD),
        augmented(micro_batch(number=2), **HARD),
        augmented(micro_batch(), seed=1, **HARD),
    ):
        assert not torch.equal(other[0], pixels)
        assert not torch.equal(other[1], targets)


def test_the_dropout_in_a_micro_batch_is_seeded_likewise() -> None:
    def drawn(one: MicroBatch, seed: int = 0) -> list[float]:
        augment = Augmentation(images=IMAGES, recipe=PLAIN, flip=False, seed=seed, device=CPU)
        with torch.random.fork_rng([]):
            augment(one, next(TrainPixels(IMAGES, CPU).of(iter([one]))), STAGE)
            return torch.rand(4).tolist()

    found = drawn(micro_batch())
    assert found == drawn(micro_batch())
    assert found not in (
        drawn(micro_batch(step=4)),
        drawn(micro_batch(number=2)),
        drawn(micro_batch(), seed=1),
    )


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.4, 0), (0, 0.4), (0.4, 0.4)])
def test_classes_become_shares_only_when_images_are_mixed(mixup: float, cutmix: float) -> None:
    _, labels = augmented(micro_batch(), randaugment=9)
    assert labels.dtype == torch.int64
    assert labels.tolist() == IMAGES.labels[:8].tolist()
    _, shares = augmented(micro_batch(), mixup=mixup, cutmix=cutmix)
    assert shares.shape == (8, CLASSES)
    assert shares.sum(1).tolist() == pytest.approx([1] * 8)
    own = shares.gather(1, labels[:, None]).flatten()
    partner = shares.gather(1, labels.flip(0)[:, None]).flatten()
    apart = labels != labels.flip(0)
    assert (own + partner)[apart].tolist() == pytest.approx([1] * int(apart.sum()))


def test_images_with_several_labels_have_equal_shares_that_sum_to_1() -> None:
    several = images(lists=True)
    _, shares = augmented(micro_batch(), of=several)
    assert shares[0].tolist() == [1, 0, 0, 0, 0]
    assert shares[1].tolist() == [0, 0.5, 0.5, 0, 0]
    assert shares[2].tolist() == pytest.approx([0, 0, 1 / 3, 1 / 3, 1 / 3])
    assert shares.sum(1).tolist() == pytest.approx([1] * 8)
    _, mixed = augmented(micro_batch(), of=several, mixup=0.4)
    assert mixed.sum(1).tolist() == pytest.approx([1] * 8)
    assert not torch.equal(mixed, shares)
