"""Which training a file of weights is from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, cast, get_args

from effnas.architecture.files import read_text
from effnas.errors import StoreError, UserError
from effnas.progressive.folder import BEST, KIND, LAST
from effnas.progressive.recipe import STRENGTHS, Regime
from effnas.progressive.worker import TestResult
from effnas.scaling import Ramp
from effnas.store import FORMAT, MANIFEST

_MOST_BYTES = 100_000_000
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
        content = json.loads(read_text(manifest, most_bytes=_MOST_BYTES))
        if not isinstance(content, dict) or content.get("kind") != KIND:
            return None
        if content.get("format") != FORMAT:
            found = str(content.get("format"))[:40]
            raise UserError(f"format {found} is not known to this version, which reads {FORMAT}")
        return _parse(content, is_best=weights.name == BEST)
    except (RecursionError, UserError, ValueError) as error:
        raise StoreError(
            f"{manifest}: {error}; restore it from a copy, or move the weights elsewhere"
        ) from None


def _parse(content: Mapping[str, Any], *, is_best: bool) -> Trained:
    recipe, data = _object(content, "recipe"), _object(content, "data")
    identifier = _object(content, "network").get("architecture_id")
    if recipe.get("regime") not in get_args(Regime):
        raise UserError(f"regime is {str(recipe.get('regime'))[:40]}, which is none")
    first, last = (
        _whole({"image_size": end}, "image_size", most=_LARGEST_IMAGE)
        for end in _ends(recipe, "image_size")
    )
    names = data.get("class_names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError("class_names: a list of names is needed")
    decay = recipe.get("ema_decay")
    strengths = {
        name: Ramp(*(_number({name: end}, name, most=most) for end in _ends(recipe, name)))
        for name, most in STRENGTHS.items()
        if recipe.get(name) is not None
    }
    return Trained(
        architecture_id=None if identifier is None else str(identifier),
        is_best=is_best,
        regime=cast("Regime", recipe["regime"]),
        batch_size=_whole(recipe, "batch_size"),
        image_size=(first, last),
        eval_image_size=_whole(content, "eval_image_size", most=_LARGEST_IMAGE),
        strengths={name: ramp for name, ramp in strengths.items() if ramp.last},
        ema_decay=None if decay is None else _number(recipe, "ema_decay", most=1.0),
        seed=_whole(content, "seed", least=0),
        is_tuned=content.get("weights") is not None,
        data=str(data.get("name")),
        classes=tuple(names),
        images=_whole(data, "images"),
        minival=_whole(data, "minival", least=0),
        hardware=str(content.get("hardware")),
        created=str(content.get("created")),
        outcome=_outcome(content, is_best) if content.get("progress") is not None else None,
    )


def _outcome(content: Mapping[str, Any], is_best: bool) -> Outcome:
    progress = _object(content, "progress")
    rows = progress.get("rows")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows) or not rows:
        raise UserError("progress: a list of epochs is needed")
    epochs = [_whole(row, "epoch") for row in rows]
    best = _whole(progress, "best_epoch", least=0) if is_best else 0
    # Without a minival there is no best epoch, and its weights are the last one's.
    epoch = best or epochs[-1]
    if epoch not in epochs:
        raise UserError(f"best_epoch is {best}, which is none of the epochs")
    row = rows[epochs.index(epoch)]
    accuracy = None if row.get("accuracy") is None else _number(row, "accuracy", most=1.0)
    return Outcome(
        epoch=epoch,
        epochs=len(rows),
        accuracy=accuracy,
        train_time_s=_number(rows[-1], "train_time_s"),
        test=_test(content) if is_best and content.get("test") is not None else None,
    )


def _test(content: Mapping[str, Any]) -> TestResult:
    test = _object(content, "test")
    return TestResult(
        part=str(test.get("part")),
        images=_whole(test, "images"),
        skipped=_whole(test, "skipped", least=0),
        accuracy=_number(test, "accuracy", most=1.0),
    )


def _object(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = content.get(key)
    if not isinstance(value, dict):
        raise UserError(f"{key} is {str(value)[:40]}, and must be an object")
    return value


def _whole(
    content: Mapping[str, Any], key: str, *, least: int = 1, most: float = float("inf")
) -> int:
    value = content.get(key)
    if type(value) is not int or not least <= value <= most:
        raise UserError(f"{key} is {str(value)[:40]}, and must be {least} {_limit(most)}")
    return value


def _number(content: Mapping[str, Any], key: str, *, most: float = float("inf")) -> float:
    value = content.get(key)
    if type(value) not in (int, float) or not isfinite(value) or not 0 <= value <= most:  # type: ignore[arg-type, operator]
        raise UserError(f"{key} is {str(value)[:40]}, and must be 0 {_limit(most)}")
    return float(value)  # type: ignore[arg-type]


def _limit(most: float) -> str:
    return "or more" if most == float("inf") else f"to {most:g}"


def _ends(content: Mapping[str, Any], key: str) -> list[Any]:
    ends = content.get(key)
    if not isinstance(ends, list) or len(ends) != 2:
        raise UserError(f"{key}: two numbers are needed")
    return ends
