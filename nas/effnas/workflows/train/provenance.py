"""Which training a file of weights is from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from effnas.arch.files import read_text
from effnas.config.json_object import JsonObject, WrongKindError
from effnas.config.regularization import Ramp
from effnas.config.training_recipe import STRENGTHS, Regime
from effnas.errors import StoreError, UserError
from effnas.trials.store import FORMAT, MANIFEST
from effnas.workflows.train.folder import BEST, KIND, LAST
from effnas.workflows.train.worker import TestResult

_MAX_BYTES = 100_000_000
_LARGEST_IMAGE = 4096


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
    """A training by `effnas train`, as its folder tells it.

    Attributes:
        architecture_id: Of the network; None for a model of timm's.
        is_best: Whether the weights are the best epoch's, not the last one's.
        regime: How sizes and strengths went.
        batch_size: Images in a step.
        image_size: Pixels at the first and at the last stage.
        eval_image_size: Pixels that accuracy was measured at.
        strengths: Of the regularisation, at the first and at the last stage; those that are 0
            throughout are left out.
        ema_decay: Of the average that the weights are; None if they are none.
        seed: Fixed all that was random.
        is_tuned: Whether it began with weights of a file.
        data: Name of the images.
        classes: Their names.
        images: That it was trained on.
        minival: That accuracy was measured on.
        hardware: That it ran on, in one line.
        created: When it began.
        outcome: How it went; None if it has not come to its end.
    """

    architecture_id: str | None
    is_best: bool
    regime: Regime
    batch_size: int
    image_size: tuple[int, int]
    eval_image_size: int
    strengths: Mapping[str, Ramp]
    ema_decay: float | None
    seed: int
    is_tuned: bool
    data: str
    classes: tuple[str, ...]
    images: int
    minival: int
    hardware: str
    created: str
    outcome: Outcome | None


def trained_of(weights: Path) -> Trained | None:
    """Return the training that a file of weights is from, or None if it is not from one.

    Args:
        weights: Its name and what stands beside it tell; the file itself is not read.

    Raises:
        StoreError: If it stands in the folder of a training that cannot be read.
    """
    manifest = weights.absolute().with_name(MANIFEST)
    if weights.name not in (BEST, LAST) or not manifest.is_file():
        return None
    try:
        text = read_text(manifest, most_bytes=_MAX_BYTES)
        content = JsonObject.parse(text, kind=KIND, format=FORMAT)
        return _parse(content, is_best=weights.name == BEST)
    except WrongKindError:
        return None
    except UserError as error:
        raise StoreError(
            f"{manifest}: {error}; restore it from a copy, or move the weights elsewhere"
        ) from None


def _parse(content: JsonObject, *, is_best: bool) -> Trained:
    recipe, data, network = map(content.object, ("recipe", "data", "network"))
    regime = recipe.text("regime")
    if regime not in get_args(Regime):
        raise UserError(f"regime is {regime[:40]}, which is none")
    first, last = recipe.wholes("image_size", length=2, most=_LARGEST_IMAGE)
    ramps = {
        name: Ramp(*recipe.ramp(name, most=most))
        for name, most in STRENGTHS.items()
        if name in recipe
    }
    return Trained(
        architecture_id=network.text("architecture_id") if "architecture_id" in network else None,
        is_best=is_best,
        regime=cast("Regime", regime),
        batch_size=recipe.whole("batch_size"),
        image_size=(first, last),
        eval_image_size=content.whole("eval_image_size", most=_LARGEST_IMAGE),
        strengths={name: ramp for name, ramp in ramps.items() if ramp.last},
        ema_decay=recipe.number("ema_decay", most=1.0) if "ema_decay" in recipe else None,
        seed=content.whole("seed", least=0),
        is_tuned="weights" in content,
        data=data.text("name"),
        classes=data.texts("class_names"),
        images=data.whole("images"),
        minival=data.whole("minival", least=0),
        hardware=content.text("hardware"),
        created=content.text("created"),
        outcome=_outcome(content, is_best) if "progress" in content else None,
    )


def _outcome(content: JsonObject, is_best: bool) -> Outcome:
    progress = content.object("progress")
    rows = progress.objects("rows")
    epochs = [row.whole("epoch") for row in rows]
    if not epochs:
        raise UserError("rows: there are no epochs")
    best = progress.whole("best_epoch", least=0) if is_best else 0
    # Without a minival there is no best epoch, and its weights are the last one's.
    epoch = best or epochs[-1]
    if epoch not in epochs:
        raise UserError(f"best_epoch is {best}, which is none of the epochs")
    row = rows[epochs.index(epoch)]
    return Outcome(
        epoch=epoch,
        epochs=len(rows),
        accuracy=row.number("accuracy", most=1.0) if "accuracy" in row else None,
        train_time_s=rows[-1].number("train_time_s"),
        test=_test(content.object("test")) if is_best and "test" in content else None,
    )


def _test(test: JsonObject) -> TestResult:
    return TestResult(
        part=test.text("part"),
        images=test.whole("images"),
        skipped=test.whole("skipped", least=0),
        accuracy=test.number("accuracy", most=1.0),
    )
