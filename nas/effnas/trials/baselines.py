"""Baselines: networks that a search is compared with, trained and timed as its trials are.

They do not count in the budget, and no controller hears of them. Each result is one line of
`baselines.jsonl` in the run folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from effnas.config.codec import Amount, Count, from_plain, to_plain
from effnas.errors import RewardError
from effnas.trials.store import append_line, read_records

if TYPE_CHECKING:
    from effnas.trials.reward import Reward

BASELINES = "baselines.jsonl"
#: Name of the space's reference network among the baselines.
REFERENCE = "reference"


@dataclass(frozen=True, kw_only=True)
class BaselineResult:
    """One training of a baseline; the first one has its step time, too.

    Attributes:
        baseline: `reference`, or the network as it was named: a model of timm's, block strings, ...
        network: Block strings, or timm's name.
        repeat: Which of its trainings with other seeds, from 0.
        metrics: By the names of `effnas.trials.reward.METRICS`; counts among them.
        reason: Why it cannot be built, timed or trained, if it cannot.
        fidelity: How far the training went, in words.
        seed: Of the training.
        hardware: Identity of the device that step times belong to.
        step_time_source: How the step time became known, as `Measurement.step_time_source`.
        duration_s: Wall-clock seconds of the worker.
        failed: Whether a bug or lost workers are the reason: then it is tried again when the search
            continues.
        ended: When it ended, UTC in ISO format; None in earlier versions.
    """

    baseline: str
    network: str
    repeat: Count
    metrics: Mapping[str, float] = field(default_factory=dict)
    reason: str | None = None
    fidelity: str = ""
    seed: int | None = None
    hardware: str = ""
    step_time_source: str = ""
    duration_s: Amount = 0.0
    failed: bool = False
    ended: str | None = field(default=None, compare=False)


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A network that a search is compared with.

    Attributes:
        name: As in its results.
        results: Of its trainings, at least one, by `repeat`.
    """

    name: str
    results: Sequence[BaselineResult]

    @property
    def network(self) -> str:
        """Block strings, or timm's name."""
        return self.results[0].network

    @property
    def accuracies(self) -> tuple[float, ...]:
        """Of its trainings, 0 to 1; empty if it cannot be trained."""
        return tuple(r.metrics["accuracy"] for r in self.results if "accuracy" in r.metrics)

    @property
    def metrics(self) -> Mapping[str, float]:
        """Its metrics; accuracy and loss are means over its trainings."""
        found: dict[str, float] = {}
        for result in reversed(self.results):
            found |= result.metrics
        for name in ("accuracy", "train_loss", "train_time_s"):
            values = [r.metrics[name] for r in self.results if name in r.metrics]
            if values:
                found[name] = fmean(values)
        return found

    @property
    def reason(self) -> str | None:
        """Why it cannot be built, timed or trained, if it cannot."""
        return next((r.reason for r in self.results if r.reason), None)

    @property
    def duration_s(self) -> float:
        """Wall-clock seconds of all its trainings and its timing."""
        return sum(r.duration_s for r in self.results)

    def reward(self, reward: Reward) -> float | None:
        """Return the reward of its mean accuracy; None if it lacks a metric for that."""
        try:
            return reward.score(self.metrics)
        except RewardError:
            return None

    def to_row(
        self, reward: Reward, standard_error: Callable[[float, int], float | None]
    ) -> dict[str, object]:
        """Return the baseline as one row of a table.

        Args:
            reward: Of the search.
            standard_error: Gives that of a mean accuracy of several trainings, as
                `effnas.trials.uncertainty.Noise.standard_error`.
        """
        metrics, trainings = self.metrics, len(self.accuracies)
        accuracy = metrics.get("accuracy")
        return {
            "name": self.name,
            "network": self.network,
            "trainings": trainings,
            "reward": self.reward(reward),
            "accuracy_error": (None if accuracy is None else standard_error(accuracy, trainings)),
            **metrics,
            "reason": self.reason,
            "duration_s": self.duration_s,
        }


def read_baselines(folder: Path) -> tuple[Baseline, ...]:
    """Return the baselines of a run folder, in the order in which they began; empty without any.

    Raises:
        StoreError: If a line other than a torn last one cannot be read.
    """
    return grouped(
        read_records(folder / BASELINES, lambda plain: from_plain(plain, BaselineResult), "result")
    )


def append_baseline(folder: Path, result: BaselineResult) -> None:
    """Add a result to the run folder, which the caller has locked; return when the disk has it.

    Raises:
        StoreError: If it cannot be written; what is stored already stays.
    """
    append_line(folder / BASELINES, to_plain(result, sparse=True))


def with_result(baselines: Iterable[Baseline], result: BaselineResult) -> tuple[Baseline, ...]:
    """Return baselines with one more result."""
    return grouped([*(r for each in baselines for r in each.results), result])


def grouped(results: Iterable[BaselineResult]) -> tuple[Baseline, ...]:
    """Return baselines of results in any order; of a training that is there twice, the last."""
    found: dict[str, dict[int, BaselineResult]] = {}
    for result in results:
        found.setdefault(result.baseline, {})[result.repeat] = result
    return tuple(
        Baseline(name=name, results=[each[n] for n in sorted(each)]) for name, each in found.items()
    )
