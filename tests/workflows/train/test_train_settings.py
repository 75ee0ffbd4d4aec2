"""What is settled of a recipe: what it leaves open is the family member's, if there is one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from effnas import Architecture, SearchSpace
from effnas.arch.files import to_json
from effnas.config.recipe import Recipe
from effnas.config.recipe_file import default_recipe, load_recipe
from effnas.config.regularization import STRENGTHS, Ramp
from effnas.errors import ConfigError
from effnas.scaling.family_file import Member, find_member
from effnas.trials.manifest import TRAINER, SearchManifest
from effnas.trials.manifest_parts import SourcedSpacePart
from effnas.trials.network_ref import NetworkRef
from effnas.trials.run import Run
from effnas.trials.trial import Trials
from effnas.workflows.train.folder import TrainingData
from effnas.workflows.train.prepare import is_mirrored, with_fitting_warmup
from effnas.workflows.train.settings import TrainSettings, recipe_for, settle

ARCH = Architecture.parse("fused_r1_k3_s2_e1_c8", stem=8, head=16)
RAMPS = {"dropout": [0.1, 0.4], "randaugment": [5, 20], "mixup": [0, 0.2], "drop_path": [0.2, 0.2]}
OPEN = Recipe()
SAID = load_recipe("v2-s")


def never() -> int:
    pytest.fail("nothing needs the size of the images")


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
    found = settle(OPEN, member(tmp_path), never)
    assert found.image_size == (16, 40)
    assert found.eval_image_size == 48
    for name in STRENGTHS:
        assert getattr(found, name) == Ramp(*RAMPS[name])
    assert found.cutmix is None  # families say nothing of it


def test_what_a_recipe_says_stays(tmp_path: Path) -> None:
    assert settle(SAID, member(tmp_path), never) == SAID
    some = replace(OPEN, mixup=Ramp(0, 0.1), eval_image_size=64)
    found = settle(some, member(tmp_path), never)
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
    assert settle(OPEN, found, never).image_size == (first, 40)


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
    sized = replace(OPEN, image_size=(14, 28))
    assert settle(sized, None, never) == replace(sized, eval_image_size=28)
    assert settle(SAID, None, never) == SAID
    assert settle(replace(sized, eval_image_size=40), None, never).eval_image_size == 40


@pytest.mark.parametrize(
    ("native", "sizes"), [(8, (8, 8)), (28, (20, 28)), (32, (20, 32)), (64, (32, 64))]
)
def test_without_sizes_they_are_those_of_the_images_from_half_of_them_on(
    native: int, sizes: tuple[int, int]
) -> None:
    assert settle(OPEN, None, lambda: native) == OPEN.sized(*sizes)


def test_another_length_holds_for_what_the_member_says_too(tmp_path: Path) -> None:
    found = settle(replace(OPEN, epochs=32), member(tmp_path), never, epochs=8)
    assert (found.epochs, found.dropout) == (8, Ramp(0.05, 0.2))


# -- the recipe of a network of a search


def run_with(**changes: Any) -> NetworkRef:
    """The best network of a search by a recipe of 8 of 32 epochs, or by what is changed."""
    recipe = replace(OPEN, epochs=32, dropout=Ramp(0.1, 0.2), data_share=0.5).sized(16, 32)
    short = {"recipe": recipe.lasting(8), "trainer": TRAINER, "full_epochs": 32.0, **changes}
    space = SearchSpace.load("tiny")
    manifest = SearchManifest(space=SourcedSpacePart.of(space), **short)
    return NetworkRef("run:best", run=Run(Path("run"), manifest, space, Trials([])))


def test_a_network_of_a_search_is_trained_as_there_and_as_long_as_before_it_was_shortened() -> None:
    found = recipe_for(run_with(), None)
    long = replace(OPEN, epochs=32, dropout=Ramp(0.1, 0.2), warmup_epochs=1).sized(16, 32)
    assert found == long  # on all images
    assert recipe_for(run_with(full_epochs=None), None) == long.lasting(8)
    by_time = replace(long, train_time_s=60.0, data_share=0.5)
    whole = replace(by_time, data_share=None)
    assert recipe_for(run_with(recipe=by_time), None) == whole
    made_short = run_with(recipe=by_time, full_train_time_s=240.0)
    assert recipe_for(made_short, None) == replace(whole, train_time_s=240.0)


def test_other_networks_are_trained_by_the_default_recipe_or_by_the_one_that_is_named() -> None:
    for network in (NetworkRef("resnet18"), run_with(trainer=1), run_with(recipe=None)):
        assert recipe_for(network, None) == default_recipe()
        assert recipe_for(network, "v1") == load_recipe("v1")


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
    settings = TrainSettings(network="n", data="/my/mnist", recipe=Recipe(flip=flip), out=tmp_path)
    assert is_mirrored(settings, stored, suits_data=True) is mirrored


def test_a_warm_up_that_the_training_does_not_outlast_takes_half_of_it() -> None:
    recipe = Recipe(epochs=2, warmup_epochs=5)
    assert with_fitting_warmup(recipe, 10).warmup_epochs == 1
    for long in (replace(recipe, epochs=6), replace(recipe, least_steps=60)):
        assert with_fitting_warmup(long, 10) is long
