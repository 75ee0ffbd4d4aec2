"""An architecture: one point of a search space, a frozen value with a stable identity."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import prod
from typing import TYPE_CHECKING, Any

from effnas.arch.blocks import Stage
from effnas.arch.notation import read
from effnas.config.text import Option, option_text
from effnas.errors import Location, SpaceError

if TYPE_CHECKING:
    from torch import nn

DEFAULT_STEM = 32
DEFAULT_STEM_STRIDE = 2
DEFAULT_HEAD = 1280
#: As in Google's released code; its momentum of 0.9 is timm's and torch's default of 0.1.
BATCH_NORM_EPS = 1e-3


def parse_stage(text: str, locate: Callable[[int], Location] | None = None) -> Stage:
    """Read one fixed block string.

    Raises:
        SpaceError: If the text breaks the notation, or leaves a choice open.
    """
    syntax = read(text, locate)
    if len(syntax.alternatives) > 1 or any(len(values) > 1 for _, values in syntax.fields):
        place = (locate or (lambda n: Location("block", 1, n + 1, text)))(text.index("<"))
        raise SpaceError(place.describe("an architecture is fixed: no choice sets here"))
    (alternative,) = syntax.alternatives
    fields = dict(alternative.fields) | {name: values[0] for name, values in syntax.fields}
    return Stage(alternative.op, **fields)  # type: ignore[arg-type]  # checked by read()


#: Runs of thousands of trials have the same stages again and again.
_known_stage = lru_cache(maxsize=10_000)(parse_stage)


#: No network that anybody trains has as many; to build one would never end.
_MAX_LAYERS, _MAX_CHANNELS = 10_000, 1_000_000


@dataclass(frozen=True)
class Architecture:
    """A network: a 3×3 stem, stages, a 1×1 head, pooling and a classifier.

    Attributes:
        stages: The stages in order; at least one, but of a model of timm's.
        stem: Channels of the stem.
        head: Channels of the 1×1 convolution before pooling.
        stem_stride: Stride of the stem, 1 or 2; small images are better not halved at once.
        recipe: Decisions of the recipe that it is trained by, by the names of the attributes of
            `effnas.config.recipe.Recipe`, in their order: what a search proposes where these are
            open, too.
        model: Name of a model of timm's, which it is instead of all else; empty for none.
    """

    stages: tuple[Stage, ...]
    stem: int = DEFAULT_STEM
    head: int = DEFAULT_HEAD
    stem_stride: int = DEFAULT_STEM_STRIDE
    recipe: tuple[tuple[str, Option], ...] = ()
    model: str = ""

    def __post_init__(self) -> None:
        if not self.stages and not self.model:
            raise SpaceError("an architecture has at least one stage")
        for name in ("stem", "head"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise SpaceError(f"{name}: {value!r} must be a whole number of channels above 0")
        if type(self.stem_stride) is not int or self.stem_stride not in (1, 2):
            raise SpaceError(f"stem_stride: {self.stem_stride!r} must be 1 or 2")
        for what, most, value in (
            ("layers", _MAX_LAYERS, sum(stage.r for stage in self.stages)),
            ("channels", _MAX_CHANNELS, max((self.stem, self.head, *(s.c for s in self.stages)))),
        ):
            if value > most:
                raise SpaceError(f"an architecture has at most {most:,} {what}, and not {value:,}")

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        # A search looks up the same ones often.
        ends = self.stem, self.head, self.stem_stride
        return hash((self.stages, ends, self.recipe, self.model))

    def __getstate__(self) -> dict[str, object]:
        """Leave the hash out: texts have another one in every process."""
        return {name: value for name, value in vars(self).items() if name != "_hash"}

    @classmethod
    def parse(
        cls,
        blocks: str | Iterable[str],
        *,
        stem: int = DEFAULT_STEM,
        head: int = DEFAULT_HEAD,
        stem_stride: int = DEFAULT_STEM_STRIDE,
    ) -> Architecture:
        """Read an architecture from block strings.

        Args:
            blocks: One string per stage, or all of them in one text separated by white space.
            stem: Channels of the stem.
            head: Channels of the head.
            stem_stride: Stride of the stem, 1 or 2.

        Raises:
            SpaceError: If a block string or one of the numbers is not valid.
        """
        texts = blocks.split() if isinstance(blocks, str) else list(blocks)
        stages = []
        for n, text in enumerate(texts, start=1):
            try:
                stages.append(_known_stage(text))
            except SpaceError:
                source = f"stage {n}"
                parse_stage(text, lambda at, s=source, t=text: Location(s, 1, at + 1, t))  # type: ignore[misc]
                raise
        return cls(tuple(stages), stem, head, stem_stride)

    @property
    def ends(self) -> dict[str, int]:
        """The other arguments of `parse`, as files have them: a stride of 2 is left out."""
        ends = {"stem": self.stem, "head": self.head}
        if self.stem_stride != DEFAULT_STEM_STRIDE:
            ends["stem_stride"] = self.stem_stride
        return ends

    @property
    def ends_text(self) -> str:
        """Stem and head in words, such as `stem 24 and head 1280`; a stride of 2 is left out."""
        halves = self.stem_stride == DEFAULT_STEM_STRIDE
        return f"stem {self.stem}{'' if halves else ' of stride 1'} and head {self.head}"

    @cached_property
    def blocks(self) -> tuple[str, ...]:
        """The canonical block strings, one per stage."""
        return tuple(str(stage) for stage in self.stages)

    def __str__(self) -> str:
        return self.model or " ".join(self.blocks)

    @property
    def network(self) -> Architecture:
        """The network alone, whatever it is trained by."""
        return replace(self, recipe=()) if self.recipe else self

    @property
    def recipe_text(self) -> str:
        """The decisions of its recipe in words; empty without any."""
        return ", ".join(f"{name} {option_text(option)}" for name, option in self.recipe)

    @cached_property
    def id(self) -> str:
        """Sixteen hexadecimal digits that are the same for the same network everywhere."""
        # Without the stride of 2, which all stems had once: ids stay.
        stride = "" if self.stem_stride == DEFAULT_STEM_STRIDE else f"_s{self.stem_stride}"
        text = f"stem{self.stem}{stride} {self} head{self.head}"
        text = f"timm {self.model}" if self.model else text
        text += "".join(f" {name}={option_text(option)}" for name, option in self.recipe)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def layers(self) -> int:
        """Layers in all stages together."""
        return sum(stage.r for stage in self.stages)

    @property
    def stride(self) -> int:
        """Pixels of the image, a side, for one of the last stage."""
        return prod((self.stem_stride, *(stage.s for stage in self.stages)))

    def to_timm(self) -> list[list[str]]:
        """Return the network as timm's `arch_def`: one list of block strings per stage.

        Stages that change nothing (`identity` at stride 1 and equal channels) are left out, since
        timm has no such block.
        """
        definition = []
        channels = self.stem
        for stage in self.stages:
            if not stage.changes_nothing(channels):
                definition.append([stage.to_timm()])
            channels = stage.c
        return definition

    def timm_arguments(self) -> dict[str, Any]:
        """Return, as plain data, what timm builds the network from.

        Returns:
            `arch_def`, timm's block strings, and the arguments of `timm.models.EfficientNet` that
            are not its defaults: `stem_size`, `num_features`, `output_stride`; and what it has no
            argument for: `stem_stride`, and `norm_eps`, the epsilon of batch norm. Channels are
            not rounded, and the activation is SiLU.
        """
        return {
            "arch_def": self.to_timm(),
            "stem_size": self.stem,
            "stem_stride": self.stem_stride,
            "num_features": self.head,
            # Strides beyond 32 in all would become dilation.
            "output_stride": 2 ** (len(self.stages) + 2),
            "norm_eps": BATCH_NORM_EPS,
        }

    def build(
        self, num_classes: int = 1000, *, drop_rate: float = 0.0, drop_path_rate: float = 0.0
    ) -> nn.Module:
        """Build the network as timm's `EfficientNet` (imports torch and timm).

        Args:
            num_classes: Outputs of the classifier.
            drop_rate: Dropout before the classifier, a fraction.
            drop_path_rate: Stochastic depth, a fraction: layer i of n is dropped at this rate
                times i/n, i from 0.

        Raises:
            InfeasibleError: If timm cannot build it.
        """
        from effnas.arch.models import build

        return build(
            self, num_classes=num_classes, drop_rate=drop_rate, drop_path_rate=drop_path_rate
        )
