"""The commands that train a network and hand it on; what they do is imported when called."""

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
        RegimeName | None,
        typer.Option(
            help="How image size and regularisation change on the way. [default: the recipe's]"
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs. [default: the recipe's]")] = None,
    image_size: Annotated[
        str | None,
        typer.Option(
            help="Pixels in the last stage (64; the first in proportion), or in the first and the "
            "last (32..64). [default: the recipe's, else the family's or the data's]"
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
        int | None,
        typer.Option(
            help="The most images that a device takes at once; a batch of more is taken in parts. "
            "[default: what its memory holds]"
        ),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Weights to begin with, .safetensors. [default: random]")
    ] = None,
    new_head: Annotated[
        bool,
        typer.Option("--new-head", help="Make the classifier anew: --weights have other classes."),
    ] = False,
    seed: Annotated[int, typer.Option(help="Fixes all that is random.")] = 0,
    data_root: DataRoot = None,
    on_bad_image: OnBad = OnBadImage.REFUSE,
    test: Annotated[
        bool,
        typer.Option(
            "--test",
            help="Measure the best weights on the test part of the data, once, at the end.",
        ),
    ] = False,
    device: Device = "auto",
    workers: Annotated[
        int | None,
        typer.Option(help="Processes that share each batch. [default: one per GPU, or 1]"),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="CPU threads of a process. [default: its share of all]")
    ] = None,
    precision: Precision = None,
    memory_format: MemoryFormat = None,
    compile_mode: CompileMode = CompileModeName.NONE,
    checkpoint_every: Annotated[
        float, typer.Option(help="Seconds between two checkpoints at least.")
    ] = 60.0,
    log: Annotated[
        list[TrackerName] | None,
        typer.Option(help="Where figures go beside the folder's log.csv; may be repeated."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a network to the end, with images and regularisation that grow.

    \b
    Examples:
      effnas train runs/first:best --data cifar10.tar.gz --recipe cifar
      effnas train families/first/m.json --data photos/ --recipe family --test
      effnas train resnet18 --data photos/ --image-size 48..96 --epochs 30

    Ctrl-C stops it; the same command goes on from where it was.
    """
    from effnas.timing.runtime import configure_process

    configure_process()
    from effnas.cli.train import default_folder, run_train
    from effnas.config.training_recipe import TrainingRecipe
    from effnas.workflows.train.settings import TrainSettings

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


@training.command()
def export(
    network: Annotated[
        str,
        typer.Argument(
            help="Architecture file, quoted block strings, RUN:NUMBER or RUN:best.",
            metavar="NETWORK",
        ),
    ],
    weights: Annotated[
        Path | None,
        typer.Option(help="State dict, .safetensors. [default: random weights]"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder that is made. [default: exports/NETWORK]")
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            help="Pixels at inference. [default: the training's, file's or run's, else 224]"
        ),
    ] = None,
    classes: Annotated[
        int | None,
        typer.Option(help="Outputs. [default: those of the weights, file or run, else 1000]"),
    ] = None,
    formats: Annotated[
        str, typer.Option(help="Some of timm, onnx, torch-export; timm always is written.")
    ] = "timm,onnx,torch-export",
    as_json: Json = False,
) -> None:
    """Write a network for programs outside effnas: timm, ONNX, torch.export, a model card.

    \b
    Examples:
      effnas export runs/first:12 --weights runs/first-finals/weights/ID-0.safetensors
      effnas export families/first/m.json --weights runs/train-first-m-photos/best.safetensors
      effnas export families/first/m.json --formats timm,onnx
    """
    from effnas.cli.export import default_folder, formats_of, run_export
    from effnas.export.network import ExportSettings

    settings = ExportSettings(
        network=network,
        out=out or default_folder(network),
        weights=weights,
        image_size=image_size,
        num_classes=classes,
        formats=formats_of(formats),
    )
    raise typer.Exit(run_export(settings, as_json=as_json))
