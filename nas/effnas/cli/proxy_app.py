"""`effnas proxy`: its two commands and their options; what they do is imported when called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from effnas.cli.options import (
    Backend,
    BackendName,
    BatchSize,
    Data,
    DataRoot,
    DataShare,
    Device,
    Epochs,
    HighEpochs,
    HighSeeds,
    HoldoutShare,
    ImageSize,
    Json,
    LearningRate,
    Networks,
    OnBad,
    OnBadImage,
    ProxyOut,
    RecipeFile,
    TargetImageSize,
    Threads,
    WorkerCount,
    folder_name,
)

proxy = typer.Typer(
    help="Find out how well a short training ranks networks, before the budget is spent.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@proxy.command()
def check(
    space: Annotated[str, typer.Option(help="Name or path of a search space.")] = "v2",
    data: Data = "digits",
    out: ProxyOut = None,
    networks: Networks = 12,
    seeds: Annotated[int, typer.Option(help="Seeds of each network at the proxy.")] = 3,
    high_seeds: HighSeeds = 2,
    high_epochs: HighEpochs = None,
    seed: Annotated[int, typer.Option(help="Seed of networks, hold-out and trainings.")] = 0,
    recipe: RecipeFile = None,
    epochs: Epochs = None,
    image_size: ImageSize = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    data_share: DataShare = None,
    holdout_share: HoldoutShare = None,
    data_root: DataRoot = None,
    on_bad_image: OnBad = OnBadImage.REFUSE,
    target_image_size: TargetImageSize = None,
    device: Device = "auto",
    backend: Backend = BackendName.RAY,
    workers: WorkerCount = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Train reference networks at the proxy and at a higher fidelity, and compare the rankings.

    \b
    Example:
      effnas proxy check --space v2-cifar --data cifar10.tar.gz --networks 8

    Ctrl-C stops it; the same command goes on, and more networks or seeds train what is missing.
    """
    from effnas.cli.proxy import run_check
    from effnas.config.settings import Recipe
    from effnas.evaluation.workers import Workers
    from effnas.workflows.proxy.launch import ProxySettings

    base = Recipe.load(recipe) if recipe else Recipe()
    settings = ProxySettings(
        space=space,
        data=data,
        out=out or Path("runs") / f"proxy-{folder_name(space, data)}",
        recipe=base.overridden(
            epochs=epochs,
            image_size=image_size,
            batch_size=batch_size,
            learning_rate=learning_rate,
            data_share=data_share,
            holdout_share=holdout_share,
        ),
        networks=networks,
        seeds=seeds,
        high_seeds=high_seeds,
        high_epochs=high_epochs,
        seed=seed,
        data_root=data_root,
        on_bad_image=on_bad_image.value,
        workers=Workers(device=device, backend=backend.value, count=workers, threads=threads),
        target_image_size=target_image_size,
    )
    raise typer.Exit(run_check(settings, as_json=as_json))


@proxy.command("search")
def proxy_search(
    space: Annotated[str, typer.Option(help="Name or path of a search space.")] = "v2",
    data: Data = "digits",
    out: ProxyOut = None,
    epochs: Annotated[
        list[int] | None, typer.Option(help="Epochs to try; give the option once for each.")
    ] = None,
    image_size: Annotated[
        list[int] | None, typer.Option(help="Image sizes to try, likewise.")
    ] = None,
    data_share: Annotated[
        list[float] | None, typer.Option(help="Shares of the data to try, likewise.")
    ] = None,
    networks: Networks = 12,
    seeds: Annotated[int, typer.Option(help="Seeds of each network at a setting.")] = 1,
    high_seeds: HighSeeds = 2,
    high_epochs: HighEpochs = None,
    seed: Annotated[int, typer.Option(help="Seed of networks, hold-out and trainings.")] = 0,
    recipe: RecipeFile = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    holdout_share: HoldoutShare = None,
    data_root: DataRoot = None,
    on_bad_image: OnBad = OnBadImage.REFUSE,
    target_image_size: TargetImageSize = None,
    device: Device = "auto",
    backend: Backend = BackendName.RAY,
    workers: WorkerCount = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Find the cheapest epochs, image size and share of the data that still rank networks well.

    \b
    Example:
      effnas proxy search --space v2-cifar --data cifar10.tar.gz --epochs 1 --epochs 2 --epochs 4

    Ctrl-C stops it; the same command goes on.
    """
    from effnas.cli.proxy import run_proxy_search
    from effnas.config.settings import Recipe
    from effnas.evaluation.workers import Workers
    from effnas.workflows.proxy.launch import Grid, ProxySettings

    base = Recipe.load(recipe) if recipe else Recipe()
    settings = ProxySettings(
        space=space,
        data=data,
        out=out or Path("runs") / f"proxy-{folder_name(space, data)}",
        recipe=base.overridden(
            batch_size=batch_size, learning_rate=learning_rate, holdout_share=holdout_share
        ),
        networks=networks,
        seeds=seeds,
        high_seeds=high_seeds,
        high_epochs=high_epochs,
        seed=seed,
        data_root=data_root,
        on_bad_image=on_bad_image.value,
        workers=Workers(device=device, backend=backend.value, count=workers, threads=threads),
        target_image_size=target_image_size,
    )
    grid = Grid(epochs=epochs or (), image_sizes=image_size or (), data_shares=data_share or ())
    raise typer.Exit(run_proxy_search(settings, grid, as_json=as_json))
