"""A long training against timm's training script: images per second.

    python benchmarks/training_speed.py --data tiny-imagenet-20.tar.gz --timm-train train.py

timm's `train.py` is in its repository, not in its package; take the version of the package. Both
train the same network from the same JPEG files, with the same image size, batch, optimizer,
learning rate, dropout, stochastic depth, label smoothing, average of weights, float32 and CPU
threads. Both crop at random (a quarter of the area or more), mirror, apply RandAugment (two
operations to every image, of those that grow with the magnitude; timm's has no Cutout) and mixup
with a share for each image. timm decodes and augments in worker processes beside the threads, in
every epoch; effnas decodes once, which is timed apart, and augments whole batches. timm is first
tried with one and two workers and both memory formats, its best way counts; effnas chooses its
memory format as always. Images per second are those of the second epoch, without what is done
between epochs. The two take turns. Wanted: 1.2 times timm's images per second or more.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import statistics
import subprocess
import sys
import tarfile
import time
from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import torch
from rich.console import Console
from rich.table import Table

from effnas.config.recipe import Recipe
from effnas.config.recipe_file import load_recipe
from effnas.config.regularization import Ramp
from effnas.data.loading import load_train_images
from effnas.train.batches import Augmentation, Order, TrainPixels
from effnas.train.process_group import ProcessGroup
from effnas.train.stages import stages_of

ROUNDS = 3
THREADS = len(os.sched_getaffinity(0))
#: Pillow 13 refuses what timm makes of Posterize at 10.
MAGNITUDE = 9
#: What timm's script prints after a step: the epoch, and its mean images per second so far.
LOGGED = re.compile(r"Train: (\d+) \[.*?\(\s*[\d.]+s,\s*([\d.]+)/s\)")


def extract(data: Path, folder: Path, most: int) -> int:
    """Write the first `most` images of train/CLASS/, as many of each class; return the classes.

    timm looks at the images of a second part after each epoch: one of each class.
    """
    with tarfile.open(data) as archive:
        images = [one for one in archive if one.isfile() and one.name.startswith("train/")]
        classes = {PurePosixPath(one.name).parts[1] for one in images}
        written: Counter[str] = Counter()
        for image in images:
            _, name, file = PurePosixPath(image.name).parts
            if written[name] == most // len(classes):
                continue
            source = archive.extractfile(image)
            assert source is not None
            encoded = source.read()
            for part in ("train",) if written[name] else ("train", "validation"):
                (folder / part / name).mkdir(parents=True, exist_ok=True)
                (folder / part / name / file).write_bytes(encoded)
            written[name] += 1
    return len(classes)


def recipe_of(image_size: int, batch_size: int) -> Recipe:
    """Return the recipe `tiny` at one size and its full strengths, for two epochs."""
    return replace(
        load_recipe("tiny"),
        epochs=2,
        batch_size=batch_size,
        image_size=(image_size, image_size),
        regime="fixed",
        randaugment=Ramp(MAGNITUDE, MAGNITUDE),
        holdout_share=0.0,
        warmup_epochs=0.0,
    )


def effnas_speed(model: str, images: Path, recipe: Recipe, scratch: Path) -> float:
    """Train two epochs by `effnas train`; return images per second of the second."""
    file = scratch / "recipe.yaml"
    file.write_text(json.dumps(recipe.to_dict()))
    command = [
        sys.executable, "-m", "effnas", "train", model, "--data", str(images),
        "--recipe", str(file), "--device", "cpu", "--threads", str(THREADS),
        "--precision", "float32",
    ]  # fmt: skip
    with TemporaryDirectory(dir=scratch) as out:
        _run([*command, "--out", out])
        with Path(out, "log.csv").open() as log:
            first, second = csv.DictReader(log)
    count = (int(second["step"]) - int(first["step"])) * recipe.batch_size
    return count / (float(second["train_time_s"]) - float(first["train_time_s"]))


def timm_speed(
    script: Path,
    model: str,
    images: Path,
    classes: int,
    recipe: Recipe,
    scratch: Path,
    *,
    workers: int,
    channels_last: bool,
) -> float:
    """Train two epochs by timm's script; return images per second of the second."""
    assert recipe.image_size
    assert recipe.dropout
    assert recipe.drop_path
    assert recipe.mixup
    # Not all versions of the script have the option, but all take a file with values.
    config = scratch / "timm.yaml"
    config.write_text("device: cpu\n")
    options: dict[str, object] = {
        "config": config,
        "data-dir": images,
        "model": model,
        "num-classes": classes,
        "input-size": (3, *recipe.image_size),
        "batch-size": recipe.batch_size,
        "epochs": recipe.epochs,
        "warmup-epochs": 0,
        "opt": recipe.optimizer,
        "opt-kwargs": tuple(f"{name}={v}" for name, v in recipe.optimizer_arguments.items()),
        "lr": recipe.learning_rate,
        "weight-decay": recipe.weight_decay,
        "scale": (recipe.crop_area_min, 1.0),
        "train-interpolation": "bilinear",
        "aa": f"rand-m{MAGNITUDE}-n2-mstd0-p1.0-inc1",
        "mixup": recipe.mixup.last,
        "mixup-mode": "elem",
        "smoothing": recipe.label_smoothing,
        "drop": recipe.dropout.last,
        "drop-path": recipe.drop_path.last,
        "model-ema-decay": recipe.ema_decay,
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "workers": workers,
        "log-interval": 1,
        "checkpoint-hist": 1,
    }
    command = [sys.executable, str(script.absolute()), "--model-ema"]
    for name, value in options.items():
        values = value if isinstance(value, tuple) else (value,)
        command += [f"--{name}", *map(str, values)]
    if channels_last:
        command.append("--channels-last")
    with TemporaryDirectory(dir=scratch) as out:
        said = _run([*command, "--output", out])
    epoch, speed = LOGGED.findall(said)[-1]
    assert epoch == "1"
    return float(speed)


