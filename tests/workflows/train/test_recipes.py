"""Recipes: the shipped ones say what is published, and what is wrong in a file is pointed at."""

from __future__ import annotations

import json
import pickle
from dataclasses import fields
from pathlib import Path

import pytest

from effnas.config.catalog import names
from effnas.config.regularization import Ramp
from effnas.config.training_recipe import TrainingRecipe
from effnas.errors import CatalogError, ConfigError

SHIPPED = (
    "cifar", "family", "finetune", "pretrain-21k", "tiny", "v1", "v2-l", "v2-m", "v2-released",
    "v2-s",
)  # fmt: skip
PAPER = {"alpha": 0.9, "momentum": 0.9, "eps": 0.001}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(text: str, name: str = "mine.yaml") -> TrainingRecipe:
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text(text)
    return TrainingRecipe.load(name)


# -- what is shipped


def test_the_shipped_recipes_are_these(folder: Path) -> None:
    assert names("recipes") == list(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_loads_from_anywhere_and_is_json(folder: Path, name: str) -> None:
    recipe = TrainingRecipe.load(name)
    found = recipe.to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)).keys() == found.keys()
    assert pickle.loads(pickle.dumps(recipe)) == recipe  # it is sent to other processes
    assert list(found) == [f.name for f in fields(TrainingRecipe)]
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
    recipe = TrainingRecipe.load(name)
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
    assert recipe.minival_share * 1_281_167 == pytest.approx(25_000, rel=0.03)


def test_the_released_code_differs_from_the_paper_where_it_does() -> None:
    paper, released = (TrainingRecipe.load(name).to_dict() for name in ("v2-s", "v2-released"))
    assert {name: value for name, value in released.items() if paper[name] != value} == {
        "skip_first_size": True,
        "dropout": (0.2, 0.2),
        "randaugment": (5, 10),
        "batch_norm_momentum": 0.9,
    }


def test_pre_training_has_one_size_and_no_regularisation() -> None:
    recipe = TrainingRecipe.load("pretrain-21k")
    assert (recipe.regime, recipe.image_size, recipe.epochs) == ("fixed", (224, 224), 60)
    for name in ("dropout", "randaugment", "mixup", "cutmix", "drop_path"):
        assert getattr(recipe, name) == Ramp(0, 0)
    assert (recipe.label_smoothing, recipe.cutout) == (0, 0)
    assert recipe.learning_rate == pytest.approx(0.008 * 4096 / 256)
    assert (recipe.schedule, recipe.warmup_epochs) == ("cosine", 1)
    assert recipe.minival_share * 12_720_275 == pytest.approx(100_000, rel=0.03)


def test_fine_tuning_is_that_of_the_paper() -> None:
    recipe = TrainingRecipe.load("finetune")
    assert (recipe.batch_size, recipe.least_steps, recipe.epochs) == (512, 10_000, 15)
    assert recipe.learning_rate == pytest.approx(0.001)
    assert (recipe.schedule, recipe.weight_decay, recipe.ema_decay) == ("cosine", 0, 0.9996)
    assert recipe.cutout > 0
    assert (recipe.image_size, recipe.regime) == (None, "fixed")


# -- files of one's own


def test_a_recipe_is_found_in_the_working_folder_and_by_its_path(folder: Path) -> None:
    mine = load("epochs: 7\nmixup: 0.2\nimage_size: 48\n", "recipes/mine.yaml")
    assert mine == TrainingRecipe.load("mine")
    assert mine == TrainingRecipe.load(str(folder / "recipes" / "mine.yaml"))
    assert mine == TrainingRecipe(epochs=7, mixup=Ramp(0.2, 0.2), image_size=(48, 48))
    with pytest.raises(CatalogError, match="no recipe is called 'minne'; did you mean 'mine'"):
        TrainingRecipe.load("minne")


def test_what_a_file_does_not_say_is_its_bases(folder: Path) -> None:
    load("base: v2-s\nepochs: 90\noptimizer_arguments: {eps: 0.1}\n", "recipes/a.yaml")
    load("base: a\nepochs: 9\ndropout: null\nimage_size: ~\nema_decay: null\n", "b.yaml")
    found = TrainingRecipe.load("b.yaml").to_dict()
    assert found == TrainingRecipe.load("v2-s").to_dict() | {
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
        ("epochs: 0", 9, "epochs is 0, it must be 1 or more"),
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
    recipe = TrainingRecipe.load("v2-s").overridden(image_size=text)
    assert recipe.image_size == sizes
    assert recipe.eval_image_size is None  # the last size, and not the one of ImageNet


def test_only_what_is_given_changes() -> None:
    recipe = TrainingRecipe.load("finetune")
    assert recipe.overridden() == recipe
    changed = recipe.overridden(epochs=2, batch_size=64, regime="progressive")
    before = recipe.to_dict()
    assert {name: v for name, v in changed.to_dict().items() if before[name] != v} == {
        "epochs": 2,
        "least_steps": 0,  # else they would be more epochs than were asked for
        "batch_size": 64,
        "regime": "progressive",
    }
    assert changed.learning_rate == pytest.approx(recipe.learning_rate / 8)
