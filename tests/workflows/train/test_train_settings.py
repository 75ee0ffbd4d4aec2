"""What is settled of a recipe: what it leaves open is the family member's, if there is one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from effnas import Architecture
from effnas.arch.files import to_json
from effnas.config.regularization import STRENGTHS, Ramp
from effnas.config.training_recipe import TrainingRecipe
from effnas.errors import ConfigError
from effnas.scaling.family_file import Member, find_member
from effnas.workflows.train.folder import TrainingData
from effnas.workflows.train.prepare import is_mirrored, with_fitting_warmup
from effnas.workflows.train.settings import TrainSettings, settle

ARCH = Architecture.parse("fused_r1_k3_s2_e1_c8", stem=8, head=16)
RAMPS = {"dropout": [0.1, 0.4], "randaugment": [5, 20], "mixup": [0, 0.2], "drop_path": [0.2, 0.2]}
OPEN = TrainingRecipe()
SAID = TrainingRecipe.load("v2-s")


def member(folder: Path, **changes: Any) -> Member:
    """Write a family of one member, and read what it says; what is None is left out."""
    row: dict[str, Any] = {
        "name": "m", "architecture_id": ARCH.id, "image_size": 48, "train_image_size": 40,
        "stage_image_sizes": [16, 24, 32, 40], **RAMPS, **changes,
    }  # fmt: skip
    family = {
        "kind": "effnas model family", "format": 1, "family": "v2", "base": "b", "batch_size": 16,
        "num_classes": 5, "epochs": 350, "images": 1000, "hardware": None,
        "members": [{name: value for name, value in row.items() if value is not None}],
    }  # fmt: skip
    (folder / "family.json").write_text(json.dumps(family))
    file = folder / "m.json"
    file.write_text(to_json(ARCH, image_size=32, num_classes=5))
    found = find_member(file, ARCH)
    assert found is not None
    return found


# -- with a member of a family


def test_what_a_recipe_leaves_open_is_the_members(tmp_path: Path) -> None:
    found = settle(OPEN, member(tmp_path), None)
    assert found.image_size == (16, 40)
    assert found.eval_image_size == 48
    for name in STRENGTHS:
        assert getattr(found, name) == Ramp(*RAMPS[name])
    assert found.cutmix is None  # families say nothing of it


def test_what_a_recipe_says_stays(tmp_path: Path) -> None:
    assert settle(SAID, member(tmp_path), SAID.image_size) == SAID
    some = replace(OPEN, mixup=Ramp(0, 0.1), eval_image_size=64)
    found = settle(some, member(tmp_path), None)
    assert (found.mixup, found.dropout) == (Ramp(0, 0.1), Ramp(0.1, 0.4))
    assert (found.image_size, found.eval_image_size) == ((16, 40), 64)


@pytest.mark.parametrize(
    ("changes", "first"),
    [({}, 16), ({"stage_image_sizes": None}, 40), ({"stage_image_sizes": [40]}, 40)],
)
def test_a_first_size_is_that_of_the_first_stage(
    tmp_path: Path, changes: dict[str, Any], first: int
) -> None:
    found = member(tmp_path, **changes)
    assert (found.first_image_size, found.train_image_size) == (first, 40)
    assert settle(OPEN, found, None).image_size == (first, 40)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"a": 1}, "stage_image_sizes: Expected `array"),
        (["16", 40], r"stage_image_sizes\[0\]: Expected `int`, got `str`"),
        ([0, 40], r"stage_image_sizes\[0\]: Expected `int` >= 1"),
        ([48, 40], "stage_image_sizes begins with 48, above train_image_size 40"),
    ],
)
def test_first_sizes_that_cannot_be_trusted_are_refused(
    tmp_path: Path, sizes: object, words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as raised:
        member(tmp_path, stage_image_sizes=sizes)
    assert str(raised.value).startswith(f"{tmp_path / 'family.json'}: ")
    assert "\n" not in str(raised.value)


# -- without


def test_without_a_member_strengths_stay_open_and_the_last_size_is_measured_at() -> None:
    found = settle(OPEN, None, (14, 28))
    assert found == replace(OPEN, image_size=(14, 28), eval_image_size=28)
    assert settle(SAID, None, SAID.image_size) == SAID
    assert settle(replace(OPEN, eval_image_size=40), None, (14, 28)).eval_image_size == 40


def test_without_a_member_and_sizes_there_is_nothing_to_train_at() -> None:
    with pytest.raises(ConfigError, match="recipe: image_size is missing; give it there, or as"):
        settle(OPEN, None, None)


# -- what the user asked for


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"workers": 0}, "`workers` is 0, it must be 1 or more"),
        ({"seed": -1}, "`seed` is -1, it must be 0 or more"),
        ({"checkpoint_every_s": -1.0}, "`checkpoint_every` is -1.0, it must be 0 seconds or more"),
        ({"checkpoint_every_s": float("nan")}, "`checkpoint_every` is nan"),
        ({"new_head": True}, "`new_head` goes with `weights`"),
    ],
)
def test_settings_that_are_out_of_range_are_one_line(changes: dict[str, Any], words: str) -> None:
    given = {"network": "resnet18", "data": "digits", "recipe": OPEN, "out": Path("out")}
    TrainSettings(**given)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=words) as raised:
        TrainSettings(**given, **changes)
    assert "\n" not in str(raised.value)


def data(mirrored: bool | None) -> TrainingData:
    return TrainingData(
        name="mnist", fingerprint="f", minival_fingerprint=None, streamed=False, images=9,
        minival=0, class_names=(), skipped=(), mirrored=mirrored,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("flip", "stored", "mirrored"),
    [
        (None, None, True),
        (False, None, False),
        (None, data(mirrored=False), False),
        (None, data(mirrored=None), False),  # earlier versions decided by the path
        (True, data(mirrored=None), True),
    ],
)
def test_images_are_mirrored_as_the_recipe_says_as_before_or_as_suits_the_data(
    tmp_path: Path, flip: bool | None, stored: TrainingData | None, mirrored: bool
) -> None:
    settings = TrainSettings(
        network="n", data="/my/mnist", recipe=TrainingRecipe(flip=flip), out=tmp_path
    )
    assert is_mirrored(settings, stored, suits_data=True) is mirrored


def test_a_warm_up_that_the_training_does_not_outlast_takes_half_of_it() -> None:
    recipe = TrainingRecipe(epochs=2, warmup_epochs=5)
    assert with_fitting_warmup(recipe, 10).warmup_epochs == 1
    for long in (replace(recipe, epochs=6), replace(recipe, least_steps=60)):
        assert with_fitting_warmup(long, 10) is long
