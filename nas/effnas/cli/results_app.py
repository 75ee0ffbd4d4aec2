"""The commands that go on from a finished search; what they do is imported when they are called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from effnas.cli.options import (
    Backend,
    BackendName,
    BatchSize,
    Device,
    ImageSize,
    Json,
    LearningRate,
    MovedData,
    MovedDataRoot,
    OtherReward,
    Profile,
    StepTime,
    StepTimeCommand,
    StepTimes,
    StepTimeTimeout,
    Threads,
    WorkerCount,
    beside,
)

results = typer.Typer(rich_markup_mode=None)


@results.command()
def retarget(
    run: Annotated[Path, typer.Argument(help="Folder of a finished search.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the new run. [default: RUN-DEVICE]")
    ] = None,
    device: Device = "auto",
    step_time: StepTime = None,
    profile: Profile = None,
    step_times: StepTimes = None,
    step_time_command: StepTimeCommand = None,
    step_time_timeout: StepTimeTimeout = 600.0,
    timings: Annotated[
        int, typer.Option(help="Trials of the run that are timed at most, where that takes time.")
    ] = 50,
    budget: Annotated[
        int, typer.Option(help="New trainings at most, spent only where one may win.")
    ] = 0,
    reward: OtherReward = None,
    data: MovedData = None,
    data_root: MovedDataRoot = None,
    backend: Backend = BackendName.RAY,
    workers: WorkerCount = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Find what is best on another device, with the accuracies of a finished search.

    \b
    Examples:
      effnas retarget runs/first --device cuda --out runs/first-cuda
      effnas retarget runs/first --step-times board.csv --out runs/first-board

    Ctrl-C stops it; the same command goes on.
    """
    from effnas.cli.retarget import run_retarget
    from effnas.config.settings import StepTimeConfig
    from effnas.evaluation.workers import Workers
    from effnas.workflows.retarget.launch import RetargetSettings

    name = next(
        (Path(source).stem for source in (profile, step_times) if source is not None),
        "command" if step_time_command else device.replace(":", ""),
    )
    settings = RetargetSettings(
        run=run,
        out=out or beside(run, name),
        workers=Workers(device=device, backend=backend.value, count=workers, threads=threads),
        step_times=StepTimeConfig.of(
            mode=step_time,
            profile=profile,
            table=step_times,
            command=step_time_command,
            timeout_s=step_time_timeout,
        ),
        timings=timings,
        budget=budget,
        reward=reward,
        data=data,
        data_root=data_root,
    )
    raise typer.Exit(run_retarget(settings, as_json=as_json))


