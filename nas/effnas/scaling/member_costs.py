"""Costs of a family's networks: counts, memory, step times and training times."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from math import ceil

from effnas.arch.counts import count
from effnas.arch.models import build
from effnas.config.settings import Recipe
from effnas.errors import InfeasibleError
from effnas.scaling.family import FamilyMember
from effnas.timing.layer_times import LayerTimes, SizedNetwork
from effnas.timing.memory import estimate_peak_memory


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
        return [first_s + (last_s - first_s) * (each - macs[0]) / spread for each in macs[:-1]] + [
            last_s
        ]

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
                Recipe(),
                image_size=network.image_size,
                batch_size=self.batch_size,
            )
        return self._peaks[network]
