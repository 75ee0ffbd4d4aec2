"""Recipes: how a network is trained from the first to the last stage, as data.

A recipe is a YAML file, found by name or path. What it does not say is taken from the recipe that
its `base` names, else from the defaults of `TrainingRecipe`. A strength (`dropout`, `randaugment`,
`mixup`, `cutmix`, `drop_path`) is one number, or one for the first and one for the last stage; so
is `image_size`. Image sizes and strengths that a recipe leaves open are those of the family member
that is trained, if it is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, cast

from effnas.config.catalog import Node, Source, find, load_keys
from effnas.config.codec import to_plain
from effnas.config.regularization import STRENGTHS as FAMILY_STRENGTHS
from effnas.config.regularization import Ramp
from effnas.config.settings import Ranges, check_known, check_ranges, read_scalar
from effnas.errors import CatalogError, ConfigError

Regime = Literal[
    "fixed", "progressive", "progressive-adaptive", "random-size", "random-size-adaptive"
]
ScheduleName = Literal["cosine", "staircase", "constant"]

#: Regularisations whose strength a recipe sets, and the most that each can be.
STRENGTHS = {**FAMILY_STRENGTHS, "cutmix": 10.0}
#: The batch that learning rates are given for.
LEARNING_RATE_BATCH = 256
_MAX_BASES = 10
_LARGEST_IMAGE = 4096


_RANGES: Ranges = (
    ("1 or more", lambda n: n >= 1, ("epochs", "batch_size", "size_multiple", "random_size_epochs",
                                     "eval_image_size", "patience_epochs")),
    ("2 or more", lambda n: n >= 2, ("stages",)),
    ("0 or more", lambda n: n >= 0, ("least_steps", "warmup_epochs", "weight_decay")),
    ("above 0", lambda n: n > 0, ("learning_rate_per_256", "decay_epochs")),
    ("0 to 1", lambda n: 0 <= n <= 1, ("cutout",)),
    ("above 0 to 1", lambda n: 0 < n <= 1, ("crop_area_min", "decay_rate")),
    ("0 to below 1", lambda n: 0 <= n < 1, ("label_smoothing", "ema_decay", "minival_share")),
    ("above 0 to below 1", lambda n: 0 < n < 1, ("batch_norm_momentum",)),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe:
    """How a network is trained.

    Attributes:
        epochs: Passes over the training images, 1 or more.
        least_steps: Epochs are added until there are at least this number of steps, 0 or more.
        batch_size: Images in a step, over all devices and micro-batches.
        regime: `fixed` size and strengths; `progressive`: growing images, strengths fixed at their
            last value; `progressive-adaptive`: both grow (Algorithm 1 of Tan & Le 2021);
            `random-size` and `random-size-adaptive`: a size drawn every `random_size_epochs`, with
            fixed strengths or with those that belong to the size.
        stages: Of a progressive training, 2 or more, all of the same number of steps.
        image_size: Pixels at the first and at the last stage; None takes those of the member, else
            half the data's own and the data's own.
        skip_first_size: Whether stage i of n, from 1, has a share i/n of the growth, so that the
            first size itself is never trained at, as in Google's released code. Else the first
            stage has the first size.
        size_multiple: Sizes between the first and the last are rounded to a multiple of it.
        random_size_epochs: Epochs between two draws of a size.
        eval_image_size: Pixels that accuracy is measured at; None takes the member's, else the
            last training size.
        dropout: Before the classifier, 0 to 1; None takes the member's, else 0.
        randaugment: Magnitude, 0 or more; None likewise.
        mixup: Its alpha, 0 or more; None likewise.
        cutmix: Its alpha, 0 or more; None likewise.
        drop_path: Stochastic depth of the last layer, 0 to 1; None likewise.
        cutout: Side of a grey square in every image, a share of the image's, 0 to 1.
        crop_area_min: Smallest area of a random resized crop, a share of the image's, above 0 to
            1; 1 turns cropping off.
        flip: Whether images are mirrored at random; None mirrors all but digits.
        label_smoothing: 0 to below 1.
        optimizer: Any optimizer name of timm.
        optimizer_arguments: Numbers, `true` and `false` that it takes beside the learning rate and
            weight decay.
        learning_rate_per_256: Peak for a batch of 256; others have it in proportion.
        weight_decay: Not applied to biases and norms.
        schedule: `cosine` to 0, `staircase` or `constant`.
        warmup_epochs: Epochs with a linearly growing learning rate, 0 or more.
        decay_epochs: Epochs of a stair, counted from the start as in TensorFlow.
        decay_rate: What the learning rate is multiplied by at a stair, above 0 to 1.
        ema_decay: Of the average of weights that is evaluated and kept, 0 to below 1; None keeps
            no average. Step n has min(ema_decay, (1 + n) / (10 + n)), as in TensorFlow.
        batch_norm_momentum: Share of the running statistics that a step keeps, above 0 to below 1
            (torch's momentum is 1 less that); None leaves the network's own.
        minival_share: Share of the training part that is held out, to find the best epoch; 0 to
            below 1, and 0 takes the last epoch.
        patience_epochs: In the last stage, the training ends after this number of epochs without
            a better accuracy; None trains to the end.
    """

    epochs: int = 30
    least_steps: int = 0
    batch_size: int = 256
    regime: Regime = "progressive-adaptive"
    stages: int = 4
    image_size: tuple[int, int] | None = None
    skip_first_size: bool = False
    size_multiple: int = 1
    random_size_epochs: int = 8
    eval_image_size: int | None = None
    dropout: Ramp | None = None
    randaugment: Ramp | None = None
    mixup: Ramp | None = None
    cutmix: Ramp | None = None
    drop_path: Ramp | None = None
    cutout: float = 0.0
    crop_area_min: float = 0.25
    flip: bool | None = None
    label_smoothing: float = 0.1
    optimizer: str = "rmsproptf"
    optimizer_arguments: Mapping[str, float | bool] = field(default_factory=dict)
    learning_rate_per_256: float = 0.016
    weight_decay: float = 1e-5
    schedule: ScheduleName = "cosine"
    warmup_epochs: float = 1.0
    decay_epochs: float = 2.4
    decay_rate: float = 0.97
    ema_decay: float | None = None
    batch_norm_momentum: float | None = None
    minival_share: float = 0.1
    patience_epochs: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "optimizer_arguments", dict(self.optimizer_arguments))
        check_ranges(self, _RANGES)
        check_known(self, of="recipe: ", regime=Regime, schedule=ScheduleName)
        if self.image_size:
            first, last = self.image_size
            if not 1 <= first <= last <= _LARGEST_IMAGE:
                raise ConfigError(
                    f"recipe: image_size goes from {first} to {last} px; sizes are 1 to "
                    f"{_LARGEST_IMAGE} and do not decrease"
                )
        for name, most in STRENGTHS.items():
            ramp = getattr(self, name)
            if ramp and not 0 <= ramp.first <= ramp.last <= most:
                raise ConfigError(
                    f"recipe: {name} goes from {ramp.first:g} to {ramp.last:g}; strengths are 0 to "
                    f"{most:g} and do not decrease"
                )

    @classmethod
    def load(cls, name: str) -> TrainingRecipe:
        """Read a recipe by the name or the path of its YAML file.

        Raises:
            CatalogError: The file cannot be found or read.
            ConfigError: It, or one that it is based on, breaks the rules of the module, with the
                place.
        """
        values, base = _read(find("recipes", name))
        layers = [values]
        while base is not None:
            if len(layers) == _MAX_BASES:
                raise base.error(f"more than {_MAX_BASES} recipes, each the base of one")
            try:
                source = find("recipes", base.text())
            except CatalogError as error:
                raise base.error(str(error)) from None
            values, base = _read(source)
            layers.append(values)
        merged: dict[str, Any] = {}
        for values in reversed(layers):
            merged |= values
        return cls(**merged)

    @property
    def learning_rate(self) -> float:
        """Peak of the schedule, for the batch size."""
        return self.learning_rate_per_256 * self.batch_size / LEARNING_RATE_BATCH

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as plain JSON data."""
        return cast("dict[str, Any]", to_plain(self))

    def overridden(
        self,
        *,
        epochs: int | None = None,
        batch_size: int | None = None,
        image_size: str | None = None,
        regime: str | None = None,
    ) -> TrainingRecipe:
        """Return the recipe with what is given in place of its own.

        Args:
            epochs: Passes over the training images.
            batch_size: Images in a step.
            image_size: `64`: the last size, the first one in proportion; or `32..64`.
            regime: One of `Regime`.

        Raises:
            ConfigError: If something is out of range.
        """
        given = {"epochs": epochs, "batch_size": batch_size, "regime": regime}
        changes: dict[str, Any] = {name: one for name, one in given.items() if one is not None}
        if epochs is not None:
            changes["least_steps"] = 0
        if image_size is not None:
            changes |= {"image_size": self._sizes(image_size), "eval_image_size": None}
        return replace(self, **changes)

    def _sizes(self, text: str) -> tuple[int, int]:
        first, dots, last = text.partition("..")
        try:
            if dots:
                return int(first), int(last)
            largest = int(text)
        except ValueError:
            raise ConfigError(
                f"`image_size` {text!r} is neither a size in pixels, such as 64, nor a range, such "
                "as 32..64"
            ) from None
        low, high = self.image_size or (1, 2)
        return max(1, round(largest * low / high)), largest


def _read(source: Source) -> tuple[dict[str, Any], Node | None]:
    """Return the attributes that a file sets, and the name of its base."""
    kinds = {f.name: str(f.type) for f in fields(TrainingRecipe)}
    nodes = load_keys(source.text, str(source.path), known=("base", *kinds), error=ConfigError)
    base = nodes.pop("base", None)
    values: dict[str, Any] = {}
    for name, node in nodes.items():
        values[name] = _value(node, name, kinds[name])
        try:
            TrainingRecipe(**{name: values[name]})
        except ConfigError as error:
            raise node.error(str(error).removeprefix("recipe: ")) from None
    return values, base


def _value(node: Node, name: str, kind: str) -> object:
    if name == "optimizer_arguments":
        return {key: _argument(value) for key, value in node.mapping().items()}
    if node.value in ("null", "~") or (name not in STRENGTHS and name != "image_size"):
        return read_scalar(node, name, kind)
    if name == "image_size":
        small, large = (one.integer() for one in _ends(node))
        return small, large
    return Ramp(*(one.number() for one in _ends(node)))


def _argument(node: Node) -> float | bool:
    return node.text() == "true" if node.text() in ("true", "false") else node.number()


def _ends(node: Node) -> list[Node]:
    """Return the first and the last value of a node with one or two."""
    items = node.sequence() if isinstance(node.value, tuple) else [node, node]
    if len(items) != 2:
        raise node.error("give one number, or two: for the first and the last stage")
    return items
