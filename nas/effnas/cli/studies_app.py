"""`effnas proxy` and `effnas scaling`, which train many networks to find out one thing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from effnas.cli import options
from effnas.cli.declare import arg, command, opt, opt_list

if TYPE_CHECKING:
    from effnas.config.recipe import Recipe
    from effnas.workflows.proxy.launch import ProxySettings
    from effnas.workflows.scaling.launch import CompoundGrid, LayerGrowth

proxy = typer.Typer(
    name="effnas proxy", no_args_is_help=True, rich_markup_mode=None,
    help="Find out how well a short training ranks networks, before the budget is spent.",
)  # fmt: skip
scaling = typer.Typer(
    name="effnas scaling", no_args_is_help=True, rich_markup_mode=None,
    help="Find out by short trainings how a network is best scaled.",
)  # fmt: skip


class ProxyOptions(options.SpaceAndImages, options.Target, options.ShortRecipe, options.Backend):
    """The networks that are ranked, and the fidelity that rankings are compared with."""

    out: Path | None = opt("Folder of the trainings. [default: runs/proxy-SPACE-DATA]")
    networks: int = opt("Reference networks, spread over the space.", 12)
    high_seeds: int = opt("Seeds of each network at the higher fidelity.", 2)
    high_epochs: int | None = opt("Epochs of the higher fidelity. [default: 4 times the proxy's]")
    seed: int = opt("Seed of networks, hold-out and trainings.", 0)

    def folder(self) -> Path:
        return self.out or Path("runs") / f"proxy-{options.folder_name(*self.choose())}"

    def study(self, recipe: Recipe) -> ProxySettings:
        """Return what the user asked for."""
        from effnas.workflows.proxy.launch import ProxySettings

        return self.fill(ProxySettings, out=self.folder(), recipe=recipe)


@command(proxy, "check", "--space v2-cifar --data cifar10.tar.gz --networks 8")
class Check(ProxyOptions, options.Training):
    """Train reference networks at the proxy and at a higher fidelity, and compare the rankings.

    Ctrl-C stops it; the same command continues, and more networks or seeds train what is missing.
    """

    seeds: int = opt("Seeds of each network at the proxy.", 3)

    def run(self) -> int:
        from effnas.cli.proxy import CheckCommand

        settings = self.study(self.load_recipe(**self.training()))
        return self.start(CheckCommand(settings, as_json=self.as_json))


@command(
    proxy,
    "search",
    "--space v2-cifar --data cifar10.tar.gz --epochs 1 --epochs 2 --epochs 4",
    continues=True,
)
class ProxySearch(ProxyOptions, options.Optimizer):
    """Find the cheapest epochs, image size and share of the data that still rank networks well."""

    epochs: list[int] | None = opt("Epochs to try; give the option once for each.")
    image_size: list[int] | None = opt("Image sizes to try, likewise.")
    data_share: list[float] | None = opt("Shares of the data to try, likewise.")
    seeds: int = opt("Seeds of each network at a setting.", 1)

    def run(self) -> int:
        from effnas.cli.proxy import ProxySearchCommand
        from effnas.workflows.proxy.launch import Grid

        recipe = self.load_recipe(batch_size=self.batch_size, learning_rate=self.learning_rate)
        grid = Grid(
            epochs=self.epochs or (), image_sizes=self.image_size or (),
            data_shares=self.data_share or (),
        )  # fmt: skip
        return self.start(ProxySearchCommand(self.study(recipe), grid, as_json=self.as_json))


class ScalingOptions(options.Training, options.NamedRecipe, options.RayWorkers):
    """The network that is scaled, and the trainings that show how."""

    base: str = arg("RUN:NUMBER, RUN:best, architecture file or quoted block strings.", "BASE")
    out: Path | None = opt("Folder of the trainings. [default: RUN-coefficients or RUN-layers]")
    data: str | None = opt("Images, as of `effnas search`. [default: the run's]")
    data_root: Path | None = opt("Folder of a timm data set that goes by name.")
    seeds: int = opt("Trainings of each network, with other seeds.", 3)
    seed: int = opt("Seed of trainings and hold-out, where no run gives one.", 0)
    recipe: str | None = opt("Name or YAML file of a recipe. [default: the run's]", of="recipes")

    #: What the default folder's name ends with.
    ending = ""

    def folder(self) -> Path:
        run, colon, _ = self.base.rpartition(":")
        is_file, name = self.base.endswith(".json"), self.ending
        stem = f"{Path(self.base).stem}-{name}" if is_file else name
        is_of_run = colon and Path(run).is_dir()
        return self.out or (options.beside(Path(run), name) if is_of_run else Path("runs") / stem)

    def check(self) -> None:
        from effnas.trials.network_ref import find_architecture

        find_architecture(self.base, None)

    def compare(self, tried: CompoundGrid | LayerGrowth) -> int:
        """Train what is tried; return the exit code."""
        from effnas.cli.scaling import ScalingCommand
        from effnas.workflows.scaling.launch import ScalingSettings

        settings = self.fill(
            ScalingSettings,
            tried=tried,
            out=self.folder(),
            recipe=self.named_recipe(),
            changes=self.training(),
        )
        return self.start(ScalingCommand(settings, as_json=self.as_json))


@command(
    scaling,
    "coefficients",
    "runs/first:best --macs 2.1x --memory 2x",
    continues=True,
    runs_networks=True,
)
class Coefficients(ScalingOptions):
    """Search alpha, beta and gamma of compound scaling on a grid, by training the base at phi 1."""

    ending = "coefficients"

    grid_step: float = opt("Distance of neighbours on the grid of alpha, beta and gamma.", 0.05)
    tolerance: float = opt("How far alpha * beta^2 * gamma^2 may be from 2.", 0.1)
    macs: str | None = opt("Most MACs: 2.1x the base's, or a number. [default: 2x + tolerance]")
    memory: str | None = opt("Most memory of a training step: 2x the base's, or bytes.")
    round_limit: float = opt("Share of its width that rounding leaves a layer: 0.9, or 0.", 0.9)

    def run(self) -> int:
        from effnas.cli.scale import limits_of
        from effnas.scaling.compound import GROWTH, coefficients_grid
        from effnas.workflows.scaling.launch import CompoundGrid

        grid = CompoundGrid(
            grid=tuple(coefficients_grid(step=self.grid_step, tolerance=self.tolerance)),
            limits=limits_of(macs=self.macs or f"{GROWTH + self.tolerance:g}x", memory=self.memory),
            round_limit=self.round_limit,
        )
        return self.compare(grid)


@command(
    scaling, "layers", "runs/first:best --family v2 --member m", continues=True, runs_networks=True
)
class Layers(ScalingOptions):
    """Search which stages gain the layers of a member, among networks of its step time."""

    ending = "layers"

    family: str = opt("Name or file of scaling rules.", "v2", of="scaling_rules")
    member: str = opt("Member whose growth of layers is searched for.", "m")
    slopes: str = opt_list("How much more later stages grow; 0 lets all grow alike.", "0,0.5,1")
    tolerance: float = opt("Share by which step times may differ from the member's.", 0.05)

    def run(self) -> int:
        from effnas.cli.scale import numbers_of
        from effnas.scaling.rules import ScalingRules
        from effnas.timing.device_settings import DeviceSettings
        from effnas.workflows.scaling.launch import LayerGrowth

        growth = self.fill(
            LayerGrowth,
            rules=ScalingRules.load(self.family),
            slopes=tuple(numbers_of("--slopes", self.slopes)),
            device=DeviceSettings(device=self.device, threads=self.threads),
        )
        return self.compare(growth)
