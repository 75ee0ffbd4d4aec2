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
from effnas.config.recipe import Recipe
from effnas.config.settings import Execution
from effnas.errors import InfeasibleError, StoreError
from effnas.train.augment import normalize, resize
from effnas.train.batches import Augmentation, MicroBatch, Order, TrainPixels, targets_of
from effnas.train.checkpointer import Checkpointer
from effnas.train.checkpoints import Checkpoint
from effnas.train.process_group import ProcessGroup
from effnas.train.progress import EpochRow, Progress, Watcher
from effnas.train.schedule import make_schedule
from effnas.train.stages import Stage
from effnas.train.step import TrainingStep, synchronize

if TYPE_CHECKING:
    import numpy.typing as npt

    from effnas.data.images import TrainSet

    Indices = npt.NDArray[np.int64]

#: Steps between two checks of the loss, for which an accelerator has to wait.
_LOOK_EVERY = 25
#: A loss of this many times that of guessing is assumed to diverge.
_DIVERGED = 10.0


class Training:
    """A network's training.

    Args:
        model: The network, with the stochastic depth of the last stage.
        images: To train on.
        minival: To measure accuracy on; None measures none.
        recipe: With a batch of no more images than there are.
        stages: Those of the recipe.
        micro_batches: Their number in a step of each stage, over all processes; a multiple of the
            number of processes.
        execution: Precision, memory format and compilation.
        device: Where this process trains.
        flip: Whether images are mirrored at random.
        seed: Of everything that is random.
        group: The processes that take part.
        pixels: The images on the device, where they are there already.
    """

    def __init__(
        self,
        model: nn.Module,
        images: TrainSet,
        minival: TrainSet | None,
        recipe: Recipe,
        stages: Sequence[Stage],
        micro_batches: Sequence[int],
        *,
        execution: Execution,
        device: torch.device,
        flip: bool,
        seed: int,
        group: ProcessGroup = ProcessGroup(),  # noqa: B008  # frozen
        pixels: TrainPixels | None = None,
    ) -> None:
        from effnas.train.network import RegularizationSetter, WeightAverage

        self.recipe, self.stages = recipe, tuple(stages)
        self.micro_batches = tuple(micro_batches)
        self.group, self.device = group, device
        self.order = Order(count=len(images), batch_size=recipe.batch_size, seed=seed)
        self._minival = minival
        self._pixels = pixels or TrainPixels(images, device)
        self._augment = Augmentation(
            images=images, recipe=recipe, flip=flip, seed=seed, device=device
        )
        self._regularization = RegularizationSetter(
            model, recipe.drop_path.last if recipe.drop_path else 0.0
        )
        self._step = TrainingStep(model, recipe, execution, device)
        if group.connected:
            self._step.distribute()
        self._average = (
            WeightAverage(self._step.model, decay=recipe.ema_decay) if recipe.ema_decay else None
        )
        self._schedule = make_schedule(
            self._step.optimizer,
            recipe,
            steps=self.stages[-1].end,
            steps_per_epoch=self.order.steps_per_epoch,
        )
        self._loss_limit = _DIVERGED * math.log(max(images.num_classes, 2))
        self._step_loss = torch.zeros((), dtype=torch.float64, device=device)
        self._last_loss = torch.zeros_like(self._step_loss)
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self.progress = Progress(stage_times_s=[0.0] * len(self.stages))

    @property
    def model(self) -> nn.Module:
        """The model that is measured and stored: the average of weights if there is one."""
        return self._average.module if self._average else self._step.model

    def resume(self, checkpoint: Checkpoint) -> None:
        """Load the state of a checkpoint, if its file exists.

        On a CPU, a resumed training gives the same result as an unbroken one, to the bit.

        Raises:
            StoreError: If the file exists and cannot be used: training must not be lost silently.
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
                "copy, or delete the file, and the same command starts from the beginning"
            ) from error

    def run(
        self,
        watcher: Watcher,
        checkpoint: Checkpoint | None = None,
        *,
        every_s: float = 60.0,
        stopping: Callable[[], bool] = lambda: False,
        until: int | None = None,
    ) -> bool:
        """Train to the end, or up to a step.

        Args:
            watcher: Receives what happens.
            checkpoint: Where the state is stored.
            every_s: The least seconds between two checkpoints; more if writing one takes long.
            stopping: Whether to stop, asked after each step; the state is stored then.
            until: The number of steps after which to stop; None trains to the end.

        Returns:
            Whether the training has ended, and was not stopped.

        Raises:
            InfeasibleError: If the loss is not finite, or grows without end.
            DataError: If an image cannot be decoded; the last checkpoint stays.
            StoreError: If the checkpoint cannot be written.
        """
        checkpointer = Checkpointer(checkpoint if self.group.rank == 0 else None, every_s)
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            ended = self._run(watcher, checkpointer, stopping, until or self.stages[-1].end)
        if self.progress.step:
            self._save(checkpointer)
        return ended

    def add_gradients(self, micro_batch: MicroBatch, pixels: torch.Tensor, stage: Stage) -> None:
        """Do the forward and backward pass of a micro-batch of uint8 pixels [n, 3, S, S]."""
        images, targets = self._augment(micro_batch, pixels, stage)
        loss = self._step.loss(images, targets) * micro_batch.share
        # Connected processes take the mean of their gradients, and the batch's is wanted.
        self._step.backward(loss * self.group.size)
        self._step_loss += loss.detach()

    def update(self) -> None:
        """Update the weights by the gradients, and drop these."""
        self._step.update()
        self._step.optimizer.zero_grad(set_to_none=True)
        self._loss_sum += self._step_loss
        self._last_loss.copy_(self._step_loss)
        self._step_loss.zero_()
        if self._average:
            self._average.update(self._step.model, self.progress.step)

    def start_stage(self, stage: Stage) -> None:
        """Set the strengths of a stage."""
        self._regularization.set(stage.strengths)

    def pixels(self, first_step: int = 0) -> Generator[torch.Tensor]:
        """Yield the images of each micro-batch of this process, from a step on."""
        steps = self.steps(first_step)
        return self._pixels.of(
            micro_batch for _, micro_batches in steps for micro_batch in micro_batches
        )

    def steps(self, first_step: int = 0) -> Iterator[tuple[int, list[MicroBatch]]]:
        """Yield the stage's number and this process's micro-batches, for each step from one on."""
        for number, (stage, count) in enumerate(zip(self.stages, self.micro_batches, strict=True)):
            for micro_batches in self.order.micro_batches(stage, count, self.group, first_step):
                yield number, micro_batches

    def measure(self, images: TrainSet, most: int | None = None) -> float:
        """Return the share of images that the model classifies correctly, 0 to 1.

        Each process evaluates its share of them.

        Args:
            images: uint8, of the size that accuracy is measured at.
            most: The number of images to evaluate at most; None evaluates all.

        Raises:
            InfeasibleError: If an output is not finite.
        """
        count = min(most or len(images), len(images))
        mine = range(self.group.rank, count, self.group.size)
        correct = torch.zeros((), dtype=torch.long, device=self.device)
        for chosen, predicted in self._predictions(images, mine):
            targets = targets_of(images, chosen, self.device)
            if targets.ndim == 1:
                correct += (predicted == targets).sum()
            else:
                correct += (targets.gather(1, predicted[:, None]) > 0).sum()
        return float(self.group.sum(correct)) / count

    def predict(self, images: TrainSet) -> torch.Tensor:
        """Return the class number that the model gives each of N images, [N] on the CPU.

        Raises:
            InfeasibleError: If an output is not finite.
        """
        every = self._predictions(images, range(len(images)))
        return torch.cat([predicted.cpu() for _, predicted in every])

    def _predictions(
        self, images: TrainSet, mine: Sequence[int]
    ) -> Iterator[tuple[Indices, torch.Tensor]]:
        """Yield indices of images, and the classes [n] that the model gives them."""
        self.average_buffers()
        self._step.model.eval()
        size = self.eval_batch_size
        batches = [np.asarray(mine[start : start + size]) for start in range(0, len(mine), size)]
        for chosen, pixels in zip(batches, images.batches(batches), strict=True):
            there = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2)
            there = resize(there, self.recipe.eval_image_size or images.image_size)
            yield chosen, self._step.predictions(normalize(there), self.model)
        self._step.model.train()

    @property
    def train_loss(self) -> float:
        """Mean loss of the last epoch, as far as it has come, on augmented images."""
        last = self.progress.rows[-1] if self.progress.rows else None
        if last and last.step == self.progress.step:
            return last.train_loss
        steps = self.progress.step - (last.step if last else 0)
        return float(self.group.sum(self._loss_sum.clone())) / max(steps, 1)

    @property
    def eval_batch_size(self) -> int:
        """Images of a forward pass that measures accuracy; without gradients, more fit."""
        return 2 * ceil(self.order.batch_size / self.micro_batches[-1])

    def average_buffers(self) -> None:
        """Set running statistics to their mean over all processes."""
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
        """Load what `state_dict` gave, of a training of the same network and recipe."""
        self._step.load_state_dict(state["step"])
        if self._average:
            self._average.module.load_state_dict(state["average"])
        self._loss_sum.copy_(state["loss_sum"])
        self.progress = from_plain(state["progress"], Progress)

    def _save(self, checkpointer: Checkpointer) -> None:
        """Store the state; all processes take part."""
        self.average_buffers()
        checkpointer.save(self.state_dict)

    def _run(
        self,
        watcher: Watcher,
        checkpointer: Checkpointer,
        stopping: Callable[[], bool],
        until: int,
    ) -> bool:
        pixels = self.pixels(self.progress.step)
        started = time.perf_counter()
        try:
            for number, micro_batches in self.steps(self.progress.step):
                if self.progress.stopped_early or self.progress.step >= until:
                    break
                stage = self.stages[number]
                self.start_stage(stage)
                self._schedule.step_update(self.progress.step)
                for micro_batch in micro_batches:
                    with (
                        self._step.apart()
                        if micro_batch is not micro_batches[-1]
                        else nullcontext()
                    ):
                        self.add_gradients(micro_batch, next(pixels), stage)
                self.update()
                self.progress.step += 1
                started = self._count_time(number, started)
                watcher.stepped(self.progress)
                if self._ends_epoch:
                    self._end_epoch(number, watcher)
                    started = time.perf_counter()
                if checkpointer.may_save(self.progress.step, self.group):
                    if self.group.broadcast_flag(stopping, self.device):
                        return False
                    if self.group.broadcast_flag(checkpointer.is_due, self.device):
                        self._save(checkpointer)
                        started = time.perf_counter()
        finally:
            pixels.close()
        return self.progress.stopped_early or self.progress.step == self.stages[-1].end

    @property
    def _ends_epoch(self) -> bool:
        step = self.progress.step
        return step % self.order.steps_per_epoch == 0 or step == self.stages[-1].end

    def _count_time(self, number: int, started: float) -> float:
        """Add the time of a step to that of its stage, and check the loss now and then."""
        step = self.progress.step
        ends_stage = step == self.stages[number].end
        if step % _LOOK_EVERY == 0 or self._ends_epoch or ends_stage:
            self._check_loss(step)
            synchronize(self.device)
        now = time.perf_counter()
        self.progress.stage_times_s[number] += now - started
        return now

    def _check_loss(self, step: int) -> None:
        remedy = "lower learning_rate_per_256 in the recipe"
        at = f"step {step} of {self.stages[-1].end}"
        if not math.isfinite(float(self._loss_sum)):
            raise InfeasibleError(f"training diverged: the loss is not finite by {at}; {remedy}")
        if (last := float(self._last_loss)) > self._loss_limit:
            raise InfeasibleError(
                f"training diverged: the loss is {last:.3g} at {at}, {_DIVERGED:.0f} times that of "
                f"guessing and more; {remedy}"
            )

    def _end_epoch(self, number: int, watcher: Watcher) -> None:
        progress, stage = self.progress, self.stages[number]
        epoch = ceil(progress.step / self.order.steps_per_epoch)
        loss = self.train_loss
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
            # Before the last stage, the network is not trained at the size it is measured at.
            begun = ceil(stage.first_step / self.order.steps_per_epoch)
            progress.stopped_early = epoch - max(progress.best_epoch, begun) >= patience
        watcher.epoch_ended(progress)