def _run(command: list[str]) -> str:
    """Return the output of a command."""
    done = subprocess.run(
        command,
        env=os.environ | {"OMP_NUM_THREADS": str(THREADS)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\nfailed:\n{done.stdout[-2000:]}")
    return done.stdout


def split(images: Path, recipe: Recipe) -> tuple[float, float]:
    """Return the seconds that effnas takes to decode an image once, and to augment one."""
    assert recipe.image_size
    size = recipe.image_size[1]
    started = time.perf_counter()
    found = load_train_images(
        str(images), image_size=size, eval_image_size=size, minival_share=0.0
    ).train
    decoding = (time.perf_counter() - started) / len(found)
    device = torch.device("cpu")
    order = Order(count=len(found), batch_size=recipe.batch_size, seed=0)
    augment = Augmentation(images=found, recipe=recipe, flip=True, seed=0, device=device)
    (stage,) = stages_of(recipe, steps_per_epoch=order.steps_per_epoch)
    batches = [batch for (batch,) in order.micro_batches(stage, 1, ProcessGroup())]
    pixels = TrainPixels(found, device).of(iter(batches))
    times = []
    for batch in batches:
        started = time.perf_counter()
        augment(batch, next(pixels), stage)
        times.append(time.perf_counter() - started)
    return decoding, statistics.median(times) / recipe.batch_size


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="an archive of train/CLASS/FILE")
    parser.add_argument("--timm-train", type=Path, required=True, help="timm's train.py")
    parser.add_argument("--model", default="resnet18", help="timm model")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--images", type=int, default=960)
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    recipe = recipe_of(arguments.image_size, arguments.batch_size)
    screen = Console()
    screen.print(
        f"{arguments.model}, {arguments.images} images of {arguments.image_size} px, batch "
        f"{arguments.batch_size}, {THREADS} threads; images a second"
    )
    with TemporaryDirectory() as scratch_name:
        scratch = Path(scratch_name)
        images = scratch / "images"
        classes = extract(arguments.data, images, arguments.images)

        def timm(way: tuple[int, bool]) -> float:
            workers, channels_last = way
            speed = timm_speed(
                arguments.timm_train, arguments.model, images, classes, recipe, scratch,
                workers=workers, channels_last=channels_last,
            )  # fmt: skip
            layout = "channels last" if channels_last else "contiguous"
            screen.print(f"timm, {workers} loader workers, {layout}: {speed:.1f}")
            return speed

        tried = {way: timm(way) for way in product((1, 2), (False, True))}
        best = max(tried, key=tried.__getitem__)
        rounds = []
        for _ in range(ROUNDS):
            ours = effnas_speed(arguments.model, images, recipe, scratch)
            screen.print(f"effnas: {ours:.1f}")
            rounds.append((ours, timm(best)))
        decoding, augmenting = split(images, recipe)
    screen.print(_table(rounds))
    whole = 1 / statistics.median(ours for ours, _ in rounds)
    screen.print(
        f"\neffnas, an image: {1e3 * whole:.2f} ms, of which augmentation "
        f"{1e3 * augmenting:.2f} ms ({augmenting / whole:.0%}); decoded once before, "
        f"{1e3 * decoding:.2f} ms"
    )


def _table(rounds: list[tuple[float, float]]) -> Table:
    table = Table("", box=None, pad_edge=False)
    for name in ("median", "min", "max"):
        table.add_column(name, justify="right")
    ours, theirs = zip(*rounds, strict=True)
    ratios = [mine / other for mine, other in rounds]
    for name, values, form in (
        ("effnas, images a second", ours, "{:.1f}"),
        ("timm's script at its best", theirs, "{:.1f}"),
        ("ratio in a round", ratios, "{:.2f}"),
    ):
        found = statistics.median(values), min(values), max(values)
        table.add_row(name, *(form.format(value) for value in found))
    return table


if __name__ == "__main__":
    main()
