"""The commands for what a search has found: moved, trained longer, scaled and exported."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from effnas.cli import options
from effnas.cli.declare import Options, arg, command, opt, opt_list
from effnas.config.recipe import Regime

if TYPE_CHECKING:
    from effnas.trials.learning_curve import AfterLonger
    from effnas.trials.network_ref import NetworkRef

results = typer.Typer(rich_markup_mode=None)

Tracker = StrEnum("Tracker", ["tensorboard", "mlflow", "wandb"])
_DIGITS = "digits"


@command(
    results,
    "retarget",
    "runs/first --device cuda --out runs/first-cuda",
    "runs/first --step-times board.csv --out runs/first-board",
    continues=True,
)
class Retarget(options.StepTimes, options.MovedImages, options.Backend, options.WithReport):
    """Find what is best on another device, with the accuracies of a finished search."""

    search: Path = arg("Folder of a finished search.", "RUN")
    out: Path | None = opt("Folder of the new run. [default: RUN-DEVICE]")
    timings: int = opt("Trials of the run that are timed at most, where that takes time.", 50)
    budget: int = opt(
        "New trainings at most, spent only where one may win; by time also of known networks.", 0
    )

    def folder(self) -> Path:
        name = next(
            (source.stem for source in (self.profile, self.step_times) if source),
            "command" if self.step_time_command else self.device.replace(":", ""),
        )
        return self.out or options.beside(self.search, name)

    def run(self) -> int:
        from effnas.cli.retarget import RetargetCommand
        from effnas.workflows.retarget.settings import RetargetSettings

        settings = self.fill(RetargetSettings, run=self.search, out=self.folder())
        command = RetargetCommand(settings, as_json=self.as_json)
        command.writes_report = self.report
        return self.start(command)


@command(results, "report", "runs/first", "runs/first runs/second --out both.html --open")
class Report(Options):
    """Write one page about what a folder holds: what was found, and how sure that is.

    The folder of a search, of finals, of a training or of a family; several searches are put side
    by side. The file needs no network and no server.
    """

    runs: list[Path] = arg("Folders.", "FOLDER")
    out: Path | None = opt("The file. [default: FOLDER/report.html; of several, report.html]")
    tables: Path | None = opt("Also write every table there, as CSV and JSON.")
    open: bool = opt("Show it in the browser.", False, "--open")

    def run(self) -> None:
        from effnas.cli.report import show_report

        show_report(
            self.runs, out=self.out, tables=self.tables, opens=self.open, as_json=self.as_json
        )


@command(
    results,
    "scale",
    "runs/first:best --family v2 --out families/first",
    "runs/first:best --step-time 2x --params 60e6",
    "base.json --alpha 1.2 --beta 1.1 --gamma 1.15 --phi 1,2",
    runs_networks=True,
)
class Scale(options.Blocks, options.Device):
    """Scale a network to a family, or to the largest that stays within limits."""

    base: str = arg("Architecture file, quoted block strings, RUN:NUMBER or RUN:best.", "BASE")
    family: str | None = opt("Scaling rules, by name (v2, v2-b, v1) or file. [default: v2]",
                             of="scaling_rules")  # fmt: skip
    alpha: float | None = opt("Compound scaling: depth for each phi. [default: 1.2]")
    beta: float | None = opt("Width for each phi. [default: 1.1]")
    gamma: float | None = opt("Image size for each phi. [default: 1.15]")
    phi: str | None = opt_list("Exponents, such as 0.5,1,2. [default: 1,2,3]")
    round_limit: float | None = opt("Share of its width that rounding leaves a layer: 0.9, or 0.")
    last_stage: bool = opt("Add the stage of the rules.", True, "--last-stage/--no-last-stage")
    step_time: str | None = opt("The largest up to this step time: 2x the base's, or seconds.")
    params: str | None = opt("The largest up to these parameters: 2x the base's, or a number.")
    memory: str | None = opt("The largest up to this memory of a step: 2x the base's, or bytes.")
    image_size: int | None = opt("Pixels of the base's training. [default: the run's or family's]")
    max_image_size: int | None = opt("Pixels at inference at most. [default: the family's]")
    epochs: int | None = opt("Of the trainings whose time is estimated. [default: 350]")
    images: int | None = opt("Their images. [default: the run's, else ImageNet's]")
    device: str = opt("Where layers are timed: auto, cpu, cuda, cuda:N, mps, or none.", "auto")
    out: Path | None = opt("Folder for the architecture files and family.json.")

    def check(self) -> None:
        from effnas.trials.network_ref import find_architecture

        find_architecture(self.base, None)

    def run(self) -> int:
        from effnas.cli.scale import RulesAsked, ScaleCommand, limits_of
        from effnas.scaling.sizing import EPOCHS, ScaleSettings
        from effnas.timing.device_settings import DeviceSettings

        is_timed = self.device != "none"
        device = self.device if is_timed else "cpu"
        settings = self.fill(
            ScaleSettings,
            rules=self.fill(RulesAsked).rules(),
            device=self.fill(DeviceSettings, device=device, num_classes=self.classes),
            with_step_times=is_timed,
            limits=limits_of(step_time=self.step_time, params=self.params, memory=self.memory),
            epochs=EPOCHS if self.epochs is None else self.epochs,
        )
        return ScaleCommand(settings, folder=self.out, as_json=self.as_json).run()


@command(results, "promote", "runs/first --top 5", continues=True)
class Promote(options.TrainTime, options.Training, options.NamedRecipe, options.MovedImages,
              options.RayWorkers, options.WithReport):  # fmt: skip
    """Train the best of a search longer, with several seeds, and pick one."""

    search: Path = arg("Folder of a finished search.", "RUN")
    top: int = opt("Best trials by reward; up to as many more from the front.", 5)
    seeds: int = opt("Trainings of each, with other seeds.", 3)
    out: Path | None = opt("Folder of the finals. [default: RUN-finals]")
    recipe: str | None = opt("Name or YAML file of a recipe. [default: the search's]", of="recipes")
    epochs: int | None = opt("Epochs of a training. [default: 4 times the search's]")
    data_share: float | None = opt("Share of the training images used. [default: 1]")
    test: bool = opt("Read the test part of the data, once, for what is picked.", False, "--test")

    def folder(self) -> Path:
        return self.out or options.beside(self.search, "finals")

    def run(self) -> int:
        from effnas.cli.promote import PromoteCommand
        from effnas.workflows.finals.launch import FinalsSettings

        settings = self.fill(
            FinalsSettings,
            run=self.search,
            out=self.folder(),
            recipe=self.named_recipe(),
            changes={**self.training(), "train_time_s": self.train_time_s()},
        )
        command = PromoteCommand(settings, as_json=self.as_json)
        command.writes_report = self.report
        return self.start(command)


@command(
    results,
    "train",
    "runs/first:best --data cifar10.tar.gz --recipe cifar",
    "families/first/m.json --data photos/ --recipe family --test",
    "resnet18 --data photos/ --image-size 48..96 --epochs 30",
    continues=True,
    runs_networks=True,
)
class Train(options.Images, options.TrainTime, options.NamedRecipe, options.Step,
            options.WithReport):  # fmt: skip
    """Train a network to the end, with images and regularization that grow."""

    network: str = arg("File, 'block strings', RUN:NUMBER, RUN:best, or a timm name.", "MODEL")
    data: str | None = opt(  # type: ignore[assignment]  # `check` fills it in
        "digits, a folder or tar of class folders, CSV table, or timm's torch/NAME. "
        "[default: the search's of RUN:best, else digits]"
    )
    recipe: str | None = opt(
        "Name (default, v2-s, v2-m, v2-l, v2-released, v1, finetune, pretrain-21k, family, "
        "cifar, quick, tiny) or YAML file. [default: the search's of RUN:best, else default]",
        of="recipes",
    )
    out: Path | None = opt("Folder of the training. [default: runs/train-MODEL-DATA]")
    regime: Regime | None = opt("How sizes and regularization change. [default: the recipe's]")
    epochs: float | None = opt("Epochs; the rest of the recipe follows. [default: the recipe's]")
    image_size: str | None = opt(
        "Pixels in the last stage (64; the first in proportion), or in the first and the last "
        "(32..64). [default: the recipe's, else the family's or the data's]"
    )
    batch_size: int | None = opt(
        "Images in a step of all workers; scales the learning rate. [default: the recipe's]"
    )
    device_batch_size: int | None = opt(
        "The most images that a device takes at once; a larger batch is taken in parts. "
        "[default: what its memory holds]"
    )
    weights: Path | None = opt("Weights to begin with, .safetensors. [default: random]")
    new_head: bool = opt("New classifier: --weights have other classes.", False, "--new-head")
    seed: int = opt("Fixes all that is random.", 0)
    test: bool = opt("Test the best weights on the test part, once, at the end.", False, "--test")
    workers: int | None = opt("Processes that share each batch. [default: one per GPU, or 1]")
    threads: int | None = opt("CPU threads of a process. [default: its share of all]")
    checkpoint_every: float = opt("Seconds between two checkpoints at least.", 60.0)
    log: list[Tracker] | None = opt("Where figures go besides log.csv; may be repeated.",
                                    metavar=f"<{'|'.join(Tracker)}>")  # fmt: skip

    @cached_property
    def after_longer(self) -> AfterLonger | None:
        """As of `best_after` for RUN:best and the time of this training, if it is another trial."""
        from effnas.trials.learning_curve import best_after
        from effnas.trials.network_ref import find_network

        if not self.network.endswith(":best") or self.recipe:  # curves are of its own recipe
            return None
        run = find_network(self.network, None).run
        if run is None or self.epochs is not None:
            return None
        time_s = self.train_time_s() or run.manifest.winner_time_s
        after = best_after(run, time_s) if time_s else None
        return after if after and after.is_other else None

    @cached_property
    def named(self) -> str:
        """The network: of RUN:best, what is likely to be the best after this training."""
        if self.after_longer is None:
            return self.network
        return f"{self.network.removesuffix(':best')}:{self.after_longer.chosen.trial.number}"

    @cached_property
    def found(self) -> NetworkRef:
        """What is to be trained."""
        from effnas.trials.network_ref import find_network

        return find_network(self.named, None)

    def folder(self) -> Path:
        if self.out:
            return self.out
        run = self.found.run
        data = Path(self.data or (run and run.manifest.data.name) or _DIGITS).name.split(".")[0]
        return Path("runs", f"train-{options.network_name(self.named)}-{data}")

    def check(self) -> None:
        run = self.found.run
        if self.data is None and run:
            stored = run.manifest.data
            self.data = stored.path or stored.name
            self.data_root = self.data_root or (Path(stored.root) if stored.root else None)
            if "on_bad_image" not in self.given:
                self.on_bad_image = stored.on_bad_image
        if self.asked and self.after_longer:
            self.asked = replace(self.asked, options={**self.asked.options, "network": self.named})
        self.data = self.data or _DIGITS
        super().check()

    def run(self) -> int:
        from effnas.cli.train import TrainCommand
        from effnas.report.parts import duration
        from effnas.workflows.train.settings import TrainSettings, recipe_for

        settings = self.fill(
            TrainSettings,
            network=self.named,
            recipe=recipe_for(self.found, self.recipe).overridden(
                train_time_s=self.train_time_s(),
                batch_size=self.batch_size,
                image_size=self.image_size,
                regime=self.regime,
            ),
            out=self.folder(),
            checkpoint_every_s=self.checkpoint_every,
            trackers=tuple(dict.fromkeys(one.value for one in self.log or ())),
        )
        command = TrainCommand(settings, as_json=self.as_json)
        if self.after_longer:
            time = duration(settings.recipe.train_time_s or 0)
            command.chosen = {"network": f"after {time}, {self.after_longer}"}
        command.writes_report = self.report
        return self.start(command)


@command(
    results,
    "export",
    "runs/first:12 --weights runs/first-finals/weights/ID-0.safetensors",
    "families/first/m.json --weights runs/train-first-m-photos/best.safetensors",
    "families/first/m.json --formats timm,onnx",
)
class Export(Options):
    """Write a network for programs outside effnas: timm, ONNX, torch.export, a model card."""

    network: str = arg("File, quoted block strings, RUN:NUMBER or RUN:best.", "NETWORK")
    weights: Path | None = opt("State dict, .safetensors. [default: random weights]")
    out: Path | None = opt("Folder that is made. [default: exports/NETWORK]")
    image_size: int | None = opt("Pixels at inference. [default: as trained, else 224]")
    classes: int | None = opt("Outputs. [default: those of the weights, file or run, else 1000]")
    formats: str = opt_list("What is written; timm always is.", "timm,onnx,torch-export")

    def check(self) -> None:
        from effnas.trials.network_ref import find_architecture

        find_architecture(self.network, None)

    def run(self) -> int:
        from effnas.cli.export import ExportCommand
        from effnas.export.network import ExportSettings

        settings = self.fill(
            ExportSettings,
            out=self.out or Path("exports", options.network_name(self.network)),
            num_classes=self.classes,
            formats=tuple(part.strip() for part in self.formats.split(",")),
        )
        return ExportCommand(settings, as_json=self.as_json).run()
