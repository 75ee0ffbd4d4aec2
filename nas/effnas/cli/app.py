"""The commands and their options; what they do is imported when they are called.

`effnas --help` must answer at once, so nothing heavy is imported up here.
"""

from __future__ import annotations

import sys
import traceback
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from effnas.errors import EffnasError, UserError

app = typer.Typer(
    name="effnas",
    help="Search for convolutional networks that train fast on your accelerator and your images.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # rich's own help takes longer to import than all the rest
    pretty_exceptions_enable=False,
)


class OnBadImage(StrEnum):
    """What becomes of an image that cannot be decoded."""

    REFUSE = "refuse"
    SKIP = "skip"


class BackendName(StrEnum):
    """Where evaluations run."""

    RAY = "ray"
    INLINE = "inline"


Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


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
            print(f"effnas: error: {error}", file=sys.stderr)
        else:
            print(
                f"effnas: internal error: {type(error).__name__}: {error}; please report it with "
                "what --debug prints",
                file=sys.stderr,
            )
        sys.exit(2 if isinstance(error, UserError) else 1)


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
    data: Annotated[
        str,
        typer.Option(
            help="Images: digits, a folder or tar of class folders, or a timm name (torch/...)."
        ),
    ] = "digits",
    budget: Annotated[int, typer.Option(help="Trials in all.")] = 1000,
    out: Annotated[
        Path | None,
        typer.Option(help="Run folder; the same one goes on. [default: runs/SPACE-DATA]"),
    ] = None,
    reward: Annotated[
        str, typer.Option(help="Name, file, expression, or FILE.py:FUNCTION.")
    ] = "v2",
    controller: Annotated[str, typer.Option(help="random or evolution.")] = "random",
    seed: Annotated[int, typer.Option(help="Seed of proposals, hold-out and trainings.")] = 0,
    recipe: Annotated[
        Path | None, typer.Option(help="YAML file with the settings of the trainings.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of a training.")] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Image size of trainings, in pixels.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Batch size of trainings.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Peak learning rate of trainings.")
    ] = None,
    data_share: Annotated[
        float | None, typer.Option(help="Share of the training images used, above 0 to 1.")
    ] = None,
    holdout_share: Annotated[
        float | None, typer.Option(help="Share of the training part held out to measure A.")
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(help="Folder of a timm data set that goes by name.")
    ] = None,
    on_bad_image: Annotated[
        OnBadImage, typer.Option(help="What to do with an image that cannot be decoded.")
    ] = OnBadImage.REFUSE,
    target_image_size: Annotated[
        int | None, typer.Option(help="Image size that S and P are measured at.")
    ] = None,
    target_batch_size: Annotated[
        int | None, typer.Option(help="Batch size that S is measured at.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    backend: Annotated[
        BackendName, typer.Option(help="Ray workers, or this process (for debugging).")
    ] = BackendName.RAY,
    workers: Annotated[
        int | None, typer.Option(help="Workers of Ray. [default: one per GPU, one on a CPU]")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="CPU threads of a worker. [default: its share of all]")
    ] = None,
    as_json: Json = False,
) -> None:
    r"""Search a space: time, train, score and store one architecture after another.

    \b
    Example:
      effnas search --space v2-cifar --data cifar10.tar.gz --budget 24 --out runs/first

    Ctrl-C stops it; the same command goes on, and a larger --budget extends it.
    """
    from effnas.cli.search import run_search
    from effnas.config import Recipe
    from effnas.launch import Settings

    base = Recipe.load(recipe) if recipe else Recipe()
    name = f"{Path(space).stem}-{Path(data).name.split('.')[0]}"
    settings = Settings(
        space=space,
        data=data,
        reward=reward,
        controller=controller,
        budget=budget,
        seed=seed,
        out=out or Path("runs") / name,
        recipe=base.overridden(
            epochs=epochs,
            image_size=image_size,
            batch_size=batch_size,
            learning_rate=learning_rate,
            data_share=data_share,
            holdout_share=holdout_share,
        ),
        data_root=data_root,
        on_bad_image=on_bad_image.value,
        device=device,
        backend=backend.value,
        workers=workers,
        threads=threads,
        target_image_size=target_image_size,
        target_batch_size=target_batch_size,
    )
    raise typer.Exit(run_search(settings, as_json=as_json))


@app.command()
def status(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    top: Annotated[int, typer.Option(help="Rows of the leaderboard.", min=1)] = 10,
    as_json: Json = False,
) -> None:
    r"""Show a run: its leaderboard, what it has cost, and when it will be done.

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
    r"""Describe a search space: its choices, its size, and what its networks cost.

    \b
    Example:
      effnas space v2
    """
    from effnas.cli.space import show_space

    show_space(name, samples=samples, seed=seed, as_json=as_json)
