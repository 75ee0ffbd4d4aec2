"""What a user asks of `effnas retarget`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from effnas.config.settings import StepTimeConfig
from effnas.errors import ConfigError, check_at_least
from effnas.evaluation.workers import Workers
from effnas.trials.manifest import CommandPart


@dataclass(frozen=True, kw_only=True)
class RetargetSettings:
    """What the user asked for.

    Attributes:
        run: Folder of the finished run.
        out: Folder of the new run.
        workers: The new device, and how it is used.
        step_times: Where its step times come from.
        timings: Trials of the finished run that are timed at most, where timing costs something.
        budget: New trainings at most, 0 or more; those of networks that are trained again, since
            other steps fit into a training time, are among them.
        reward: Another reward than the run's; None takes the run's own.
        data: Where the run's images are now; None takes the place that it stored.
        data_root: Folder of a timm data set, likewise.
        asked: The command line that this is from, for `asked` of the manifest.
    """

    run: Path
    out: Path
    workers: Workers = field(default_factory=Workers)
    step_times: StepTimeConfig = field(default_factory=StepTimeConfig)
    timings: int = 50
    budget: int = 0
    reward: str | None = None
    data: str | None = None
    data_root: Path | None = None
    asked: CommandPart | None = None

    def __post_init__(self) -> None:
        check_at_least(1, timings=self.timings)
        check_at_least(0, budget=self.budget)
        if self.run.absolute() == self.out.absolute():
            raise ConfigError(f"`out` is the run itself, {self.run}; choose another folder")
