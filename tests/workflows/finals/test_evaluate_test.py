"""The test part for what finals pick: measured as A is, told again from its file, read once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from PIL import Image
from test_finalists import drawn, run_of

from effnas import SearchSpace
from effnas.config.recipe import Recipe
from effnas.config.settings import EvaluationConfig, Execution
from effnas.data.images import ImageSet
from effnas.data.loading import load_search_images, load_train_images
from effnas.errors import DataError, StoreError
from effnas.evaluation.evaluator import Job, Task
from effnas.evaluation.workers import Workers
from effnas.train.checkpoints import weights_file
from effnas.workflows.finals.evaluate_test import FinalTest, evaluate_test_once

FIRST, SECOND = list(run_of(drawn(2)).trials)[:2]
FOUND = FinalTest(
    trial=FIRST.number,
    architecture_id=FIRST.architecture.id,
    data="pets",
    part="val",
    images=200,
    skipped=("val/ant/1.png",),
    fingerprint="0123456789abcdef",
    accuracies=(0.8, 0.9, 0.85),
    date="2026-01-31T12:00:00Z",
)
SPACE = SearchSpace.parse(
    "stem: 8\n"
    "head: 16\n"
    "target: {image_size: 8, batch_size: 8, num_classes: 10}\n"
    "stages:\n"
    "  - <fused|mbconv>_r<1..2>_k3_s2_e1_c8\n"
)
ARCH = SPACE.reference


def write(folder: Path) -> bytes:
    (folder / "test.json").write_text(json.dumps({"format": 1, **asdict(FOUND)}))
    return (folder / "test.json").read_bytes()


def look(folder: Path, *, read: bool, pick: object = FIRST) -> FinalTest | None:
    """Look where no data are: reading raises an error."""
    config = EvaluationConfig(space_text=SPACE.to_text(), data="nowhere", recipe=Recipe())
    return evaluate_test_once(folder, pick, 3, config, Workers(), read=read, reading=lambda: None)  # type: ignore[arg-type]


def test_what_was_found_is_told_again_and_nothing_is_read(tmp_path: Path) -> None:
    before = write(tmp_path)
    for read in (False, True):
        assert look(tmp_path, read=read) == FOUND
    assert look(tmp_path, read=True, pick=None) == FOUND
    assert (tmp_path / "test.json").read_bytes() == before


@pytest.mark.parametrize(("read", "pick"), [(False, FIRST), (True, None)])
def test_without_the_option_or_a_pick_nothing_is_read_or_written(
    tmp_path: Path, read: bool, pick: object
) -> None:
    assert look(tmp_path, read=read, pick=pick) is None
    assert not list(tmp_path.iterdir())


def test_a_second_network_is_refused_and_what_is_stored_stays(tmp_path: Path) -> None:
    before = write(tmp_path)
    with pytest.raises(StoreError, match=r"was read for trial 0.*now pick trial 1.*`out`"):
        look(tmp_path, read=True, pick=SECOND)
    assert look(tmp_path, read=False, pick=SECOND) == FOUND
    assert (tmp_path / "test.json").read_bytes() == before


def test_mean_and_spread_are_over_seeds() -> None:
    assert FOUND.mean == pytest.approx(0.85)
    assert FOUND.spread == pytest.approx(0.05)
    assert replace(FOUND, accuracies=(0.7,)).spread is None


@pytest.mark.parametrize(
    "changed",
    ["", "[1]", '{"format": 1}', {"format": 2}, {"accuracies": []}, {"accuracies": [1.5]}],
    ids=str,
)
def test_a_file_that_is_not_what_was_written_is_refused(
    tmp_path: Path, changed: str | dict[str, object]
) -> None:
    stored = {"format": 1, **asdict(FOUND)}
    text = changed if isinstance(changed, str) else json.dumps(stored | changed)
    (tmp_path / "test.json").write_text(text)
    with pytest.raises(StoreError, match=r"test\.json: what was found .* cannot be read") as caught:
        look(tmp_path, read=True)
    assert "\n" not in str(caught.value)


# -- reading it


def write_part(folder: Path, images: ImageSet) -> None:
    for n, (image, label) in enumerate(zip(images.images, images.labels, strict=True)):
        path = folder / images.classes[label] / f"{n:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[EvaluationConfig, list[float]]]:
    """A network trained with two seeds on digits in folders, and its accuracies.

    The test part is a copy of the images that are held out of the training part.
    """
    import torch

    from effnas.evaluation.image_evaluator import ImageEvaluator

    threads = torch.get_num_threads()
    root = tmp_path_factory.mktemp("trained")
    digits = load_train_images("digits", image_size=8, eval_image_size=8, minival_share=0).train
    assert isinstance(digits, ImageSet)
    write_part(root / "data" / "train", digits)
    config = EvaluationConfig(
        space_text=SPACE.to_text(),
        data=str(root / "data"),
        recipe=Recipe(
            epochs=2,
            image_size=(8, 8),
            batch_size=64,
            flip=False,
            crop_area_min=0.5,
            optimizer="nadamw",
            learning_rate_per_256=0.024,
            warmup_epochs=0.2,
        ),
        threads=1,
        execution=Execution(),
        timing_batch_size=8,
        step_times=None,
        weights=str(root / "weights"),
    )
    held_out = load_search_images(
        str(root / "data"), image_size=8, holdout_share=config.recipe.holdout_share
    ).holdout
    write_part(root / "data" / "test", held_out)
    evaluator = ImageEvaluator(config)
    yield config, [evaluator(Job(n, ARCH, Task.TRAIN, n)).metrics["accuracy"] for n in range(2)]
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_accuracy_is_measured_as_that_of_trainings(
    trained: tuple[EvaluationConfig, list[float]],
) -> None:
    from effnas.evaluation.image_evaluator import ImageEvaluator

    config, accuracies = trained
    images, found = ImageEvaluator(config).test(ARCH, 2)
    assert found == accuracies
    assert len(set(found)) == 2
    assert min(found) > 0.15  # better than guessing: the weights are there
    assert images.part == "test"


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["delete", "cut", "other"])
def test_weights_that_are_not_there_are_told_before_the_test_part_is_read(
    trained: tuple[EvaluationConfig, list[float]], tmp_path: Path, harm: str
) -> None:
    from safetensors.torch import save_file
    from torch import ones

    from effnas.evaluation.image_evaluator import ImageEvaluator

    config, _ = trained
    # No test part is here, which would be told in its place.
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train").symlink_to(Path(config.data or "") / "train")
    (tmp_path / "weights").mkdir()
    for n in range(2):
        file = weights_file(tmp_path / "weights", ARCH, n)
        file.write_bytes(weights_file(Path(config.weights or ""), ARCH, n).read_bytes())
    config = replace(config, data=str(tmp_path / "data"), weights=str(tmp_path / "weights"))
    evaluator = ImageEvaluator(config)
    with pytest.raises(DataError, match="no test part"):
        evaluator.test(ARCH, 2)
    changes: dict[str, Callable[[], object]] = {
        "delete": file.unlink,
        "cut": lambda: file.write_bytes(file.read_bytes()[:-100]),
        "other": lambda: save_file({"weight": ones(3)}, file),
    }
    changes[harm]()
    with pytest.raises(StoreError, match=r"-1\.safetensors: the weights are") as caught:
        evaluator.test(ARCH, 2)
    assert "\n" not in str(caught.value)
