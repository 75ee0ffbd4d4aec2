"""What trials are trained by follows from what is given, and from what is stored."""

from __future__ import annotations

from dataclasses import replace

import pytest

from effnas.config.recipe import TRIAL_EPOCHS
from effnas.config.recipe_file import load_recipe
from effnas.errors import ConfigError
from effnas.search.trainings import Trainings
from effnas.trials.manifest import SearchManifest
from effnas.trials.manifest_parts import SourcedSpacePart


def test_trainings_are_of_four_epochs_and_never_pause_unless_something_is_given() -> None:
    found = Trainings.settle(None, None)
    assert found.recipe == load_recipe("default").lasting(TRIAL_EPOCHS)
    assert (found.full_epochs, found.rungs) == (load_recipe("default").epochs, None)
    assert (found.default_budget, found.default_reward) == (1000, "v2")


@pytest.mark.parametrize(
    ("time_s", "trial_s"), [(20, 20), (60, 60), (90, 60), (240, 60), (900, 225)]
)
def test_trials_last_a_quarter_of_the_training_time_and_a_minute_at_least(
    time_s: float, trial_s: float
) -> None:
    found = Trainings.settle("quick", None, train_time_s=time_s)
    assert (found.recipe.train_time_s, found.full_train_time_s) == (trial_s, time_s)
    assert found.rungs is None
    assert (found.default_budget, found.default_reward) == (60, "accuracy")


@pytest.mark.parametrize("fidelity", ["none", "60s,240s"])
def test_trials_are_as_long_as_fidelity_says(fidelity: str) -> None:
    found = Trainings.settle("quick", None, train_time_s=240.0, fidelity=fidelity)
    assert (found.recipe.train_time_s, found.full_train_time_s) == (240, 240)


@pytest.mark.parametrize(
    ("full_s", "given_s", "settled"),
    [
        (240.0, 240.0, (60, 240)),
        (240.0, None, (60, 240)),
        (240.0, 200.0, (60, 200)),
        (60.0, 60.0, (60, 60)),
        (None, 60.0, (60, 60)),  # begun by a version that did not store it
        (None, None, (60, None)),
    ],
)
def test_a_search_that_goes_on_keeps_the_length_of_its_trials(
    full_s: float | None, given_s: float | None, settled: tuple[float, float | None]
) -> None:
    recipe = replace(load_recipe("quick"), train_time_s=60.0)
    space = SourcedSpacePart(name="tiny", text="")
    stored = SearchManifest(recipe=recipe, full_train_time_s=full_s, space=space)
    found = Trainings.settle(None, stored, train_time_s=given_s)
    assert (found.recipe.train_time_s, found.full_train_time_s) == settled


@pytest.mark.parametrize(
    ("fidelity", "length"), [("1,2,8", ("epochs", 8)), ("15s,60s", ("train_time_s", 60))]
)
def test_rungs_say_how_long_trainings_are(fidelity: str, length: tuple[str, float]) -> None:
    name, value = length
    assert getattr(Trainings.settle("quick", None, fidelity=fidelity).recipe, name) == value


def test_what_is_given_closes_a_choice_or_is_refused() -> None:
    closed = Trainings.settle("small", None, closes=True, batch_size=96, train_time_s=60.0)
    assert closed.recipe_space is not None
    assert "batch_size" not in {choice.name for choice in closed.recipe_space.choices}
    assert closed.recipe.batch_size == 96
    with pytest.raises(ConfigError, match=r"small: batch_size is open, .*; leave out"):
        Trainings.settle("small", None, batch_size=96, train_time_s=60.0)
