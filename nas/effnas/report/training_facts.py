"""A training read back from its folder, finished or under way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from effnas.train.progress import EpochRow
from effnas.train.stages import Stage
from effnas.trials.guessing import Guessing
from effnas.trials.uncertainty import Noise
from effnas.workflows.train.folder import TrainingManifest, read_log


@dataclass(frozen=True)
class Measured:
    """An accuracy, and what it is from.

    Attributes:
        part: `test`, or `held-out`.
        accuracy: Share of the images that is classified correctly, 0 to 1.
        images: How many they are.
        guessing: What guessing reaches on them.
    """

    part: str
    accuracy: float
    images: int
    guessing: Guessing

    @property
    def error(self) -> float | None:
        """Standard error of the accuracy; None without images."""
        return Noise(holdout_images=self.images).standard_error(self.accuracy)

    @property
    def beats_guessing(self) -> bool | None:
        """Whether it clearly does; None where that is not known."""
        return self.guessing.is_beaten(self.accuracy, Noise(holdout_images=self.images))


@dataclass(frozen=True)
class TrainingFacts:
    """A training, and what follows from its log.

    Attributes:
        path: Its folder.
        manifest: What it was made with.
        rows: Of the epochs that have ended.
    """

    path: Path
    manifest: TrainingManifest
    rows: Sequence[EpochRow]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a training.

        Raises:
            StoreError: If there is none, or it cannot be read.
        """
        manifest = TrainingManifest.read(path)
        done = manifest.progress
        return cls(path, manifest, done.rows if done else read_log(path))

    @property
    def is_finished(self) -> bool:
        """Whether it has come to its end."""
        return self.manifest.progress is not None

    @property
    def network(self) -> str:
        """Block strings, or timm's name."""
        network = self.manifest.network
        return str(network.get("name") or network.get("architecture") or "?")

    @property
    def epochs(self) -> int:
        """Epochs of the whole training."""
        return self.manifest.forecast.epochs

    @property
    def best(self) -> EpochRow | None:
        """The first epoch with the highest accuracy; None without one."""
        known = [row for row in self.rows if row.accuracy is not None]
        return max(known, key=lambda row: row.accuracy or 0.0, default=None)

    @property
    def test(self) -> Measured | None:
        """On the test part; None if that was not read."""
        found, data = self.manifest.test, self.manifest.data
        if found is None:
            return None
        return Measured("test", found.accuracy, found.images, data.guessing(found.class_counts))

    @property
    def held_out(self) -> Measured | None:
        """Of the best epoch, on the images that it was chosen by; None without one."""
        data, best = self.manifest.data, self.best
        if best is None or best.accuracy is None:
            return None
        guessing = data.guessing(data.minival_class_counts)
        return Measured("held-out", best.accuracy, data.minival, guessing)

    @property
    def train_time_s(self) -> float:
        """Seconds of all steps so far."""
        return self.rows[-1].train_time_s if self.rows else 0.0

    @property
    def expected_s(self) -> float:
        """Seconds of the same steps by the forecast."""
        step, forecast = self.rows[-1].step if self.rows else 0, self.manifest.forecast
        done = [min(max(step - stage.first_step, 0), stage.steps) for stage in self.manifest.stages]
        return sum(n * each for n, each in zip(done, forecast.step_times_s, strict=True))

    @property
    def stage_times_s(self) -> Sequence[float | None]:
        """Measured seconds of each stage; None where that is not known yet."""
        done = self.manifest.progress
        return done.stage_times_s if done else [None] * len(self.manifest.stages)

    def is_whole(self, stage: Stage) -> bool:
        """Return whether all steps of a stage have ended."""
        return bool(self.rows) and self.rows[-1].step >= stage.end

    def epoch_of(self, step: int) -> float:
        """Return after how many epochs a step comes."""
        return step * self.epochs / self.manifest.stages[-1].end
