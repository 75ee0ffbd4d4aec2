"""A family of networks and the costs of its members: what `effnas scale` does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, field, replace
from math import ceil
from pathlib import Path
from typing import Any

from effnas.arch.counts import count
from effnas.arch.files import to_json
from effnas.arch.models import build
from effnas.config.codec import FORMAT, dump_json
from effnas.config.recipe_file import default_recipe
from effnas.config.regularization import STRENGTHS
from effnas.errors import ConfigError, InfeasibleError, check_at_least
from effnas.scaling.budget import Fit, Limit, largest_within
from effnas.scaling.family import FamilyMember, scale
from effnas.scaling.rules import ScalingRules
from effnas.space.search_space import SearchSpace
from effnas.timing.device import describe_device, hardware_id
from effnas.timing.device_settings import DeviceSettings
from effnas.timing.layer_times import LayerTimes, SizedNetwork
from effnas.timing.lock import Waiting
from effnas.timing.memory import estimate_peak_memory
from effnas.trials.network_ref import find_architecture
from effnas.trials.store import FAMILY, FAMILY_KIND

#: Training images of ImageNet, and the epochs that the papers train for.
IMAGENET_IMAGES, EPOCHS = 1_281_167, 350


@dataclass(frozen=True, kw_only=True)
class SizedMember:
    """A member of a family and its costs.

    Attributes:
        member: The network, its image sizes and its regularization.
        metrics: By name: `params`; `macs` and `activations` at inference; `peak_memory_bytes` of a
            step with images of the last size, if there can be one; where layers were timed,
            `step_time` (over the base's) and `step_time_s` of such a step, `train_time_s` of a
            training with these images throughout, and `progressive_train_time_s` of one with
            growing images.
        reason: Why memory or step times are missing; None if they are not.
    """

    member: FamilyMember
    metrics: Mapping[str, float]
    reason: str | None = None


@dataclass(frozen=True)
class _Steps:
    """Bytes of a step, and its time over the base's at the first and the last image size."""

    peak_memory_bytes: int | None
    step_times: Sequence[float] | None = None
    reason: str | None = None


@dataclass
class MemberCosts:
    """Computes the costs of members, each figure once.

    Attributes:
        layer_times: Predicts step times; None leaves them out.
        batch_size: Images in a step.
        num_classes: Outputs.
        epochs: Of a training.
        images: Number of training images.
    """

    layer_times: LayerTimes | None
    _: KW_ONLY
    batch_size: int
    num_classes: int
    epochs: int
    images: int
    _peaks: dict[SizedNetwork, int] = field(default_factory=dict, init=False)

    def limited(self, member: FamilyMember, names: Collection[str]) -> dict[str, float]:
        """Return counts and the named costs; others may take long.

        Args:
            member: The network.
            names: Some of the metrics of `SizedMember`, but no training times.

        Raises:
            InfeasibleError: If the network cannot be trained.
        """
        found = self._counts(member)
        trained = SizedNetwork(member.architecture, member.train_image_size)
        if "peak_memory_bytes" in names:
            found["peak_memory_bytes"] = float(self._peak_memory_bytes(trained))
        if self.layer_times and not {"step_time", "step_time_s"}.isdisjoint(names):
            (found["step_time"],) = self.layer_times([trained])
            found["step_time_s"] = found["step_time"] * self.layer_times.base_step_time_s
        return found

    def of(self, members: Sequence[FamilyMember]) -> list[SizedMember]:
        """Return members with all costs; those whose layers do not fit have a reason."""
        # Steps of all members first: the base's seconds may change with each prediction.
        steps = [self._steps(member) for member in members]
        return [self._sized(member, step) for member, step in zip(members, steps, strict=True)]

    def _steps(self, member: FamilyMember) -> _Steps:
        sizes = member.stage_image_sizes
        ends = [SizedNetwork(member.architecture, size) for size in (sizes[0], sizes[-1])]
        peak = None
        try:
            peak = self._peak_memory_bytes(ends[-1])
            return _Steps(peak, self.layer_times(ends) if self.layer_times else None)
        except InfeasibleError as error:
            return _Steps(peak, reason=str(error))

    def _sized(self, member: FamilyMember, found: _Steps) -> SizedMember:
        metrics = self._counts(member)
        if found.peak_memory_bytes is not None:
            metrics["peak_memory_bytes"] = float(found.peak_memory_bytes)
        if found.step_times and self.layer_times:
            first, last = found.step_times
            base_s = self.layer_times.base_step_time_s
            steps = self.epochs * ceil(self.images / self.batch_size)
            stages = self._between(member, first * base_s, last * base_s)
            metrics |= {
                "step_time": last,
                "step_time_s": last * base_s,
                "train_time_s": steps * last * base_s,
                "progressive_train_time_s": steps * sum(stages) / len(stages),
            }
        return SizedMember(member=member, metrics=metrics, reason=found.reason)

    def _between(self, member: FamilyMember, first_s: float, last_s: float) -> list[float]:
        """Return the step times of all stages, interpolated by their MACs."""
        macs = [count(member.architecture, size).macs for size in member.stage_image_sizes]
        spread = macs[-1] - macs[0] or 1
        between = [first_s + (last_s - first_s) * (each - macs[0]) / spread for each in macs[:-1]]
        return [*between, last_s]

    def _counts(self, member: FamilyMember) -> dict[str, float]:
        counts = count(member.architecture, member.image_size, self.num_classes)
        return {
            "params": float(counts.params),
            "macs": float(counts.macs),
            "activations": float(counts.activations),
        }

    def _peak_memory_bytes(self, network: SizedNetwork) -> int:
        if network not in self._peaks:
            self._peaks[network] = estimate_peak_memory(
                build(network.arch, num_classes=self.num_classes, device="meta"),
                default_recipe(),
                image_size=network.image_size,
                batch_size=self.batch_size,
            )
        return self._peaks[network]


@dataclass(frozen=True, kw_only=True)
class ScaleSettings:
    """What the user asked for.

    Attributes:
        base: The network to start from: an architecture file, block strings, RUN:NUMBER or
            RUN:best.
        rules: Give the members.
        space: Name or path of a space, for the stem and head of block strings and for the sizes.
        device: Times layers, at the sizes of the base's steps; `image_size` is what the base is
            trained at, None takes the run's or space's, else that of the rules.
        with_step_times: Whether layers are timed.
        max_image_size: Pixels at inference at most; None takes the limit of the rules.
        limits: If given, the members are the base and the largest network within them.
        epochs: Of the trainings whose time is estimated.
        images: Number of their images; None takes the run's, else ImageNet's.
    """

    base: str
    rules: ScalingRules
    space: str | None = None
    device: DeviceSettings = field(default_factory=DeviceSettings)
    with_step_times: bool = True
    max_image_size: int | None = None
    limits: tuple[Limit, ...] = ()
    epochs: int = EPOCHS
    images: int | None = None

    def __post_init__(self) -> None:
        check_at_least(
            1, max_image_size=self.max_image_size, epochs=self.epochs, images=self.images
        )
        if not self.with_step_times and any("step_time" in one.metric for one in self.limits):
            raise ConfigError("`step_time` needs a `device` whose step times are predicted")


@dataclass(frozen=True, kw_only=True)
class SizedFamily:
    """A family and the costs of its members.

    Attributes:
        base: The user's name of it.
        rules: That gave the members.
        members: From the base upwards.
        batch_size: Of the steps.
        num_classes: Outputs.
        epochs: Of the trainings.
        images: Number of images of the trainings.
        hardware: One line that names the device that layers were timed on; None if none were.
        fit: The largest network within the limits, if there are any.
    """

    base: str
    rules: ScalingRules
    members: tuple[SizedMember, ...]
    batch_size: int
    num_classes: int
    epochs: int
    images: int
    hardware: str | None = None
    fit: Fit | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        fit = self.fit
        return {
            "kind": FAMILY_KIND,
            "format": FORMAT,
            "base": self.base,
            "family": self.rules.name,
            "batch_size": self.batch_size,
            "num_classes": self.num_classes,
            "epochs": self.epochs,
            "images": self.images,
            "hardware": self.hardware,
            "fit": fit
            and {"position": fit.position, "binding": [asdict(limit) for limit in fit.binding]},
            "members": [_row(member) for member in self.members],
        }

    def write(self, folder: Path) -> None:
        """Write an architecture file for each member, and `family.json` with all figures.

        Raises:
            ConfigError: If the folder cannot be written.
        """
        texts = {
            f"{sized.member.name}.json": to_json(
                sized.member.architecture,
                image_size=sized.member.train_image_size,
                batch_size=self.batch_size,
                num_classes=self.num_classes,
            )
            for sized in self.members
        }
        texts[FAMILY] = dump_json(self.to_dict()) + "\n"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in texts.items():
                (folder / name).write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"{folder}: cannot be written ({error.strerror}); choose another `out`"
            ) from error


