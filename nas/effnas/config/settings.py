"""The settings of a search: plain data that is stored in the run and sent to the workers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from effnas.config.recipe import Recipe
from effnas.errors import ConfigError

Precision = Literal["float32", "bfloat16", "float16"]
MemoryFormat = Literal["contiguous", "channels_last"]
CompileMode = Literal["none", "default", "reduce-overhead", "max-autotune"]

StepTimeMode = Literal["measured", "training", "predicted", "auto", "table", "command"]

#: Training images of a trial of some epochs on a CPU unless the recipe names a share: what two
#: cores can do in about half a minute. An accelerator takes the whole training part.
CPU_TRAINING_IMAGES = 4_500


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
        mode: `measured` on the device; `training`: also there, but only as the steps that a
            training time is counted by, which costs nothing more; `predicted` by a device profile;
            `auto`: predicted where the profile's checked error allows, else measured; from a
            `table`; or from a `command`.
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
        full_epochs: Of the recipe before it was made short, which decisions of it are about.
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
    full_epochs: float | None = None
