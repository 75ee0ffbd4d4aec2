"""The test part of the data: read once, for the network that finals pick."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from msgspec import Meta

from effnas.config.codec import FORMAT, Count, Share, dump_json, from_plain, read_object, to_plain
from effnas.config.settings import EvaluationConfig, Execution
from effnas.data.images import single_class_counts
from effnas.errors import StoreError, UserError
from effnas.evaluation.evaluator import Evaluator
from effnas.evaluation.workers import MakeImageEvaluator, Workers, divide_resources
from effnas.trials.manifest import utc_now
from effnas.trials.store import write_whole
from effnas.trials.trial import Trial
from effnas.trials.uncertainty import Noise

if TYPE_CHECKING:
    from effnas.arch.architecture import Architecture
    from effnas.evaluation.image_evaluator import ImageEvaluator

TEST = "test.json"
#: Of the training images, one of each class will do: they tell that the data are the search's.
_MIN_SHARE = 1e-9


@dataclass(frozen=True, kw_only=True)
class FinalTest:
    """The accuracy of a network on images that nothing was chosen by.

    Attributes:
        trial: Number of the network's trial in the search.
        architecture_id: The network.
        data: Name of the data set.
        part: What the data set calls the part that was read.
        images: How many it has.
        skipped: Names of images that were left out because they cannot be decoded.
        fingerprint: Differs when images, labels or classes do.
        accuracies: Share of the images that are classified correctly, 0 to 1, for each seed.
        date: When they were read, in UTC as in 2026-01-31T12:00:00Z.
        class_counts: Images of each class; empty where that is not known, or images have several.
    """

    trial: Count
    architecture_id: str
    data: str
    part: str
    images: Count
    skipped: tuple[str, ...]
    fingerprint: str
    accuracies: Annotated[tuple[Share, ...], Meta(min_length=1)]
    date: str
    class_counts: tuple[Count, ...] = ()

    @property
    def mean(self) -> float:
        """Mean accuracy over seeds."""
        return statistics.fmean(self.accuracies)

    @property
    def spread(self) -> float | None:
        """Standard deviation of the accuracy over seeds; None for one seed, which has none."""
        return statistics.stdev(self.accuracies) if len(self.accuracies) > 1 else None

    @property
    def accuracy_error(self) -> float | None:
        """Standard error of the mean accuracy, from the images and the spread over seeds."""
        noise = Noise(holdout_images=self.images, seed_spread=self.spread)
        return noise.standard_error(self.mean, len(self.accuracies))

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        means = {"mean_accuracy": self.mean, "spread": self.spread}
        return {**asdict(self), **means, "accuracy_error": self.accuracy_error}


def evaluate_test_once(
    folder: Path,
    pick: Trial | None,
    seeds: int,
    config: EvaluationConfig,
    workers: Workers,
    *,
    read: bool,
    reading: Callable[[], None],
) -> FinalTest | None:
    """Return the accuracy of a network on the test part, which is read once in these finals.

    Args:
        folder: That of the finals, which the caller has locked.
        pick: The trial that the finals pick, if they do.
        seeds: Its trainings, whose weights are all stored.
        config: What it was trained with.
        workers: Device and threads of the worker.
        read: Whether the test part may be read, if it was not.
        reading: Called before it is.

    Returns:
        What was measured, now or before; without `read` that may be of a network picked before.
        None if the test part was not read.

    Raises:
        UserError: If `read` would be for a second network, the data have no test part, or weights
            are missing; nothing stored is changed.
        SearchFailedError: If the worker is lost.
    """
    stored = stored_test(folder)
    if pick is None or not read:
        return stored
    if stored is None:
        reading()
        stored = _read_once(pick, seeds, config, workers)
        write_whole(folder / TEST, dump_json({"format": FORMAT, **to_plain(stored)}))
    if stored.architecture_id != pick.architecture.id:
        raise StoreError(
            f"{folder / TEST}: the test part was read for trial {stored.trial}, and these finals "
            f"now pick trial {pick.number}; a second look would make its accuracy part of the "
            "choice. Leave out `test`, pick as before, or hold finals with another `out`"
        )
    return stored


def _read_once(pick: Trial, seeds: int, config: EvaluationConfig, workers: Workers) -> FinalTest:
    from effnas.evaluation.ray import RayBackend

    share = divide_resources(workers)
    config = replace(
        config,
        device=share.device,
        threads=share.threads,
        recipe=replace(config.recipe, data_share=_MIN_SHARE),
        # Where the search chose none, the quickest way to run a step does not matter here either.
        execution=config.execution or Execution(),
    )
    backend = RayBackend(MakeImageEvaluator(config), cpus=share.cpus, gpus=share.gpus)
    try:
        found = backend.ask(partial(_look, arch=pick.architecture, seeds=seeds))
    finally:
        backend.close()
    data = config.data or ""
    return FinalTest(
        trial=pick.number,
        architecture_id=pick.architecture.id,
        data=Path(data).name if Path(data).is_absolute() else data,
        date=utc_now(),
        **found,
    )


def _look(evaluator: Evaluator, arch: Architecture, seeds: int) -> dict[str, Any]:
    """Read the test part on a worker, and measure the accuracies of a network's trainings."""
    images, accuracies = cast("ImageEvaluator", evaluator).test(arch, seeds)
    return {
        "part": images.part,
        "images": len(images),
        "skipped": images.skipped,
        "fingerprint": images.fingerprint,
        "accuracies": tuple(accuracies),
        "class_counts": single_class_counts(images),
    }


def stored_test(folder: Path) -> FinalTest | None:
    """Return the stored accuracies on the test part; None if that was not read.

    Raises:
        StoreError: If the file cannot be read, or is not what was written.
    """
    file = folder / TEST
    if not file.exists():
        return None
    try:
        return from_plain(read_object(file), FinalTest)
    except UserError as error:
        raise StoreError(
            f"{file}: what was found on the test part cannot be read ({error}); restore it from a "
            "copy"
        ) from error
