"""The commands and their options; what they do is imported when they are called.

`effnas --help` must answer at once, so nothing heavy is imported up here.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from effnas.cli.options import (
    Backend,
    BackendName,
    BatchSize,
    CompileMode,
    CompileModeName,
    Constraint,
    Data,
    DataRoot,
    DataShare,
    Device,
    Epochs,
    Fidelity,
    HoldoutShare,
    ImageSize,
    Json,
    LearningRate,
    MemoryFormat,
    OnBad,
    OnBadImage,
    Precision,
    Profile,
    RecipeFile,
    StepTime,
    StepTimeCommand,
    StepTimes,
    StepTimeTimeout,
    TargetBatchSize,
    TargetImageSize,
    Threads,
    WorkerCount,
    folder_name,
)
from effnas.cli.proxy_app import proxy
from effnas.cli.results_app import results
from effnas.cli.scaling_app import scaling
from effnas.cli.train_app import training
from effnas.errors import EffnasError, UserError

app = typer.Typer(
    name="effnas",
    help="Search for convolutional networks that train fast on your accelerator and your images.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # rich's own help takes longer to import than all the rest
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line; the exit code is 0, 1 (failed), 2 (wrong usage) or 130 (stopped)."""
    # --debug is taken wherever it stands.
    arguments = [a for a in sys.argv[1:] if a != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    try:
        app(args=arguments, prog_name="effnas")
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:  # noqa: BLE001  # the last resort: one line, no traceback
        if debug:
            traceback.print_exc()
        elif isinstance(error, EffnasError):
            from effnas.cli.wording import with_options

            print(f"effnas: error: {with_options(str(error))}", file=sys.stderr)
        else:
            print(
                f"effnas: internal error: {type(error).__name__}: {error}; please report it with "
                "what --debug prints",
                file=sys.stderr,
            )
        sys.exit(2 if isinstance(error, UserError) else 1)


app.add_typer(proxy, name="proxy")
app.add_typer(results)
app.add_typer(training)
app.add_typer(scaling, name="scaling")


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; with any command.")
    ] = False,
) -> None:
    if version:
        import effnas

        print(effnas.__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)


