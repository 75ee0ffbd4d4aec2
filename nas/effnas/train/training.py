"""A training: its steps, stage after stage, from the start or from a checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from effnas.config.codec import from_plain, to_plain
from effnas.config.settings import Execution
from effnas.config.training_recipe import TrainingRecipe
from effnas.errors import InfeasibleError, StoreError
from effnas.train.augment import normalize
from effnas.train.batches import (
    Augmentation,
    Chunk,
    Order,
    TrainPixels,
)
from effnas.train.checkpoints import Checkpoint
from effnas.train.process_group import ProcessGroup
from effnas.train.progress import EpochRow, Progress, Watcher
from effnas.train.schedule import make_schedule
from effnas.train.stages import Stage
from effnas.train.step import TrainingStep, synchronize

if TYPE_CHECKING:
    from effnas.data.images import TrainSet

#: Steps between two looks at the loss; a look makes an accelerator wait.
_LOOK_EVERY = 25
#: Steps between two agreements of several processes on what to do.
_AGREE_EVERY = 16
#: Of the time, writing checkpoints takes this share at most.
_CHECKPOINT_SHARE = 0.05


class Training:
    """A network's training.

    Args:
        model: What is trained, with the stochastic depth of the last stage.
        images: To train on.
        minival: To measure accuracy on; None measures none.
        recipe: How, with a batch of no more images than there are.
        stages: Its stages.
        parts: For each stage, how many chunks a step's batch is cut into, over all processes: a
            multiple of their number.
        execution: Precision, memory format and compilation.
        device: Where.
        flip: Whether images are mirrored at random.
        seed: Fixes all that is random.
        group: The processes that take part.
    """

    def __init__(
        self,
        model: nn.Module,
        images: TrainSet,
        minival: TrainSet | None,
        recipe: TrainingRecipe,
        stages: Sequence[Stage],
        parts: Sequence[int],
        *,
        execution: Execution,
        device: torch.device,
        flip: bool,
        seed: int,
        group: ProcessGroup = ProcessGroup(),  # noqa: B008  # frozen
    ) -> None:
        from effnas.train.network import RegularizationSetter, WeightAverage

        self.recipe, self.stages, self.parts = recipe, tuple(stages), tuple(parts)
        self.group, self.device = group, device
        self.order = Order(count=len(images), batch_size=recipe.batch_size, seed=seed)
        self._minival = minival
        self._pixels = TrainPixels(images, device)
        self._augment = Augmentation(images, recipe, flip=flip, seed=seed, device=device)
        self._regulator = RegularizationSetter(
            model, recipe.drop_path.last if recipe.drop_path else 0.0
        )
        self._step = TrainingStep(model, recipe, execution, device)
        if group.connected:
            self._step.distribute()
        self._average = (
            WeightAverage(self._step.model, decay=recipe.ema_decay)
            if recipe.ema_decay is not None
            else None
        )
        self._schedule = make_schedule(
            self._step.optimizer,
            recipe,
            steps=self.stages[-1].end,
            steps_per_epoch=self.order.steps_per_epoch,
        )
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self.progress = Progress(stage_times_s=[0.0] * len(self.stages))

    @property
    def model(self) -> nn.Module:
        """What is measured and kept: the average of weights, or else the weights."""
        return self._average.module if self._average else self._step.model

    def resume(self, checkpoint: Checkpoint) -> None:
        """Take the state that a checkpoint has, if it has one.

        On a CPU, a training that goes on gives the same result as an unbroken one, to the bit.

        Raises:
            StoreError: If the file is there and cannot be used: what has been trained is not to be
                lost without a word.
        """
        if not checkpoint.path.exists():
            return
        try:
            state = checkpoint.load()
            if state is None:
                raise ValueError("it is damaged, or of another training")
            self.load_state_dict(state)
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            reason = (str(error).strip() or repr(error)).splitlines()[0]
            raise StoreError(
                f"{checkpoint.path}: the training's state cannot be used ({reason}); put back a "
                "copy, or delete the file, and the same command begins anew"
            ) from error

    def run(
        self,
        watcher: Watcher,
        checkpoint: Checkpoint | None = None,
        *,
        every_s: float = 60.0,
        stopping: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Train to the end.

        Args:
            watcher: Is told how it goes.
            checkpoint: Where the state is kept.
            every_s: Seconds between two checkpoints; more if writing one takes long.
            stopping: Whether to stop: asked behind each step, and the state is kept.

        Returns:
            Whether the training has come to its end.

        Raises:
            InfeasibleError: If the loss is not finite.
            DataError: If an image cannot be decoded; the state that was kept last stays.
            StoreError: If the checkpoint cannot be written.
        """
        keeper = Checkpointer(checkpoint if self.group.rank == 0 else None, every_s)
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            ended = self._run(watcher, keeper, stopping)
        if self.progress.step:
            keeper.keep(self)
        return ended

    def add_gradients(self, chunk: Chunk, pixels: torch.Tensor, stage: Stage) -> None:
        """Do the forward and backward pass of a chunk.

        Args:
            chunk: Says which images they are.
            pixels: uint8 [n, 3, S, S] on the device.
            stage: The image size and the strengths.
        """
        images, targets = self._augment(chunk, pixels, stage)
        loss = self._step.loss(images, targets) * chunk.share
        # Connected processes take the mean of their gradients, and the batch's is wanted.
        self._step.backward(loss * self.group.size)
        self._loss_sum += loss.detach()

    def update(self) -> None:
        """Change the weights by the gradients that are there, and drop these."""
        self._step.update()
        self._step.optimizer.zero_grad(set_to_none=True)
        if self._average:
            self._average.update(self._step.model, self.progress.step)

    def start_stage(self, stage: Stage) -> None:
        """Set the strengths of a stage."""
        self._regulator.set(stage.strengths)

    def pixels(self, first_step: int = 0) -> Generator[torch.Tensor]:
        """Yield the images of chunk after chunk of this process, from a step on."""
        steps = self.steps(first_step)
        return self._pixels.of(chunk for _, chunks in steps for chunk in chunks)

    def steps(self, first_step: int = 0) -> Iterator[tuple[int, list[Chunk]]]:
        """Yield the number of the stage and the chunks of this process, from a step on."""
        for number, (stage, parts) in enumerate(zip(self.stages, self.parts, strict=True)):
            for chunks in self.order.chunks(stage, parts, self.group, first_step):
                yield number, chunks

    def measure(self, images: TrainSet, most: int | None = None) -> float:
        """Return the share of images whose class the model names rightly, 0 to 1.

        Each process looks at its part of them.

        Args:
            images: uint8, of the size that accuracy is to be measured at.
            most: Look at no more than so many; None looks at all.

        Raises:
            InfeasibleError: If an output is not finite.
        """
        self.settle_buffers()
        self._step.model.eval()
        right = torch.zeros((), dtype=torch.long, device=self.device)
        count = min(most or len(images), len(images))
        mine = range(self.group.rank, count, self.group.size)
        size = self.measured_at_once
        parts = [np.asarray(mine[start : start + size]) for start in range(0, len(mine), size)]
        for chosen, pixels in zip(parts, images.batches(parts), strict=True):
            there = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2)
            logits = self._step.logits(normalize(there), self.model)
            if not bool(torch.isfinite(logits).all()):
                raise InfeasibleError("training diverged: the network's outputs are not finite")
            named = logits.argmax(1)
            if images.label_lists is None:
                right += (named == torch.from_numpy(images.labels[chosen]).to(self.device)).sum()
            else:
                shares = torch.from_numpy(images.label_lists.targets(chosen, images.num_classes))
                right += (shares.to(self.device).gather(1, named[:, None]) > 0).sum()
        self._step.model.train()
        return float(self.group.sum(right)) / count

    @property
    def measured_at_once(self) -> int:
        """Images of a forward pass that measures accuracy: without gradients, more fit."""
        return 2 * ceil(self.order.batch_size / self.parts[-1])

    def settle_buffers(self) -> None:
        """Make running statistics the same in all processes: the mean of theirs."""
        self.group.average(self._step.model.buffers())
        if self._average:
            self.group.average(self._average.module.buffers())

    def state_dict(self) -> dict[str, object]:
        """Return all that the rest of the training depends on."""
        return {
            "step": self._step.state_dict(),
            "average": self._average.module.state_dict() if self._average else None,
            "loss_sum": self._loss_sum,
            "progress": to_plain(self.progress),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what `state_dict` gave, of a training of the same network and recipe."""
        self._step.load_state_dict(state["step"])
        if self._average:
            self._average.module.load_state_dict(state["average"])
        self._loss_sum.copy_(state["loss_sum"])
        self.progress = from_plain(state["progress"], Progress)

    def _run(self, watcher: Watcher, keeper: Checkpointer, stopping: Callable[[], bool]) -> bool:
        pixels = self.pixels(self.progress.step)
        started = time.perf_counter()
        try:
            for number, chunks in self.steps(self.progress.step):
                if self.progress.stopped_early:
                    return True
                stage = self.stages[number]
                self.start_stage(stage)
                self._schedule.step_update(self.progress.step)
                for chunk in chunks:
                    with self._step.apart() if chunk is not chunks[-1] else nullcontext():
                        self.add_gradients(chunk, next(pixels), stage)
                self.update()
                self.progress.step += 1
                started = self._count_time(number, started)
                watcher.stepped(self.progress)
                if self._ends_epoch:
                    self._end_epoch(number, watcher)
                    started = time.perf_counter()
                if keeper.may_keep(self.progress.step, self.group):
                    if self.group.broadcast_flag(stopping, self.device):
                        return False
                    if self.group.broadcast_flag(keeper.is_due, self.device):
                        keeper.keep(self)
                        started = time.perf_counter()
        finally:
            pixels.close()
        return True

    @property
    def _ends_epoch(self) -> bool:
        return self.progress.step % self.order.steps_per_epoch == 0

    def _count_time(self, number: int, started: float) -> float:
        """Add the time of a step to that of its stage, and look at the loss now and then."""
        step = self.progress.step
        ends_stage = step == self.stages[number].end
        if step % _LOOK_EVERY == 0 or self._ends_epoch or ends_stage:
            if not math.isfinite(float(self._loss_sum)):
                raise InfeasibleError(
                    f"training diverged: the loss is not finite by step {step} of "
                    f"{self.stages[-1].end}; lower learning_rate_per_256 in the recipe"
                )
            synchronize(self.device)
        now = time.perf_counter()
        self.progress.stage_times_s[number] += now - started
        return now

    def _end_epoch(self, number: int, watcher: Watcher) -> None:
        progress, stage = self.progress, self.stages[number]
        epoch = progress.step // self.order.steps_per_epoch
        loss = float(self.group.sum(self._loss_sum)) / self.order.steps_per_epoch
        self._loss_sum.zero_()
        accuracy = self.measure(self._minival) if self._minival else None
        progress.rows.append(
            EpochRow(
                epoch=epoch,
                step=progress.step,
                stage=number + 1,
                image_size=stage.image_size,
                **asdict(stage.strengths),
                learning_rate=float(self._step.optimizer.param_groups[0]["lr"]),
                train_loss=loss,
                accuracy=accuracy,
                train_time_s=progress.train_time_s,
            )
        )
        if accuracy is not None and accuracy > progress.best_accuracy:
            progress.best_accuracy, progress.best_epoch = accuracy, epoch
            watcher.improved(self.model)
        patience = self.recipe.patience_epochs
        if patience and accuracy is not None and number == len(self.stages) - 1:
            # Before the last stage, the network is not yet trained at the size it is measured at.
            begun = ceil(stage.first_step / self.order.steps_per_epoch)
            progress.stopped_early = epoch - max(progress.best_epoch, begun) >= patience
        watcher.epoch_ended(progress)


class Checkpointer:
    """Keeps the state of a training, not too often.

    Args:
        checkpoint: Where; None keeps nothing.
        every_s: Seconds between two times at least.
    """

    def __init__(self, checkpoint: Checkpoint | None, every_s: float) -> None:
        self._checkpoint = checkpoint
        self._every_s = every_s
        self._last = time.monotonic()

    def is_due(self) -> bool:
        """Say whether it is time."""
        return self._checkpoint is not None and time.monotonic() - self._last >= self._every_s

    def may_keep(self, step: int, group: ProcessGroup) -> bool:
        """Say whether the processes may agree on it behind this step, which costs them time."""
        return not group.connected or step % _AGREE_EVERY == 0

    def keep(self, training: Training) -> None:
        """Write the state; all processes take part."""
        training.settle_buffers()
        if self._checkpoint is None:
            return
        begun = time.monotonic()
        self._checkpoint.save(training.state_dict())
        self._last = time.monotonic()
        self._every_s = max(self._every_s, (self._last - begun) / _CHECKPOINT_SHARE)
