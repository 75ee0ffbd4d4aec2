"""What a user asks of a training, and what is settled before its first step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from effnas.config.recipe import Recipe, default_sizes
from effnas.config.recipe_choice import decided
from effnas.config.recipe_file import default_recipe, load_recipe
from effnas.config.settings import CompileMode, MemoryFormat, Precision
from effnas.errors import ConfigError, check_at_least
from effnas.trials.manifest import TRAINER

if TYPE_CHECKING:
    from effnas.arch.architecture import Architecture
    from effnas.data.source import FoundData
    from effnas.scaling.family_file import Member
    from effnas.trials.manifest import CommandPart
    from effnas.trials.network_ref import NetworkRef
    from effnas.workflows.train.folder import TrainingManifest


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """What the user asked for.

    Attributes:
        network: An architecture file, block strings, RUN:NUMBER, RUN:best, or a name of timm's.
        data: Name or path of the images.
        recipe: How the network is trained.
        epochs: Another length than the recipe's, as of `Recipe.lasting`.
        out: Folder of the training.
        seed: Of everything that is random, 0 or more.
        weights: State dict to start from; None starts from random weights.
        new_head: Whether the classifier starts from random weights in any case.
        data_root: Folder of a timm data set.
        on_bad_image: Whether an image that cannot be decoded is skipped or ends the training.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        workers: Processes that share each batch; None is one per GPU, or one.
        threads: CPU threads of a process; None takes its share of all.
        precision: Of the arithmetic; None takes the fastest, as measured.
        memory_format: Layout of images and weights; None takes the fastest.
        compile_mode: How torch.compile treats the network.
        device_batch_size: The most images that a device takes at once; None takes what fits.
        checkpoint_every_s: The least seconds between two checkpoints.
        trackers: Where figures are logged beside `log.csv`, see `effnas.workflows.trackers`.
        test: Whether the test part of the data is read at the end, once.
        asked: The command line that this is from, for `asked` of the manifest.
    """

    network: str
    data: str
    recipe: Recipe
    out: Path
    epochs: float | None = None
    seed: int = 0
    weights: Path | None = None
    new_head: bool = False
    data_root: Path | None = None
    on_bad_image: Literal["refuse", "skip"] = "refuse"
    device: str = "auto"
    workers: int | None = None
    threads: int | None = None
    precision: Precision | None = None
    memory_format: MemoryFormat | None = None
    compile_mode: CompileMode = "none"
    device_batch_size: int | None = None
    checkpoint_every_s: float = 60.0
    trackers: tuple[str, ...] = ()
    test: bool = False
    asked: CommandPart | None = None

    def __post_init__(self) -> None:
        check_at_least(1, workers=self.workers, threads=self.threads)
        check_at_least(1, device_batch_size=self.device_batch_size)
        check_at_least(0, seed=self.seed)
        if not 0 <= self.checkpoint_every_s < float("inf"):
            raise ConfigError(
                f"`checkpoint_every` is {self.checkpoint_every_s}, it must be 0 seconds or more"
            )
        if self.new_head and not self.weights:
            raise ConfigError("`new_head` goes with `weights`; without them, all weights are new")


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """A training as it is settled before its first step.

    Attributes:
        network: The user's name of it.
        arch: None for a model of timm's.
        manifest: What the training is made with.
        steps_per_epoch: Steps of one pass over the images.
        found: What the images were chosen from.
        holdout_class_counts: Images of each class that accuracy is measured on.
        image_sizes: As of `effnas.data.loading.SearchImages.original_sizes`.
        asked_warmup_epochs: What the recipe asked for; longer than what is done if that would not
            have ended within the training.
        first_step: From which it is resumed, 0 at the start.
    """

    network: str
    arch: Architecture | None
    manifest: TrainingManifest
    steps_per_epoch: int
    found: FoundData | None = None
    holdout_class_counts: tuple[int, ...] = ()
    image_sizes: tuple[tuple[int, int], ...] = ()
    asked_warmup_epochs: float = 0.0
    first_step: int = 0

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.manifest.stages[-1].end


def recipe_for(network: NetworkRef, named: str | None) -> Recipe:
    """Return the recipe that a network is trained by.

    Args:
        network: One of a search is trained as it was there, but as long as the recipe was before
            the search shortened it, on all images.
        named: Name or path of another recipe.

    Raises:
        UserError: If the recipe cannot be read.
    """
    if named is not None:
        return load_recipe(named)
    run = network.run
    if run is None or run.manifest.recipe is None or run.manifest.trainer < TRAINER:
        return default_recipe()
    recipe, full = replace(run.recipe, data_share=None), run.manifest.full_epochs
    if recipe.train_time_s is not None:
        recipe = replace(recipe, train_time_s=run.manifest.winner_time_s)
    elif full:
        recipe = recipe.lasting(full)
    taken = network.trial.architecture.recipe if network.trial else ()
    return decided(recipe, dict(taken))


def settle(
    recipe: Recipe, member: Member | None, native: Callable[[], int], epochs: float | None = None
) -> Recipe:
    """Return a recipe with nothing left open: what it does not say is taken from the member.

    Args:
        recipe: What the user chose.
        member: What its family says of the network, if it belongs to one.
        native: Returns the size of the images in pixels, where neither says one.
        epochs: Another length.
    """
    if member is not None:
        if recipe.image_size is None:
            recipe = replace(recipe, eval_image_size=recipe.eval_image_size or member.image_size)
        recipe = recipe.sized(member.first_image_size, member.train_image_size)
        strengths = {
            name: ramp for name, ramp in member.strengths.items() if getattr(recipe, name) is None
        }
        recipe = replace(recipe, **strengths)  # type: ignore[arg-type]  # each is a strength
    recipe = recipe.sized(*(recipe.image_size or default_sizes(native())))
    return recipe if epochs is None else recipe.overridden(epochs=epochs)
