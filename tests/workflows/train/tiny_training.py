"""A tiny network, a recipe with everything on, images, and an observer, for whole trainings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from effnas.arch.architecture import Architecture
from effnas.arch.files import to_json
from effnas.config.recipe import Recipe
from effnas.config.regularization import Ramp
from effnas.data.images import ImageSet
from effnas.data.source import LabelLists
from effnas.train.progress import EpochRow
from effnas.workflows.train.launch import launch_training
from effnas.workflows.train.settings import TrainingPlan, TrainSettings
from effnas.workflows.train.worker import TrainReport

BLOCKS = "fused_r1_k3_s2_e1_c8 mbconv_r2_k3_s2_e2_c8_se0.25"
ARCH = Architecture.parse(BLOCKS, stem=8, head=16)
#: Everything that is random or has a state is on: two stages, the border in the middle of epoch 2.
RECIPE = Recipe(
    epochs=3,
    batch_size=16,
    stages=2,
    image_size=(8, 12),
    dropout=Ramp(0.1, 0.3),
    randaugment=Ramp(2.0, 6.0),
    mixup=Ramp(0.1, 0.3),
    cutmix=Ramp(0.0, 0.5),
    drop_path=Ramp(0.1, 0.2),
    cutout=0.2,
    crop_area_min=0.5,
    learning_rate_per_256=0.4,
    optimizer="nadamw",
    ema_decay=0.9,
)


def images(count: int, *, seed: int = 0, size: int = 12, label_lists: bool = False) -> ImageSet:
    """Noise of four classes, each with a colour of its own."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 4
    pixels = rng.integers(0, 100, (count, size, size, 3), dtype=np.uint8)
    pixels[..., 0] += np.uint8(40) * labels.astype(np.uint8)[:, None, None]
    lists = None
    if label_lists:
        values = np.stack([labels, (labels + 1) % 4], 1).ravel()
        lists = LabelLists(values, np.arange(0, 2 * count + 1, 2))
    return ImageSet(images=pixels, labels=labels, classes=tuple("abcd"), label_lists=lists)


def write_photos(folder: Path, found: ImageSet) -> None:
    """Write images as a folder of class folders."""
    for n, (pixels, label) in enumerate(zip(found.images, found.labels, strict=True)):
        path = folder / found.classes[label] / f"{n:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def prepare(folder: Path) -> None:
    """Put the network and 60 images into a folder; six of them are held out of a training."""
    (folder / "network.json").write_text(to_json(ARCH))
    write_photos(folder / "photos", images(60))


def launch(
    recipe: Recipe,
    out: Path,
    stopping: Callable[[], bool] = lambda: False,
    watching: Watching | None = None,
    **options: Any,
) -> tuple[TrainReport | None, Watching]:
    """Train in a folder that was prepared, which is the working folder."""
    given: dict[str, Any] = {
        "network": "network.json", "data": "photos", "device": "cpu", "precision": "float32",
        "memory_format": "contiguous", **options,
    }  # fmt: skip
    watching = watching or Watching()
    settings = TrainSettings(recipe=recipe, out=out, **given)
    return launch_training(settings, watching, stopping=stopping), watching


def timeless(rows: Sequence[EpochRow]) -> list[EpochRow]:
    return [replace(row, train_time_s=0.0) for row in rows]


def stop_after(*steps: int) -> Callable[[], bool]:
    """A function that returns true when it is asked after one of these steps of a run, from 1."""
    asked = iter(range(1, 10_000))
    return lambda: next(asked) in steps


class Watching:
    """An observer that remembers plans and rows, and does something after a step."""

    def __init__(self, after_step: Callable[[int], None] = lambda step: None) -> None:
        self.rows: list[EpochRow] = []
        self.plans: list[TrainingPlan] = []
        self._after_step = after_step

    def preparing(self, what: str) -> None:
        """Do nothing."""

    def planned(self, plan: TrainingPlan) -> None:
        self.plans.append(plan)

    def stepped(self, step: int, remaining_s: float) -> None:
        assert remaining_s >= 0
        self._after_step(step)

    def epoch_ended(self, row: EpochRow) -> None:
        self.rows.append(row)
