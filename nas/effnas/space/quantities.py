"""What a space is measured at, and what its constraints may speak of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from effnas.arch.architecture import Architecture
from effnas.arch.blocks import FIELDS, Stage
from effnas.errors import SpaceError

#: Quantities that follow from counting a network, and so from the number of classes.
COUNTED = frozenset(("params", "params_ratio", "P", "macs", "activations"))


@dataclass(frozen=True)
class Target:
    """What S and P are measured at.

    Attributes:
        image_size: Height and width in pixels.
        batch_size: Images in one training step.
        num_classes: Outputs of the classifier; None takes those of the data, or 1000 without data.
    """

    image_size: int = 224
    batch_size: int = 128
    num_classes: int | None = None

    def __post_init__(self) -> None:
        for name in ("image_size", "batch_size", "num_classes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SpaceError(f"target: {name} is {value}, it must be 1 or more")


def quantity_names(stages: int, recipe: Iterable[str] = ()) -> frozenset[str]:
    """Return the names that constraints may use.

    Args:
        stages: Number of stages of the space.
        recipe: Names of the choices of its recipe.
    """
    decisions = [f"stage{n}.{name}" for n in range(1, stages + 1) for name in ("op", *FIELDS)]
    return frozenset([*decisions, *COUNTED, "layers", *(f"recipe.{name}" for name in recipe)])


def stage_quantities(arch: Architecture) -> dict[str, float | str]:
    """Return the fields of every stage, such as `stage2.k`, the layers, and the recipe."""
    quantities: dict[str, float | str] = {"layers": arch.layers}
    for n, stage in enumerate(arch.stages, start=1):
        quantities |= _fields(n, stage)
    return quantities | {f"recipe.{name}": option for name, option in arch.recipe}


@lru_cache(maxsize=1 << 16)
def _fields(n: int, stage: Stage) -> dict[str, float | str]:
    return {f"stage{n}.{name}": getattr(stage, name) for name in ("op", *FIELDS)}
