"""The manifests of searches for a way to scale."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from effnas.config.codec import Size
from effnas.config.recipe import Recipe
from effnas.trials.differences import ALL_MUST_MATCH, must_match
from effnas.workflows.scaling.candidates import ScaledNetwork
from effnas.workflows.trainings.folder import TrainingsManifest


@dataclass(frozen=True, kw_only=True)
class ScalingManifest(TrainingsManifest):
    """What scaled networks were trained with; `base` is an id, `data` the name of the images."""

    what: ClassVar[str] = "search for a way to scale"
    command: ClassVar[str] = "effnas scaling"

    base: str = field(metadata=must_match("base", shown=False))
    data: str = field(metadata=must_match("data"))
    recipe: Recipe = field(metadata=ALL_MUST_MATCH)
    trainer: int = 1
    seeds: Size = field(metadata=must_match("seeds"))
    seed: int = field(metadata=must_match("seed"))
    networks: tuple[ScaledNetwork, ...] = field(metadata=must_match("networks", shown=False))


@dataclass(frozen=True, kw_only=True)
class CompoundManifest(ScalingManifest):
    """Also the grid of α, β and γ, the limits of costs, and how channels are rounded."""

    kind: ClassVar[str] = "trainings of a grid of coefficients"

    grid: tuple[tuple[float, float, float], ...] = field(metadata=must_match("grid"))
    limits: tuple[str, ...] = field(metadata=must_match("limits"))
    round_limit: float = field(metadata=must_match("round limit"))


@dataclass(frozen=True, kw_only=True)
class LayersManifest(ScalingManifest):
    """Also the rules of the family as YAML, the member, the slopes, and how step times differ."""

    kind: ClassVar[str] = "trainings of growths of layers"

    rules: str = field(metadata=must_match("rules", shown=False))
    member: str = field(metadata=must_match("member"))
    slopes: tuple[float, ...] = field(metadata=must_match("slopes"))
    tolerance: float = field(metadata=must_match("tolerance"))