@results.command()
def scale(
    base: Annotated[
        str,
        typer.Argument(
            help="Architecture file, quoted block strings, RUN:NUMBER or RUN:best.", metavar="BASE"
        ),
    ],
    family: Annotated[
        str | None,
        typer.Option(help="Name or file of scaling rules: v2, v2-b, v1. [default: v2]"),
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(help="Compound scaling: depth for each phi. [default: 1.2]")
    ] = None,
    beta: Annotated[float | None, typer.Option(help="Width for each phi. [default: 1.1]")] = None,
    gamma: Annotated[
        float | None, typer.Option(help="Image size for each phi. [default: 1.15]")
    ] = None,
    phi: Annotated[
        str | None, typer.Option(help="Exponents, such as 0.5,1,2. [default: 1,2,3]")
    ] = None,
    round_limit: Annotated[
        float | None,
        typer.Option(help="Share of its width that rounding must leave a layer: 0.9, or 0."),
    ] = None,
    last_stage: Annotated[
        bool, typer.Option("--last-stage/--no-last-stage", help="Add the stage of the rules.")
    ] = True,
    step_time: Annotated[
        str | None,
        typer.Option(help="The largest network up to this step time: 2x the base's, or seconds."),
    ] = None,
    params: Annotated[
        float | None, typer.Option(help="The largest up to so many parameters.")
    ] = None,
    memory: Annotated[
        float | None, typer.Option(help="The largest up to so many bytes in a training step.")
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(help="Pixels that the base is trained at. [default: the run's or family's]"),
    ] = None,
    max_image_size: Annotated[
        int | None, typer.Option(help="Pixels at inference at most. [default: the family's]")
    ] = None,
    space: Annotated[
        str | None, typer.Option(help="Gives block strings their stem and head, and the sizes.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Images in a step. [default: the space's, else 32]")
    ] = None,
    classes: Annotated[
        int | None, typer.Option(help="Outputs. [default: the space's, else 1000]")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Of the trainings whose time is told. [default: 350]")
    ] = None,
    images: Annotated[
        int | None, typer.Option(help="Their images. [default: the run's, else ImageNet's]")
    ] = None,
    device: Annotated[
        str, typer.Option(help="Where layers are timed: auto, cpu, cuda, cuda:N, mps, or none.")
    ] = "auto",
    threads: Threads = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the architecture files and family.json.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Scale a network to a family, or to the largest that stays within limits.

    \b
    Examples:
      effnas scale runs/first:best --family v2 --out families/first
      effnas scale runs/first:best --step-time 2x --params 60e6
      effnas scale base.json --alpha 1.2 --beta 1.1 --gamma 1.15 --phi 1,2
    """
    from effnas.timing.runtime import configure_process

    configure_process()
    from effnas.cli.scale import limits_of, rules_of, run_scale
    from effnas.scaling.sizing import EPOCHS, ScaleSettings
    from effnas.timing.device_settings import DeviceSettings

    rules = rules_of(
        family,
        coefficients={"alpha": alpha, "beta": beta, "gamma": gamma},
        phi=phi,
        image_size=image_size,
        round_limit=round_limit,
        last_stage=last_stage,
    )
    timed = device != "none"
    settings = ScaleSettings(
        base=base,
        rules=rules,
        space=space,
        device=DeviceSettings(
            device=device if timed else "cpu",
            threads=threads,
            image_size=image_size,
            batch_size=batch_size,
            num_classes=classes,
        ),
        with_step_times=timed,
        max_image_size=max_image_size,
        limits=limits_of(step_time=step_time, params=params, memory=memory),
        epochs=EPOCHS if epochs is None else epochs,
        images=images,
    )
    raise typer.Exit(run_scale(settings, out=out, as_json=as_json))


@results.command()
def promote(
    run: Annotated[Path, typer.Argument(help="Folder of a finished search.")],
    top: Annotated[
        int, typer.Option(help="Best trials by reward; up to as many more from the front.")
    ] = 5,
    seeds: Annotated[int, typer.Option(help="Trainings of each, with other seeds.")] = 3,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the finals. [default: RUN-finals]")
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(help="Epochs of a training. [default: 4 times the search's]"),
    ] = None,
    image_size: ImageSize = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    data_share: Annotated[
        float | None, typer.Option(help="Share of the training images used. [default: 1]")
    ] = None,
    reward: OtherReward = None,
    test: Annotated[
        bool,
        typer.Option("--test", help="Read the test part of the data, once, for what is picked."),
    ] = False,
    data: MovedData = None,
    data_root: MovedDataRoot = None,
    device: Device = "auto",
    workers: WorkerCount = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Train the best of a search longer, with several seeds, and pick one.

    \b
    Example:
      effnas promote runs/first --top 5

    Ctrl-C stops it; the same command goes on.
    """
    from effnas.cli.promote import run_promote
    from effnas.evaluation.workers import Workers
    from effnas.workflows.finals.launch import FinalsSettings

    settings = FinalsSettings(
        run=run,
        out=out or beside(run, "finals"),
        top=top,
        seeds=seeds,
        recipe={
            "epochs": epochs,
            "image_size": image_size,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "data_share": data_share,
        },
        data=data,
        data_root=data_root,
        reward=reward,
        test=test,
        workers=Workers(device=device, count=workers, threads=threads),
    )
    raise typer.Exit(run_promote(settings, as_json=as_json))
