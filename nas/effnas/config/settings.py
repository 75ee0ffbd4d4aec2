"""The settings of a search: plain data that is stored in the run and sent to the workers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal, cast, get_args

from effnas.config.catalog import Node, load_yaml
from effnas.config.codec import read_text
from effnas.errors import ConfigError, UserError

Precision = Literal["float32", "bfloat16", "float16"]
MemoryFormat = Literal["contiguous", "channels_last"]
CompileMode = Literal["none", "default", "reduce-overhead", "max-autotune"]

StepTimeMode = Literal["measured", "predicted", "auto", "table", "command"]

#: Training images of a trial on a CPU unless the recipe names a share: what two cores can do in
#: about half a minute. An accelerator takes the whole training part.
CPU_TRAINING_IMAGES = 4_500
#: Ranges of a recipe's numbers: in words, the condition, and the settings.
Ranges = tuple[tuple[str, Callable[[float], bool], tuple[str, ...]], ...]
_RANGES: Ranges = (
    ("1 or more", lambda n: n >= 1, ("epochs", "batch_size", "image_size")),
    ("0 or more", lambda n: n >= 0, ("weight_decay",)),
    ("above 0", lambda n: n > 0, ("learning_rate",)),
    ("above 0 to 1", lambda n: 0 < n <= 1, ("data_share", "crop_area_min")),
    ("above 0 and below 1", lambda n: 0 < n < 1, ("holdout_share",)),
    (
        "0 to below 1",
        lambda n: 0 <= n < 1,
        ("warmup_share", "label_smoothing", "drop_rate", "drop_path_rate"),
    ),
)


def check_ranges(recipe: object, ranges: Ranges) -> None:
    """See that those numbers of a recipe that are not None are within their ranges.

    Raises:
        ConfigError: Names the first that is not.
    """
    for wanted, is_met, names in ranges:
        for name in names:
            value = getattr(recipe, name)
            if value is not None and not is_met(value):
                raise ConfigError(f"recipe: {name} is {value}, it must be {wanted}")


def check_known(settings: object, *, of: str = "", **kinds: object) -> None:
    """See that attributes have one of the values of their `Literal` types; `of` begins messages.

    Raises:
        ConfigError: Names the values that are known.
    """
    for name, kind in kinds.items():
        if (value := getattr(settings, name)) not in get_args(kind):
            raise ConfigError(f"{of}{name} is {value!r}; known: {', '.join(get_args(kind))}")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a trial's network is trained: the proxy whose accuracy is A.

    Attributes:
        epochs: Passes over the training images, 1 or more.
        image_size: Height and width in pixels; None takes the data's own, within 32 and the
            target's.
        data_share: Share of the images that are not held out, above 0 to 1; None takes all on an
            accelerator, and at most `CPU_TRAINING_IMAGES` on a CPU.
        holdout_share: Share of the training part that is held out to measure A (the paper's
            minival), above 0 and below 1.
        batch_size: Images in a training step.
        optimizer: Any optimizer name of timm.
        learning_rate: Peak of the cosine schedule, for the batch size given.
        weight_decay: Not applied to biases and norms.
        warmup_share: Share of the steps with a linearly growing learning rate, 0 to below 1.
        label_smoothing: 0 to below 1.
        crop_area_min: Smallest area of a random resized crop, a share of the image's, above 0; 1
            turns cropping off.
        flip: Whether images are mirrored at random; None mirrors them unless the data set is one
            of digits or letters (`effnas.data.source.Source.mirrored`).
        drop_rate: Dropout before the classifier, 0 to below 1.
        drop_path_rate: Stochastic depth of the last layer, 0 to below 1.
    """

    epochs: int = 4
    image_size: int | None = None
    data_share: float | None = None
    holdout_share: float = 0.1
    batch_size: int = 128
    optimizer: str = "nadamw"
    learning_rate: float = 6e-3
    weight_decay: float = 0.02
    warmup_share: float = 0.1
    label_smoothing: float = 0.1
    crop_area_min: float = 0.5
    flip: bool | None = None
    drop_rate: float = 0.0
    drop_path_rate: float = 0.0

    def __post_init__(self) -> None:
        check_ranges(self, _RANGES)

    @property
    def optimizer_arguments(self) -> dict[str, float]:
        """Further numbers for the optimizer: none, so that its own defaults hold."""
        return {}

    @classmethod
    def load(cls, path: Path) -> Recipe:
        """Read a recipe from a YAML file whose keys are the attributes.

        Raises:
            ConfigError: If the file cannot be read, or a key or value is wrong.
        """
        try:
            text = read_text(path)
        except UserError as error:
            raise ConfigError(f"{path}: the recipe: {error}") from None
        known = {f.name: str(f.type) for f in fields(cls)}
        nodes = load_yaml(text, str(path), error=ConfigError).mapping(known=known)
        values = {name: read_scalar(node, name, known[name]) for name, node in nodes.items()}
        return cls(**values)  # type: ignore[arg-type]  # each was read as its field's type

    def to_dict(self) -> dict[str, int | float | str | bool | None]:
        """Return the attributes by name."""
        return asdict(self)

    def overridden(self, **values: int | float | str | None) -> Recipe:
        """Return the recipe with those of the values that are not None."""
        return replace(self, **{k: v for k, v in values.items() if v is not None})  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How a device runs the networks; the same for timing and training.

    Attributes:
        precision: Arithmetic of the forward and backward pass; weights are float32 always.
        memory_format: Layout of images and weights.
        compile_mode: How torch.compile treats the network; `none` runs it as it is.
    """

    precision: Precision = "float32"
    memory_format: MemoryFormat = "contiguous"
    compile_mode: CompileMode = "none"

    def __post_init__(self) -> None:
        kinds = {"precision": Precision, "memory_format": MemoryFormat, "compile_mode": CompileMode}
        for name, kind in kinds.items():
            if (value := getattr(self, name)) not in get_args(kind):
                raise ConfigError(f"{name} is {value!r}; known: {', '.join(get_args(kind))}")

    def __str__(self) -> str:
        compiled = "" if self.compile_mode == "none" else f", compiled ({self.compile_mode})"
        return f"{self.precision}, {self.memory_format}{compiled}"


@dataclass(frozen=True, kw_only=True)
class StepTimeConfig:
    """Where step times come from.

    Attributes:
        mode: `measured` on the device; `predicted` by a device profile; `auto`: predicted where the
            profile's checked error allows, else measured; from a `table`; or from a `command`.
        command: The command, with {arch_json}.
        timeout_s: Seconds that the command may take for one network.
    """

    mode: StepTimeMode = "measured"
    profile: str | None = None
    table: str | None = None
    command: str | None = None
    timeout_s: float = 600.0

    def __post_init__(self) -> None:
        needed = {"predicted": "profile", "auto": "profile", "table": "table", "command": "command"}
        settings = {
            "profile": "`profile`",
            "table": "`step_times`",
            "command": "`step_time_command`",
            None: f"`step_time` {self.mode}",
        }
        own = needed.get(self.mode)
        if own and getattr(self, own) is None:
            hint = "; `effnas profile` makes one" if own == "profile" else ""
            raise ConfigError(f"`step_time` {self.mode} needs a {settings[own]}{hint}")
        for other in ("profile", "table", "command"):
            if other != own and getattr(self, other) is not None:
                raise ConfigError(
                    f"{settings[other]} does not go with {settings[own]}; choose one source of "
                    "step times"
                )

    @classmethod
    def of(
        cls,
        *,
        mode: str | None = None,
        profile: Path | None = None,
        table: Path | None = None,
        command: str | None = None,
        timeout_s: float = 600.0,
    ) -> StepTimeConfig:
        """Return the configuration for what a user has given; None stands for nothing.

        Raises:
            ConfigError: If they contradict each other.
        """
        given = {"auto": profile, "table": table, "command": command}
        implied = [name for name, value in given.items() if value is not None]
        return cls(
            mode=cast("StepTimeMode", mode or (implied[0] if implied else "measured")),
            profile=str(profile.absolute()) if profile else None,
            table=str(table.absolute()) if table else None,
            command=command,
            timeout_s=timeout_s,
        )


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Everything that a worker needs to evaluate architectures; see `effnas.evaluation.config`.

    Attributes:
        space_text: The space as YAML; its target says what S and P are measured at.
        data: A name or path, see `effnas.data.loading.load_search_images`; None for a worker that
            only times networks.
        data_root: Folder of a timm data set.
        on_bad_image: Whether an image that cannot be decoded is skipped or ends the search.
        recipe: How networks are trained.
        seed: The run's seed.
        device: `cpu`, `cuda`, `mps`, or one of several such as `cuda:1`.
        threads: CPU threads of the worker; None takes all that it has.
        execution: None has it chosen by a measurement on the device.
        timing_batch_size: Images in a timed step; None takes the target's, or the largest power
            of two below it whose step fits the device's memory.
        step_times: Where step times come from; None for a worker that only trains.
        constraints: See `effnas.trials.constraints`; networks that break one are not trained.
        checkpoints: Absolute path of the folder for trainings that stop early; None stores none,
            and they begin again.
        weights: Absolute path of the folder for the weights of finished trainings; None stores
            none.
        holdout_fingerprint: Of the held-out images that accuracies must compare on; None takes any
            images.
    """

    space_text: str
    data: str | None
    data_root: str | None = None
    on_bad_image: Literal["refuse", "skip"] = "refuse"
    recipe: Recipe
    seed: int = 0
    device: str = "cpu"
    threads: int | None = None
    execution: Execution | None = None
    timing_batch_size: int | None = None
    step_times: StepTimeConfig | None = StepTimeConfig()
    constraints: tuple[str, ...] = ()
    checkpoints: str | None = None
    weights: str | None = None
    holdout_fingerprint: str | None = None


def read_scalar(node: Node, name: str, kind: str) -> int | float | bool | str | None:
    """Read the value of a setting from YAML by the text of its type: `int | None` and the like.

    Raises:
        ConfigError: With the place, if it is something else.
    """
    if node.text() in ("null", "~", ""):
        if "None" not in kind:
            raise node.error(f"{name} needs a value")
        return None
    if kind.startswith("int"):
        return node.integer()
    if kind.startswith("float"):
        return node.number()
    if kind.startswith("bool"):
        if node.text() not in ("true", "false"):
            raise node.error(f"{name} must be true or false")
        return node.text() == "true"
    return node.text()
