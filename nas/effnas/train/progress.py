"""How far a training has come, and who receives that."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from effnas.config.codec import Amount, Count, Share, Size

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class EpochRow:
    """What is logged of an epoch; the strengths are those of its last step.

    Attributes:
        epoch: Number, from 1.
        step: Steps that have ended.
        stage: Number of the stage of its last step, from 1.
        image_size: Pixels in that stage.
        learning_rate: Of its last step.
        train_loss: Mean over its steps, on augmented images.
        accuracy: On the minival, by the average of weights if there is one, 0 to 1; None without
            a minival.
        train_time_s: Seconds of all steps so far.
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
        rows: One for each epoch that has ended.
        best_epoch: Number of the first epoch with the highest accuracy; 0 if there is none.
        best_accuracy: Its accuracy, 0 to 1; -1 if there is none.
        stage_times_s: Seconds of the steps of each stage so far.
        stopped_early: Whether the patience of the recipe has run out.
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


class Watcher:
    """Receives how a training goes; this one does nothing."""

    def stepped(self, progress: Progress) -> None:
        """A step has ended."""

    def epoch_ended(self, progress: Progress) -> None:
        """An epoch has ended; its row is the last."""

    def improved(self, model: nn.Module) -> None:
        """The last epoch was the best; the model is the one that was measured."""
