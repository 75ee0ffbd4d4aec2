"""Recipes: the shipped ones say what is published, and what is wrong in a file is pointed at."""

from __future__ import annotations

import json
import pickle
from dataclasses import fields, replace
from itertools import pairwise
from math import ceil, log2
from pathlib import Path

import pytest

from effnas.config.catalog import names
from effnas.config.recipe import Recipe
from effnas.config.recipe_choice import decided, recipe_value
from effnas.config.recipe_file import RecipeSpace, load_recipe
from effnas.config.regularization import Ramp
from effnas.config.text import Option, option_text
from effnas.errors import CatalogError, ConfigError

SHIPPED = (
    "cifar", "default", "family", "finetune", "pretrain-21k", "quick", "tiny", "v1", "v2-l", "v2-m",
    "v2-released", "v2-s",
)  # fmt: skip
WITH_CHOICES = ("small",)
PAPER = {"alpha": 0.9, "momentum": 0.9, "eps": 0.001}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(text: str, name: str = "mine.yaml") -> Recipe:
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text(text)
    return load_recipe(name)


# -- what is shipped


def test_the_shipped_recipes_are_these(folder: Path) -> None:
    assert names("recipes") == sorted((*SHIPPED, *WITH_CHOICES))


@pytest.mark.parametrize("name", WITH_CHOICES)
def test_a_shipped_recipe_with_choices_begins_around_its_base(folder: Path, name: str) -> None:
    found, default = RecipeSpace.load(name), load_recipe("quick")
    opened = {choice.name for choice in found.choices}
    assert {"optimizer", "learning_rate_per_256", "batch_size", "image_size"} <= opened
    for same in ("optimizer", "batch_size", "weight_decay", "ema_decay", "crop_area_min"):
        assert getattr(found.recipe, same) == getattr(default, same)
    near = found.recipe.learning_rate_per_256 / default.learning_rate_per_256
    assert 2**-0.25 <= near <= 2**0.25


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_loads_from_anywhere_and_is_json(folder: Path, name: str) -> None:
    recipe = load_recipe(name)
    found = recipe.to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)).keys() == found.keys()
    assert pickle.loads(pickle.dumps(recipe)) == recipe  # it is sent to other processes
    assert list(found) == [f.name for f in fields(Recipe)]
    for strength in ("dropout", "randaugment", "mixup", "cutmix", "drop_path"):
        ramp = getattr(recipe, strength)
        assert found[strength] == (ramp and (ramp.first, ramp.last))


@pytest.mark.parametrize(
    ("name", "size", "eval_size", "dropout", "randaugment", "mixup"),
    [
        ("v2-s", 300, 384, 0.3, 15, 0),
        ("v2-m", 380, 480, 0.4, 20, 0.2),
        ("v2-l", 380, 480, 0.5, 25, 0.4),
    ],
)
def test_v2_is_table_6_and_section_4_of_the_paper(
    name: str, size: int, eval_size: int, dropout: float, randaugment: float, mixup: float
) -> None:
    recipe = load_recipe(name)
    assert recipe.image_size == (128, size)
    assert recipe.eval_image_size == eval_size
    assert recipe.dropout == Ramp(0.1, dropout)
    assert recipe.randaugment == Ramp(5, randaugment)
    assert recipe.mixup == Ramp(0, mixup)
    assert recipe.cutmix == Ramp(0, 0)
    assert recipe.drop_path == Ramp(0.2, 0.2)  # survival 0.8 in all stages
    assert (recipe.regime, recipe.stages, recipe.size_multiple) == ("progressive-adaptive", 4, 1)
    assert not recipe.skip_first_size
    assert (recipe.epochs, recipe.batch_size) == (350, 4096)
    assert (recipe.optimizer, dict(recipe.optimizer_arguments)) == ("rmsproptf", PAPER)
    assert recipe.learning_rate == pytest.approx(0.256)
    assert recipe.weight_decay == 1e-5
    assert (recipe.schedule, recipe.warmup_epochs) == ("staircase", 5)
    assert (recipe.decay_epochs, recipe.decay_rate) == (2.4, 0.97)
    assert recipe.ema_decay == 0.9999
    assert recipe.batch_norm_momentum == 0.99
    assert (recipe.label_smoothing, recipe.crop_area_min) == (0.1, 0.05)
    assert recipe.holdout_share * 1_281_167 == pytest.approx(25_000, rel=0.03)


