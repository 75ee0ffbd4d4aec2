"""Stages: Algorithm 1 of the paper, as Table 6 and its interpolation have it, and its arms."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effnas.config.recipe import Recipe, Regime
from effnas.config.recipe_file import load_recipe
from effnas.config.regularization import Ramp
from effnas.train.stages import Stage, stages_of

patient = settings(deadline=None)  # the machine may be busy
RECIPE = Recipe(
    epochs=40,
    image_size=(32, 96),
    dropout=Ramp(0.1, 0.3),
    randaugment=Ramp(2, 10),
    mixup=Ramp(0, 0.4),
    cutmix=Ramp(0.1, 0.5),
    drop_path=Ramp(0, 0.2),
)
STEPS = {"v2": 1_256_144 // 4096, "mine": 10}
STRENGTHS = ("dropout", "randaugment", "mixup", "cutmix", "drop_path")


def stages(regime: Regime, seed: int = 0, **changes: Any) -> tuple[Stage, ...]:
    recipe = replace(RECIPE, regime=regime, **changes)
    return stages_of(recipe, steps_per_epoch=STEPS["mine"], seed=seed)


def share(stage: Stage) -> float:
    """How far the images have grown."""
    return (stage.image_size - 32) / (96 - 32)


def shares(stage: Stage) -> list[float]:
    """How far each strength has grown."""
    ramps = {name: getattr(RECIPE, name) for name in STRENGTHS}
    return [
        (getattr(stage.strengths, name) - ramp.first) / (ramp.last - ramp.first)
        for name, ramp in ramps.items()
    ]


# -- the published trainings


@pytest.mark.parametrize(
    ("name", "sizes", "randaugment", "mixup", "dropout"),
    [
        ("v2-s", [128, 185, 243, 300], [5, 8.33, 11.67, 15], [0] * 4, [0.1, 0.167, 0.233, 0.3]),
        ("v2-l", [128, 212, 296, 380], [5, 11.67, 18.33, 25], [0, 0.133, 0.267, 0.4],
         [0.1, 0.233, 0.367, 0.5]),
        ("v2-released", [171, 214, 257, 300], [5, 6.67, 8.33, 10], [0] * 4, [0.2] * 4),
    ],
)  # fmt: skip
def test_the_published_stages_come_out(
    name: str, sizes: list[int], randaugment: list[float], mixup: list[float], dropout: list[float]
) -> None:
    found = stages_of(load_recipe(name), steps_per_epoch=STEPS["v2"])
    assert [stage.image_size for stage in found] == sizes
    assert [s.strengths.randaugment for s in found] == pytest.approx(randaugment, abs=0.005)
    assert [s.strengths.mixup for s in found] == pytest.approx(mixup, abs=0.0005)
    assert [s.strengths.dropout for s in found] == pytest.approx(dropout, abs=0.0005)
    assert [s.strengths.cutmix for s in found] == [0] * 4
    assert [s.strengths.drop_path for s in found] == [0.2] * 4
    assert [s.steps / STEPS["v2"] for s in found] == pytest.approx([87.5] * 4, abs=0.01)


@pytest.mark.parametrize(
    ("last", "sizes"),
    [
        (384, [192, 256, 320, 384]),  # M, L and XL
        (192, [144, 160, 176, 192]),  # B0 and B1
        (208, [148, 168, 188, 208]),  # B2
        (240, [156, 184, 212, 240]),  # B3
    ],
)
def test_the_released_code_never_trains_at_the_first_size(last: int, sizes: list[int]) -> None:
    recipe = replace(load_recipe("v2-released"), image_size=(128, last))
    assert [s.image_size for s in stages_of(recipe, steps_per_epoch=9)] == sizes


# -- Algorithm 1


recipes = st.builds(
    lambda first, more, count, epochs, least, multiple, skip, regime: replace(
        RECIPE,
        image_size=(first, first + more),
        stages=count,
        epochs=epochs,
        least_steps=least,
        size_multiple=multiple,
        skip_first_size=skip,
        regime=regime,
    ),
    st.integers(1, 300), st.integers(0, 300), st.integers(2, 12), st.integers(1, 60),
    st.integers(0, 500), st.sampled_from([1, 8, 32]), st.booleans(),
    st.sampled_from(get_args(Regime)),
)  # fmt: skip


@patient
@given(recipes, st.integers(1, 100), st.integers(0, 2**63))
def test_stages_follow_one_another_and_stay_within_the_range(
    recipe: Recipe, steps_per_epoch: int, seed: int
) -> None:
    assert recipe.image_size is not None
    small, large = recipe.image_size
    found = stages_of(recipe, steps_per_epoch=steps_per_epoch, seed=seed)
    assert found[0].first_step == 0
    assert all(before.end == after.first_step for before, after in pairwise(found))
    assert found[-1].end % steps_per_epoch == 0
    assert found[-1].end >= max(recipe.epochs * steps_per_epoch, recipe.least_steps)
    assert found[-1].end < max(
        recipe.epochs * steps_per_epoch + 1, recipe.least_steps + steps_per_epoch
    )
    for stage in found:
        assert stage.steps >= 1
        assert small <= stage.image_size <= large
        assert all(-1e-9 <= one <= 1 + 1e-9 for one in shares(stage))
        on_grid = stage.image_size % recipe.size_multiple == 0
        assert on_grid or stage.image_size in (small, large)
    if recipe.regime.startswith("progressive"):
        assert len(found) == min(recipe.stages, found[-1].end)
        assert max(s.steps for s in found) - min(s.steps for s in found) <= 1
        sizes = [stage.image_size for stage in found]
        assert sizes == sorted(sizes)
    if not recipe.regime.startswith("random"):
        assert found[-1].image_size == large
        assert shares(found[-1]) == pytest.approx([1] * 5)


@pytest.mark.parametrize("count", [2, 5])
def test_sizes_and_strengths_grow_in_equal_parts(count: int) -> None:
    found = stages("progressive-adaptive", stages=count)
    expected = [n / (count - 1) for n in range(count)]
    assert [share(stage) for stage in found] == pytest.approx(expected, abs=0.5 / 64 + 1e-9)
    for stage, one in zip(found, expected, strict=True):
        assert shares(stage) == pytest.approx([one] * 5)


def test_strengths_grow_from_the_first_on_though_the_first_size_is_skipped() -> None:
    found = stages("progressive-adaptive", skip_first_size=True)
    assert [stage.image_size for stage in found] == [48, 64, 80, 96]
    assert [shares(stage)[0] for stage in found] == pytest.approx([0, 1 / 3, 2 / 3, 1])


# -- random sizes


def test_random_sizes_are_a_function_of_the_seed_and_spread_over_the_range() -> None:
    changes = {"epochs": 4000, "random_size_epochs": 1}
    found = stages("random-size", seed=3, **changes)
    assert found == stages("random-size", seed=3, **changes)
    assert found != stages("random-size", seed=4, **changes)
    drawn = [share(stage) for stage in found]
    assert sum(drawn) / len(drawn) == pytest.approx(0.5, abs=0.03)
    assert (min(drawn), max(drawn)) == (0, 1)
    assert sum(one < 0.25 for one in drawn) / len(drawn) == pytest.approx(0.25, abs=0.03)


# -- ends


@pytest.mark.parametrize(("epochs", "sizes"), [(1, [96]), (3, [32, 64, 96])])
def test_there_are_no_more_stages_than_steps(epochs: int, sizes: list[int]) -> None:
    recipe = replace(RECIPE, epochs=epochs)
    found = stages_of(recipe, steps_per_epoch=1)
    assert [(stage.steps, stage.image_size) for stage in found] == [(1, size) for size in sizes]


@pytest.mark.parametrize(("least", "steps"), [(400, 400), (401, 410)])
def test_epochs_are_added_until_there_are_enough_steps(least: int, steps: int) -> None:
    assert stages("progressive", least_steps=least)[-1].end == steps
