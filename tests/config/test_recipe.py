"""Recipes as values: their ranges, another length, and what earlier versions stored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effnas.config.codec import from_plain
from effnas.config.recipe import STRENGTHS, Recipe, default_sizes, upgraded
from effnas.config.recipe_file import default_recipe, load_recipe
from effnas.config.regularization import Ramp
from effnas.errors import ConfigError

GOLDEN = Path(__file__).parents[1] / "golden" / "folders"
NAN = float("nan")
WRONG: Mapping[str, tuple[float, ...]] = {
    "epochs": (0, -1, NAN),
    "train_time_s": (0, -1, NAN),
    "batch_size": (0, -8),
    "stages": (1,),
    "data_share": (0, -0.1, 1.01, NAN),
    "holdout_share": (1, -0.1, NAN),
    "crop_area_min": (0, 1.01, NAN),
    "learning_rate_per_256": (0, -1e-3, NAN),
    "weight_decay": (-1e-9, NAN),
    "warmup_epochs": (-0.1, NAN),
    "label_smoothing": (-0.01, 1, NAN),
    "ema_decay": (-0.01, 1, NAN),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_value_out_of_range_is_refused_by_name(name: str) -> None:
    for value in WRONG[name]:
        with pytest.raises(ConfigError, match=f"^recipe: {name} is {value}, it must be") as caught:
            Recipe(**{name: value})  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)


def test_two_lengths_are_refused_and_the_one_that_is_given_counts() -> None:
    with pytest.raises(ConfigError, match="`epochs` and `train_time` both say how long"):
        Recipe().overridden(epochs=3, train_time_s=60)
    by_time = Recipe(epochs=30).overridden(train_time_s=60)
    assert (by_time.length, by_time.length_text(), by_time.epochs) == (60, "60 s", 30)
    by_epochs = by_time.overridden(epochs=4)
    assert (by_epochs.length, by_epochs.length_text()) == (4, "4 epochs")
    assert by_time.prolonged(4) == replace(by_time, train_time_s=240)
    assert Recipe(epochs=3).prolonged(4) == Recipe(epochs=3).lasting(12)


def test_a_peak_learning_rate_is_for_the_batch_that_is_used() -> None:
    recipe = Recipe(batch_size=64)
    assert recipe.overridden(learning_rate=0.1).learning_rate == pytest.approx(0.1)
    changed = recipe.overridden(learning_rate=0.1, batch_size=512)
    assert changed.learning_rate == pytest.approx(0.1)


@pytest.mark.parametrize(("largest", "first"), [(8, 8), (20, 20), (32, 20), (64, 32), (301, 151)])
def test_images_grow_from_half_their_size_on_but_from_20_px_if_they_have_them(
    largest: int, first: int
) -> None:
    assert default_sizes(largest) == (first, largest)


# -- another length

#: All that another length changes is on, and far from its limits.
FULL = Recipe(
    epochs=32, warmup_epochs=2, decay_epochs=2.4, random_size_epochs=16, ema_decay=0.99,
    dropout=Ramp(0.1, 0.2), randaugment=Ramp(2, 10), mixup=Ramp(0, 0.2), cutmix=None,
    drop_path=Ramp(0.1, 0.1), cutout=0.2, crop_area_min=0.36, patience_epochs=8,
)  # fmt: skip


def test_another_length_changes_what_it_should_and_nothing_else() -> None:
    short, full = FULL.lasting(8).to_dict(), FULL.to_dict()
    changed = {name: value for name, value in short.items() if value != full[name]}
    assert changed == {
        # The same share of the training.
        "epochs": 8, "warmup_epochs": 0.5, "decay_epochs": pytest.approx(0.6),
        "random_size_epochs": 4, "patience_epochs": 2, "ema_decay": pytest.approx(0.96),
        # A quarter of the length has half the regularization.
        "dropout": pytest.approx((0.05, 0.1)), "randaugment": pytest.approx((1, 5)),
        "mixup": pytest.approx((0, 0.1)), "drop_path": pytest.approx((0.05, 0.05)),
        "cutout": pytest.approx(0.1), "crop_area_min": pytest.approx(0.68),
    }  # fmt: skip


def near(recipe: Recipe) -> dict[str, Any]:
    return {
        name: pytest.approx(value, rel=1e-9) if isinstance(value, float | tuple) else value
        for name, value in recipe.to_dict().items()
    }


@pytest.mark.parametrize(
    ("recipe", "epochs"),
    [(FULL, 4), (FULL, 48), (default_recipe(), 4)],
    ids=["shorter", "longer", "default"],
)
def test_a_length_and_back_is_the_same_recipe(recipe: Recipe, epochs: float) -> None:
    assert recipe.lasting(recipe.epochs) is recipe
    there = recipe.lasting(epochs)
    assert there.epochs == epochs
    assert there.lasting(recipe.epochs).to_dict() == near(recipe)


@given(st.floats(0.001, 10_000))
def test_any_length_is_a_recipe_within_its_limits(epochs: float) -> None:
    for recipe in (FULL, load_recipe("v2-l")):
        found = recipe.lasting(epochs)  # which checks all ranges
        assert found.warmup_epochs / epochs == pytest.approx(recipe.warmup_epochs / recipe.epochs)
        for name, most in STRENGTHS.items():
            assert (ramp := getattr(found, name)) is None or ramp.last <= most
        assert found.crop_area_min >= min(0.05, recipe.crop_area_min)
        assert found.cutout <= 1
        assert found.ema_decay is not None
        assert 0 <= found.ema_decay <= 0.99999
        kept = ("batch_size", "learning_rate", "weight_decay", "image_size", "label_smoothing")
        assert all(getattr(found, name) == getattr(recipe, name) for name in kept)


# -- what earlier versions stored


def stored(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((GOLDEN / folder / "manifest.json").read_text())["recipe"]
    return found


@pytest.mark.parametrize("folder", ["run", "rungs", "run-finals", "layers"])
def test_a_stored_recipe_of_trials_trains_as_it_did(folder: str) -> None:
    old = stored(folder)
    found = from_plain(upgraded(old), Recipe)
    assert (found.regime, found.schedule, found.ema_decay) == ("fixed", "cosine", None)
    assert found.image_size == (old["image_size"], old["image_size"])
    assert found.eval_image_size == old["image_size"]
    assert found.learning_rate == pytest.approx(old["learning_rate"])
    assert found.warmup_epochs == pytest.approx(old["warmup_share"] * old["epochs"])
    assert found.dropout == found.drop_path == Ramp(0, 0)
    for name in ("epochs", "batch_size", "optimizer", "weight_decay", "data_share", "flip",
                 "crop_area_min", "label_smoothing", "holdout_share"):  # fmt: skip
        assert getattr(found, name) == old[name]


def test_a_stored_recipe_of_a_training_is_the_same_but_for_a_name() -> None:
    old = stored("training-stopped")
    found = from_plain(upgraded(old), Recipe).to_dict()
    assert found.pop("holdout_share") == old.pop("minival_share")
    assert found.pop("train_time_s") is found.pop("data_share") is None
    assert (found.pop("stem_init"), found.pop("classifier_init")) == ("default", 1)
    assert json.loads(json.dumps(found)) == old


@pytest.mark.parametrize("folder", ["run", "proxy", "training"])
def test_what_this_version_stores_stays_as_it_is(folder: str) -> None:
    now = upgraded(stored(folder))
    assert upgraded(now) == now
    assert upgraded(FULL.to_dict()) == FULL.to_dict()
