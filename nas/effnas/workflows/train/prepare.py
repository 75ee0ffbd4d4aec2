"""What is settled of a training before its first step: the network, how it is run, how long."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn

from effnas.arch.weights import ARCHITECTURE, read_weights
from effnas.config.recipe import Recipe
from effnas.config.seeds import bounded_seed
from effnas.config.settings import Execution
from effnas.data.images import class_counts, memory_limit_bytes, single_class_counts
from effnas.data.loading import check_test_part, load_train_images, native_image_size
from effnas.errors import ConfigError, InfeasibleError
from effnas.scaling.family_file import find_member
from effnas.timing import lock
from effnas.timing.device import available_memory_bytes, describe_device, hardware_id, open_device
from effnas.timing.execution import choose_execution
from effnas.timing.setup import MeasurementSetup
from effnas.timing.training_time import Forecast, forecast, measure_step_times, steps_within
from effnas.train.checkpoints import Checkpoint
from effnas.train.process_group import ProcessGroup
from effnas.train.stages import stages_of, steps_of
from effnas.train.training import Training
from effnas.trials.manifest import utc_now
from effnas.trials.network_ref import find_network
from effnas.workflows.train.fitting import fit_micro_batches
from effnas.workflows.train.folder import CHECKPOINT, TrainingData, TrainingManifest
from effnas.workflows.train.settings import TrainingPlan, TrainSettings, settle


class PreparedTraining:
    """A training in one process, ready for its first step.

    A training that is resumed is run as before, unless the settings say otherwise.

    Args:
        settings: What the user asked for.
        group: Which process this is.
        preparing: Receives what takes a while.

    Attributes:
        stored: The manifest of a training that is resumed; else None.
        network: What is trained.
        recipe: With all sizes and strengths, and a batch of no more images than there are.
        images: To train on, and to measure accuracy on.
        device: Where this process trains.
        mirrored: Whether images are mirrored at random.
        stages: Those of the recipe.
        training: Before its first step.
        manifest: What it is made with.
        plan: What the user is shown of it.

    Raises:
        UserError: If something given is wrong.
    """

    def __init__(
        self, settings: TrainSettings, group: ProcessGroup, preparing: Callable[[str], None]
    ) -> None:
        from effnas.train.network import make_network

        self.settings, self.group, self._began = settings, group, utc_now()
        self.stored, memory_bytes = group.broadcast_object(self._look_up)
        self.network = found = find_network(settings.network, None)
        member = find_member(found.file, found.arch) if found.file and found.arch else None
        recipe = settle(
            settings.recipe,
            member,
            lambda: native_image_size(settings.data, settings.data_root),
            settings.epochs,
        )
        assert recipe.eval_image_size is not None
        if settings.threads:
            torch.set_num_threads(settings.threads)
        self.device = open_device(settings.device)
        with torch.random.fork_rng([]):
            make_network(found.arch, found.name, recipe, num_classes=2)  # mistakes come out early
        preparing("reading the images")
        self.images = images = load_train_images(
            settings.data,
            image_size=recipe.last_image_size,
            eval_image_size=recipe.eval_image_size,
            minival_share=recipe.holdout_share,
            seed=settings.seed,
            on_bad_image=settings.on_bad_image,
            root=settings.data_root,
            memory_bytes=memory_bytes,
        )
        # The learning rate follows the batch size.
        recipe = replace(recipe, batch_size=min(recipe.batch_size, len(images.train)))
        before = self.stored.data if self.stored else None
        self.mirrored = is_mirrored(settings, before, images.mirrored)
        self._steps_per_epoch = steps_per_epoch = len(images.train) // recipe.batch_size
        by_time, asked_warmup = recipe.train_time_s is not None, recipe.warmup_epochs
        if not by_time and (
            self.stored is None or self.stored.recipe.warmup_epochs != recipe.warmup_epochs
        ):
            recipe = with_fitting_warmup(recipe, steps_per_epoch)
        self._asked = recipe
        self._settle_steps(self.stored.stages[-1].end if by_time and self.stored else None)
        model = self._network()
        steps, micro_batches, execution, expected = group.broadcast_object(
            lambda: self._choose(model, preparing)
        )
        self._settle_steps(steps)
        self.training = self._training(model, micro_batches, execution, group)
        self.manifest = self._describe(model, micro_batches, execution, expected)
        self.plan = TrainingPlan(
            network=settings.network,
            arch=found.arch,
            manifest=self.manifest,
            steps_per_epoch=steps_per_epoch,
            found=images.found,
            holdout_class_counts=class_counts(images.minival) if images.minival else (),
            image_sizes=images.original_sizes,
            asked_warmup_epochs=self.recipe.warmup_epochs if by_time else asked_warmup,
        )

    @property
    def metadata(self) -> dict[str, str]:
        """What a file of weights says of its network."""
        # One key only: safetensors would write several in random order.
        arch = self.network.arch
        return {ARCHITECTURE: arch.id} if arch else {"model": self.network.name}

    @property
    def checkpoint(self) -> Checkpoint:
        """The file of the state of the training."""
        (name,) = self.metadata.values()
        data, settings = self.images.train.fingerprint, self.settings
        owner: dict[str, str | int] = {"network": name, "data": data, "seed": settings.seed}
        return Checkpoint(settings.out / CHECKPOINT, owner)

    def _look_up(self) -> tuple[TrainingManifest | None, int]:
        """Return the manifest, and the bytes that images may take in each process of one machine.

        A training is resumed as it began, whatever memory is free now: an image that cannot be
        decoded is left out of memory, but replaced by another one where images are streamed.
        """
        settings, stored = self.settings, TrainingManifest.stored(self.settings.out)
        if settings.test and not (stored and stored.test):
            check_test_part(settings.data, root=settings.data_root)
        if stored is None:
            return None, memory_limit_bytes() // self.group.size
        return stored, 0 if stored.data.streamed else sys.maxsize

    def _settle_steps(self, steps: int | None) -> None:
        """Settle the recipe and its stages; `steps` are those that fit into a training time."""
        recipe, per_epoch = self._asked, self._steps_per_epoch
        self.recipe = recipe if steps is None else recipe.lasting(steps / per_epoch)
        self.stages = stages_of(
            self.recipe, steps_per_epoch=per_epoch, seed=self.settings.seed, steps=steps
        )

    def _network(self) -> nn.Module:
        """Build the network, with the weights that it begins with."""
        from effnas.train.initialization import initialize
        from effnas.train.network import classifier_tensors, make_network

        settings, network = self.settings, self.network
        classes = self.images.train.num_classes
        with torch.random.fork_rng([]):
            torch.manual_seed(bounded_seed(settings.seed, 64))
            model = make_network(network.arch, network.name, self.recipe, num_classes=classes)
        if settings.weights:
            head = classifier_tensors(model)
            hint = f" (the data have {classes} classes: `new_head` makes a new classifier)"
            read_weights(
                model,
                settings.weights,
                architecture_id=network.arch.id if network.arch else None,
                remedy=f"give weights of {network.name}",
                left_out=head if settings.new_head else (),
                hints=dict.fromkeys(head, hint),
            )
        else:
            initialize(model, self.recipe, self.images.train, settings.seed)
        return model

    def _choose(
        self, model: nn.Module, preparing: Callable[[str], None]
    ) -> tuple[int | None, tuple[int, ...], Execution, Forecast]:
        """Return what is left to be settled of how steps are run, and how long they take.

        Returns:
            Steps in all where a training time decides on them, else None; micro-batches of each
            stage; how steps are run; and how long it will take.
        """
        settings, stored = self.settings, self.stored
        if stored:
            execution = stored.execution
            named = Execution(
                precision=settings.precision or execution.precision,
                memory_format=settings.memory_format or execution.memory_format,
                compile_mode=settings.compile_mode,
            )
            counts = self._stored_micro_batches(stored) or self._micro_batches(model)
            by_time = self.recipe.train_time_s is not None
            return stored.stages[-1].end if by_time else None, counts, named, stored.forecast
        counts = self._micro_batches(model)
        alone = replace(self.group, connected=False)

        def waiting(holder: str) -> None:
            preparing(f"waiting for the device, which {holder} uses")

        with lock.timing(self.device, waiting):
            preparing("choosing precision and memory format")
            execution = self._fastest(counts)
            preparing("timing steps")
            steps = None
            if self.recipe.train_time_s is not None:
                throwaway = self._training(self._network(), counts, execution, alone)
                try:
                    steps = steps_within(
                        self._asked,
                        measure_step_times(throwaway),
                        steps_per_epoch=self._steps_per_epoch,
                        seed=settings.seed,
                    )
                except InfeasibleError as error:
                    raise ConfigError(f"{self.network.name}: {error}") from None
                self._settle_steps(steps)
                counts = self._micro_batches(model)
            expected = forecast(
                lambda: self._training(self._network(), counts, execution, alone),
                self.images.minival,
            )
        return steps, counts, execution, expected

    def _describe(
        self,
        model: nn.Module,
        micro_batches: tuple[int, ...],
        execution: Execution,
        expected: Forecast,
    ) -> TrainingManifest:
        """Return the manifest; that of a training that is resumed must agree with it."""
        settings, stored, arch, images = self.settings, self.stored, self.network.arch, self.images
        network: dict[str, str | int] = {"name": settings.network}
        if arch is not None:
            network = {"architecture": str(arch), "architecture_id": arch.id}
            network |= arch.ends
        assert self.recipe.eval_image_size is not None
        made = TrainingManifest(
            effnas=version("effnas"),
            created=self._began,
            network=network,
            params=sum(p.numel() for p in model.parameters() if p.requires_grad),
            recipe=self.recipe,
            seed=settings.seed,
            weights=_digest(settings.weights) if settings.weights else None,
            new_head=settings.new_head,
            data=TrainingData(
                name=Path(settings.data).name
                if Path(settings.data).is_absolute()
                else settings.data,
                fingerprint=images.train.fingerprint,
                minival_fingerprint=images.minival.fingerprint if images.minival else None,
                streamed=images.are_streamed,
                images=len(images.train),
                minival=len(images.minival) if images.minival else 0,
                class_names=images.train.classes,
                skipped=images.skipped,
                mirrored=self.mirrored,
                minival_class_counts=single_class_counts(images.minival),
                test_part=images.found.test_part if images.found else None,
            ),
            eval_image_size=self.recipe.eval_image_size,
            stages=self.stages,
            parts=micro_batches,
            workers=self.group.size,
            execution=execution,
            hardware=hardware_id(describe_device(self.device)),
            forecast=expected,
            asked=settings.asked,
        )
        if stored is None:
            return made
        made.check_continues(stored, settings.out)
        part = stored.data.test_part if stored.test else made.data.test_part  # that it was read of
        data = replace(made.data, test_part=part)
        return replace(
            made, created=stored.created, data=data, progress=stored.progress, test=stored.test
        )

    def _stored_micro_batches(self, stored: TrainingManifest) -> tuple[int, ...] | None:
        """Return the stored numbers, since results depend on them, unless they must change."""
        counts = stored.parts
        fit = len(counts) == len(self.stages) and all(one % self.group.size == 0 for one in counts)
        return counts if fit and self.settings.device_batch_size is None else None

    def _micro_batches(self, model: nn.Module) -> tuple[int, ...]:
        on_one_machine = self.group.size if self.device.type == "cpu" else 1
        return fit_micro_batches(
            model,
            self.recipe,
            self.stages,
            batch_size=self.recipe.batch_size,
            processes=self.group.size,
            available_bytes=available_memory_bytes(self.device) // on_one_machine,
            device_batch_size=self.settings.device_batch_size,
        )

    def _fastest(self, micro_batches: tuple[int, ...]) -> Execution:
        """Return the fastest way to run a step of the last stage, of those that were asked for."""
        settings = self.settings
        setup = MeasurementSetup(
            device=self.device,
            recipe=self.recipe,
            execution=Execution(),
            batch_size=max(1, self.recipe.batch_size // micro_batches[-1]),
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
                f"{self.network.name}: a step at {setup.image_size} px cannot be run: "
                f"{str(error).splitlines()[0]}"
            ) from error
        return replace(chosen, compile_mode=settings.compile_mode)

    def _training(
        self,
        model: nn.Module,
        micro_batches: tuple[int, ...],
        execution: Execution,
        group: ProcessGroup,
    ) -> Training:
        return Training(
            model,
            self.images.train,
            self.images.minival,
            self.recipe,
            self.stages,
            micro_batches,
            execution=execution,
            device=self.device,
            flip=self.mirrored,
            seed=self.settings.seed,
            group=group,
        )


def with_fitting_warmup(recipe: Recipe, steps_per_epoch: int) -> Recipe:
    """Return a recipe whose warm-up ends within the training: one that would not takes half of it.

    A learning rate that only grows never comes down again, which the end of a training needs.
    """
    epochs = steps_of(recipe, steps_per_epoch) / steps_per_epoch
    return replace(recipe, warmup_epochs=epochs / 2) if recipe.warmup_epochs >= epochs else recipe


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


def _digest(file: Path) -> str:
    """Return 16 hex digits that differ when a file does."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()[:16]