def test_the_released_code_differs_from_the_paper_where_it_does() -> None:
    paper, released = (load_recipe(name).to_dict() for name in ("v2-s", "v2-released"))
    assert {name: value for name, value in released.items() if paper[name] != value} == {
        "skip_first_size": True,
        "dropout": (0.2, 0.2),
        "randaugment": (5, 10),
        "batch_norm_momentum": 0.9,
    }


def test_pre_training_has_one_size_and_no_regularisation() -> None:
    recipe = load_recipe("pretrain-21k")
    assert (recipe.regime, recipe.image_size, recipe.epochs) == ("fixed", (224, 224), 60)
    for name in ("dropout", "randaugment", "mixup", "cutmix", "drop_path"):
        assert getattr(recipe, name) == Ramp(0, 0)
    assert (recipe.label_smoothing, recipe.cutout) == (0, 0)
    assert recipe.learning_rate == pytest.approx(0.008 * 4096 / 256)
    assert (recipe.schedule, recipe.warmup_epochs) == ("cosine", 1)
    assert recipe.holdout_share * 12_720_275 == pytest.approx(100_000, rel=0.03)


def test_fine_tuning_is_that_of_the_paper() -> None:
    recipe = load_recipe("finetune")
    assert (recipe.batch_size, recipe.least_steps, recipe.epochs) == (512, 10_000, 15)
    assert recipe.learning_rate == pytest.approx(0.001)
    assert (recipe.schedule, recipe.weight_decay, recipe.ema_decay) == ("cosine", 0, 0.9996)
    assert recipe.cutout > 0
    assert (recipe.image_size, recipe.regime) == (None, "fixed")


# -- files of one's own


def test_a_recipe_is_found_in_the_working_folder_and_by_its_path(folder: Path) -> None:
    mine = load("epochs: 7\nmixup: 0.2\nimage_size: 48\n", "recipes/mine.yaml")
    assert mine == load_recipe("mine")
    assert mine == load_recipe(str(folder / "recipes" / "mine.yaml"))
    assert mine == Recipe(epochs=7, mixup=Ramp(0.2, 0.2), image_size=(48, 48))
    with pytest.raises(CatalogError, match="no recipe is called 'minne'; did you mean 'mine'"):
        load_recipe("minne")


def test_what_a_file_does_not_say_is_its_bases(folder: Path) -> None:
    load("base: v2-s\nepochs: 90\noptimizer_arguments: {eps: 0.1}\n", "recipes/a.yaml")
    load("base: a\nepochs: 9\ndropout: null\nimage_size: ~\nema_decay: null\n", "b.yaml")
    found = load_recipe("b.yaml").to_dict()
    assert found == load_recipe("v2-s").to_dict() | {
        "epochs": 9,
        "optimizer_arguments": {"eps": 0.1},
        "dropout": None,
        "image_size": None,
        "ema_decay": None,
    }


def test_bases_that_go_round_or_are_not_there_are_pointed_at(folder: Path) -> None:
    Path("b.yaml").write_text("base: a.yaml\n")
    with pytest.raises(ConfigError, match=r"^[ab].yaml:\d:7: more than 10 recipes"):
        load("epochs: 3\nbase: b.yaml\n", "a.yaml")
    with pytest.raises(ConfigError, match=r"^mine.yaml:1:7: no recipe is called 'v2-x'; did"):
        load("base: v2-x\n")


