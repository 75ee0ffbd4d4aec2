"""From a base to the way that it is best scaled: plan, trainings, and the pick."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from effnas.arch.architecture import Architecture
from effnas.arch.counts import count
from effnas.arch.models import build
from effnas.config.recipe import TRIAL_EPOCHS, Recipe
from effnas.config.recipe_file import default_recipe
from effnas.config.settings import EvaluationConfig, Execution
from effnas.errors import ConfigError, InfeasibleError, check_at_least
from effnas.evaluation.config import config_for_data, config_for_run, default_image_sizes
from effnas.evaluation.observer import Observer
from effnas.evaluation.workers import Workers
from effnas.scaling.budget import Limit
from effnas.scaling.compound import CompoundScaling
from effnas.scaling.rules import MemberRule, ScalingRules
from effnas.scaling.sizing import MemberCosts
from effnas.space.search_space import SearchSpace
from effnas.timing.device_settings import DeviceSettings
from effnas.timing.layer_times import LayerTimes
from effnas.trials.manifest import TRAINER, CommandPart
from effnas.trials.network_ref import NetworkRef, find_architecture
from effnas.trials.store import CHECKPOINTS, write_whole
from effnas.workflows.scaling.candidates import ScaledNetwork, compound_candidates, layer_candidates
from effnas.workflows.scaling.manifest import CompoundManifest, LayersManifest, ScalingManifest
from effnas.workflows.trainings.folder import Result, TrainingsFolder
from effnas.workflows.trainings.forecast import Forecast, epoch_time
from effnas.workflows.trainings.standings import Schedule, Standing
from effnas.workflows.trainings.train import Candidate, Trainings

#: The file of the rules that a search of layers ends with.
RULES = "rules.yaml"
_JUDGED_BY = "accuracy"


@dataclass(frozen=True, kw_only=True)
class CompoundGrid:
    """α, β and γ are tried on a grid.

    Attributes:
        grid: Coefficients.
        limits: What the scaled base may cost.
        round_limit: Of the channels, see `effnas.scaling.growth.grow`.
    """

    manifest_type = CompoundManifest

    grid: tuple[CompoundScaling, ...]
    limits: tuple[Limit, ...]
    round_limit: float = 0.9

    def __post_init__(self) -> None:
        if not 0 <= self.round_limit <= 1:
            raise ConfigError(f"`round_limit` is {self.round_limit:g}, it is a share of 0 to 1")

    def manifest(self, **others: Any) -> ScalingManifest:
        """Return the manifest of trainings with what is tried and `others`."""
        return CompoundManifest(
            grid=tuple((one.alpha, one.beta, one.gamma) for one in self.grid),
            limits=tuple(limit.text for limit in self.limits),
            round_limit=self.round_limit,
            **others,
        )


@dataclass(frozen=True, kw_only=True)
class LayerGrowth:
    """Ways to share a member's additional layers among the stages are tried.

    Attributes:
        rules: The family's rules of scaling.
        member: Name of the member, not the first.
        slopes: How much more later stages grow.
        tolerance: Largest share by which step times may differ from the member's.
        device: What step times are predicted for.
    """

    manifest_type = LayersManifest

    rules: ScalingRules
    member: str
    slopes: tuple[float, ...]
    tolerance: float
    device: DeviceSettings

    def __post_init__(self) -> None:
        if self.rule is self.rules.members[0]:
            raise ConfigError(
                f"`member` {self.member} is the base itself, which does not grow; choose one of "
                f"{', '.join(rule.name for rule in self.rules.members[1:])}"
            )
        if any(not -1 <= slope <= 3 for slope in self.slopes) or not 0 < self.tolerance < 1:
            raise ConfigError("`slopes` are -1 to 3, and `tolerance` is above 0 and below 1")

    @property
    def rule(self) -> MemberRule:
        """The rule of the member."""
        return self.rules.member(self.member)

    def manifest(self, **others: Any) -> ScalingManifest:
        """Return the manifest of trainings with what is tried and `others`."""
        return LayersManifest(
            rules=self.rules.to_text(),
            member=self.member,
            slopes=self.slopes,
            tolerance=self.tolerance,
            **others,
        )


@dataclass(frozen=True, kw_only=True)
class ScalingSettings:
    """What the user asked for.

    Attributes:
        base: An architecture file, block strings, RUN:NUMBER or RUN:best.
        tried: What is tried.
        out: Folder of the trainings.
        recipe: A recipe in place of the run's.
        changes: What differs from the recipe, by the names of `Recipe.overridden`.
        data: Images, if they are not those of the run or have moved.
        data_root: Folder of a timm data set.
        seeds: Trainings of each network.
        seed: Of trainings and hold-out, where no run gives one.
        workers: Where trainings run.
        asked: The command line that this is from, for `asked` of the manifest.
    """

    base: str
    tried: CompoundGrid | LayerGrowth
    out: Path
    recipe: Recipe | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    data: str | None = None
    data_root: Path | None = None
    seeds: int = 3
    seed: int = 0
    workers: Workers = field(default_factory=Workers)
    asked: CommandPart | None = None

    def __post_init__(self) -> None:
        check_at_least(1, seeds=self.seeds)
        check_at_least(0, seed=self.seed)


class ScalingObserver(Observer):
    """Receives what a scaling search does."""

    def planned(
        self, networks: Sequence[ScaledNetwork], schedule: Schedule, forecast: Forecast | None
    ) -> None:
        """The trainings are about to begin; how long they take is not always known."""

    def trained(self, result: Result) -> None:
        """A training has reached a level."""


@dataclass(frozen=True, kw_only=True)
class ScalingReport:
    """The networks that were tried, and how they compare.

    Attributes:
        networks: Those that were trained, by name.
        standings: Those trained farthest first, by mean accuracy.
        schedule: Epochs at which they were compared, and seeds.
        rules: The file of rules of the best growth of layers, if that was looked for.
    """

    networks: Mapping[str, ScaledNetwork]
    standings: tuple[Standing, ...]
    schedule: Schedule
    rules: Path | None = None

    @property
    def best(self) -> ScaledNetwork | None:
        """The most accurate of those trained to the end."""
        return self.networks[self.whole[0].name] if self.whole else None

    @property
    def whole(self) -> Sequence[Standing]:
        """Those trained to the end, the best first: only these compare."""
        return [each for each in self.standings if each.epochs == self.schedule.levels[-1]]


def search_scaling(settings: ScalingSettings, observer: ScalingObserver) -> ScalingReport:
    """Train the ways to scale a base briefly; what the folder holds is not trained again.

    Raises:
        UserError: If something given is wrong; what is stored already stays.
        SearchFailedError: If a training fails repeatedly.
    """
    network, base = find_architecture(settings.base, None)
    config = _config(settings, network, base)
    schedule = Schedule.of(config.recipe.length, settings.seeds)

    with TrainingsFolder.open(settings.out) as folder:
        stored = settings.tried.manifest_type.stored(settings.out)
        # Networks are not found again: step times are never quite the same.
        networks = stored.networks if stored else _plan(settings, base, config, observer.progress)
        manifest = settings.tried.manifest(
            base=base.id,
            data=Path(config.data or "").name,
            recipe=config.recipe,
            trainer=TRAINER,
            seeds=settings.seeds,
            seed=config.seed,
            networks=networks,
            asked=settings.asked,
        )
        results = folder.begin(manifest)
        trainings = Trainings(
            folder=folder,
            candidates=[
                Candidate(
                    name=network.name,
                    architecture=network.architecture,
                    recipe=config.recipe.overridden(image_size=network.image_size).sized(0, 0),
                )
                for network in networks
            ],
            schedule=schedule,
            results=results,
            score=lambda name, accuracy: accuracy,
            on_result=observer.trained,
        )
        epoch_s = _epoch_times(networks, network, base, config, settings.workers)
        observer.planned(networks, schedule, trainings.forecast(epoch_s))
        trainings.finish(config, settings.workers, _JUDGED_BY, observer)
    report = ScalingReport(
        networks={network.name: network for network in networks},
        standings=tuple(trainings.ranked([network.name for network in networks])),
        schedule=schedule,
    )
    return _with_rules(report, settings, base)


def _config(settings: ScalingSettings, network: NetworkRef, base: Architecture) -> EvaluationConfig:
    """Return what the base would be trained with."""
    run = network.run
    if run is None and settings.data is None:
        raise ConfigError(f"{network.name}: no run says which images to use; give them as `data`")
    recipe = settings.recipe or (run.recipe if run else default_recipe().lasting(TRIAL_EPOCHS))
    recipe = recipe.overridden(**settings.changes)
    data, root = settings.data, settings.data_root
    if run:
        space = run.space
        config = config_for_run(run, recipe, data=data, data_root=root)
    else:
        ends = "".join(f"{name}: {value}\n" for name, value in base.ends.items())
        blocks = "".join(f"\n  - {block}" for block in base.blocks)
        space = SearchSpace.parse(f"{ends}stages:{blocks}\n")
        config = config_for_data(space, data, recipe, data_root=root, seed=settings.seed)
    return replace(
        config,
        recipe=recipe.sized(*(recipe.image_size or default_image_sizes(config, space))),
        execution=config.execution or Execution(),
        step_times=None,
        checkpoints=str(settings.out.absolute() / CHECKPOINTS),
        holdout_fingerprint=None,  # other images than the run's will do
    )


def _plan(
    settings: ScalingSettings,
    base: Architecture,
    config: EvaluationConfig,
    progress: Callable[[str, int, int], None],
) -> tuple[ScaledNetwork, ...]:
    """Return the networks to be trained."""
    tried, recipe = settings.tried, config.recipe
    space = SearchSpace.parse(config.space_text)
    image_size = recipe.last_image_size
    layer_times = None
    if isinstance(tried, LayerGrowth):

        def waiting(holder: str) -> None:
            progress(f"waiting for the device, which {holder} uses", 0, 1)

        device = replace(tried.device, image_size=image_size, batch_size=recipe.batch_size)
        setup = device.setup(space)
        progress("choosing precision and memory format", 0, 1)
        make_base = partial(build, base, num_classes=setup.num_classes)
        setup = device.with_execution(setup, make_base, waiting)
        layer_times = LayerTimes(base, setup, progress=progress, waiting=waiting)
    costs = MemberCosts(
        layer_times,
        batch_size=recipe.batch_size,
        num_classes=space.target.num_classes or 1000,
        epochs=1,
        images=1,
    )
    try:
        if isinstance(tried, CompoundGrid):
            found = compound_candidates(
                base,
                tried.grid,
                image_size=image_size,
                limits=tried.limits,
                round_limit=tried.round_limit,
                costs=costs,
                progress=progress,
            )
        else:
            found = layer_candidates(
                base,
                tried.rules,
                tried.rule,
                slopes=tried.slopes,
                tolerance=tried.tolerance,
                image_size=image_size,
                costs=costs,
            )
    except InfeasibleError as error:
        raise ConfigError(f"what the networks cost cannot be found: {error}") from error
    return tuple(found)


def _epoch_times(
    networks: Sequence[ScaledNetwork],
    found: NetworkRef,
    base: Architecture,
    config: EvaluationConfig,
    workers: Workers,
) -> dict[str, float | None]:
    """Return about how many seconds an epoch of each network takes, where the base was a trial.

    In proportion to step time where that is known, else to MACs.
    """
    own_s = None
    if found.run and found.trial:
        own_s = epoch_time(found.run, found.trial, config.recipe, workers.device)
    own_macs = count(base, config.recipe.last_image_size).macs
    return {
        each.name: own_s and own_s * each.costs.get("step_time", each.costs["macs"] / own_macs)
        for each in networks
    }


def _with_rules(
    report: ScalingReport, settings: ScalingSettings, base: Architecture
) -> ScalingReport:
    """Write the rules of the best growth of layers, if that was looked for."""
    tried, best = settings.tried, report.best
    if best is None or isinstance(tried, CompoundGrid):
        return report
    rule = tried.rule
    layers = best.how["layers"]
    depth = tuple(n / stage.r for n, stage in zip(layers, base.stages, strict=False))
    last = rule.growth.last_stage if best.how["last_stage"] else None
    found = replace(rule, growth=replace(rule.growth, depth=depth, last_stage=last))
    rules = replace(
        tried.rules, members=tuple(found if one is rule else one for one in tried.rules.members)
    )
    path = settings.out / RULES
    write_whole(path, rules.to_text().rstrip("\n"))
    return replace(report, rules=path)
