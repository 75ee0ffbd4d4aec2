"""Configurations of workers: made from data, from a run, and to continue one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from effnas import SearchSpace
from effnas.config.recipe import Recipe
from effnas.config.settings import Execution
from effnas.errors import StoreError
from effnas.evaluation.config import config_for_data, config_for_run, continued_config
from effnas.trials.manifest import SearchManifest
from effnas.trials.manifest_parts import DataPart, SourcedSpacePart
from effnas.trials.run import Run
from effnas.trials.trial import Trials

SPACE = SearchSpace.load("tiny")
RECIPE = Recipe(epochs=2, image_size=(16, 16), data_share=0.5, flip=False)
EXECUTION = Execution(precision="bfloat16", memory_format="channels_last")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    manifest = SearchManifest(
        seed=7,
        space=SourcedSpacePart.of(SPACE),
        data=DataPart(
            name="pets",
            path=str(tmp_path),
            root="/images",
            on_bad_image="skip",
            fingerprint="abc-def",
        ),
        recipe=RECIPE,
        execution=EXECUTION,
        timing_batch_size=32,
    )
    return Run(tmp_path, manifest, SPACE, Trials([]))


def test_paths_of_images_become_absolute_and_names_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pets").mkdir()
    config = config_for_data(SPACE, "pets", RECIPE, data_root=Path("root"), seed=3)
    assert config.data == str(tmp_path / "pets")
    assert (config.data_root, config.seed) == (str(tmp_path / "root"), 3)
    assert config_for_data(SPACE, "torch/cifar10", RECIPE).data == "torch/cifar10"


def test_what_is_trained_for_a_run_compares_with_it(run: Run) -> None:
    config = config_for_run(run)
    assert config == replace(
        config_for_data(SPACE, str(run.path), RECIPE, data_root="/images", on_bad_image="skip"),
        seed=7,
        execution=EXECUTION,
        holdout_fingerprint="def",
    )
    moved = config_for_run(
        run,
        replace(RECIPE, image_size=(32, 32), eval_image_size=32),
        data="digits",
        data_root=Path("/x"),
    )
    assert (moved.data, moved.data_root, moved.on_bad_image) == ("digits", "/x", "skip")
    assert moved.holdout_fingerprint is None  # other pixels


def test_a_run_is_continued_as_it_began(run: Run) -> None:
    config = config_for_data(SPACE, "digits", replace(RECIPE, flip=None))
    found = continued_config(config, run.manifest)
    assert found == replace(config, recipe=RECIPE, execution=EXECUTION, timing_batch_size=32)
    given = replace(config, recipe=replace(RECIPE, flip=True))
    assert continued_config(given, run.manifest).recipe.flip is True
    with pytest.raises(StoreError, match=r"manifest .*; choose another `out`"):
        continued_config(config, replace(run.manifest, execution=None))


def test_digits_are_no_folder_of_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("digits", "photos"):
        Path(name).mkdir()
    space = SearchSpace.load("tiny")
    found = {
        name: config_for_data(space, name, Recipe()).data
        for name in ("digits", "./digits", "photos", "torch/cifar10")
    }
    assert found == {
        "digits": "digits", "./digits": str(tmp_path / "digits"),
        "photos": str(tmp_path / "photos"), "torch/cifar10": "torch/cifar10",
    }  # fmt: skip
