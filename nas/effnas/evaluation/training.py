"""How a worker loads images, trains architectures on them, and evaluates trained ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from effnas.arch.models import TimmModel, build
from effnas.config.settings import CPU_TRAINING_IMAGES
from effnas.config.text import in_singular
from effnas.data.loading import SearchImages, load_search_images, load_test_part
from effnas.errors import ConfigError, InfeasibleError
from effnas.evaluation.config import default_image_size
from effnas.evaluation.timing import step_bytes
from effnas.timing import lock
from effnas.timing.device import describe_device, hardware_id
from effnas.train.checkpoints import Checkpoint, load_weights, save_weights
from effnas.train.proxy import ProxyData, classify, share_correct, train_proxy
from effnas.train.step import TrainingStep
from effnas.trials.trial import Measurement

if TYPE_CHECKING:
    from effnas.arch.architecture import Architecture
    from effnas.config.settings import EvaluationConfig, Recipe
    from effnas.data.images import ImageSet
    from effnas.evaluation.evaluator import Network
    from effnas.space.search_space import SearchSpace
    from effnas.timing.setup import MeasurementSetup


@dataclass(frozen=True)
class WorkerImages:
    """The images of a search, decoded once.

    Attributes:
        loaded: In memory.
        data: The same on the device.
        recipe: How they are trained on, with all that follows from them settled.
    """

    loaded: SearchImages
    data: ProxyData
    recipe: Recipe


def load_images(
    config: EvaluationConfig, space: SearchSpace, device: torch.device
) -> WorkerImages | None:
    """Load the images of a configuration; None if it has none.

    Raises:
        DataError: If they cannot be used.
        ConfigError: If others are held out than accuracies are to compare with.
    """
    if config.data is None:
        return None
    recipe = config.recipe
    size = recipe.image_size or default_image_size(config, space)
    found = load_search_images(
        config.data,
        image_size=size,
        holdout_share=recipe.holdout_share,
        data_share=recipe.data_share,
        most_train_images=CPU_TRAINING_IMAGES if device.type == "cpu" else None,
        seed=config.seed,
        on_bad_image=config.on_bad_image,
        root=Path(config.data_root) if config.data_root else None,
    )
    expected = config.holdout_fingerprint
    if expected is not None and found.holdout.fingerprint != expected:
        raise ConfigError(
            f"the held-out images of {config.data} are not those of the search, so accuracies "
            "would not compare; give the place of its images as `data`"
        )

    def on_device(images: ImageSet) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = torch.from_numpy(images.images).permute(0, 3, 1, 2).contiguous()
        return pixels.to(device), torch.from_numpy(images.labels).to(device)

    data = ProxyData(
        *on_device(found.train), *on_device(found.holdout), num_classes=found.train.num_classes
    )
    settled = replace(
        recipe,
        image_size=size,
        data_share=found.data_share,
        batch_size=min(recipe.batch_size, len(found.train)),
        flip=found.mirrored if recipe.flip is None else recipe.flip,
    )
    return WorkerImages(found, data, settled)


class WorkerTraining:
    """Trains networks on the images of a worker.

    Args:
        config: Gives the run's seed, and where checkpoints and weights are stored.
        images: To train on, and how.
        setup: How networks are timed; they are trained with the same execution.
    """

    def __init__(
        self, config: EvaluationConfig, images: WorkerImages, setup: MeasurementSetup
    ) -> None:
        self.images = images
        self._config = config
        recipe = images.recipe
        assert recipe.image_size is not None
        #: Under which a step's memory is that of a training.
        self.setup = replace(
            setup,
            batch_size=recipe.batch_size,
            image_size=recipe.image_size,
            num_classes=images.data.num_classes,
        )

    @property
    def fidelity(self) -> str:
        """How far whole trainings go, in words."""
        return in_singular(self._key)

    @property
    def _key(self) -> str:
        """The same as earlier versions have it: seeds are made of it."""
        recipe, train = self.images.recipe, self.images.loaded.train
        return f"{recipe.epochs} epochs of {len(train)} images at {recipe.image_size} px"

    def __call__(self, arch: Network, repeat: int, epochs: int | None) -> Measurement:
        """Train one network; arguments are those of `Evaluator`.

        Raises:
            InfeasibleError: If it cannot be built or trained.
        """
        self._check_memory(arch)
        config, recipe, seed = self._config, self.images.recipe, self._seed(arch, repeat)
        checkpoint = None
        if epochs is not None and config.checkpoints and not isinstance(arch, TimmModel):
            # A search trains a network once, by one seed.
            folder = Path(config.checkpoints, *([str(repeat)] if repeat else []))
            checkpoint = Checkpoint.of(folder, arch, seed=seed, fidelity=self._key)
        with lock.training(self.setup.device):
            with torch.random.fork_rng([]):
                torch.manual_seed(seed)
                model = build(
                    arch,
                    num_classes=self.setup.num_classes,
                    drop_rate=recipe.drop_rate,
                    drop_path_rate=recipe.drop_path_rate,
                )
            result = train_proxy(
                model,
                self.images.data,
                recipe,
                self.setup.execution,
                flip=bool(recipe.flip),
                seed=seed,
                epochs=epochs,
                checkpoint=checkpoint,
            )
        stops_early = epochs is not None and epochs < recipe.epochs
        confusion: tuple[tuple[int, ...], ...] = ()
        if config.weights and not stops_early and not isinstance(arch, TimmModel):
            save_weights(Path(config.weights), arch, repeat, model)
            confusion = result.confusion
        return Measurement(
            metrics={
                "accuracy": result.accuracy,
                "train_time_s": result.train_time_s,
                "train_loss": result.train_loss,
            },
            fidelity=f"{epochs} of {self.fidelity}" if stops_early else self.fidelity,
            seed=seed,
            hardware=hardware_id(describe_device(self.setup.device)),
            confusion=confusion,
        )

    def test(self, arch: Architecture, seeds: int) -> tuple[ImageSet, list[float]]:
        """Read the test part of the data, and evaluate a trained network on it.

        No search does: an accuracy that a choice was made by is too high for what was chosen.

        Args:
            arch: A network that was trained with this configuration's `weights`.
            seeds: Number of its trainings.

        Returns:
            The test part, and the accuracy there of each training, 0 to 1.

        Raises:
            UserError: If weights are missing, which is found out first, or the data have no test
                part of the same classes.
        """
        config, device = self._config, self.setup.device
        assert config.data is not None
        assert config.weights is not None
        models = []
        for repeat in range(seeds):
            models.append(build(arch, num_classes=self.setup.num_classes))
            load_weights(Path(config.weights), arch, repeat, models[-1])
        images = load_test_part(
            config.data,
            image_size=self.setup.image_size,
            classes=self.images.loaded.train.classes,
            on_bad_image=config.on_bad_image,
            root=Path(config.data_root) if config.data_root else None,
        )
        pixels = torch.from_numpy(images.images).permute(0, 3, 1, 2)
        labels = torch.from_numpy(images.labels)
        batch_size = 2 * config.recipe.batch_size
        recipe, execution = self.images.recipe, self.setup.execution
        with lock.training(device):
            steps = (TrainingStep(model, recipe, execution, device) for model in models)
            return images, [
                share_correct(classify(step, pixels, batch_size), labels) for step in steps
            ]

    def _check_memory(self, arch: Network) -> None:
        """Refuse what the system would end this process for, instead of raising an error."""
        available = self.setup.available_bytes
        if available is not None and (needed := step_bytes(arch, self.setup)) > available:
            raise InfeasibleError(
                f"out of memory: a training step needs {needed / 1e9:.1f} GB, "
                f"{available / 1e9:.1f} GB are free"
            )

    def _seed(self, arch: Network, repeat: int) -> int:
        """Return a training's seed: the same for a network whenever and wherever it is trained."""
        text = f"{self._config.seed}/{arch.id}/{self._key}{f'/{repeat}' if repeat else ''}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")


@contextmanager
def out_of_memory_is_infeasible(device: torch.device) -> Iterator[None]:
    """Raise an `InfeasibleError` where memory runs out, and release what CUDA has cached."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise InfeasibleError(f"out of memory: {str(error).splitlines()[0]}") from error
    except MemoryError as error:
        raise InfeasibleError("out of memory") from error
    except RuntimeError as error:
        if "allocate memory" not in str(error):  # what PyTorch's CPU allocator says
            raise
        raise InfeasibleError("out of memory on the CPU") from error
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()
