"""Trainings of candidates: by epochs and by time, stopped anywhere, and always the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from effnas import SearchSpace
from effnas.config.recipe import Recipe
from effnas.config.regularization import Ramp
from effnas.config.settings import EvaluationConfig, Execution
from effnas.errors import ConfigError, InfeasibleError
from effnas.evaluation.evaluator import Job, Task
from effnas.evaluation.images import WorkerImages, load_images
from effnas.evaluation.training import WorkerTraining
from effnas.timing.setup import MeasurementSetup
from effnas.timing.training_time import steps_within
from effnas.train.training import Training
from effnas.trials.trial import Measurement

SPACE = SearchSpace.parse(
    "stem: 8\n"
    "head: 16\n"
    "target: {image_size: 12, batch_size: 8, num_classes: 10}\n"
    "stages:\n"
    "  - <fused|mbconv>_r<1..3>_k3_s2_e<1|4>_c8\n"
    "reference:\n"
    "  - fused_r1_k3_s2_e1_c8\n"
)
ARCH = SPACE.reference
CPU = torch.device("cpu")
#: All that is random or has a state is on.
RECIPE = Recipe(
    epochs=3, batch_size=16, stages=2, image_size=(8, 12), data_share=0.08, dropout=Ramp(0.1, 0.3),
    randaugment=Ramp(1, 3), mixup=Ramp(0, 0.2), ema_decay=0.8, optimizer="nadamw", flip=False,
)  # fmt: skip
BY_TIME = replace(RECIPE, train_time_s=4.0)
Killed = KeyboardInterrupt


def step_s(size: int) -> float:
    """Seconds of a step as they are told; real ones are shorter."""
    return size**2 / 576  # 0.11 at 8 px, 0.25 at 12 px


def slower(factor: float, size: int) -> float:
    return factor * step_s(size)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def config_of(recipe: Recipe, **changes: Any) -> EvaluationConfig:
    return EvaluationConfig(
        space_text=SPACE.to_text(), data="digits", recipe=recipe, execution=Execution(), **changes
    )


def training_of(config: EvaluationConfig) -> WorkerTraining:
    images = load_images(config, SPACE, CPU)
    assert images is not None
    setup = MeasurementSetup(
        device=CPU, recipe=images.recipe, execution=Execution(), batch_size=8, image_size=12,
        num_classes=10,
    )  # fmt: skip
    return WorkerTraining(config, images, setup)


@pytest.fixture(scope="module")
def by_time() -> WorkerTraining:
    return training_of(config_of(BY_TIME))


@pytest.fixture
def stored(by_time: WorkerTraining, tmp_path: Path) -> WorkerTraining:
    """Trainings by time that leave checkpoints."""
    config = config_of(BY_TIME, checkpoints=str(tmp_path / "checkpoints"))
    return WorkerTraining(config, by_time.images, by_time.setup)


@pytest.fixture(scope="module")
def whole(by_time: WorkerTraining) -> Measurement:
    """An unbroken training by time."""
    return by_time(ARCH, job(), step_s)


def job(until: int | None = None, **more: Any) -> Job:
    return Job(0, ARCH, Task.TRAIN, until=until, **more)


def figures(found: Measurement) -> dict[str, object]:
    """What must be the same to the bit."""
    metrics = {name: found.metrics[name] for name in ("accuracy", "train_loss")}
    return {**metrics, "seed": found.seed, "fidelity": found.fidelity}


class Steps:
    """Counts steps from now on; stops a training before one of them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.taken, self.last = 0, 1 << 30
        update = Training.update

        def count(training: Training) -> None:
            if self.taken == self.last:
                raise Killed
            self.taken += 1
            update(training)

        patch.setattr(Training, "update", count)

    def of(self, train: Callable[[], Measurement]) -> tuple[int, Measurement]:
        self.taken = 0
        found = train()
        return self.taken, found


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(monkeypatch)


def unknown(size: int) -> float:
    pytest.fail("the steps of this training are known")


# -- by time


def test_a_training_by_time_has_the_steps_that_fit_by_its_own_step_times(
    by_time: WorkerTraining, whole: Measurement
) -> None:
    recipe = by_time.images.recipe
    per_epoch = len(by_time.images.loaded.train) // recipe.batch_size
    assert whole.seed is not None
    for factor in (1, 2):
        told = partial(slower, factor)
        found = by_time(ARCH, job(), told)
        expected = steps_within(recipe, told, steps_per_epoch=per_epoch, seed=whole.seed)
        assert sum(stage.steps for stage in found.stages) == expected
        assert [stage.image_size for stage in found.stages] == [8, 12]
        assert [s.step_time_s for s in found.stages] == [factor * step_s(8), factor * step_s(12)]
        spent = sum(stage.steps * stage.step_time_s for stage in found.stages)
        assert 4 - factor * step_s(12) < spent <= 4
    assert whole.fidelity == f"4 s on {len(by_time.images.loaded.train)} images at 8 to 12 px"


def test_a_learning_curve_has_a_quarter_a_half_and_the_end(
    whole: Measurement,
) -> None:
    count = sum(stage.steps for stage in whole.stages)
    assert [step for step, _ in whole.curve] == [
        round(count / 4), round(count / 2), count
    ]  # fmt: skip
    assert whole.curve[-1][1] == whole.metrics["accuracy"]
    assert all(0 <= accuracy <= 1 for _, accuracy in whole.curve)