def size_family(
    settings: ScaleSettings,
    *,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
    waiting: Waiting = lambda _: None,
) -> SizedFamily:
    """Scale a base and compute the costs of its members.

    Args:
        settings: What to scale, and how.
        progress: Receives what is being done, how much of it is done, and how much there is.
        waiting: As of `effnas.timing.lock.timing`.

    Raises:
        UserError: If the base cannot be found or scaled, or the device cannot be used.
    """
    home = SearchSpace.load(settings.space) if settings.space else None
    found, base = find_architecture(settings.base, home)
    rules = settings.rules
    space = home or found.space
    train_image_size = settings.device.image_size or (space.target.image_size if space else None)
    sizes = {
        "train_image_size": train_image_size or rules.members[0].train_image_size,
        "max_image_size": settings.max_image_size,
    }
    images = settings.images or IMAGENET_IMAGES
    if settings.images is None and found.run:
        images = found.run.full_training_images
    # Before anything is measured: it refuses what cannot be scaled.
    members = scale(base, rules, **sizes)
    setup = replace(settings.device, image_size=sizes["train_image_size"]).setup(space)
    layer_times = None
    if settings.with_step_times:
        progress("choosing precision and memory format", 0, 1)
        setup = settings.device.with_execution(
            setup, lambda: build(base, num_classes=setup.num_classes), waiting
        )
        layer_times = LayerTimes(base, setup, progress=progress, waiting=waiting)
    costs = MemberCosts(
        layer_times,
        batch_size=setup.batch_size,
        num_classes=setup.num_classes,
        epochs=settings.epochs,
        images=images,
    )
    fit = None
    if settings.limits:
        names = [limit.cost for limit in settings.limits]
        try:
            fit = largest_within(members, settings.limits, lambda one: costs.limited(one, names))
        except InfeasibleError as error:
            raise ConfigError(f"a limited cost cannot be found: {error}") from error
        members = (members[0], fit.member) if fit.position else (members[0],)
    progress("adding up the costs of the members", 0, 1)
    return SizedFamily(
        base=found.name,
        rules=rules,
        members=tuple(costs.of(members)),
        batch_size=costs.batch_size,
        num_classes=costs.num_classes,
        epochs=costs.epochs,
        images=costs.images,
        hardware=hardware_id(describe_device(setup.device)) if layer_times else None,
        fit=fit,
    )


def _row(sized: SizedMember) -> dict[str, Any]:
    member = sized.member
    ramps = {name: getattr(member.regularization, name) for name in STRENGTHS}
    return {
        "name": member.name,
        "architecture": str(member.architecture),
        "architecture_id": member.architecture.id,
        **member.architecture.ends,
        "layers": member.architecture.layers,
        "image_size": member.image_size,
        "train_image_size": member.train_image_size,
        "stage_image_sizes": list(member.stage_image_sizes),
        **{name: [ramp.first, ramp.last] for name, ramp in ramps.items()},
        **sized.metrics,
        "reason": sized.reason,
    }
