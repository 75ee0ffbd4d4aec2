"""What a worker is configured with: made from data, or from a run whose figures it must match."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from effnas.arch.models import check_timm_name
from effnas.config.catalog import Source, find
from effnas.config.codec import FORMAT
from effnas.config.recipe import Recipe, default_sizes
from effnas.config.settings import EvaluationConfig
from effnas.data.loading import absolute_name, native_image_size
from effnas.errors import ConfigError, StoreError, check_at_least
from effnas.space.search_space import SearchSpace

if TYPE_CHECKING:
    from effnas.data.source import OnBadImage
    from effnas.trials.manifest import CommandPart, SearchManifest
    from effnas.trials.run import Run

#: The smallest image size that a recipe chooses by itself, in pixels.
_MIN_IMAGE_SIZE = 32
#: The most pixels of images that are tiny, and of those that are small.
_TINY, _SMALL = 16, 96


@dataclass(frozen=True, kw_only=True)
class CandidateSettings:
    """What a user asks of each command that trains candidates of a space on images.

    Attributes:
        space: Name or path of the space, or what it was read from.
        out: Folder of the trainings.
        data: Name or path of the images.
        data_root: Folder of a timm data set.
        on_bad_image: Whether an image that cannot be decoded is skipped or ends the command.
        recipe: How networks are trained.
        seed: Of candidates, hold-out and trainings; 0 or more.
        target_image_size: Image size of S and P in place of the space's.
        asked: The command line that this is from, for `asked` of the manifest.
    """

    space: str | Source
    out: Path
    data: str
    data_root: Path | None = None
    on_bad_image: OnBadImage = "refuse"
    recipe: Recipe
    seed: int = 0
    target_image_size: int | None = None
    asked: CommandPart | None = None

    def __post_init__(self) -> None:
        check_at_least(0, seed=self.seed)
        check_at_least(1, target_image_size=self.target_image_size)

    @property
    def source(self) -> Source:
        """What the space is read from."""
        named = self.space
        return find("search_spaces", named) if isinstance(named, str) else named

    def config(self, space: SearchSpace) -> EvaluationConfig:
        """Return what workers need to evaluate the networks of a space."""
        return config_for_data(
            space,
            self.data,
            self.recipe,
            data_root=self.data_root,
            on_bad_image=self.on_bad_image,
            seed=self.seed,
        )


def default_space(image_size: int) -> str:
    """Return the name of the space to search where none is named.

    It is `tiny` for images of up to 16 pixels, as the digits are, `small` up to 96, `v2` above.

    Args:
        image_size: Pixels of the shorter side of the images, as of `native_image_size`.
    """
    return "tiny" if image_size <= _TINY else "small" if image_size <= _SMALL else "v2"


def timed_recipe(image_size: int) -> str | None:
    """Return the recipe with choices for a search by training time where none is named, if any.

    Args:
        image_size: As of `default_space`.
    """
    return "small" if default_space(image_size) == "small" else None


def default_data(space: str | None) -> str:
    """Return the images of a search where none are named: the digits, for a space of their size.

    Args:
        space: Name or path of the space; None where none is named.

    Raises:
        UserError: If there is no such space, or it is for larger images than the digits.
    """
    what = "no `data` is given"
    if space is not None:
        size = SearchSpace.load(space).target.image_size
        if size <= _TINY:
            return "digits"
        what = f"the space {space} is for images of {size} px, and {what}"
    raise ConfigError(
        f"{what}: give a folder or archive of images in class folders; `space` tiny `data` digits "
        "tries effnas out on digits of 8 px"
    )


def network_space(text: str, data: str | None, root: Path | None) -> Source:
    """Return the space of one network, as text, for images of the data's size.

    Args:
        text: An architecture file, block strings, RUN:NUMBER, RUN:best, or a name of timm's.
        data: Name or path of the images.
        root: Folder of a timm data set.

    Raises:
        UserError: If there is no such network, or no such images.
    """
    from effnas.trials.network_ref import find_network

    found = find_network(text, None)
    size = max(native_image_size(data or "", root), _MIN_IMAGE_SIZE)
    lines = [f"format: {FORMAT}", f"target: {{image_size: {size}, batch_size: 128}}"]
    if found.arch is None:
        check_timm_name(found.name)
        lines.append(f"network: {found.name}")
    else:
        lines += [f"{name}: {value}" for name, value in found.arch.ends.items()]
        lines += ["stages:", *(f"  - {block}" for block in found.arch.blocks)]
    content = "\n".join(lines) + "\n"
    digest = hashlib.sha256(content.encode()).hexdigest()[:16]
    return Source(found.name, Path(found.name), content, digest, "path")


def config_for_data(
    space: SearchSpace,
    data: str | None,
    recipe: Recipe,
    *,
    data_root: str | Path | None = None,
    on_bad_image: OnBadImage = "refuse",
    seed: int = 0,
) -> EvaluationConfig:
    """Return what workers need to evaluate the networks of a space on images.

    Args:
        space: Gives the reference and the target.
        data: Name or path of the images; paths become absolute, as workers may run elsewhere.
        recipe: How networks are trained.
        data_root: Folder of a timm data set.
        on_bad_image: Whether an image that cannot be decoded is skipped or ends the search.
        seed: Of hold-out and trainings, 0 or more.
    """
    return EvaluationConfig(
        space_text=space.to_text(),
        data=data and absolute_name(data),
        data_root=str(Path(data_root).absolute()) if data_root else None,
        on_bad_image=on_bad_image,
        recipe=recipe,
        seed=seed,
    )


def config_for_run(
    run: Run,
    recipe: Recipe | None = None,
    *,
    data: str | None = None,
    data_root: Path | None = None,
) -> EvaluationConfig:
    """Return what workers need to train networks whose accuracies compare with those of a run.

    They have its images, hold-out, seed and execution. Where image sizes agree, workers refuse
    other held-out images.

    Args:
        run: The run.
        recipe: How networks are trained; None trains as the run did.
        data: Where the images are now; None takes the place that the run stored.
        data_root: Folder of a timm data set, likewise.

    Raises:
        StoreError: If the run's manifest cannot be used.
    """
    stored = run.manifest.data
    recipe = recipe or run.recipe
    config = config_for_data(
        run.space,
        data or stored.path or stored.name or None,
        recipe,
        data_root=data_root or stored.root,
        on_bad_image=stored.on_bad_image,
        seed=run.manifest.seed,
    )
    same_pixels = recipe.eval_image_size == run.recipe.eval_image_size
    return replace(
        config,
        execution=run.manifest.execution,  # none where step times came from elsewhere
        holdout_fingerprint=run.holdout_fingerprint if same_pixels else None,
        full_epochs=run.manifest.full_epochs,
    )


def continued_config(config: EvaluationConfig, stored: SearchManifest) -> EvaluationConfig:
    """Return a configuration under which the rest of a run is measured as its beginning was.

    Args:
        config: As for a new run.
        stored: The run's manifest.

    Raises:
        StoreError: If the manifest lacks what that takes.
    """
    if stored.execution is None or stored.timing_batch_size is None:
        raise StoreError(
            "the run's manifest lacks `execution` or `timing_batch_size`; choose another `out`"
        )
    flip = config.recipe.flip
    if flip is None and stored.recipe:  # earlier versions decided by other names
        flip = stored.recipe.flip
    return replace(
        config,
        execution=stored.execution,
        timing_batch_size=stored.timing_batch_size,
        recipe=replace(config.recipe, flip=flip),
    )


def default_image_sizes(config: EvaluationConfig, space: SearchSpace) -> tuple[int, int]:
    """Return the first and the last image size of trainings where the recipe names none, in pixels.

    The last is the data's own, but 32 or more, and no larger than the target's; the first one
    follows as of `effnas.config.recipe.default_sizes`.

    Raises:
        DataError: If there are no such images.
    """
    assert config.data is not None
    native = native_image_size(config.data, Path(config.data_root) if config.data_root else None)
    return default_sizes(min(space.target.image_size, max(native, _MIN_IMAGE_SIZE)))
