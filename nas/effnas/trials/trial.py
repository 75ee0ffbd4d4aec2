"""A trial: one architecture, its state, and what was measured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, overload

from effnas.arch.architecture import Architecture
from effnas.config.codec import Size

if TYPE_CHECKING:
    import pandas as pd


class TrialState(StrEnum):
    """Where a trial stands.

    RUNNING is under way. WAITING has paused at a rung, with a measurement, and continues if it is
    among the best there (`effnas.search.rungs`). COMPLETE has metrics. PRUNED was stopped at a
    rung because others did better. INFEASIBLE cannot be built, timed or trained, or breaks a
    constraint: a result, with a reason. FAILED met a bug or lost its worker, and is tried again.
    """

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    INFEASIBLE = "INFEASIBLE"
    FAILED = "FAILED"

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will happen to the trial."""
        return self not in (TrialState.WAITING, TrialState.RUNNING)


@dataclass(frozen=True)
class StageTimes:
    """A stage of a training by time: what its number of steps was settled by.

    Attributes:
        image_size: Pixels.
        steps: Their number.
        step_time_s: Seconds of one, as it was measured or predicted before the training.
    """

    image_size: Size
    steps: Size
    step_time_s: float


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What a worker measured of one architecture.

    Attributes:
        metrics: Name to value; the names and units are those of `effnas.trials.reward.METRICS`.
        fidelity: How far the training went, such as `4 epochs of 8000 images at 32 px`.
        seed: Seed of the training, derived from the run's seed, the architecture and the fidelity.
        hardware: Identity of the device that step times and memory belong to.
        step_time_source: How the step time became known: `measured`, `predicted`, `table` or
            `command`.
        rungs: Accuracy at each rung that the training has reached, by epochs, or by seconds of a
            training by time (`effnas.search.rungs`).
        stages: Of a training by time; with them it can be repeated exactly.
        curve: Of a training by time: accuracy after some of its steps.
        accuracy_deviation: Standard deviation of an accuracy that is predicted from the curve, for
            as many steps as `stages` have (`effnas.trials.learning_curve`); None: it is measured.
        confusion: Held-out images of class i (row) that are taken for class j (column), where the
            weights of the training are kept; else empty. A search does not store it.
    """

    metrics: Mapping[str, float]
    fidelity: str = ""
    seed: int | None = None
    hardware: str = ""
    step_time_source: str = ""
    rungs: Mapping[int, float] = field(default_factory=dict)
    stages: tuple[StageTimes, ...] = ()
    curve: tuple[tuple[int, float], ...] = ()
    accuracy_deviation: float | None = None
    confusion: tuple[tuple[int, ...], ...] = ()

    def continued(self, later: Measurement) -> Measurement:
        """Return this measurement with what was measured later; the step time is kept."""
        return Measurement(
            metrics={**self.metrics, **later.metrics},
            fidelity=later.fidelity or self.fidelity,
            seed=self.seed if later.seed is None else later.seed,
            hardware=self.hardware or later.hardware,
            step_time_source=self.step_time_source or later.step_time_source,
            rungs=self.rungs,
            stages=later.stages or self.stages,
            curve=self.curve + tuple(one for one in later.curve if one not in self.curve),
            accuracy_deviation=None if "accuracy" in later.metrics else self.accuracy_deviation,
            confusion=later.confusion or self.confusion,
        )


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One architecture of a search.

    Attributes:
        number: Counts from 0 in the order in which architectures were proposed.
        architecture: What was tried.
        state: Where the trial stands.
        measurement: What was measured, if anything.
        reward: What the controller maximizes; None unless the trial is COMPLETE, or PRUNED:
            then that of the last rung that it has reached.
        reason: Why a trial is INFEASIBLE or FAILED.
        duration_s: Wall-clock seconds of its worker, at all rungs.
        ended: When it ended, UTC in ISO format; None before that, and in runs of earlier versions.
    """

    number: int
    architecture: Architecture
    state: TrialState = TrialState.RUNNING
    measurement: Measurement = field(default_factory=lambda: Measurement(metrics={}))
    reward: float | None = None
    reason: str | None = None
    duration_s: float | None = None
    ended: str | None = field(default=None, compare=False)

    @property
    def metrics(self) -> Mapping[str, float]:
        """The measured metrics by name."""
        return self.measurement.metrics

    @property
    def has_result(self) -> bool:
        """Whether the trial has ended or reached a rung."""
        return self.state.is_finished or bool(self.measurement.rungs)

    @property
    def step(self) -> tuple[int, TrialState, int]:
        """What a controller receives once: the number, the state, and the rungs reached."""
        return self.number, self.state, len(self.measurement.rungs)

    @property
    def is_predicted(self) -> bool:
        """Whether its accuracy is predicted for another device than it was trained for."""
        return self.measurement.accuracy_deviation is not None

    def to_row(self) -> dict[str, object]:
        """Return the trial as one row of a table; every table of effnas uses these names."""
        deviation = self.measurement.accuracy_deviation
        return {
            "trial": self.number,
            "state": str(self.state),
            "architecture": str(self.architecture),
            "architecture_id": self.architecture.id,
            "reward": self.reward,
            **{f"recipe.{name}": option for name, option in self.architecture.recipe},
            **self.metrics,
            **({} if deviation is None else {"accuracy_deviation": deviation}),
            "step_time_source": self.measurement.step_time_source or None,
            "reason": self.reason,
            "duration_s": self.duration_s,
        }


class Trials(Sequence[Trial]):
    """Trials in the order of their numbers."""

    def __init__(self, trials: Iterable[Trial]) -> None:
        self._trials = sorted(trials, key=lambda trial: trial.number)

    @overload
    def __getitem__(self, index: int) -> Trial: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Trial]: ...
    def __getitem__(self, index: int | slice) -> Trial | Sequence[Trial]:
        return self._trials[index]

    def __len__(self) -> int:
        return len(self._trials)

    def __iter__(self) -> Iterator[Trial]:
        return iter(self._trials)

    def count(self, value: object) -> int:
        """Return how many trials are in the state `value` (or equal the trial `value`)."""
        if isinstance(value, TrialState):
            return sum(trial.state is value for trial in self._trials)
        return self._trials.count(value)  # type: ignore[arg-type]

    def ranked(self) -> list[Trial]:
        """Return the COMPLETE trials, the highest reward first; ties in the order of trials."""
        complete = [
            t for t in self._trials if t.state is TrialState.COMPLETE and t.reward is not None
        ]
        return sorted(complete, key=lambda trial: -(trial.reward or 0.0))

    @property
    def best(self) -> Trial | None:
        """The trial with the highest reward, or None while there is none."""
        ranked = self.ranked()
        return ranked[0] if ranked else None

    def to_pandas(self) -> pd.DataFrame:
        """Return one row a trial: trial, state, architecture, architecture_id, reward, metrics."""
        import pandas as pd

        columns = ["trial", "state", "architecture", "architecture_id", "reward"]
        frame = pd.DataFrame([trial.to_row() for trial in self._trials])
        if frame.empty:
            return pd.DataFrame(columns=columns)
        last = ["step_time_source", "reason", "duration_s"]
        metrics = [c for c in frame.columns if c not in columns and c not in last]
        return frame[columns + metrics + last]
