"""What each step trains on: which images, in which micro-batches, and augmented how.

All of it is a pure function of the seed and the step, so that a training that was killed resumes
as if it had not been, and several processes draw alike.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import one_hot

from effnas.config.recipe import Recipe
from effnas.data.images import ImageSet
from effnas.train.augment import normalize, resized_crop_and_flip
from effnas.train.mixing import mix
from effnas.train.process_group import ProcessGroup
from effnas.train.randaugment import cutout, rand_augment
from effnas.train.stages import Stage

if TYPE_CHECKING:
    import numpy.typing as npt

    from effnas.data.images import TrainSet

    Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """Images of a step that one device takes at once.

    Attributes:
        step: Counted from 0.
        number: Within the step, from 0, over all processes.
        chosen: Indices of its images, [n].
        share: Its images over those of the step, above 0 to 1.
    """

    step: int
    number: int
    chosen: Indices
    share: float


@dataclass(frozen=True, kw_only=True)
class Order:
    """The order of the images: a new permutation in every epoch; an incomplete batch is dropped.

    Attributes:
        count: Number of images.
        batch_size: Images in a step, no more than `count`.
        seed: Of the permutations.
    """

    count: int
    batch_size: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one pass over the images."""
        return self.count // self.batch_size

    def micro_batches(
        self, stage: Stage, count: int, group: ProcessGroup, first_step: int = 0
    ) -> Iterator[list[MicroBatch]]:
        """Yield, for each step of a stage, the micro-batches of this process.

        Args:
            stage: Has the steps.
            count: Micro-batches in a step, over all processes; a multiple of their number.
            group: Which process this is.
            first_step: Steps before it are left out.
        """
        epoch, permutation = -1, np.arange(0)
        for step in range(max(stage.first_step, first_step), stage.end):
            at, place = divmod(step, self.steps_per_epoch)
            if at != epoch:
                epoch = at
                permutation = np.random.default_rng((self.seed, epoch)).permutation(self.count)
            batch = permutation[place * self.batch_size : (place + 1) * self.batch_size]
            yield [
                MicroBatch(step=step, number=number, chosen=chosen, share=len(chosen) / len(batch))
                for number, chosen in enumerate(np.array_split(batch, count))
                if number % group.size == group.rank
            ]


class TrainPixels:
    """The training images on the device, where they stay if they fit easily.

    Args:
        images: In memory, or decoded when they are needed.
        device: The device of the training.
    """

    #: Share of a GPU's free memory that the images may take.
    _SHARE = 0.25

    def __init__(self, images: TrainSet, device: torch.device) -> None:
        self._images = images
        self._device = device
        self._there: torch.Tensor | None = None
        if isinstance(images, ImageSet) and device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            if images.images.nbytes < self._SHARE * free:
                self._there = torch.from_numpy(images.images).to(device)

    def of(self, micro_batches: Iterator[MicroBatch]) -> Generator[torch.Tensor]:
        """Yield the uint8 images [n, 3, S, S] of each micro-batch, on the device."""
        chosen = (micro_batch.chosen for micro_batch in micro_batches)
        for found in chosen if self._there is not None else self._images.batches(chosen):
            pixels = torch.from_numpy(found).to(self._device)
            if self._there is not None:
                pixels = self._there[pixels]
            yield pixels.permute(0, 3, 1, 2).contiguous()


@dataclass(kw_only=True)
class Augmentation:
    """Makes the network's inputs and targets of a micro-batch's images.

    Attributes:
        images: Have the labels.
        recipe: Cropping and cutout, which do not change over the training.
        flip: Whether images are mirrored at random.
        seed: Of the training.
        device: Where the images are.
    """

    images: TrainSet
    recipe: Recipe
    flip: bool
    seed: int
    device: torch.device

    def __call__(
        self, micro_batch: MicroBatch, pixels: torch.Tensor, stage: Stage
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Augment a micro-batch, and seed torch for the dropout in it.

        Args:
            micro_batch: Which images they are.
            pixels: uint8 [n, 3, S, S] on the device.
            stage: The image size and the strengths.

        Returns:
            Normalized float images [n, 3, D, D], and class numbers [n] or probabilities [n, C].
        """
        seeds = np.random.SeedSequence((self.seed, micro_batch.step, micro_batch.number))
        of_images, of_dropout = (int(word) for word in seeds.generate_state(2, np.uint64))
        generator = torch.Generator().manual_seed(of_images)
        torch.manual_seed(of_dropout)
        strengths, recipe = stage.strengths, self.recipe
        pixels = resized_crop_and_flip(
            pixels,
            image_size=stage.image_size,
            area_min=recipe.crop_area_min,
            flip=self.flip,
            generator=generator,
        )
        if strengths.randaugment:
            pixels = rand_augment(pixels, strengths.randaugment, generator)
        if recipe.cutout:
            pixels = cutout(pixels, recipe.cutout, generator)
        images = normalize(pixels)
        targets = targets_of(self.images, micro_batch.chosen, self.device)
        if not strengths.mixup and not strengths.cutmix:
            return images, targets
        if targets.ndim == 1:
            targets = one_hot(targets, self.images.num_classes).float()
        return mix(
            images,
            targets,
            mixup_alpha=strengths.mixup,
            cutmix_alpha=strengths.cutmix,
            generator=generator,
        )


def targets_of(images: TrainSet, chosen: Indices, device: torch.device) -> torch.Tensor:
    """Return the class numbers [n] of images, or probabilities [n, C] if they have several."""
    if images.label_lists is None:
        return torch.from_numpy(images.labels[chosen]).to(device)
    return torch.from_numpy(images.label_lists.targets(chosen, images.num_classes)).to(device)
