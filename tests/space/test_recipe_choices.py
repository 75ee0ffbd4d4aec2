"""Choices of the recipe are decisions of a space: named, drawn, constrained, stored and encoded."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from effnas import Architecture, SearchSpace, Trial
from effnas.config.recipe import Recipe
from effnas.config.recipe_choice import RecipeChoice, decided
from effnas.controllers.encoding import Encoding
from effnas.errors import SpaceError
from effnas.trials.store import from_record, to_record

TEXT = """
stem: 8
stages:
  - <fused|mbconv_se0.25>_r1_k<3|5>_s2_e4_c16
recipe:
  batch_size: <64|128|256>
  optimizer: <adamw|muon>
  image_size: <16..32|32..32>
constraints:
  - recipe.batch_size <= 128 or recipe.optimizer == 'muon'
"""
SPACE = SearchSpace.parse(TEXT)


def test_decisions_of_the_recipe_are_named_and_make_one_id() -> None:
    names = [choice.name for choice in SPACE.choices]
    assert names[-3:] == ["recipe.batch_size", "recipe.image_size", "recipe.optimizer"]
    first = SPACE.with_default_recipe(SPACE.reference)
    others = list(SPACE.neighbours(first))
    assert len({arch.id for arch in (first, *others)}) == 1 + len(others)
    assert first.network == SPACE.reference
    assert first.id != first.network.id == Architecture.parse(str(first), stem=8).id


def test_the_text_reads_back_and_tells_spaces_apart() -> None:
    assert SearchSpace.parse(SPACE.to_text()) == SPACE
    assert SearchSpace.parse(TEXT.replace("<adamw|muon>", "<adamw|sgd>")).id != SPACE.id


def test_all_architectures_are_the_product_and_meet_constraints_over_the_recipe() -> None:
    every = list(SPACE.architectures())
    assert SPACE.size == 4 * 3 * 2 * 2
    assert len(every) == len({arch.id for arch in every}) == 4 * 2 * (3 + 2)
    for arch in every:
        assert SPACE.architecture(SPACE.decisions(arch) or {}) == arch
        taken = dict(arch.recipe)
        assert taken["optimizer"] == "muon" or int(taken["batch_size"]) <= 128


def test_draws_and_walks_reach_every_option() -> None:
    rng = np.random.default_rng(0)
    arch = SPACE.sample(rng)
    seen: Counter[tuple[str, object]] = Counter()
    for _ in range(300):
        mutant = SPACE.mutate(arch, rng)
        mine, theirs = (SPACE.decisions(each) or {} for each in (arch, mutant))
        assert sum(mine[name] != theirs[name] for name in mine) == 1
        arch = mutant
        seen.update(arch.recipe)
    assert len(seen) == 3 + 2 + 2


def test_a_trial_is_stored_with_its_recipe() -> None:
    arch = SPACE.sample(np.random.default_rng(1))
    record = to_record(Trial(number=3, architecture=arch))
    assert record["recipe"] == dict(arch.recipe)
    found = from_record(record, SPACE)
    assert found.architecture == arch
    assert found.to_row()["recipe.optimizer"] == dict(arch.recipe)["optimizer"]
    with pytest.raises(ValueError, match="does not belong"):
        from_record({**record, "recipe": {**record["recipe"], "batch_size": 7}}, SPACE)


def test_the_encoding_has_a_group_of_columns_for_the_recipe_with_logarithms() -> None:
    encoding, plain = Encoding(SPACE), Encoding(replace(SPACE, recipe=(), constraints=()))
    assert len(encoding.groups) == len(plain.groups) + 1
    first = SPACE.with_default_recipe(SPACE.reference)
    sizes = [
        replace(first, recipe=tuple((dict(first.recipe) | {"batch_size": size}).items()))
        for size in (64, 128, 256)
    ]
    columns = encoding.matrix(sizes)[:, encoding.groups[-1]]
    steps = np.diff(columns, axis=0)
    assert np.allclose(steps[0], steps[1])  # powers of two are evenly spaced
    assert np.count_nonzero(np.abs(steps[0]) > 1e-9) == 1
    assert np.allclose(np.diff(encoding.matrix(sizes)[:, : encoding.groups[-1].start], axis=0), 0)


def test_a_space_of_one_model_of_timm_is_its_recipes() -> None:
    space = SearchSpace.parse("network: resnet10t\nrecipe: {weight_decay: <0|0.01|0.1>}\n")
    assert space.size == 3
    arch = space.sample(np.random.default_rng(0))
    assert (str(arch), arch.model) == ("resnet10t", "resnet10t")
    assert SearchSpace.parse(space.to_text()) == space
    found = from_record(to_record(Trial(number=0, architecture=arch)), space)
    assert found.architecture == arch
    assert space.count(arch).params == pytest.approx(5.4e6, rel=0.1)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("recipe: {batch_size: 64}", "batch_size is no choice"),
        ("recipe: {epochs: <1|2>}", "epochs is the same for all candidates"),
        ("recipe: {batch_size: <64>}", "2 to 1000 different options"),
        ("recipe: {learning_rate_per_256: <0|0.1>}", "it must be above 0"),
        ("recipe: {width: <1|2>}", "unknown key 'width'"),
        ("network: resnet18", "leave out stages"),
    ],
)
def test_a_wrong_choice_is_refused_with_its_place(line: str, message: str) -> None:
    with pytest.raises(SpaceError, match=message) as error:
        SearchSpace.parse(f"stages: [conv_r1_k3_s1_c8]\n{line}\n")
    assert "space:" in str(error.value)


def test_decisions_are_about_the_recipe_before_it_was_made_short() -> None:
    full = Recipe(epochs=40, image_size=(16, 32), eval_image_size=32)
    short = full.lasting(10)
    found = decided(short, {"ema_decay": 0.99, "image_size": "32..32"}, full_epochs=40)
    assert found.epochs == 10
    assert found.ema_decay == pytest.approx(1 - 0.01 * 4)
    assert found.image_size == (32, 32)
    assert decided(short, {}, full_epochs=40).lasting(40).warmup_epochs == full.warmup_epochs


def test_a_choice_is_read_around_the_value_of_the_recipe_below() -> None:
    choice = RecipeChoice("learning_rate_per_256", (0.002, 0.004, 0.008, 0.016))
    assert choice.around(0.007).options == (0.008, 0.002, 0.004, 0.016)
    assert choice.is_log
    assert not RecipeChoice("label_smoothing", (0, 0.1, 0.2)).is_log
