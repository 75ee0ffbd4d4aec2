"""`effnas scaling`: its two commands and their options; what they do is imported when called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from effnas.cli.options import (
    BatchSize,
    DataRoot,
    DataShare,
    Device,
    Epochs,
    ImageSize,
    Json,
    LearningRate,
    RecipeFile,
    Threads,
    WorkerCount,
    beside,
)

scaling = typer.Typer(
    help="Find out by short trainings how a network is best scaled.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Base = Annotated[
    str,
    typer.Argument(
        help="RUN:NUMBER, RUN:best, architecture file or quoted block strings.", metavar="BASE"
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(help="Folder of the trainings. [default: RUN-coefficients or RUN-layers]"),
]
ImagesOf = Annotated[
    str | None, typer.Option(help="Images, as of `effnas search`. [default: the run's]")
]
Seeds = Annotated[int, typer.Option(help="Trainings of each network, with other seeds.")]
Seed = Annotated[int, typer.Option(help="Seed of trainings and hold-out, where no run gives one.")]


@scaling.command()
def coefficients(
    base: Base,
    out: Out = None,
    grid_step: Annotated[
        float, typer.Option(help="Distance of neighbours on the grid of alpha, beta and gamma.")
    ] = 0.05,
    tolerance: Annotated[
        float, typer.Option(help="How far alpha * beta^2 * gamma^2 may be from 2.")
    ] = 0.1,
    macs: Annotated[
        str | None,
        typer.Option(help="Most MACs: 2.1x the base's, or a number. [default: 2x + tolerance]"),
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="Most memory of a training step: 2x the base's, or bytes.")
    ] = None,
    round_limit: Annotated[
        float, typer.Option(help="Share of its width that rounding must leave a layer: 0.9, or 0.")
    ] = 0.9,
    data: ImagesOf = None,
    data_root: DataRoot = None,
    seeds: Seeds = 3,
    seed: Seed = 0,
    recipe: RecipeFile = None,
    epochs: Epochs = None,
    image_size: ImageSize = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    data_share: DataShare = None,
    device: Device = "auto",
    workers: WorkerCount = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Search alpha, beta and gamma of compound scaling on a grid, by training the base at phi 1.

    \b
    Example:
      effnas scaling coefficients runs/first:best --macs 2.1x --memory 2x

    Ctrl-C stops it; the same command goes on.
    """
    from effnas.timing.runtime import configure_process

    configure_process()
    from effnas.cli.scale import limits_of
    from effnas.cli.scaling import run_scaling
    from effnas.evaluation.workers import Workers
    from effnas.scaling.compound import GROWTH, coefficients_grid
    from effnas.workflows.scaling.launch import CompoundGrid, ScalingSettings

    settings = ScalingSettings(
        base=base,
        tried=CompoundGrid(
            grid=tuple(coefficients_grid(step=grid_step, tolerance=tolerance)),
            limits=limits_of(macs=macs or f"{GROWTH + tolerance:g}x", memory=memory),
            round_limit=round_limit,
        ),
        out=out or _folder(base, "coefficients"),
        recipe={
            "epochs": epochs,
            "image_size": image_size,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "data_share": data_share,
        },
        recipe_file=recipe,
        data=data,
        data_root=data_root,
        seeds=seeds,
        seed=seed,
        workers=Workers(device=device, count=workers, threads=threads),
    )
    raise typer.Exit(run_scaling(settings, as_json=as_json))


@scaling.command()
def layers(
    base: Base,
    out: Out = None,
    family: Annotated[str, typer.Option(help="Name or file of scaling rules.")] = "v2",
    member: Annotated[
        str, typer.Option(help="Member whose growth of layers is searched for.")
    ] = "m",
    slopes: Annotated[
        str, typer.Option(help="How much more later stages grow; 0 lets all grow alike.")
    ] = "0,0.5,1",
    tolerance: Annotated[
        float, typer.Option(help="Share by which step times may differ from the member's.")
    ] = 0.05,
    data: ImagesOf = None,
    data_root: DataRoot = None,
    seeds: Seeds = 3,
    seed: Seed = 0,
    recipe: RecipeFile = None,
    epochs: Epochs = None,
    image_size: ImageSize = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    data_share: DataShare = None,
    device: Device = "auto",
    workers: WorkerCount = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Search which stages gain the layers of a member, among networks of its step time.

    \b
    Example:
      effnas scaling layers runs/first:best --family v2 --member m

    Ctrl-C stops it; the same command goes on.
    """
    from effnas.timing.runtime import configure_process

    configure_process()
    from effnas.cli.scale import numbers_of
    from effnas.cli.scaling import run_scaling
    from effnas.evaluation.workers import Workers
    from effnas.scaling.rules import ScalingRules
    from effnas.timing.device_settings import DeviceSettings
    from effnas.workflows.scaling.launch import LayerGrowth, ScalingSettings

    settings = ScalingSettings(
        base=base,
        tried=LayerGrowth(
            rules=ScalingRules.load(family),
            member=member,
            slopes=tuple(numbers_of("--slopes", slopes)),
            tolerance=tolerance,
            device=DeviceSettings(device=device, threads=threads),
        ),
        out=out or _folder(base, "layers"),
        recipe={
            "epochs": epochs,
            "image_size": image_size,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "data_share": data_share,
        },
        recipe_file=recipe,
        data=data,
        data_root=data_root,
        seeds=seeds,
        seed=seed,
        workers=Workers(device=device, count=workers, threads=threads),
    )
    raise typer.Exit(run_scaling(settings, as_json=as_json))


def _folder(base: str, name: str) -> Path:
    """Return the default folder: beside the run, or below runs/."""
    folder, colon, _ = base.rpartition(":")
    if colon and Path(folder).is_dir():
        return beside(Path(folder), name)
    return Path("runs") / (f"{Path(base).stem}-{name}" if base.endswith(".json") else name)