@app.command()
def search(
    space: Annotated[str, typer.Option(help="Name or path of a search space.")] = "v2",
    data: Data = "digits",
    budget: Annotated[int, typer.Option(help="Trials in all.")] = 1000,
    out: Annotated[
        Path | None,
        typer.Option(help="Run folder; the same one goes on. [default: runs/SPACE-DATA]"),
    ] = None,
    reward: Annotated[
        str, typer.Option(help="Name, file, expression, or FILE.py:FUNCTION.")
    ] = "v2",
    constraint: Constraint = None,
    controller: Annotated[
        str,
        typer.Option(help="surrogate, random, evolution, optuna:tpe, ..., or FILE.py:CLASS."),
    ] = "surrogate",
    objectives: Annotated[
        str | None,
        typer.Option(help="What it pursues in place of the reward: accuracy:max,step_time:min"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of proposals, hold-out and trainings.")] = 0,
    recipe: RecipeFile = None,
    epochs: Epochs = None,
    fidelity: Fidelity = None,
    image_size: ImageSize = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    data_share: DataShare = None,
    holdout_share: HoldoutShare = None,
    data_root: DataRoot = None,
    on_bad_image: OnBad = OnBadImage.REFUSE,
    target_image_size: TargetImageSize = None,
    target_batch_size: TargetBatchSize = None,
    device: Device = "auto",
    backend: Backend = BackendName.RAY,
    workers: WorkerCount = None,
    threads: Threads = None,
    step_time: StepTime = None,
    profile: Profile = None,
    step_times: StepTimes = None,
    step_time_command: StepTimeCommand = None,
    step_time_timeout: StepTimeTimeout = 600.0,
    as_json: Json = False,
) -> None:
    """Search a space: time, train, score and store one architecture after another.

    \b
    Example:
      effnas search --space v2-cifar --data cifar10.tar.gz --budget 24 --out runs/first

    Ctrl-C stops it; the same command goes on, and a larger --budget extends it.
    """
    from effnas.cli.search import run_search
    from effnas.config.settings import Recipe, StepTimeConfig
    from effnas.evaluation.workers import Workers
    from effnas.search.launch import Settings
    from effnas.search.rungs import Rungs

    base = Recipe.load(recipe) if recipe else Recipe()
    rungs = Rungs.parse(fidelity) if fidelity is not None else None
    settings = Settings(
        space=space,
        data=data,
        reward=reward,
        controller=controller,
        objectives=objectives,
        budget=budget,
        seed=seed,
        out=out or Path("runs") / folder_name(space, data),
        rungs=rungs,
        recipe=base.overridden(
            epochs=rungs.epochs[-1] if rungs and epochs is None else epochs,
            image_size=image_size,
            batch_size=batch_size,
            learning_rate=learning_rate,
            data_share=data_share,
            holdout_share=holdout_share,
        ),
        data_root=data_root,
        on_bad_image=on_bad_image.value,
        workers=Workers(device=device, backend=backend.value, count=workers, threads=threads),
        step_times=StepTimeConfig.of(
            mode=step_time,
            profile=profile,
            table=step_times,
            command=step_time_command,
            timeout_s=step_time_timeout,
        ),
        target_image_size=target_image_size,
        target_batch_size=target_batch_size,
        constraints=tuple(constraint or ()),
    )
    raise typer.Exit(run_search(settings, as_json=as_json))


@app.command()
def status(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    top: Annotated[int, typer.Option(help="Rows of the leaderboard.", min=1)] = 10,
    as_json: Json = False,
) -> None:
    """Show a run: its leaderboard, what it has cost, and when it will be done.

    \b
    Example:
      effnas status runs/first
    """
    from effnas.cli.status import show_status

    show_status(run, top=top, as_json=as_json)


@app.command()
def space(
    name: Annotated[str, typer.Argument(help="Name or path of a search space.")],
    samples: Annotated[
        int, typer.Option(help="Architectures drawn for the statistics.", min=1)
    ] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the drawing.", min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Describe a search space: its choices, its size, and what its networks cost.

    \b
    Example:
      effnas space v2
    """
    from effnas.cli.space import show_space

    show_space(name, samples=samples, seed=seed, as_json=as_json)


@app.command()
def bench(
    networks: Annotated[
        list[str],
        typer.Argument(
            metavar="ARCH...",
            help="Architecture files, quoted block strings, RUN:NUMBER, RUN:best, or timm names.",
        ),
    ],
    space: Annotated[
        str | None, typer.Option(help="Gives block strings their stem and head, and the sizes.")
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Pixels. [default: the space's or run's, else 224]")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Images in a step. [default: the space's, else 32]")
    ] = None,
    classes: Annotated[
        int | None, typer.Option(help="Outputs. [default: the space's, else 1000]")
    ] = None,
    device: Device = "auto",
    threads: Threads = None,
    precision: Precision = None,
    memory_format: MemoryFormat = None,
    compile_mode: CompileMode = CompileModeName.NONE,
    interval: Annotated[
        float, typer.Option(help="Wanted half-width of the 95 % intervals, a share.")
    ] = 0.02,
    time_limit: Annotated[float, typer.Option(help="Seconds at which timing ends.")] = 60.0,
    as_json: Json = False,
) -> None:
    """Time training steps of any networks in turn; ratios are to the first.

    \b
    Example:
      effnas bench runs/first:best efficientnet_b0 tf_efficientnetv2_b0 --image-size 64
    """
    from effnas.timing.runtime import configure_process

    configure_process()
    from effnas.cli.bench import run_bench
    from effnas.timing.device_settings import DeviceSettings

    settings = DeviceSettings(
        device=device,
        threads=threads,
        image_size=image_size,
        batch_size=batch_size,
        num_classes=classes,
        precision=precision.value if precision else None,
        memory_format=memory_format.value if memory_format else None,
        compile_mode=compile_mode.value,
    )
    raise typer.Exit(
        run_bench(
            networks,
            settings,
            space=space,
            precision=interval,
            time_limit_s=time_limit,
            as_json=as_json,
        )
    )


@app.command()
def profile(
    space: Annotated[str, typer.Option(help="Name or path of a search space.")],
    device: Device = "auto",
    out: Annotated[
        Path | None,
        typer.Option(help="The profile. [default: runs/profiles/SPACE-DEVICE.json]"),
    ] = None,
    target_image_size: TargetImageSize = None,
    target_batch_size: TargetBatchSize = None,
    classes: Annotated[
        int | None, typer.Option(help="Outputs, as the data has classes. [default: 1000]")
    ] = None,
    threads: Threads = None,
    precision: Precision = None,
    memory_format: MemoryFormat = None,
    compile_mode: CompileMode = CompileModeName.NONE,
    seed: Annotated[int, typer.Option(help="Draws the networks to fit and check on.", min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Fit a model of step time and memory for a space on a device, and check it.

    \b
    Example:
      effnas profile --space v2-cifar --device cpu --classes 10
    """
    from effnas.timing.runtime import configure_process

    configure_process()
    from effnas.cli.profile import run_profile
    from effnas.timing.device_settings import DeviceSettings

    settings = DeviceSettings(
        device=device,
        threads=threads,
        image_size=target_image_size,
        batch_size=target_batch_size,
        num_classes=classes,
        precision=precision.value if precision else None,
        memory_format=memory_format.value if memory_format else None,
        compile_mode=compile_mode.value,
    )
    raise typer.Exit(run_profile(space, settings, out=out, seed=seed, as_json=as_json))
