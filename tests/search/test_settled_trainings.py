"""What trials are trained by follows from what is given, and from what is stored."""

from __future__ import annotations

import pytest

from effnas.config.recipe import TRIAL_EPOCHS
from effnas.config.recipe_file import load_recipe
from effnas.errors import ConfigError
from effnas.search.trainings import Trainings


def test_trainings_are_of_four_epochs_and_never_pause_unless_something_is_given() -> None:
    found = Trainings.settle(None, None)
    assert found.recipe == load_recipe("default").lasting(TRIAL_EPOCHS)
    assert (found.full_epochs, found.rungs) == (load_recipe("default").epochs, None)
    assert (found.default_budget, found.default_reward) == (1000, "v2")


def test_a_training_time_brings_rungs_a_smaller_budget_and_accuracy() -> None:
    found = Trainings.settle("quick", None, train_time_s=240.0)
    assert found.recipe.train_time_s == 240
    assert found.rungs is not None
    assert (found.rungs.at, found.rungs.in_seconds) == ((15, 60, 240), True)
    assert (found.default_budget, found.default_reward) == (60, "accuracy")
    assert Trainings.settle("quick", None, train_time_s=240.0, fidelity="none").rungs is None


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
