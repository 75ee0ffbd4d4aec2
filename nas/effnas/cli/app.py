"""The program: what runs the commands, and those that search, time and look at things.

`effnas --help` must answer at once, so what commands do is imported when they are called.
"""

from __future__ import annotations

import sys
import traceback
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer

from effnas.cli import options
from effnas.cli.declare import Options, arg, command, opt, opt_list
from effnas.cli.results_app import results
from effnas.cli.studies_app import proxy, scaling
from effnas.cli.usage import usage_text
from effnas.cli.wording import with_options
from effnas.config.text import plain
from effnas.errors import ConfigError, EffnasError, UserError, shortened

app = typer.Typer(
    name="effnas",
    help="Search for convolutional networks that train fast on your accelerator and your images.",
    no_args_is_help=True,
    rich_markup_mode=None,  # rich's own help takes longer to import than all the rest
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line; the exit code is 0, 1 (failed), 2 (wrong usage) or 130 (stopped)."""
    for stream in (sys.stdout, sys.stderr):  # a finished search does not die of a `±` in ASCII
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    # --debug is taken wherever it stands.
    arguments = [a for a in sys.argv[1:] if a != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    try:
        sys.exit(app(args=arguments, prog_name="effnas", standalone_mode=False))
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:  # noqa: BLE001  # the last resort: one line, no traceback
        if usage := usage_text(error):
            print(plain(usage), file=sys.stderr)
            sys.exit(2)
        if debug:
            traceback.print_exc()
        else:
            text = f"error: {with_options(str(error))}"
            if not isinstance(error, EffnasError):
                text = (f"internal error: {type(error).__name__}: {error}; please report it with "
                        "what --debug prints")  # fmt: skip
            print(f"effnas: {shortened(plain(text))}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UserError) else 1)


app.add_typer(proxy, name="proxy")
app.add_typer(results)
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


@command(app, "search", "--space v2-cifar --data cifar10.tar.gz --budget 24 --out runs/first")
class Search(options.SpaceAndImages, options.ShortRecipe, options.TrainTime, options.Training,
             options.TargetStep, options.StepTimes, options.Backend,
             options.WithReport):  # fmt: skip
    """Search a space: time, train, score and store one architecture after another.

    Ctrl-C stops it; `effnas resume` continues, and a larger --budget extends it. In a folder that
    holds a search, options that are not given are those it was begun with.
    """

    network: str | None = opt("In place of a space: search the recipe of this network alone, a "
                              "file, 'blocks', RUN:best, or a timm name.")  # fmt: skip
    train_time: str | None = opt(
        "That the best is to be trained for, such as 4m, in place of --epochs: trials get a "
        "quarter of it, and a minute at least."
    )
    budget: int | None = opt("Trials in all. [default: 1000; 60 with --train-time]")
    out: Path | None = opt("Run folder; the same one is continued. [default: runs/SPACE-DATA]")
    reward: str | None = opt(
        "Name, file, expression, or FILE.py:FUNCTION. [default: v2; accuracy "
        "with --train-time, which counts step times already]",
        of="rewards",
    )
    constraint: list[str] | None = opt("'params <= 5e6': a condition to meet; may be repeated.")
    baseline: list[str] | None = opt("Compare with this network, such as resnet18; or none.")
    recipe: str | None = opt(
        "Name or YAML file of a recipe. [default: default; small with --train-time for images of "
        "17 to 96 px]",
        of="recipes",
    )
    controller: str = opt("surrogate, random, evolution, optuna:tpe, FILE.py:CLASS.", "surrogate")
    objectives: str | None = opt_list("Instead of the reward, such as accuracy:max,step_time:min.")
    seed: int = opt("Seed of proposals, hold-out and trainings.", 0)
    trial_timeout: str | None = opt(
        "Such as 30m: a worker that is not back with a trial by then is given up, and the trial "
        "tried again. [default: 10 times the plan's, 100 times by epochs; 30m at least]"
    )
    fidelity: str | None = opt_list(
        "Such as 1,2,4: pause after 1 and 2 epochs; the best train all 4. Or 15s,60s. Or none: "
        "trials get all of --train-time. [default: a quarter of it, and a minute at least]"
    )

    def folder(self) -> Path:
        if self.network and not self.out:
            name = options.network_name(self.network)
            return Path("runs") / options.folder_name(name, self.data or "")
        return self.out or Path("runs") / options.folder_name(*self.choose())

    def choose(self) -> tuple[str, str]:
        if self.network is None:
            return super().choose()
        if self.space is not None or self.data is None:
            raise ConfigError("`network` takes the place of `space`, and needs `data`")
        return self.network, self.data

    def check(self) -> None:
        from effnas.search.trainings import rungs_of

        rungs = rungs_of(self.fidelity)
        by_time = self.train_time is not None or (rungs is not None and rungs.in_seconds)
        if self.recipe is None and by_time and not self.changes:
            self.choose_recipe()
        super().check()

    def load_trial_timeout_s(self) -> float | None:
        from effnas.config.text import seconds_of

        given = self.trial_timeout
        return None if given is None else seconds_of(given, "trial_timeout")

    def choose_recipe(self) -> None:
        """Choose a recipe with choices where the images are of a size that one is made for."""
        from effnas.data.loading import native_image_size
        from effnas.evaluation.config import timed_recipe

        _, data = self.choose()
        size = native_image_size(data, self.data_root)
        if name := timed_recipe(size):
            self.recipe = name
            self.chosen["recipe"] = f"chosen for images of {size} px; --recipe default is without"

    def run(self) -> int:
        from effnas.cli.resume import stored_search
        from effnas.cli.search import SearchCommand
        from effnas.evaluation.config import network_space
        from effnas.search.launch import Settings
        from effnas.search.trainings import Trainings

        stored, kept = stored_search(self.folder(), self.given)
        trainings = Trainings.settle(
            None if stored and "recipe" not in self.given else self.recipe,
            stored,
            fidelity=self.fidelity,
            closes="recipe" in self.chosen,
            train_time_s=self.train_time_s(),
            holdout_share=self.holdout_share,
            **self.training(),
        )
        if self.network and stored is None:
            kept["space"] = network_space(self.network, self.data, self.data_root)
            if not trainings.recipe_space or not trainings.recipe_space.choices:
                raise ConfigError(
                    "`network` searches the recipe of one network, and the recipe has no choices; "
                    "give a `recipe` with some, such as small"
                )
        kept.setdefault("reward", self.reward or trainings.default_reward)
        settings = self.fill(
            Settings,
            out=self.folder(),
            **kept,
            budget=trainings.default_budget if self.budget is None else self.budget,
            rungs=trainings.rungs,
            recipe=trainings.recipe,
            full_epochs=trainings.full_epochs,
            full_train_time_s=trainings.full_train_time_s,
            recipe_space=trainings.recipe_space,
            constraints=tuple(self.constraint or ()),
            trial_timeout_s=self.load_trial_timeout_s(),
            baselines=tuple(self.baseline) if self.baseline else None,
        )
        command = SearchCommand(settings, as_json=self.as_json)
        command.writes_report = self.report
        return self.start(command)


@command(
    app, "resume", "runs/first", "runs/first --budget 200 --workers 2",
    "runs/mine --reward mine.py:score", passes_on=True,
)  # fmt: skip
class Resume(Options):
    """Continue what a folder holds: a search, finals, trainings or a study, as it was begun.

    All options are those of the command that began it; any of them may be given again, after the
    folder. A step-time command and Python of your own are only run if they are.
    """

    run_folder: Path = arg("A folder that a command was stopped in.", "FOLDER")
    budget: int | None = opt("Trials in all, to extend a search.", min=1)
    more: list[str] | None = arg("Further options of that command.", "OPTION", default=None)

    def run(self) -> int:
        from typer.main import get_command

        from effnas.cli.resume import resume

        extend = [] if self.budget is None else ["--budget", str(self.budget)]
        more = [*extend, *(self.more or ())]
        return resume(get_command(app), self.run_folder, more, as_json=self.as_json)


@command(app, "runs", "", "experiments --json")
class Runs(Options):
    """List what effnas wrote below a folder: kind, state, best, and how far it is."""

    folder_of_runs: Path = arg("The folder.", "FOLDER", default=Path("runs"))

    def run(self) -> None:
        from effnas.cli.runs import show_runs

        show_runs(self.folder_of_runs, as_json=self.as_json)


@command(app, "status", "runs/first", "families/first")
class Status(Options):
    """Show what a folder holds: how far it is, what it has cost, and what is best.

    Takes searches, finals, proxy and scaling studies, trainings, families and device profiles.
    """

    run_folder: Path = arg("The folder; of a device profile, the file.", "FOLDER")
    top: int = opt("Rows of the leaderboard.", 10, min=1)

    def run(self) -> None:
        from effnas.cli.status import show_status

        show_status(self.run_folder, top=self.top, as_json=self.as_json)


@command(
    app,
    "rescore",
    "runs/first --reward 'A * S^-0.2'",
    "runs/first --reward mnasnet-soft --store",
    "runs/first --sweep w=-0.15..0 v=-0.1..0",
    "runs/first --reward 'A - c * log(S)' --sweep c=0..0.1:50",
)
class Rescore(Options):
    """Rank the trials of a search by another reward; nothing is trained.

    --sweep takes constants that are named in the reward, NAME=LOW..HIGH or NAME=LOW..HIGH:STEPS (10
    by default), and tells which trial wins where; without --reward, of 'A * S^w * P^v'.
    """

    run_folder: Path = arg("A run folder.", "RUN")
    reward: str | None = opt("Name, file, expression, or FILE.py:FUNCTION.", of="rewards")
    sweep: list[str] | None = opt("Constants that vary, such as w=-0.15..0.")
    more: list[str] | None = arg("Further constants of --sweep.", "NAME=LOW..HIGH", default=None)
    store: bool = opt("Keep the new rewards in the run.", False, "--store")
    top: int = opt("Rows of the table.", 10, min=1)

    def run(self) -> None:
        from effnas.cli.rescore import show_rescored

        ranges = [*(self.sweep or ()), *(self.more or ())]
        show_rescored(self.run_folder, self.reward, ranges, store=self.store, top=self.top,
                      as_json=self.as_json)  # fmt: skip


@command(app, "space", "v2")
class Space(Options):
    """Describe a search space: its choices, its size, and what its networks cost."""

    name: str = arg("Name or path of a search space.", "SPACE", of="search_spaces")
    samples: int = opt("Architectures drawn for the statistics.", 1000, min=1)
    seed: int = opt("Seed of the drawing.", 0, min=0)

    def run(self) -> None:
        from effnas.cli.space import show_space

        show_space(self.name, samples=self.samples, seed=self.seed, as_json=self.as_json)


@command(
    app,
    "bench",
    "runs/first:best efficientnet_b0 tf_efficientnetv2_b0 --image-size 64",
    runs_networks=True,
)
class Bench(options.Blocks, options.Step):
    """Time training steps of any networks in turn; ratios are to the first."""

    networks: list[str] = arg("Files, 'blocks', RUN:NUMBER, RUN:best, or timm names.", "NETWORK")
    image_size: int | None = opt("Pixels. [default: the space's or run's, else 224]")
    interval: float = opt("Wanted half-width of the 95% intervals, a share.", 0.02)
    time_limit: float = opt("Seconds at which timing ends.", 60.0)

    def check(self) -> None:
        from effnas.trials.network_ref import find_network

        for network in self.networks:
            find_network(network, None)

    def run(self) -> int:
        from effnas.cli.bench import BenchCommand, BenchSettings
        from effnas.timing.device_settings import DeviceSettings

        device = self.fill(DeviceSettings, num_classes=self.classes)
        return BenchCommand(self.fill(BenchSettings, device=device), as_json=self.as_json).run()


@command(app, "doctor", "--data photos/", runs_networks=True)
class Doctor(options.Backend):
    """Find out whether all that a search needs is here and works, up to one short trial."""

    data: str = opt("Images of the search to come.", "digits")
    data_root: Path | None = opt("Folder of a timm data set that goes by name.")
    out: Path = opt("Where its folder will be.", Path("runs"))

    def run(self) -> int:
        from effnas.cli.doctor import DoctorCommand
        from effnas.workflows.doctor import DoctorSettings

        return DoctorCommand(self.fill(DoctorSettings), as_json=self.as_json).run()


@command(app, "profile", "--space v2-cifar --device cpu --classes 10", runs_networks=True)
class Profile(options.TargetStep, options.Step):
    """Fit a model of step time and memory for a space on a device, and check it."""

    space: str = opt("Name or path of a search space.", ..., of="search_spaces")
    out: Path | None = opt("The profile. [default: runs/profiles/SPACE-DEVICE.json]")
    classes: int | None = opt("Outputs, as the data has classes. [default: 1000]")
    seed: int = opt("Draws the networks to fit and check on.", 0, min=0)

    def run(self) -> int:
        from effnas.cli.profile import ProfileCommand, ProfileSettings
        from effnas.timing.device_settings import DeviceSettings

        device = self.fill(
            DeviceSettings, image_size=self.target_image_size, batch_size=self.target_batch_size,
            num_classes=self.classes,
        )  # fmt: skip
        settings = self.fill(ProfileSettings, device=device)
        return ProfileCommand(settings, as_json=self.as_json).run()
