"""The options that commands share, in groups that make the library's settings of them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from effnas.cli.declare import Options, opt
from effnas.config.settings import CompileMode, MemoryFormat, Precision
from effnas.errors import ConfigError

if TYPE_CHECKING:
    from effnas.cli.session import LongCommand
    from effnas.config.recipe import Recipe
    from effnas.config.settings import StepTimeConfig
    from effnas.evaluation.workers import Workers


class Images(Options):
    """The images of a search or a training."""

    data: str = opt("digits, a folder or tar of class folders, CSV table, or timm's torch/NAME.",
                    "digits")  # fmt: skip
    data_root: Path | None = opt("Folder of a timm data set that goes by name.")
    on_bad_image: Literal["refuse", "skip"] = opt("How to treat undecodable images.", "refuse")

    def check(self) -> None:
        from effnas.data.loading import check_name

        check_name(self.data)


class SpaceAndImages(Images):
    """A search space and images that its networks are trained on; one may follow from the other."""

    space: str | None = opt(
        "Name or path of a search space. [default: small for images of up to 96 px, else v2]",
        of="search_spaces",
    )
    data: str | None = opt(  # type: ignore[assignment]  # `choose` fills it in
        "digits, a folder or tar of class folders, CSV table, or timm's torch/NAME. "
        "[default: digits with --space tiny]"
    )

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        #: Why an option that was not given has the value that it has, by its name.
        self.chosen: dict[str, str] = {}

    def choose(self) -> tuple[str, str]:
        """Return space and images; where one was not given, it is chosen, and `chosen` says why.

        Raises:
            UserError: If the images cannot be chosen, or not be read to choose the space.
        """
        from effnas.data.loading import check_name, native_image_size
        from effnas.evaluation.config import default_data, default_space

        if self.data is None:
            self.data = default_data(self.space)
            self.chosen["data"] = "as no --data is given"
        if self.space is None:
            check_name(self.data)
            size = native_image_size(self.data, self.data_root)
            self.space = default_space(size)
            others = {"tiny": "small is for larger ones", "small": "v2 is for larger ones",
                      "v2": "small is for smaller ones"}[self.space]  # fmt: skip
            self.chosen["space"] = f"chosen for images of {size} px; --space {others}"
        return self.space, self.data

    def check(self) -> None:
        self.choose()
        if self.asked:
            decided = {name: getattr(self, name) for name in ("space", "data", *self.chosen)}
            options = {**decided, **self.asked.options}
            self.asked = replace(self.asked, options=dict(sorted(options.items())))
        super().check()

    def start(self, command: LongCommand[Any, Any]) -> int:
        command.chosen = self.chosen
        return super().start(command)


class MovedImages(Options):
    """The images of a run, where they are now."""

    data: str | None = opt("Where the run's images are, if they have moved.")
    data_root: Path | None = opt("Folder of a timm data set, if it has moved.")
    reward: str | None = opt("Another reward than the run's.", of="rewards")


class NamedRecipe(Options):
    """The recipe of trainings."""

    recipe: str | None = opt("Name or YAML file of a recipe. [default: default]", of="recipes")

    def named_recipe(self) -> Recipe | None:
        """Return the recipe that was given, if one was; it has no choices."""
        from effnas.config.recipe_file import load_recipe

        return load_recipe(self.recipe) if self.recipe is not None else None


class Optimizer(Options):
    """Settings of trainings that leave their length as it is."""

    batch_size: int | None = opt("Images in a step. [default: the recipe's]")
    learning_rate: float | None = opt("Its peak, at that batch size. [default: the recipe's]")


class Training(Optimizer):
    """Settings of trainings."""

    epochs: int | None = opt("Epochs of a training; the recipe is made short. [default: 4]")
    image_size: str | None = opt(
        "Pixels of trainings in the last stage (32), or in the first and "
        "the last (20..32). [default: the recipe's, else the data's]"
    )
    data_share: float | None = opt(
        "Share of the training images used, above 0 to 1. "
        "[default: 1; 4500 images by epochs on a CPU]"
    )

    def training(self) -> dict[str, Any]:
        """Return them by the names of `Recipe.overridden`; None is not given."""
        names = ("epochs", "image_size", "batch_size", "learning_rate", "data_share")
        return {name: getattr(self, name) for name in names}


class TrainTime(Options):
    """How long trainings last, on the clock."""

    train_time: str | None = opt("Such as 60s or 4m, in place of --epochs: as many steps as fit.")

    def train_time_s(self) -> float | None:
        """Return the seconds; None is not given.

        Raises:
            ConfigError: If that is no time, or `epochs` are given, too.
        """
        from effnas.config.text import seconds_of

        if self.train_time is None:
            return None
        seconds = seconds_of(self.train_time, "train_time")
        if getattr(self, "epochs", None) is not None:
            raise ConfigError("`epochs` and `train_time` both say how long; leave out one of them")
        return seconds


class ShortRecipe(NamedRecipe):
    """The recipe of short trainings."""

    holdout_share: float | None = opt(
        "Share of the training part held out to measure A. [default: the recipe's]"
    )

    def load_recipe(self, **settings: Any) -> Recipe:
        """Return the recipe made short, with settings in place of its own; None is not given."""
        from effnas.config.recipe_file import default_recipe

        recipe = self.named_recipe() or default_recipe()
        return recipe.for_trials(holdout_share=self.holdout_share, **settings)


class Target(Options):
    """What step times and sizes are measured at."""

    target_image_size: int | None = opt("Image size that S and P are measured at.")


class TargetStep(Target):
    """The training step that is measured."""

    target_batch_size: int | None = opt("Batch size that S is measured at.")


class Device(Options):
    """Where networks are timed or trained."""

    device: str = opt("auto, cpu, cuda, cuda:N or mps.", "auto")
    threads: int | None = opt("CPU threads of a worker. [default: its share of all]")


class RayWorkers(Device):
    """Workers of Ray on a device."""

    workers: int | None = opt("Workers of Ray. [default: one per GPU, one on a CPU]")

    def load_workers(self) -> Workers:
        """Return where evaluations run."""
        from effnas.evaluation.workers import Workers

        return self.fill(Workers, count=self.workers)


class Backend(RayWorkers):
    """Workers of Ray on a device, or this process."""

    backend: Literal["ray", "inline"] = opt("Ray workers, or this process (for debugging).", "ray")


class WithReport(Options):
    """A report at the end."""

    report: bool = opt("Write report.html into the folder at the end.", True,
                       "--report/--no-report")  # fmt: skip


class Step(Device):
    """A training step on a device."""

    precision: Precision | None = opt("Arithmetic. [default: the fastest, as measured]")
    memory_format: MemoryFormat | None = opt("Layout. [default: the fastest, as measured]")
    compile_mode: CompileMode = opt("How torch.compile treats the networks.", "none", "--compile")


class Blocks(Options):
    """What architectures that are given as block strings lack, and the size of a step."""

    space: str | None = opt("Gives block strings stem, head and sizes.", of="search_spaces")
    batch_size: int | None = opt("Images in a step. [default: the space's, else 32]")
    classes: int | None = opt("Outputs. [default: the space's, else 1000]")


class StepTimes(Options):
    """Where step times come from."""

    step_time: Literal["measured", "predicted", "auto"] | None = opt(
        "Measure step times, or predict them by the --profile; auto (with a --profile the default) "
        "predicts where its error allows and measures the best."
    )
    profile: Path | None = opt("Device profile that `effnas profile` made.")
    step_times: Path | None = opt("Table of step times, .csv or .json.")
    step_time_command: str | None = opt("Command that prints a step's seconds: 'CMD {arch_json}'.")
    step_time_timeout: float = opt("Seconds that the command may take for a network.", 600.0)

    def load_step_times(self) -> StepTimeConfig:
        """Return where step times come from."""
        from effnas.config.settings import StepTimeConfig

        return StepTimeConfig.of(
            mode=self.step_time, profile=self.profile, table=self.step_times,
            command=self.step_time_command, timeout_s=self.step_time_timeout,
        )  # fmt: skip


def folder_name(space: str, data: str) -> str:
    """Return what a folder is called by default: SPACE-DATA, without paths and endings."""
    return f"{Path(space).stem}-{Path(data).name.split('.')[0]}"


def network_name(network: str) -> str:
    """Return what a folder is called after a network: by its file, its trial, or timm's name.

    Raises:
        ConfigError: If it has no name.
    """
    from effnas.trials.store import FAMILY

    path, colon, number = network.rpartition(":")
    if network.endswith(".json"):
        file = Path(network).absolute()
        is_member = file.with_name(FAMILY).is_file()
        return f"{file.parent.name}-{file.stem}" if is_member else file.stem
    if colon:
        return f"{Path(path).resolve().name}-{number}"
    if re.fullmatch(r"[\w.-]+", network):
        return network
    raise ConfigError("block strings have no name to call a folder by; give an `out`")


def beside(run: Path, name: str) -> Path:
    """Return the default folder of what is made of a run: RUN-NAME."""
    run = run if run.name not in ("", "..") else run.resolve()
    return run.with_name(f"{run.name}-{name}")
