"""A search of networks and recipes together: real trainings on digits, resumed, and trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from effnas.config.catalog import find
from effnas.config.recipe_file import RecipeSpace
from effnas.errors import ConfigError
from effnas.evaluation.workers import Workers
from effnas.search.launch import SearchObserver, Settings, launch
from effnas.search.search import Search
from effnas.trials.manifest import SearchManifest
from effnas.trials.network_ref import find_network
from effnas.trials.run import load_run
from effnas.trials.trial import Trial
from effnas.workflows.train.settings import recipe_for

RECIPE = """
base: default
batch_size: <64|128>
optimizer: <nesterov|adamw>
image_size: <100%..200%|200%>
randaugment: <0|5>
learning_rate_per_256: <0.004..0.064:log3>
"""


class Stop(SearchObserver):
    """Stops as if by Ctrl-C after some trials."""

    def __init__(self, after: int) -> None:
        self.left = after

    def trial_ended(self, trial: Trial, search: Search) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def settings(
    folder: Path, *, time_s: float | None = None, text: str = RECIPE, **others: object
) -> Settings:
    path = folder / "mine.yaml"
    path.write_text(text)
    opened = RecipeSpace.load(path)
    short = replace(opened.recipe, train_time_s=time_s) if time_s else opened.recipe.lasting(1)
    given = {"space": "tiny", "data": "digits", "controller": "random", "baselines": ("none",),
             "out": folder / "run", "budget": 4, "reward": "accuracy",
             "workers": Workers(backend="inline", device="cpu")}  # fmt: skip
    return Settings(
        **{**given, **others},  # type: ignore[arg-type]
        recipe=replace(short, data_share=0.3, holdout_share=0.3),
        full_epochs=opened.recipe.epochs,
        recipe_space=opened,
    )


@pytest.mark.slow
@pytest.mark.usefixtures("short_timings")
def test_a_joint_search_begins_at_the_default_and_is_resumed_to_the_same_trials(
    tmp_path: Path,
) -> None:
    with pytest.raises(KeyboardInterrupt):
        launch(settings(tmp_path), Stop(2))
    launch(settings(tmp_path), SearchObserver())
    run = load_run(tmp_path / "run")
    whole = launch(settings(tmp_path, out=tmp_path / "whole"), SearchObserver())
    assert [t.architecture for t in run.trials] == [t.architecture for t in whole.trials]
    accuracies = [
        [t.metrics.get("accuracy") for t in trials] for trials in (run.trials, whole.trials)
    ]
    assert accuracies[0] == accuracies[1]

    first = run.trials[0].architecture
    assert first.network == run.space.reference
    assert dict(first.recipe) == {
        "batch_size": 128, "image_size": "8..16", "randaugment": 5, "optimizer": "adamw",
        "learning_rate_per_256": 0.004,
    }  # fmt: skip
    assert len({t.architecture.recipe for t in run.trials}) > 1

    best = run.best
    assert best is not None
    ref = find_network(f"{tmp_path / 'run'}:best", None)
    recipe = recipe_for(ref, None)
    taken = dict(best.architecture.recipe)
    assert ref.arch == best.architecture.network
    assert (recipe.epochs, recipe.batch_size) == (60, taken["batch_size"])
    assert (recipe.optimizer, recipe.data_share) == (taken["optimizer"], None)
    assert recipe.randaugment is not None
    assert recipe.randaugment.last == taken["randaugment"]  # at the recipe's full length


@pytest.mark.slow
def test_trials_of_equal_time_store_what_repeats_them_and_leave_out_what_is_too_large(
    tmp_path: Path,
) -> None:
    search = launch(settings(tmp_path, time_s=1.5, budget=3), SearchObserver())
    run, manifest = load_run(tmp_path / "run"), SearchManifest.read(tmp_path / "run")
    done = [t for t in run.trials if "accuracy" in t.metrics]
    assert done
    for trial in done:
        planned = sum(stage.steps * stage.step_time_s for stage in trial.measurement.stages)
        assert planned <= 1.5
        assert trial.measurement.step_time_source == "training"
        assert trial.measurement.curve[-1] == (
            sum(stage.steps for stage in trial.measurement.stages), trial.metrics["accuracy"]
        )  # fmt: skip
    assert manifest.most_macs is not None
    assert all(search.space.count(t.architecture).macs <= manifest.most_macs for t in run.trials)
    assert recipe_for(find_network(f"{tmp_path / 'run'}:best", None), None).train_time_s == 1.5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<nesterov|adamw>", "<adamw|adahessian>", "optimizer 'adahessian' cannot take a step"),
        ("<nesterov|adamw>", "<adamw|nothing>", "optimizer 'nothing' cannot be used"),
    ],
)
def test_an_optimizer_that_does_not_work_ends_before_the_first_trial(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    changed = settings(tmp_path, text=RECIPE.replace(old, new))
    with pytest.raises(ConfigError, match=message):
        launch(changed, SearchObserver())
    assert not (tmp_path / "run" / "manifest.json").exists()


def test_images_smaller_than_the_stride_of_the_networks_are_refused(tmp_path: Path) -> None:
    small = settings(tmp_path)
    small = replace(small, recipe=replace(small.recipe, image_size=(2, 4), eval_image_size=4))
    with pytest.raises(ConfigError, match="image_size is 4 px, and networks of tiny have one"):
        launch(small, SearchObserver())


def test_a_recipe_does_not_set_what_the_space_opens(tmp_path: Path) -> None:
    space = find("search_spaces", "tiny")
    text = space.text.replace("head: 128", "head: 128\nrecipe: {weight_decay: <0.01|0.1>}")
    opened = replace(space, text=text)
    path = tmp_path / "fixed.yaml"
    path.write_text("base: default\nweight_decay: 0.02\n")
    fixed = RecipeSpace.load(path)
    with pytest.raises(ConfigError, match="recipe fixed sets weight_decay, and the space tiny"):
        launch(replace(settings(tmp_path), space=opened, recipe_space=fixed), SearchObserver())