@pytest.mark.parametrize(
    ("line", "column", "words"),
    [
        ("epoch: 3", 1, "unknown key 'epoch'; did you mean 'epochs'"),
        ("image_size: [64, 32]", 13, "image_size goes from 64 to 32 px; .* do not decrease"),
        ("randaugment: [10, 5]", 14, "randaugment goes from 10 to 5; .* do not decrease"),
        ("dropout: [0, 1.5]", 10, "dropout goes from 0 to 1.5; strengths are 0 to 1 and"),
        ("drop_path: {first: 0}", 12, "expected a number, found a mapping"),
        ("epochs: 0", 9, "epochs is 0, it must be above 0"),
        ("epochs: null", 9, "epochs needs a value"),
        ("crop_area_min: 0", 16, "crop_area_min is 0.0, it must be above 0 to 1"),
        ("batch_norm_momentum: 0", 22, "momentum is 0.0, it must be above 0 to below 1"),
        ("learning_rate_per_256: 0", 24, "learning_rate_per_256 is 0.0, it must be above 0"),
        ("regime: growing", 9, "regime is 'growing'; known: fixed, progressive, "),
        ("flip: yes", 7, "flip must be true or false"),
        ("optimizer_arguments: {eps: small}", 28, "expected a number, found 'small'"),
    ],
)
def test_what_is_wrong_in_a_file_is_pointed_at(
    folder: Path, line: str, column: int, words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as raised:
        load(f"base: tiny\n{line}\n")
    message, excerpt, caret = str(raised.value).splitlines()
    assert message.startswith(f"mine.yaml:2:{column}: ")
    assert excerpt == f"  {line}"
    assert caret == " " * (column + 1) + "^"


# -- what the command line changes


@pytest.mark.parametrize(
    ("text", "sizes"), [("64", (27, 64)), ("300", (128, 300)), ("32..64", (32, 64)), ("1", (1, 1))]
)
def test_an_image_size_is_the_last_or_both(text: str, sizes: tuple[int, int]) -> None:
    recipe = load_recipe("v2-s").overridden(image_size=text)
    assert recipe.image_size == sizes
    assert recipe.eval_image_size is None  # the last size, and not the one of ImageNet


def test_only_what_is_given_changes() -> None:
    recipe = load_recipe("finetune")
    assert recipe.overridden() == recipe
    changed = recipe.overridden(batch_size=64, regime="progressive", holdout_share=0.2)
    before = recipe.to_dict()
    assert {name: v for name, v in changed.to_dict().items() if before[name] != v} == {
        "batch_size": 64,
        "regime": "progressive",
        "holdout_share": 0.2,
    }
    assert changed.learning_rate == pytest.approx(recipe.learning_rate / 8)


# -- choice sets


def space_of(line: str) -> RecipeSpace:
    Path("mine.yaml").write_text(f"base: tiny\n{line}\n")
    return RecipeSpace.load("mine.yaml")


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("optimizer: <adamw|lamb>", ("adamw", "lamb")),
        ("schedule: <cosine|linear>", ("cosine", "linear")),
        ("skip_first_size: <true|false>", ("true", "false")),
        ("batch_size: <64|128|256>", (128, 64, 256)),
        ("stages: <2..5>", (4, 2, 3, 5)),
        ("batch_size: <32..128:32>", (128, 32, 64, 96)),
        ("batch_size: <1..8:log4>", (8, 1, 2, 4)),
        ("label_smoothing: <0..0.3:0.1>", (0.1, 0, 0.2, 0.3)),
        ("weight_decay: <0|0.01..0.04:log3>", (0.04, 0, 0.01, 0.02)),
        ("dropout: <0|0.1..0.3>", (0, "0.1..0.3")),
        ("image_size: <20..32|32>", ("20..32", "32")),
    ],
)
def test_a_choice_has_its_options_first_the_one_nearest_to_its_base(
    folder: Path, line: str, options: tuple[Option, ...]
) -> None:
    found = space_of(line)
    (choice,) = found.choices
    assert choice.options == options
    assert choice.is_log == (":log4" in line or "|128|" in line)
    name = choice.name
    for option in options:
        made = decided(found.recipe, {name: option})
        assert getattr(made, name) == recipe_value(name, option)
        unchanged = {**made.to_dict(), name: None, "eval_image_size": None}
        assert unchanged == {**found.recipe.to_dict(), name: None, "eval_image_size": None}
        # An option is the text that a file has without a choice.
        ends = option_text(option).split("..")
        value = f"[{', '.join(ends)}]" if len(ends) == 2 else ends[0]
        assert load(f"base: tiny\n{name}: {value}\n") == replace(
            made, eval_image_size=found.recipe.eval_image_size
        )
    assert getattr(found.recipe, name) == recipe_value(name, options[0])
    again = space_of(f"{name}: {choice}")
    assert again.choices[0].options == options


@pytest.mark.parametrize(("low", "high"), [(0.004, 0.06), (1e-5, 1.0), (0.5, 0.6)])
def test_a_geometric_sequence_has_both_ends_and_small_steps(
    folder: Path, low: float, high: float
) -> None:
    (choice,) = space_of(f"learning_rate_per_256: <{low}..{high}:log>").choices
    options = sorted(float(one) for one in choice.options)
    assert choice.is_log == (len(options) > 2)
    assert (options[0], options[-1]) == (low, high)
    assert all(1 < b / a < 2**0.5 * 1.01 for a, b in pairwise(options))
    fewer = high / low
    assert len(options) == 1 + ceil(2 * log2(fewer) - 1e-9)


