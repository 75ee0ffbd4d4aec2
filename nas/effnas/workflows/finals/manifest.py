"""The manifest of finals."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from effnas.config.codec import Size
from effnas.config.settings import Recipe
from effnas.trials.manifest import ALL_MUST_MATCH, must_match
from effnas.workflows.trainings.folder import TrainingsManifest


@dataclass(frozen=True, kw_only=True)
class FinalsManifest(TrainingsManifest):
    """What finals were made with.

    Attributes:
        run: Name of the search's folder.
        run_created: When the search began.
        finalists: Ids of the networks.
        recipe: How they are trained.
        seeds: Trainings of each.
    """

    kind: ClassVar[str] = "finals"
    what: ClassVar[str] = "finals"
    command: ClassVar[str] = "effnas promote"
    keys: ClassVar[dict[str, str]] = {"run_created": "run created"}

    run: str = field(metadata=must_match("run"))
    run_created: str | None = field(metadata=must_match("run created"))
    finalists: tuple[str, ...] = field(metadata=must_match("finalists"))
    recipe: Recipe = field(metadata=ALL_MUST_MATCH)
    seeds: Size = field(metadata=must_match("seeds"))
