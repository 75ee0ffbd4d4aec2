"""The options that commands share, each with its type and its help."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class OnBadImage(StrEnum):
    """What becomes of an image that cannot be decoded."""

    REFUSE = "refuse"
    SKIP = "skip"


class BackendName(StrEnum):
    """Where evaluations run."""

    RAY = "ray"
    INLINE = "inline"


class StepTimeMode(StrEnum):
    """Where step times come from, of what this device can give."""

    MEASURED = "measured"
    PREDICTED = "predicted"
    AUTO = "auto"


class PrecisionName(StrEnum):
    """Arithmetic of the forward and backward pass."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class MemoryFormatName(StrEnum):
    """Layout of images and weights."""

    CONTIGUOUS = "contiguous"
    CHANNELS_LAST = "channels_last"


class CompileModeName(StrEnum):
    """Modes of torch.compile."""

    NONE = "none"
    DEFAULT = "default"
    REDUCE_OVERHEAD = "reduce-overhead"
    MAX_AUTOTUNE = "max-autotune"


Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Backend = Annotated[BackendName, typer.Option(help="Ray workers, or this process (for debugging).")]
WorkerCount = Annotated[
    int | None, typer.Option(help="Workers of Ray. [default: one per GPU, one on a CPU]")
]
Threads = Annotated[
    int | None, typer.Option(help="CPU threads of a worker. [default: its share of all]")
]
TargetImageSize = Annotated[
    int | None, typer.Option(help="Image size that S and P are measured at.")
]
Precision = Annotated[
    PrecisionName | None, typer.Option(help="Arithmetic. [default: the fastest, as measured]")
]
MemoryFormat = Annotated[
    MemoryFormatName | None, typer.Option(help="Layout. [default: the fastest, as measured]")
]
CompileMode = Annotated[
    CompileModeName, typer.Option("--compile", help="How torch.compile treats the networks.")
]
TargetBatchSize = Annotated[int | None, typer.Option(help="Batch size that S is measured at.")]
StepTime = Annotated[
    StepTimeMode | None,
    typer.Option(
        help="Measure step times, or predict them by the --profile; auto (with a --profile the "
        "default) predicts where its error allows and measures the best."
    ),
]
Profile = Annotated[Path | None, typer.Option(help="Device profile that `effnas profile` made.")]
StepTimes = Annotated[Path | None, typer.Option(help="Table of step times, .csv or .json.")]
StepTimeCommand = Annotated[
    str | None, typer.Option(help="Command that prints a step's seconds: 'CMD {arch_json}'.")
]
StepTimeTimeout = Annotated[
    float, typer.Option(help="Seconds that the command may take for a network.")
]
Data = Annotated[
    str,
    typer.Option(
        help="Images: digits, a folder or tar of class folders, a CSV table, or a timm name "
        "(torch/...)."
    ),
]
DataRoot = Annotated[Path | None, typer.Option(help="Folder of a timm data set that goes by name.")]
MovedData = Annotated[
    str | None, typer.Option(help="Where the run's images are, if they have moved.")
]
MovedDataRoot = Annotated[
    Path | None, typer.Option(help="Folder of a timm data set, if it has moved.")
]
OtherReward = Annotated[str | None, typer.Option(help="Another reward than the run's.")]
OnBad = Annotated[OnBadImage, typer.Option(help="What to do with an image that cannot be decoded.")]
Constraint = Annotated[
    list[str] | None,
    typer.Option(help="Condition that networks must meet, 'params <= 5e6'; may be repeated."),
]
RecipeFile = Annotated[
    Path | None, typer.Option(help="YAML file with the settings of the trainings.")
]
Epochs = Annotated[int | None, typer.Option(help="Epochs of a training.")]
Fidelity = Annotated[
    str | None,
    typer.Option(
        help="Epochs at which trainings pause so that only the best go on, such as 1,2,4; the last "
        "is the whole training."
    ),
]
ImageSize = Annotated[int | None, typer.Option(help="Image size of trainings, in pixels.")]
BatchSize = Annotated[int | None, typer.Option(help="Batch size of trainings.")]
LearningRate = Annotated[float | None, typer.Option(help="Peak learning rate of trainings.")]
DataShare = Annotated[
    float | None, typer.Option(help="Share of the training images used, above 0 to 1.")
]
HoldoutShare = Annotated[
    float | None, typer.Option(help="Share of the training part held out to measure A.")
]
Networks = Annotated[int, typer.Option(help="Reference networks, spread over the space.")]
HighSeeds = Annotated[int, typer.Option(help="Seeds of each network at the higher fidelity.")]
HighEpochs = Annotated[
    int | None, typer.Option(help="Epochs of the higher fidelity. [default: 4 times the proxy's]")
]
ProxyOut = Annotated[
    Path | None, typer.Option(help="Folder of the trainings. [default: runs/proxy-SPACE-DATA]")
]


def folder_name(space: str, data: str) -> str:
    """Return what a folder is called by default: SPACE-DATA, without paths and endings."""
    return f"{Path(space).stem}-{Path(data).name.split('.')[0]}"


def beside(run: Path, name: str) -> Path:
    """Return the default folder of what is made of a run: RUN-NAME."""
    run = run if run.name not in ("", "..") else run.resolve()
    return run.with_name(f"{run.name}-{name}")