@pytest.mark.parametrize(
    ("native", "options"),
    [
        (32, ("24..32", "16..32", "32..32")),
        (64, ("48..64", "32..64", "64..64")),
        (2, ("2..2", "1..2")),
    ],
)
def test_image_sizes_may_be_shares_of_the_images_own(
    folder: Path, native: int, options: tuple[str, ...]
) -> None:
    found = space_of("image_size: <75%..100%|50%..100%|100%>")
    (choice,) = found.choices
    assert found.recipe.image_size is None  # as long as the images are not known
    assert choice.in_shares
    sized = choice.sized(native)
    assert sized.options == options
    assert not sized.in_shares
    assert sized.sized(100) == sized
    mixed = space_of("image_size: <100%|24..30>").choices[0].sized(32)
    assert mixed.options == ("32..32", "24..30")


def test_choices_of_a_base_stay_unless_they_are_decided(folder: Path) -> None:
    Path("recipes").mkdir()
    Path("recipes/open.yaml").write_text("mixup: <0|0.2>\noptimizer: <adamw|lamb>\n")
    Path("closed.yaml").write_text("base: open\noptimizer: sgd\n")
    found = RecipeSpace.load("closed.yaml")
    assert [choice.name for choice in found.choices] == ["mixup"]
    assert found.recipe.optimizer == "sgd"
    with pytest.raises(ConfigError, match="choice"):
        load_recipe("closed.yaml")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("batch_size: <64>", "a choice has 2 to 1000 different options"),
        ("batch_size: <64|128|64>", "a choice has 2 to 1000 different options"),
        ("weight_decay: <0.1|0.10>", "a choice has 2 to 1000 different options"),
        ("weight_decay: <0..1:log>", "'0..1:log': a geometric sequence begins above 0"),
        ("weight_decay: <0.1..0.3>", "'0.1..0.3': say how numbers lie between"),
        ("weight_decay: <0.3..0.1:0.1>", "'0.3..0.1:0.1': a range goes from a number to a larger"),
        ("weight_decay: <0..1:0>", "'0..1:0': a step is above 0"),
        ("weight_decay: <0..1:0.0001>", "a choice has at most 1000 options"),
        ("weight_decay: <1..2:log1>", "a sequence has 2 to 1000 values"),
        ("weight_decay: <a|b>", "'a' is no value of weight_decay"),
        ("weight_decay: <0.1|inf>", "inf is no value of weight_decay"),
        ("weight_decay: <0.1|nan>", "nan is no value of weight_decay"),
        ("batch_size: <64|inf>", "inf is no value of batch_size"),
        ("batch_size: <64|96.5>", "96.5 is no value of batch_size"),
        ("weight_decay: <0.1|-1>", "weight_decay is -1.0, it must be 0 or more"),
        ("dropout: <0|0.3..0.1>", "dropout goes from 0.3 to 0.1; .* do not decrease"),
        ("dropout: <0|nan>", "dropout goes from nan to nan"),
        ("image_size: <32|20..x>", "'20..x' is no value of image_size"),
        ("regime: <fixed|growing>", "regime is 'growing'; known: fixed, "),
        ("skip_first_size: <true|maybe>", "'maybe' is no value of skip_first_size"),
        ("epochs: <1|2>", "epochs is the same for all candidates of a search"),
        ("holdout_share: <0.1|0.2>", "holdout_share is the same for all candidates"),
        ("train_time_s: <10|20>", "train_time_s is the same for all candidates"),
        ("image_size: <0%..50%|100%>", "shares do not decrease, and are above 0%"),
        ("image_size: <100%..50%|100%>", "shares do not decrease, and are above 0%"),
        ("image_size: <32..50%|100%>", "is no value of image_size"),
        ("batch_size: <50%|100%>", "is no value of batch_size"),
        ("batch_size: <64|128", "a choice set is written <item|item>"),
    ],
)
def test_what_is_no_choice_is_pointed_at(folder: Path, line: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as raised:
        space_of(line)
    column = line.index("<") + 1
    message, excerpt, caret = str(raised.value).splitlines()
    assert message.startswith(f"mine.yaml:2:{column}: ")
    assert excerpt == f"  {line}"
    assert caret == " " * (column + 1) + "^"
