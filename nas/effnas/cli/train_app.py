"""The command that trains a network; what it does is imported when it is called."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from effnas.cli.options import (
    CompileMode,
    CompileModeName,
    Data,
    DataRoot,
    Device,
    Json,
    MemoryFormat,
    OnBad,
    OnBadImage,
    Precision,
)

training = typer.Typer(rich_markup_mode=None)


class RegimeName(StrEnum):
    """How images and regularisation change over a training."""

    FIXED = "fixed"
    PROGRESSIVE = "progressive"
    PROGRESSIVE_ADAPTIVE = "progressive-adaptive"
    RANDOM_SIZE = "random-size"
    RANDOM_SIZE_ADAPTIVE = "random-size-adaptive"


class TrackerName(StrEnum):
    """Where the figures of a training can be logged."""

    TENSORBOARD = "tensorboard"
    MLFLOW = "mlflow"
    WANDB = "wandb"


@training.command()
def train(
    model: Annotated[
        str,
        typer.Argument(
            help="Architecture file, quoted block strings, RUN:NUMBER, RUN:best, or a timm name.",
            metavar="MODEL",
        ),
    ],
    data: Data = "digits",
    recipe: Annotated[
        str,
        typer.Option(
            help="Name (v2-s, v2-m, v2-l, v2-released, v1, finetune, pretrain-21k, family, cifar, "
            "tiny) or YAML file."
        ),
    ] = "tiny",
    out: Annotated[
        Path | None, typer.Option(help="Folder of the training. [default: runs/train-MODEL-DATA]")
    ] = None,
    regime: Annotated[
        RegimeName | None, typer.Option(help="How sizes and strengths go. [default: the recipe's]")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs. [default: the recipe's]")] = None,
    image_size: Annotated[
        str | None,
        typer.Option(
            help="Pixels at the end (64; the first size in proportion), or at both ends (32..64)."
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            help="Images in a step, over all workers; the learning rate goes with it. [default: "
            "the recipe's]"
        ),
    ] = None,
    device_batch_size: Annotated[
        int | None, typer.Option(help="The most images that a device takes at once.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="State dict to begin with, .safetensors.")
    ] = None,
    new_head: Annotated[
        bool, typer.Option("--new-head", help="Make the classifier anew: for other classes.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Fixes all that is random.")] = 0,
    data_root: DataRoot = None,
    on_bad_image: OnBad = OnBadImage.REFUSE,
    test: Annotated[
        bool, typer.Option("--test", help="Read the test part of the data at the end, once.")
    ] = False,
    device: Device = "auto",
    workers: Annotated[
        int | None,
        typer.Option(help="Processes that share each batch. [default: one per GPU, or 1]"),
    ] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads of a process.")] = None,
    precision: Precision = None,
    memory_format: MemoryFormat = None,
    compile_mode: CompileMode = CompileModeName.NONE,
    checkpoint_every: Annotated[
        float, typer.Option(help="Seconds between two checkpoints at least.")
    ] = 60.0,
    log: Annotated[
        list[TrackerName] | None,
        typer.Option(help="Log there, too, beside log.csv; may be repeated."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a network with images and regularisation that grow together.

    \b
    Examples:
      effnas train families/first/m.json --data cifar10.tar.gz --recipe cifar
      effnas train resnet18 --data photos/ --recipe tiny --image-size 48..96 --epochs 30

    Ctrl-C stops it; the same command goes on, from within the same stage.
    """
    from effnas.runtime import settle_process

    settle_process()
    from effnas.cli.train import default_folder, run_train
    from effnas.progressive.recipe import TrainingRecipe
    from effnas.progressive.settings import TrainSettings

    settings = TrainSettings(
        network=model,
        data=data,
        recipe=TrainingRecipe.load(recipe).overridden(
            epochs=epochs,
            batch_size=batch_size,
            image_size=image_size,
            regime=regime.value if regime else None,
        ),
        out=out or default_folder(model, data),
        seed=seed,
        weights=weights,
        new_head=new_head,
        data_root=data_root,
        on_bad_image=on_bad_image.value,
        device=device,
        workers=workers,
        threads=threads,
        precision=precision.value if precision else None,
        memory_format=memory_format.value if memory_format else None,
        compile_mode=compile_mode.value,
        device_batch_size=device_batch_size,
        checkpoint_every_s=checkpoint_every,
        trackers=tuple(dict.fromkeys(one.value for one in log or ())),
        test=test,
    )
    raise typer.Exit(run_train(settings, as_json=as_json))
