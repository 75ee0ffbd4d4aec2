"""Which training a file of weights is from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from effnas.config.recipe import STRENGTHS
from effnas.config.regularization import Ramp
from effnas.errors import StoreError
from effnas.trials.manifest import OtherFolderError
from effnas.trials.store import MANIFEST
from effnas.workflows.train.folder import BEST, LAST, TestResult, TrainingManifest


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a training that has come to its end went, as far as it concerns some weights.

    Attributes:
        epoch: That the weights are of, from 1.
        epochs: That were trained.
        accuracy: Of the weights on the minival, 0 to 1; None without a minival.
        train_time_s: Seconds of all steps.
        test: What the weights reach on the test part, if that was read.
    """

    epoch: int
    epochs: int
    accuracy: float | None
    train_time_s: float
    test: TestResult | None


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A training by `effnas train`, as its folder describes it.

    Attributes:
        manifest: What it was made with.
        is_best: Whether the weights are the best epoch's, not the last one's.
        image_size: Pixels at the first and at the last stage.
        outcome: How it went; None if it has not come to its end.
    """

    manifest: TrainingManifest
    is_best: bool
    image_size: tuple[int, int]
    outcome: Outcome | None

    @property
    def strengths(self) -> Mapping[str, Ramp]:
        """Of the regularisation; those that are 0 throughout are left out."""
        found: dict[str, Ramp | None] = {n: getattr(self.manifest.recipe, n) for n in STRENGTHS}
        return {name: ramp for name, ramp in found.items() if ramp and ramp.last}


def trained_of(weights: Path) -> Trained | None:
    """Return the training that a file of weights is from, or None if it is not from one.

    Args:
        weights: Its name and what stands beside it tell; the file itself is not read.

    Raises:
        StoreError: If it stands in the folder of a training that cannot be read.
    """
    folder = weights.absolute().parent
    try:
        manifest = TrainingManifest.stored(folder) if weights.name in (BEST, LAST) else None
    except OtherFolderError:
        return None
    if manifest is None:
        return None
    if manifest.recipe.image_size is None:
        raise StoreError(f"{folder / MANIFEST}: recipe: image_size is missing")
    is_best = weights.name == BEST
    return Trained(
        manifest=manifest,
        is_best=is_best,
        image_size=manifest.recipe.image_size,
        outcome=_outcome(manifest, folder / MANIFEST, is_best),
    )


def _outcome(manifest: TrainingManifest, file: Path, is_best: bool) -> Outcome | None:
    progress = manifest.progress
    if progress is None:
        return None
    # Without a minival there is no best epoch, and its weights are the last one's.
    best = progress.best_epoch if is_best else 0
    row = next((r for r in reversed(progress.rows) if best in (0, r.epoch)), None)
    if row is None:
        raise StoreError(f"{file}: progress.best_epoch is {best}, which is none of the epochs")
    return Outcome(
        epoch=row.epoch,
        epochs=len(progress.rows),
        accuracy=row.accuracy,
        train_time_s=progress.rows[-1].train_time_s,
        test=manifest.test if is_best else None,
    )
