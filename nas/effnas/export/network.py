"""The exported network: its sizes, and where it and its weights are from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from effnas.arch.architecture import Architecture
from effnas.arch.files import load_sizes
from effnas.errors import ConfigError
from effnas.export.weights import classes_of
from effnas.scaling.family_file import Member, find_member
from effnas.trials.network_ref import find_architecture
from effnas.trials.run import Run
from effnas.trials.trial import Trial
from effnas.workflows.finals.folder import Final, final_of
from effnas.workflows.train.provenance import Trained, trained_of

#: Formats that can be written; the first one always is.
FORMATS = ("timm", "onnx", "torch-export")
#: Default sizes: those of ImageNet.
_IMAGE_SIZE, _NUM_CLASSES = 224, 1000
_LARGEST_IMAGE, _MAX_CLASSES = 4096, 1_000_000


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """What the user asked for.

    Attributes:
        network: An architecture file, block strings, RUN:NUMBER or RUN:best.
        out: The folder to create.
        weights: State dict as a safetensors file; None initialises the weights at random.
        image_size: Pixels at inference; None takes those of the network's provenance, else 224.
        num_classes: Outputs; None takes those of the weights, else of the provenance, else 1000.
        formats: Some of `FORMATS`.
    """

    network: str
    out: Path
    weights: Path | None = None
    image_size: int | None = None
    num_classes: int | None = None
    formats: tuple[str, ...] = FORMATS

    def __post_init__(self) -> None:
        for name, value, most in (
            ("image_size", self.image_size, _LARGEST_IMAGE),
            ("classes", self.num_classes, _MAX_CLASSES),
        ):
            if value is not None and not 1 <= value <= most:
                raise ConfigError(f"`{name}` is {value}, it must be 1 to {most}")
        for name in self.formats:
            if name not in FORMATS:
                raise ConfigError(f"`formats` {name!r} is not known; known: {', '.join(FORMATS)}")


@dataclass(frozen=True, kw_only=True)
class Network:
    """The exported network, and where it is from.

    Attributes:
        arch: Its architecture.
        image_size: Pixels at inference.
        train_image_size: Pixels at the end of training.
        num_classes: Outputs.
        run: The search that found it, if any.
        trial: Its trial there.
        member: What its family says of it, if it belongs to one.
        final: The training of the weights, if they are from finals.
        trained: The training of the weights, if they are from `effnas train`.
    """

    arch: Architecture
    image_size: int
    train_image_size: int
    num_classes: int
    run: Run | None = None
    trial: Trial | None = None
    member: Member | None = None
    final: Final | None = None
    trained: Trained | None = None

    @property
    def name(self) -> str:
        """Its name in timm; the same for the same architecture everywhere."""
        return f"effnas_{self.arch.id}"

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the outputs; empty if they are not known, or for other classes."""
        source = self.trained or self.run
        names = source.manifest.data.class_names if source else ()
        return names if len(names) == self.num_classes else ()


def resolve_network(settings: ExportSettings) -> Network:
    """Find the network and its sizes.

    Raises:
        UserError: If there is no such network, it is one of timm's, or its weights or the files
            beside it cannot be read.
    """
    found, arch = find_architecture(settings.network, None)
    sizes: Mapping[str, int] = {}
    member = final = trained = None
    if found.file:
        sizes = load_sizes(found.file)
        member = find_member(found.file, arch)
    elif found.run:
        sizes = _sizes_of(found.run)
    if settings.weights:
        sizes = {**sizes, **classes_of(settings.weights)}
        final = final_of(settings.weights)
        trained = trained_of(settings.weights)
        if trained and trained.manifest.network.get("architecture_id") != arch.id:
            trained = None  # reading the weights will say that they are of another network
    train_size = inference_size = sizes.get("image_size")
    if trained:
        train_size, inference_size = trained.image_size[1], trained.manifest.eval_image_size
    elif member:
        train_size, inference_size = member.train_image_size, member.image_size
    elif final and final.recipe.image_size:
        train_size = final.recipe.last_image_size
        inference_size = final.recipe.eval_image_size
    image_size = settings.image_size or inference_size or _IMAGE_SIZE
    num_classes = settings.num_classes or sizes.get("num_classes") or _NUM_CLASSES
    if image_size > _LARGEST_IMAGE or num_classes > _MAX_CLASSES:
        raise ConfigError(
            f"{found.name}: images of {image_size} px or {num_classes} classes are too many; give "
            "`image_size` or `classes`"
        )
    return Network(
        arch=arch,
        image_size=image_size,
        train_image_size=(train_size if trained or member or final else None) or image_size,
        num_classes=num_classes,
        run=found.run,
        trial=found.trial,
        member=member,
        final=final,
        trained=trained,
    )


def _sizes_of(run: Run) -> dict[str, int]:
    sizes = {"image_size": run.space.target.image_size}
    classes = run.manifest.data.classes or run.space.target.num_classes
    return sizes | ({"num_classes": classes} if classes else {})