def test_a_repeat_from_the_stored_stages_is_the_same_to_the_bit(
    by_time: WorkerTraining, whole: Measurement
) -> None:
    again = by_time(ARCH, job(stages=whole.stages), unknown)
    assert figures(again) == figures(whole)
    assert (again.stages, again.curve) == (whole.stages, whole.curve)
    other = by_time(ARCH, job(stages=whole.stages, repeat=1), unknown)
    assert other.seed != whole.seed
    assert other.metrics["train_loss"] != whole.metrics["train_loss"]


@pytest.mark.parametrize("killed_after", [2, 11])
def test_a_killed_training_has_the_same_steps_and_the_same_result(
    stored: WorkerTraining, whole: Measurement, steps: Steps, killed_after: int
) -> None:
    count = sum(stage.steps for stage in whole.stages)
    steps.last = killed_after
    with pytest.raises(Killed):
        stored(ARCH, job(), step_s)
    steps.last = count
    # Its steps are those that it began with, whatever a step takes now.
    taken, found = steps.of(lambda: stored(ARCH, job(), unknown))
    assert figures(found) == figures(whole)
    assert found.stages == whole.stages
    first_point = round(count / 4)
    assert first_point in range(3, 11)
    assert taken == (count if killed_after < first_point else count - round(count / 2))


def test_rungs_in_seconds_come_to_the_result_of_an_unbroken_training(
    stored: WorkerTraining, whole: Measurement, steps: Steps
) -> None:
    count = sum(stage.steps for stage in whole.stages)
    taken, first = steps.of(lambda: stored(ARCH, job(1), step_s))
    assert taken == int(1 / step_s(8))
    assert first.fidelity == f"1 of {whole.fidelity}"
    assert first.stages == whole.stages
    again, same = steps.of(lambda: stored(ARCH, job(1), unknown))  # its result was not stored
    assert (again, figures(same)) == (0, figures(first))
    more, second = steps.of(lambda: stored(ARCH, job(2), unknown))
    last, third = steps.of(lambda: stored(ARCH, job(4, stages=first.stages), unknown))
    assert taken + more + last == count
    assert figures(third) == figures(whole)
    joined = first.continued(second).continued(third).curve
    assert [step for step, _ in joined] == sorted({
        *(step for step, _ in whole.curve), taken, taken + more
    })  # fmt: skip
    assert set(whole.curve) <= set(joined)


def test_a_time_shorter_than_a_step_is_one_line(by_time: WorkerTraining) -> None:
    def slow(size: int) -> float:
        return 5.0

    said = r"^of the reference network, a training step takes 5 s, .* 4 s at least 8 are to fit in"
    with pytest.raises(ConfigError, match=said) as caught:
        by_time.reference_step_s(ARCH, slow)
    assert "\n" not in str(caught.value)
    by_time.reference_step_s(ARCH, step_s)
    with pytest.raises(InfeasibleError, match="of the train_time of 4 s at least 8"):
        by_time(ARCH, job(), slow)  # of another network, it is a result


def test_where_nothing_tells_step_times_they_are_measured_at_all_sizes(
    by_time: WorkerTraining,
) -> None:
    state = torch.get_rng_state()
    times = by_time.step_times(ARCH)
    assert min(times(8), times(12)) > 0
    assert times(8) < times(10) < times(12) or times(8) > times(10) > times(12)
    assert torch.equal(torch.get_rng_state(), state)


# -- by epochs


@pytest.fixture(scope="module")
def images() -> WorkerImages:
    return training_of(config_of(RECIPE)).images


def test_only_what_the_checkpoint_lacks_is_trained(
    by_time: WorkerTraining, images: WorkerImages, steps: Steps, tmp_path: Path
) -> None:
    config = config_of(RECIPE, checkpoints=str(tmp_path))
    train = WorkerTraining(config, images, by_time.setup)
    per_epoch = len(images.loaded.train) // 16
    counts, found = [], []
    for epochs in (1, 1, 2, 3):  # the second as after a kill before the result was stored
        count, result = steps.of(partial(train, ARCH, job(epochs), None))
        counts.append(count / per_epoch)
        found.append(figures(result))
        assert result.stages == result.curve == ()
    assert counts == [1, 0, 1, 1]
    assert found[0] == found[1]
    assert found[-1] == figures(train(ARCH, job(), None))
    # A stop before that of the checkpoint begins again.
    count, result = steps.of(lambda: train(ARCH, job(1), None))
    assert (count, figures(result)) == (per_epoch, found[0])


def test_a_batch_is_no_larger_than_the_data() -> None:
    train = training_of(config_of(replace(RECIPE, epochs=1, batch_size=10_000)))
    count = len(train.images.loaded.train)
    assert train.images.recipe.batch_size == count
    assert 0 <= train(ARCH, job(), None).metrics["accuracy"] <= 1


def test_what_diverges_is_infeasible() -> None:
    train = training_of(config_of(replace(RECIPE, learning_rate_per_256=1e9)))
    with pytest.raises(InfeasibleError, match="training diverged"):
        train(ARCH, job(), None)


def test_weights_and_confusions_are_of_whole_trainings_alone(
    by_time: WorkerTraining, images: WorkerImages, tmp_path: Path
) -> None:
    config = config_of(RECIPE, weights=str(tmp_path / "weights"))
    train = WorkerTraining(config, images, by_time.setup)
    assert train(ARCH, job(1), None).confusion == ()
    assert not (tmp_path / "weights").exists()
    found = train(ARCH, job(), None)
    assert [path.name for path in (tmp_path / "weights").iterdir()] == [f"{ARCH.id}-0.safetensors"]
    holdout = images.loaded.holdout
    assert tuple(map(sum, found.confusion)) == holdout.class_counts
    correct = sum(row[n] for n, row in enumerate(found.confusion))
    assert correct / len(holdout) == pytest.approx(found.metrics["accuracy"])
