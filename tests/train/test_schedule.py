"""Learning rates: those of the published training, and what each schedule promises."""

from __future__ import annotations

from dataclasses import replace
from math import cos, pi

import pytest
import torch

from effnas.config.recipe import Recipe
from effnas.config.recipe_file import load_recipe
from effnas.train.schedule import make_schedule

RECIPE = Recipe(batch_size=256, learning_rate_per_256=0.4, warmup_epochs=2)
STEPS_PER_EPOCH, EPOCHS = 10, 20
STEPS = STEPS_PER_EPOCH * EPOCHS


def rates(
    recipe: Recipe, *, steps: int = STEPS, steps_per_epoch: int = STEPS_PER_EPOCH
) -> list[float]:
    """The learning rate of each step."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=recipe.learning_rate)
    schedule = make_schedule(optimizer, recipe, steps=steps, steps_per_epoch=steps_per_epoch)
    found = []
    for step in range(steps):
        schedule.step_update(step)
        found.append(float(optimizer.param_groups[0]["lr"]))
    return found


def test_the_published_schedule_comes_out() -> None:
    steps_per_epoch = 1_256_144 // 4096
    recipe = load_recipe("v2-s")
    found = rates(recipe, steps=350 * steps_per_epoch, steps_per_epoch=steps_per_epoch)
    assert found[5 * steps_per_epoch] == pytest.approx(0.2409, abs=0.00005)
    assert found[-1] == pytest.approx(0.0031, abs=0.00005)
    assert max(found) < 0.256
    stairs = sorted(set(found[5 * steps_per_epoch :]), reverse=True)
    assert stairs == pytest.approx([0.256 * 0.97**n for n in range(2, 146)])


@pytest.mark.parametrize("name", ["cosine", "staircase", "constant"])
@pytest.mark.parametrize("epochs", [2.0, 0.55])
def test_a_warm_up_grows_in_equal_parts_from_above_0(name: str, epochs: float) -> None:
    found = rates(replace(RECIPE, schedule=name, warmup_epochs=epochs))
    count = round(epochs * STEPS_PER_EPOCH)
    assert found[:count] == pytest.approx([0.4 * (n + 1) / (count + 1) for n in range(count)])


@pytest.mark.parametrize("warmup", [0.0, 2.0])
def test_a_cosine_begins_after_the_warm_up_and_ends_near_0(warmup: float) -> None:
    found = rates(replace(RECIPE, warmup_epochs=warmup))
    first = round(warmup * STEPS_PER_EPOCH)
    left = STEPS - first
    assert found[first:] == pytest.approx([0.2 * (1 + cos(pi * n / left)) for n in range(left)])
    assert found[first] == pytest.approx(0.4)
    assert 0 < found[-1] < 1e-3 * 0.4


def test_stairs_are_counted_from_the_start() -> None:
    recipe = replace(RECIPE, schedule="staircase", decay_epochs=1.5, decay_rate=0.5)
    found = rates(recipe)
    assert found[20:] == pytest.approx([0.4 * 0.5 ** (n // 15) for n in range(20, STEPS)])
    at_once = rates(replace(recipe, warmup_epochs=0))
    assert at_once == pytest.approx([0.4 * 0.5 ** (n // 15) for n in range(STEPS)])


@pytest.mark.parametrize("name", ["cosine", "staircase", "constant"])
def test_a_warm_up_longer_than_the_training_is_cut(name: str) -> None:
    found = rates(replace(RECIPE, schedule=name, warmup_epochs=1000), steps=5)
    assert found == pytest.approx([0.4 * n / 6 for n in range(1, 6)])
