"""The training of a trial against timm's own loader and train step: images per second.

    python benchmarks/proxy_training.py --data cifar10.tar.gz

Same network (the reference of the space v2-cifar), images, augmentation (random resized crop of
half the area or more, mirroring), batch size, memory format (channels last), optimizer, label
smoothing, schedule and CPU threads. timm decodes images in worker processes, again in every epoch;
effnas decodes them once and augments whole batches. timm is tried with several numbers of worker
processes, its best counts. The two take turns. Wanted: 1.2 times timm's images per second or more.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from timm.data import create_dataset, create_loader
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from timm.utils import AverageMeter

from effnas import SearchSpace
from effnas.arch.models import build
from effnas.config.recipe import Recipe
from effnas.config.settings import Execution
from effnas.data.images import ImageSet
from effnas.data.loading import load_search_images
from effnas.train.batches import TrainPixels
from effnas.train.network import make_network
from effnas.train.progress import Watcher
from effnas.train.schedule import make_schedule
from effnas.train.stages import stages_of
from effnas.train.training import Training

IMAGES = 4_000
IMAGE_SIZE = 32
ROUNDS = 5
RECIPE = Recipe(
    epochs=1, batch_size=128, regime="fixed", optimizer="nadamw", learning_rate_per_256=0.012,
    weight_decay=0.02, warmup_epochs=0.1, crop_area_min=0.5,
).sized(IMAGE_SIZE, IMAGE_SIZE)  # fmt: skip
CPU = torch.device("cpu")
SPACE = SearchSpace.load("v2-cifar")


def write_folder(images: ImageSet, folder: Path) -> None:
    """Write the images as JPEG files in class folders, as timm reads them."""
    for name in images.classes:
        (folder / name).mkdir(parents=True)
    for n, (pixels, label) in enumerate(zip(images.images, images.labels, strict=True)):
        file = folder / images.classes[label] / f"{n}.jpg"
        Image.fromarray(pixels).save(file, quality=95)


def timm_epoch(folder: Path, workers: int) -> float:
    """Train one epoch as timm's train script does; return images per second."""
    loader = create_loader(
        create_dataset("", root=str(folder), split="train", is_training=True),
        input_size=(3, IMAGE_SIZE, IMAGE_SIZE),
        batch_size=RECIPE.batch_size,
        is_training=True,
        scale=(RECIPE.crop_area_min, 1.0),
        ratio=(3 / 4, 4 / 3),
        hflip=0.5,
        color_jitter=None,
        interpolation="bilinear",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        num_workers=workers,
        persistent_workers=workers > 0,
        device=torch.device("cpu"),
    )
    model = build(SPACE.reference, num_classes=10).to(memory_format=torch.channels_last).train()
    optimizer = create_optimizer_v2(
        model, opt=RECIPE.optimizer, lr=RECIPE.learning_rate, weight_decay=RECIPE.weight_decay
    )
    steps = 2 * len(loader)
    schedule = make_schedule(optimizer, RECIPE, steps=steps, steps_per_epoch=len(loader))
    loss_of = LabelSmoothingCrossEntropy(RECIPE.label_smoothing)
    losses = AverageMeter()
    seen = 0
    for epoch in range(2):  # the first one starts the workers and warms up
        started = time.perf_counter()
        seen = 0
        for n, (images, labels) in enumerate(loader):
            schedule.step_update(epoch * len(loader) + n)
            loss = loss_of(model(images.contiguous(memory_format=torch.channels_last)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.update(loss.item(), len(images))
            seen += len(images)
    return seen / (time.perf_counter() - started)


def effnas_epoch(images: ImageSet, pixels: TrainPixels) -> float:
    """Train one epoch as a trial does; return images per second."""
    per_epoch = len(images) // RECIPE.batch_size
    training = Training(
        make_network(SPACE.reference, "reference", RECIPE, num_classes=10),
        images,
        None,
        RECIPE,
        stages_of(RECIPE, steps_per_epoch=per_epoch),
        [1],
        execution=Execution(memory_format="channels_last"),
        device=CPU,
        flip=True,
        seed=0,
        pixels=pixels,
    )
    training.run(Watcher())
    return per_epoch * RECIPE.batch_size / training.progress.train_time_s


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="a data set of 32-pixel images")
    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    found = load_search_images(
        parser.parse_args().data,
        image_size=IMAGE_SIZE,
        holdout_share=0.01,
        most_train_images=IMAGES,
    )
    pixels = TrainPixels(found.train, CPU)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_folder(found.train, folder)
        contenders: dict[str, Callable[[], float]] = {
            "effnas": lambda: effnas_epoch(found.train, pixels)
        }
        for workers in (0, 1, 2):
            contenders[f"timm, {workers} workers"] = partial(timm_epoch, folder, workers)
        speeds: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(ROUNDS):
            for name, epoch in contenders.items():
                speeds[name].append(epoch())
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    print(
        f"{len(found.train)} images of {IMAGE_SIZE} px, {threads} threads, {ROUNDS} rounds in turn"
    )
    print(f"{'':18} {'median img/s':>13} {'min':>7} {'max':>7} {'effnas is':>10}")
    for name, values in speeds.items():
        ratio = medians["effnas"] / medians[name]
        print(f"{name:18} {medians[name]:13.0f} {min(values):7.0f} {max(values):7.0f} "
              f"{ratio:9.2f}x")  # fmt: skip


if __name__ == "__main__":
    main()
