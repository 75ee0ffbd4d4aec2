"""What a folder of finals holds: what they were made with, and which training weights are from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from effnas.config.codec import Size
from effnas.config.recipe import Recipe
from effnas.trials.differences import ALL_MUST_MATCH, must_match
from effnas.trials.store import TRAININGS, read_records
from effnas.workflows.finals.evaluate_test import FinalTest, stored_test
from effnas.workflows.trainings.folder import (
    WEIGHTS,
    Result,
    TrainingsManifest,
    parse_result,
)


@dataclass(frozen=True, kw_only=True)
class FinalsManifest(TrainingsManifest):
    """What finals were made with; `finalists` are ids of networks, `top` best by reward first."""

    kind: ClassVar[str] = "finals"
    what: ClassVar[str] = "finals"
    command: ClassVar[str] = "effnas promote"
    keys: ClassVar[dict[str, str]] = {"run_created": "run created"}

    run: str = field(metadata=must_match("run"))
    run_created: str | None = field(metadata=must_match("another search there", shown=False))
    finalists: tuple[str, ...] = field(metadata=must_match("finalists", shown=False))
    recipe: Recipe = field(metadata=ALL_MUST_MATCH)
    trainer: int = 1
    seeds: Size = field(metadata=must_match("seeds"))
    top: int | None = None


@dataclass(frozen=True, kw_only=True)
class Final:
    """A whole training of finals.

    Attributes:
        recipe: How it was trained.
        result: Its accuracy and time.
        run: Name of the search's folder.
        created: When that search began.
        test: What the network's trainings reach on the test part, if that was read.
    """

    recipe: Recipe
    result: Result
    run: str
    created: str
    test: FinalTest | None = None

    @property
    def test_accuracy(self) -> float | None:
        """Of this training, on the test part; None if that was not read."""
        if self.test is None or self.result.repeat >= len(self.test.accuracies):
            return None
        return self.test.accuracies[self.result.repeat]


def final_of(weights: Path) -> Final | None:
    """Return the training that a file of weights is from, or None if it is not from finals.

    Raises:
        StoreError: If it stands in finals that cannot be read.
    """
    folder = weights.absolute().parent.parent
    if weights.absolute().parent.name != WEIGHTS or not (folder / TRAININGS).is_file():
        return None
    manifest = FinalsManifest.read(folder)
    for result in read_records(folder / TRAININGS, parse_result, "result"):
        is_whole = result.epochs == manifest.recipe.length and result.accuracy is not None
        if is_whole and weights.stem == f"{result.candidate}-{result.repeat}":
            test = stored_test(folder)
            return Final(
                recipe=manifest.recipe,
                result=result,
                run=manifest.run,
                created=str(manifest.run_created),
                test=test if test and test.architecture_id == result.candidate else None,
            )
    return None
