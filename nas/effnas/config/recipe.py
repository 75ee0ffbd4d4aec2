"""Recipes: how a network is trained, from the first to the last stage; for trials and for keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import sqrt
from typing import Any, Literal, cast, get_args

from effnas.config.codec import Share, Size, from_plain, to_plain
from effnas.config.regularization import STRENGTHS as FAMILY_STRENGTHS
from effnas.config.regularization import Ramp
from effnas.config.text import counted
from effnas.errors import ConfigError

Regime = Literal[
    "fixed", "progressive", "progressive-adaptive", "random-size", "random-size-adaptive"
]
ScheduleName = Literal["cosine", "linear", "staircase", "constant"]
StemInit = Literal["default", "whitened"]

#: Regularisations whose strength a recipe sets, and the most that each can be.
STRENGTHS = {**FAMILY_STRENGTHS, "cutmix": 10.0}
#: The batch that learning rates are given for.
LEARNING_RATE_BATCH = 256
#: Epochs of a trial where nothing else is said.
TRIAL_EPOCHS = 4
_LARGEST_IMAGE = 4096
#: The smallest image size that a progressive training begins with by itself, in pixels: "below 20
#: px there is nothing left to see", unless the images are that small.
_SMALLEST_FIRST = 20
#: The longest memory of an average of weights: shares of an older average that a step keeps.
_MOST_EMA = 0.99999
#: The smallest area of a crop that a longer training comes to, a share of the image's.
_LEAST_CROP = 0.05

#: Ranges of numbers: in words, the condition, and the attributes.
_RANGES: tuple[tuple[str, Callable[[float], bool], tuple[str, ...]], ...] = (
    ("1 or more", lambda n: n >= 1, ("batch_size", "size_multiple", "eval_image_size",
                                     "patience_epochs")),
    ("2 or more", lambda n: n >= 2, ("stages",)),
    ("0 or more", lambda n: n >= 0, ("least_steps", "warmup_epochs", "weight_decay")),
    ("above 0", lambda n: n > 0, ("epochs", "train_time_s", "learning_rate_per_256",
                                  "decay_epochs", "random_size_epochs")),
    ("0 to 1", lambda n: 0 <= n <= 1, ("cutout", "classifier_init")),
    ("above 0 to 1", lambda n: 0 < n <= 1, ("crop_area_min", "decay_rate", "data_share")),
    ("0 to below 1", lambda n: 0 <= n < 1, ("label_smoothing", "ema_decay", "holdout_share")),
    ("above 0 to below 1", lambda n: 0 < n < 1, ("batch_norm_momentum",)),
)  # fmt: skip

#: What texts may be.
_KINDS = {
    "regime": Regime,
    "schedule": ScheduleName,
    "stem_init": StemInit,
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained; see `lasting` for what another length changes.

    Attributes:
        epochs: Passes over the training images, above 0; a part of one is possible.
        train_time_s: Seconds of all steps, in place of `epochs`, above 0: as many steps are taken
            as fit into them; None: `epochs` say how long.
        least_steps: Epochs are added until there are at least this number of steps, 0 or more.
        batch_size: Images in a step, over all devices and micro-batches.
        regime: `fixed` size and strengths; `progressive`: growing images, strengths fixed at their
            last value; `progressive-adaptive`: both grow (Algorithm 1 of Tan & Le 2021);
            `random-size` and `random-size-adaptive`: a size drawn every `random_size_epochs`, with
            fixed strengths or with those that belong to the size.
        stages: Of a progressive training, 2 or more, all of the same number of steps.
        image_size: Pixels at the first and at the last stage; None takes those of the member, else
            what `default_sizes` makes of the data's own.
        skip_first_size: Whether stage i of n, from 1, has a share i/n of the growth, so that the
            first size itself is never trained at, as in Google's released code. Else the first
            stage has the first size.
        size_multiple: Sizes between the first and the last are rounded to a multiple of it.
        random_size_epochs: Epochs between two draws of a size, above 0.
        eval_image_size: Pixels that accuracy is measured at; None takes the member's, else the
            last training size.
        data_share: Share of the images that are not held out which are trained on, above 0 to 1;
            None takes all, and in a trial of some epochs on a CPU at most `CPU_TRAINING_IMAGES`.
        holdout_share: Share of the training part that is held out to measure accuracy on (the
            paper's minival), 0 to below 1; 0 only for a training that keeps its last epoch.
        dropout: Before the classifier, 0 to 1; None takes the member's, else 0.
        randaugment: Magnitude, 0 or more; None likewise.
        mixup: Its alpha, 0 or more; None likewise.
        cutmix: Its alpha, 0 or more; None likewise.
        drop_path: Stochastic depth of the last layer, 0 to 1; None likewise.
        cutout: Side of a grey square in every image, a share of the image's, 0 to 1.
        crop_area_min: Smallest area of a random resized crop, a share of the image's, above 0 to
            1; 1 turns cropping off.
        flip: Whether images are mirrored at random; None mirrors them unless the data set is one
            of digits or letters (`effnas.data.source.Source.mirrored`).
        label_smoothing: 0 to below 1.
        optimizer: Any optimizer name of timm.
        optimizer_arguments: Numbers, `true` and `false` that it takes beside the learning rate and
            weight decay.
        learning_rate_per_256: Peak for a batch of 256; others have it in proportion.
        weight_decay: Not applied to biases and norms.
        schedule: `cosine` or `linear` to 0, `staircase` or `constant`.
        warmup_epochs: Epochs with a linearly growing learning rate, 0 or more.
        decay_epochs: Epochs of a stair, counted from the start as in TensorFlow.
        decay_rate: What the learning rate is multiplied by at a stair, above 0 to 1.
        ema_decay: Of the average of weights that is evaluated and kept, 0 to below 1; None keeps
            no average. Step n has min(ema_decay, (1 + n) / (10 + n)), as in TensorFlow.
        batch_norm_momentum: Share of the running statistics that a step keeps, above 0 to below 1
            (torch's momentum is 1 less that); None leaves the network's own.
        patience_epochs: In the last stage, the training ends after this number of epochs without
            a better accuracy; None trains to the end.
        stem_init: Initial weights of the first convolution: timm's, or `whitened`: they whiten
            patches of the training images. Networks that begin otherwise stay as they are.
        classifier_init: What timm's initial classifier is multiplied by, 0 to 1.
    """

    epochs: float = 30
    train_time_s: float | None = None
    least_steps: int = 0
    batch_size: int = 256
    regime: Regime = "progressive-adaptive"
    stages: int = 4
    image_size: tuple[int, int] | None = None
    skip_first_size: bool = False
    size_multiple: int = 1
    random_size_epochs: float = 8
    eval_image_size: int | None = None
    data_share: float | None = None
    holdout_share: float = 0.1
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
    patience_epochs: int | None = None
    stem_init: StemInit = "default"
    classifier_init: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "optimizer_arguments", dict(self.optimizer_arguments))
        if float(self.epochs).is_integer():  # equal recipes have equal texts
            object.__setattr__(self, "epochs", int(self.epochs))
        for wanted, is_met, names in _RANGES:
            for name in names:
                number = getattr(self, name)
                if number is not None and not is_met(number):
                    raise ConfigError(f"recipe: {name} is {number}, it must be {wanted}")
        for name, kind in _KINDS.items():
            if (value := getattr(self, name)) not in get_args(kind):
                known = ", ".join(get_args(kind))
                raise ConfigError(f"recipe: {name} is {value!r}; known: {known}")
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

    @property
    def learning_rate(self) -> float:
        """Peak of the schedule, for the batch size."""
        return self.learning_rate_per_256 * self.batch_size / LEARNING_RATE_BATCH

    @property
    def length(self) -> float:
        """How long a training lasts, in seconds where it has a training time, else in epochs."""
        return self.epochs if self.train_time_s is None else self.train_time_s

    @property
    def length_unit(self) -> str:
        """What the length is in, in the plural."""
        return "epochs" if self.train_time_s is None else "seconds"

    def length_text(self, length: float | None = None) -> str:
        """Return the training's length, or another one in the same unit: `4 epochs`, `60 s`."""
        length = self.length if length is None else length
        return counted(length, "epoch") if self.train_time_s is None else f"{length:g} s"

    @property
    def last_image_size(self) -> int:
        """Pixels at the last stage of a recipe whose sizes are known."""
        assert self.image_size is not None
        return self.image_size[1]

    @property
    def sizes_text(self) -> str:
        """The image sizes in words: `32 px`, or `20 to 32 px` where they change."""
        if self.image_size is None:
            return "the images' own size"
        first, last = self.image_size
        grows = self.regime != "fixed" and first != last
        return f"{first} to {last} px" if grows else f"{last} px"

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as plain JSON data."""
        return cast("dict[str, Any]", to_plain(self))

    def lasting(self, epochs: float) -> Recipe:
        """Return the recipe for a training of another length, shorter or longer.

        What is counted in epochs (warm-up, stairs, draws of sizes, patience) and the memory of
        the average of weights last the same share of the training as before. Regularisation
        (dropout, stochastic depth, RandAugment, mixup, cutmix, cutout, cropping) grows with the
        square root of the length: a short training has no time to overfit. Learning rate, weight
        decay, batch size, image sizes and label smoothing stay. A length and back gives the same
        recipe, but for strengths that have come to their limit.

        Args:
            epochs: Passes over the training images, above 0.
        """
        factor = epochs / self.epochs
        if factor == 1:
            return self
        strength = sqrt(factor)
        changes: dict[str, Any] = {
            name: Ramp(*(min(value * strength, most) for value in ramp))
            for name, most in STRENGTHS.items()
            if (ramp := getattr(self, name)) is not None
        }
        if self.ema_decay:
            changes["ema_decay"] = min(max(1 - (1 - self.ema_decay) / factor, 0.0), _MOST_EMA)
        if self.patience_epochs:
            changes["patience_epochs"] = max(1, round(self.patience_epochs * factor))
        least_crop = min(_LEAST_CROP, self.crop_area_min)
        return replace(
            self,
            epochs=epochs,
            least_steps=0,
            warmup_epochs=self.warmup_epochs * factor,
            decay_epochs=self.decay_epochs * factor,
            random_size_epochs=self.random_size_epochs * factor,
            cutout=min(self.cutout * strength, 1.0),
            crop_area_min=max(1 - (1 - self.crop_area_min) * strength, least_crop),
            **changes,
        )

    def prolonged(self, factor: float) -> Recipe:
        """Return the recipe for a training that is longer by a factor; as `lasting`."""
        if self.train_time_s is None:
            return self.lasting(factor * self.epochs)
        # How many epochs that is follows from the steps that fit: see `lasting` there.
        return replace(self, train_time_s=factor * self.train_time_s)

    def overridden(
        self,
        *,
        epochs: float | None = None,
        train_time_s: float | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        image_size: str | int | None = None,
        regime: str | None = None,
        data_share: float | None = None,
        holdout_share: float | None = None,
    ) -> Recipe:
        """Return the recipe with what is given in place of its own; None is not given.

        Args:
            epochs: Passes over the training images; all else is as of `lasting`.
            train_time_s: Seconds of all steps, in place of epochs.
            batch_size: Images in a step.
            learning_rate: Peak for the batch size that is used.
            image_size: `64`: the last size, the first one in proportion; or `32..64`.
            regime: One of `Regime`.
            data_share: Share of the images that are not held out.
            holdout_share: Share of the training part that is held out.

        Raises:
            ConfigError: If something is out of range.
        """
        if epochs is not None and train_time_s is not None:
            raise ConfigError("`epochs` and `train_time` both say how long; leave out one of them")
        given = {
            "train_time_s": train_time_s, "batch_size": batch_size, "regime": regime,
            "data_share": data_share, "holdout_share": holdout_share,
        }  # fmt: skip
        changes: dict[str, Any] = {name: one for name, one in given.items() if one is not None}
        if learning_rate is not None:
            batch = batch_size or self.batch_size
            changes["learning_rate_per_256"] = learning_rate * LEARNING_RATE_BATCH / batch
        if image_size is not None:
            changes |= {"image_size": self._sizes(image_size), "eval_image_size": None}
        if epochs is None:
            return replace(self, **changes)
        if epochs <= 0:
            raise ConfigError(f"recipe: epochs is {epochs}, it must be above 0")
        return replace(self.lasting(epochs), train_time_s=None, least_steps=0, **changes)

    def for_trials(self, **given: Any) -> Recipe:
        """Return the recipe made short: as `overridden`, of `TRIAL_EPOCHS` if nothing says else.

        Raises:
            ConfigError: If something is out of range.
        """
        if self.train_time_s is None and given.get("train_time_s") is None:
            given["epochs"] = TRIAL_EPOCHS if given.get("epochs") is None else given["epochs"]
        return self.overridden(**given)

    def sized(self, first: int, last: int) -> Recipe:
        """Return the recipe with nothing left open about sizes; those that it names stay.

        Args:
            first: Pixels at the first stage.
            last: Pixels at the last stage.
        """
        sizes = self.image_size or (first, last)
        return replace(self, image_size=sizes, eval_image_size=self.eval_image_size or sizes[1])

    def _sizes(self, text: str | int) -> tuple[int, int]:
        first, dots, last = str(text).partition("..")
        try:
            if dots:
                return int(first), int(last)
            largest = int(text)
        except ValueError:
            raise ConfigError(
                f"`image_size` {text!r} is neither a size in pixels, such as 64, nor a range, such "
                "as 32..64"
            ) from None
        low, high = self.image_size or default_sizes(largest)
        return max(1, round(largest * low / high)), largest


def default_sizes(largest: int) -> tuple[int, int]:
    """Return the first and the last image size of a training up to some pixels.

    Half of them, as in the paper's Table 6, but at least 20 px where there are as many.
    """
    return max((largest + 1) // 2, min(largest, _SMALLEST_FIRST)), largest


@dataclass(frozen=True)
class _EarlierRecipe:
    """What earlier versions had for trials beside what is still there: fixed sizes, cosine."""

    learning_rate: float
    warmup_share: Share
    epochs: Size = 4
    batch_size: Size = 128


def upgraded(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plain data of a recipe as this version writes it, from those of any version.

    Raises:
        UserError: If they are of no version.
    """
    recipe = dict(stored)
    if "minival_share" in recipe:
        recipe["holdout_share"] = recipe.pop("minival_share")
    if "warmup_share" not in recipe:
        return recipe
    old, size = from_plain(recipe, _EarlierRecipe), recipe.get("image_size")
    for name in ("warmup_share", "learning_rate"):
        del recipe[name]
    recipe |= {
        "regime": "fixed",
        "schedule": "cosine",
        "image_size": None if size is None else [size, size],
        "optimizer_arguments": {},
        "eval_image_size": size,
        "warmup_epochs": old.warmup_share * old.epochs,
        "learning_rate_per_256": old.learning_rate * LEARNING_RATE_BATCH / old.batch_size,
    }
    for before, now in (("drop_rate", "dropout"), ("drop_path_rate", "drop_path")):
        rate = recipe.pop(before, 0.0)
        recipe[now] = [rate, rate]
    return recipe
