"""How far a training has come, and who is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from effnas.config.codec import Amount, Count, Share, Size

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class EpochRow:
    """What is logged of an epoch.

    Attributes:
        epoch: How many have ended, from 1.
        step: How many steps have.
        stage: That of its last step, from 1.
        image_size: Pixels in that stage.
        dropout: In that stage, as the other strengths.
        learning_rate: Of its last step.
        train_loss: Mean over its steps, with all that makes the images harder.
        accuracy: On the minival, by the average of weights if there is one, 0 to 1; None without
            a minival.
        train_time_s: Seconds of all steps until then.
    """

    epoch: Size
    step: int
    stage: int
    image_size: int
    dropout: float
    randaugment: float
    mixup: float
    cutmix: float
    drop_path: float
    learning_rate: float
    train_loss: float
    accuracy: Share | None
    train_time_s: Amount


@dataclass(kw_only=True)
class Progress:
    """How far a training has come.

    Attributes:
        step: Steps that have ended.
        rows: Of the epochs that have ended.
        best_epoch: The one of the highest accuracy, the first of several; 0 before there is one.
        best_accuracy: Its accuracy.
        stage_times_s: Seconds of the steps of each stage.
        stopped_early: Whether the patience is at its end.
    """

    step: int = 0
    rows: list[EpochRow] = field(default_factory=list)
    best_epoch: Count = 0
    best_accuracy: float = -1.0
    stage_times_s: list[float]
    stopped_early: bool = False

    @property
    def train_time_s(self) -> float:
        """Seconds of all steps."""
        return sum(self.stage_times_s)


class Watcher(Protocol):
    """Is told how a training goes, in the first of its processes."""

    def stepped(self, progress: Progress) -> None:
        """A step has ended."""
        ...

    def epoch_ended(self, progress: Progress) -> None:
        """An epoch has ended; its row is the last."""
        ...

    def improved(self, model: nn.Module) -> None:
        """The last epoch was the best; the model is the one that was measured."""
        ...
