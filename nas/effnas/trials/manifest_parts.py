"""Parts of a search's manifest: the space, the reward, the reference, the images, a parent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, Self

from effnas.config.codec import Count, Size, pick
from effnas.space.search_space import SearchSpace
from effnas.trials.differences import must_match
from effnas.trials.guessing import Guessing
from effnas.trials.reward import Reward

#: What a target has, in words.
_OF_TARGET = {
    "image_size": "target image size",
    "batch_size": "target batch size",
    "num_classes": "classes",
}


@dataclass(frozen=True, kw_only=True)
class SpacePart:
    """The space as YAML; its id differs when the space or its target does."""

    name: str = "?"
    id: str = ""
    text: str

    @classmethod
    def of(cls, space: SearchSpace, **more: str) -> Self:
        """Return the part for a space, with what is `more` in a subclass."""
        return cls(name=space.name, id=space.id, text=space.to_text(), **more)

    def differing(self, before: SpacePart) -> Iterator[str]:
        """Return in words what differs from the space of a folder, or from its target."""
        if self.id == before.id:
            return
        now, was = (SearchSpace.parse(each.text) for each in (self, before))
        if replace(now, target=was.target) != was or now.target == was.target:
            is_named = self.name != before.name
            other = f"was {before.name}, is {self.name}" if is_named else f"{self.name} has changed"
            yield f"space ({other})"
        for name, words in _OF_TARGET.items():
            here, there = (getattr(each.target, name) for each in (now, was))
            if here != there:
                yield f"{words} (was {there}, is {here})"


@dataclass(frozen=True, kw_only=True)
class SourcedSpacePart(SpacePart):
    """The space and the file that it was read from: its path, and 16 digits of its SHA-256."""

    path: str = ""
    file_sha256: str = ""


@dataclass(frozen=True, kw_only=True)
class RewardPart:
    """The reward; `text` is its expression."""

    name: str = "?"
    kind: str = ""
    text: str = ""

    @classmethod
    def of(cls, reward: Reward) -> Self:
        """Return the part for a reward."""
        return pick(cls, reward)


@dataclass(frozen=True, kw_only=True)
class ReferencePart:
    """The reference network's block strings and counts."""

    architecture: str = ""
    params: int = 0
    macs: int = 0
    activations: int = 0


@dataclass(frozen=True, kw_only=True)
class DataPart:
    """The images.

    Attributes:
        name: As the user named them.
        path: A name, or an absolute path.
        root: Folder of a timm data set.
        on_bad_image: What happens to an image that cannot be decoded.
        classes: Classes of the networks; None where that is not known.
        class_names: Their names, in the order of the networks' outputs.
        train_images: Images trained on; None where that is not known.
        holdout_images: Images that give A, likewise.
        fingerprint: Differs when the images, labels or classes do.
        skipped_images: Names of images that could not be decoded.
        mirrored: Whether images are mirrored at random; None: not known.
        class_counts: Images trained on, by class; empty where that is not known.
        holdout_class_counts: Images that give A, likewise.
        image_sizes: Height and width of the smallest, the median and the largest image as they are
            stored, in pixels, by area, of a sample of all; empty where that is not known.
        test_part: What the data set calls the part that a test reads; empty without one, None where
            that is not known.
    """

    name: str = ""
    path: str | None = None
    root: str | None = None
    on_bad_image: Literal["refuse", "skip"] = "refuse"
    classes: Size | None = None
    class_names: tuple[str, ...] = ()
    train_images: Count | None = None
    holdout_images: Count | None = None
    fingerprint: str | None = field(
        default=None, metadata=must_match("data (other images or labels)", shown=False)
    )
    skipped_images: tuple[str, ...] = ()
    mirrored: bool | None = None
    class_counts: tuple[Count, ...] = ()
    holdout_class_counts: tuple[Count, ...] = ()
    image_sizes: tuple[tuple[Size, Size], ...] = ()
    test_part: str | None = None

    @property
    def guessing(self) -> Guessing:
        """What guessing reaches on the held-out images."""
        return Guessing(classes=self.classes, counts=self.holdout_class_counts)


@dataclass(frozen=True, kw_only=True)
class ParentPart:
    """The finished run that a run was retargeted from; `best` is the number of a trial."""

    path: str = ""
    created: str | None = field(default=None, metadata=must_match("finished run"))
    hardware: str | None = None
    trials: int = 0
    best: int | None = None
