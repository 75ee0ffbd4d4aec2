"""What is settled of a training before its first step: the network, how it is run, how long."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn

from effnas.arch.weights import read_weights
from effnas.config.settings import Execution
from effnas.config.training_recipe import TrainingRecipe
from effnas.data.images import memory_limit_bytes
from effnas.data.loading import native_image_size
from effnas.data.train_images import TrainImages, load_train_images
from effnas.errors import ConfigError
from effnas.scaling.family_file import find_member
from effnas.timing import lock
from effnas.timing.device import (
    available_memory_bytes,
    describe_device,
    hardware_id,
    open_device,
)
from effnas.timing.execution import choose_execution
from effnas.timing.setup import MeasurementSetup
from effnas.train.batches import Order
from effnas.train.process_group import ProcessGroup
from effnas.train.stages import Stage, stages_of
from effnas.train.training import Training
from effnas.trials.network_ref import NetworkRef, find_network
from effnas.workflows.train.fitting import fit_micro_batches
from effnas.workflows.train.folder import TrainingData, TrainingManifest
from effnas.workflows.train.forecast import Forecast, forecast
from effnas.workflows.train.settings import TrainingPlan, TrainSettings, settle


@dataclass(frozen=True, kw_only=True)
class PreparedTraining:
    """A training in one process, with what is known once the images are there.

    Attributes:
        settings: What the user asked for.
        group: Which process.
        found: The network.
        recipe: With all sizes and strengths, and a batch of no more images than there are.
        images: To train on, and to measure accuracy on.
        device: Where.
        mirrored: Whether images are mirrored at random.
    """

    settings: TrainSettings
    group: ProcessGroup
    found: NetworkRef
    recipe: TrainingRecipe
    images: TrainImages
    device: torch.device
    mirrored: bool

    @classmethod
    def begin(
        cls,
        settings: TrainSettings,
        group: ProcessGroup,
        stored: TrainingManifest | None,
        preparing: Callable[[str], None],
    ) -> PreparedTraining:
        """Find the network, open the device, and read the images.

        Args:
            settings: What the user asked for.
            group: Which process.
            stored: The manifest, if the training goes on.
            preparing: Is told what takes a while.

        Raises:
            UserError: If something given is wrong.
        """
        found = find_network(settings.network, None)
        from effnas.train.network import make_network

        member = find_member(found.file, found.arch) if found.file and found.arch else None
        sizes = settings.recipe.image_size
        if sizes is None and member is None:
            native = native_image_size(settings.data, settings.data_root)
            sizes = (native + 1) // 2, native
        recipe = settle(settings.recipe, member, sizes)
        if settings.threads:
            torch.set_num_threads(settings.threads)
        device = open_device(settings.device)
        with torch.random.fork_rng([]):
            make_network(found.arch, found.name, recipe, num_classes=2)  # mistakes come out early
        preparing("reading the images")
        assert recipe.image_size is not None
        assert recipe.eval_image_size is not None
        images = load_train_images(
            settings.data,
            image_size=recipe.image_size[1],
            eval_image_size=recipe.eval_image_size,
            minival_share=recipe.minival_share,
            seed=settings.seed,
            on_bad_image=settings.on_bad_image,
            root=settings.data_root,
            memory_bytes=group.broadcast_object(lambda: _memory_for_images(stored, group.size)),
        )
        batch_size = min(recipe.batch_size, len(images.train))
        return cls(
            settings=settings,
            group=group,
            found=found,
            recipe=replace(recipe, batch_size=batch_size),  # and the learning rate with it
            images=images,
            device=device,
            mirrored=is_mirrored(settings, stored.data if stored else None, images.mirrored),
        )

    @property
    def order(self) -> Order:
        """The order of the images."""
        return Order(
            count=len(self.images.train),
            batch_size=self.recipe.batch_size,
            seed=self.settings.seed,
        )

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Of the training."""
        return stages_of(
            self.recipe, steps_per_epoch=self.order.steps_per_epoch, seed=self.settings.seed
        )

    @property
    def architecture_id(self) -> str | None:
        """The network's, if it is an architecture."""
        return self.found.arch.id if self.found.arch else None

    def prepare(
        self, stored: TrainingManifest | None, preparing: Callable[[str], None]
    ) -> tuple[TrainingPlan, Training]:
        """Settle how the training is run, as before if it goes on.

        Args:
            stored: The manifest, if the training goes on.
            preparing: Is told what takes a while.

        Raises:
            UserError: If the network, its weights or a setting cannot be used.
        """
        model = self._network()
        parts, execution, expected = self.group.broadcast_object(
            lambda: self._choose(model, stored, preparing)
        )
        training = self._training(model, parts, execution, self.group)
        recipe, images = self.recipe, self.images
        assert recipe.eval_image_size is not None
        plan = TrainingPlan(
            network=self.settings.network,
            arch=self.found.arch,
            params=sum(p.numel() for p in model.parameters() if p.requires_grad),
            images=len(images.train),
            minival=len(images.minival) if images.minival else 0,
            classes=images.train.classes,
            skipped=images.skipped,
            is_streamed=images.are_streamed,
            mirrored=self.mirrored,
            recipe=recipe,
            eval_image_size=recipe.eval_image_size,
            stages=self.stages,
            parts=parts,
            steps_per_epoch=self.order.steps_per_epoch,
            workers=self.group.size,
            execution=execution,
            hardware=hardware_id(describe_device(self.device)),
            forecast=expected,
        )
        return plan, training

    def _network(self) -> nn.Module:
        """Build the network, with the weights that it begins with."""
        from effnas.train.network import classifier_tensors, make_network

        settings, name = self.settings, self.found.name
        classes = self.images.train.num_classes
        with torch.random.fork_rng([]):
            torch.manual_seed(settings.seed)
            model = make_network(self.found.arch, name, self.recipe, num_classes=classes)
        if settings.weights:
            head = classifier_tensors(model)
            hint = f" (the data have {classes} classes: `new_head` makes the classifier anew)"
            read_weights(
                model,
                settings.weights,
                architecture_id=self.architecture_id,
                remedy=f"give weights of {name}",
                left_out=head if settings.new_head else (),
                hints=dict.fromkeys(head, hint),
            )
        return model

    def _choose(
        self, model: nn.Module, stored: TrainingManifest | None, preparing: Callable[[str], None]
    ) -> tuple[tuple[int, ...], Execution, Forecast]:
        """Return the parts of a batch, how it is run, and how long that will take."""
        settings = self.settings
        if stored:
            execution = stored.execution
            named = Execution(
                precision=settings.precision or execution.precision,
                memory_format=settings.memory_format or execution.memory_format,
                compile_mode=settings.compile_mode,
            )
            return self._stored_parts(stored) or self._parts(model), named, stored.forecast
        parts = self._parts(model)
        alone = replace(self.group, connected=False)
        waiting = "waiting for the device: another process times or trains on it"
        with lock.timing(self.device, lambda: preparing(waiting)):
            preparing("choosing precision and memory format")
            execution = self._fastest(parts)
            preparing("timing steps")
            expected = forecast(
                lambda: self._training(self._network(), parts, execution, alone),
                self.images.minival,
            )
        return parts, execution, expected

    def _stored_parts(self, stored: TrainingManifest) -> tuple[int, ...] | None:
        """Return the parts of before, since results depend on them, unless they are to change."""
        parts = stored.parts
        fit = len(parts) == len(self.stages) and all(one % self.group.size == 0 for one in parts)
        return parts if fit and self.settings.device_batch_size is None else None

    def _parts(self, model: nn.Module) -> tuple[int, ...]:
        on_one_machine = self.group.size if self.device.type == "cpu" else 1
        return fit_micro_batches(
            model,
            self.recipe,
            self.stages,
            batch_size=self.order.batch_size,
            processes=self.group.size,
            available_bytes=available_memory_bytes(self.device) // on_one_machine,
            device_batch_size=self.settings.device_batch_size,
        )

    def _fastest(self, parts: tuple[int, ...]) -> Execution:
        """Return the fastest way to run a step of the last stage, of those that were asked for."""
        settings = self.settings
        setup = MeasurementSetup(
            device=self.device,
            recipe=self.recipe,
            execution=Execution(),
            batch_size=max(1, self.order.batch_size // parts[-1]),
            image_size=self.stages[-1].image_size,
            num_classes=self.images.train.num_classes,
        )
        try:
            chosen, _ = choose_execution(
                self._network,
                setup,
                precision=settings.precision,
                memory_format=settings.memory_format,
            )
        except (RuntimeError, ValueError) as error:
            raise ConfigError(
                f"{self.found.name}: a step at {setup.image_size} px cannot be run: "
                f"{str(error).splitlines()[0]}"
            ) from error
        return replace(chosen, compile_mode=settings.compile_mode)

    def _training(
        self, model: nn.Module, parts: tuple[int, ...], execution: Execution, group: ProcessGroup
    ) -> Training:
        return Training(
            model,
            self.images.train,
            self.images.minival,
            self.recipe,
            self.stages,
            parts,
            execution=execution,
            device=self.device,
            flip=self.mirrored,
            seed=self.settings.seed,
            group=group,
        )


def is_mirrored(settings: TrainSettings, stored: TrainingData | None, suits_data: bool) -> bool:
    """Return whether images are mirrored: as the recipe says, as before, or as suits the data."""
    if settings.recipe.flip is not None:
        return settings.recipe.flip
    if stored is None:
        return suits_data
    if stored.mirrored is not None:
        return stored.mirrored
    # Earlier versions decided by the path.
    return not any(name in settings.data for name in ("digits", "mnist"))


def _memory_for_images(stored: TrainingManifest | None, processes: int) -> int:
    """Return how many bytes images may take in each process, all of them being on one machine.

    A training goes on as it began, whatever is free now: an image that cannot be decoded is left
    out of memory, but has another put in its place where it is streamed.
    """
    if stored is None:
        return memory_limit_bytes() // processes
    return 0 if stored.data.streamed else sys.maxsize
