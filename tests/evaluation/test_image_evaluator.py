"""The evaluator of images: timing and training together, and where step times come from."""

from __future__ import annotations

import json
import math
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from PIL import Image

from effnas import Architecture, SearchSpace
from effnas.arch.models import TimmModel, build, counted_model
from effnas.config.recipe import Recipe
from effnas.config.settings import EvaluationConfig, Execution, StepTimeConfig
from effnas.errors import ConfigError, InfeasibleError, SpaceError
from effnas.evaluation.evaluator import TIMING_METRICS, TRAINING_METRICS, Job, Task
from effnas.evaluation.image_evaluator import ImageEvaluator
from effnas.evaluation.workers import Workers
from effnas.search.launch import SearchObserver, Settings, launch
from effnas.search.rungs import Rungs
from effnas.search.search import Search
from effnas.timing.device import describe_device, hardware_id
from effnas.timing.networks import MeasuredStepTimes
from effnas.timing.profile import DeviceProfile
from effnas.train.training import Training
from effnas.trials.run import load_run
from effnas.trials.trial import Measurement, Trial, TrialState
from synthetic_profiles import profile_of

#: Networks of a layer or a few: what is tested here is not what they are.
SPACE = SearchSpace.parse(
    "stem: 8\n"
    "head: 16\n"
    "target: {image_size: 8, batch_size: 8, num_classes: 10}\n"
    "stages:\n"
    "  - <fused|mbconv>_r<1..3>_k3_s2_e<1|4>_c8\n"
    "reference:\n"
    "  - fused_r1_k3_s2_e1_c8\n"
)
TEXT = SPACE.to_text()
ARCHS = list(SPACE.architectures())[1:4]
OUTSIDE = Architecture.parse(["mbconv_r1_k3_s2_e2_c8"], stem=SPACE.stem, head=SPACE.head)
CONFIG = EvaluationConfig(
    space_text=SPACE.to_text(),
    data="digits",
    recipe=Recipe(epochs=1, image_size=(8, 8), data_share=0.1),
    threads=1,
    execution=Execution(),
    timing_batch_size=4,
)
BARE = replace(CONFIG, data=None)
TIMED = {"step_time", *TIMING_METRICS}
TRAINED = set(TRAINING_METRICS)


def job(arch: Architecture, task: Task = Task.EVALUATE, repeat: int = 0, **more: Any) -> Job:
    return Job(0, arch, task, repeat, **more)


pytestmark = pytest.mark.slow  # networks are built and run


@pytest.fixture(scope="module", autouse=True)
def _one_thread_and_own_locks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("locks")))
        defaults = MeasuredStepTimes.__init__.__kwdefaults__
        patch.setitem(defaults, "time_limit_s", 0.0)  # the fewest rounds will do
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def with_images() -> ImageEvaluator:
    return ImageEvaluator(CONFIG)


@pytest.fixture(scope="module")
def bare() -> ImageEvaluator:
    return ImageEvaluator(BARE)


# -- models of timm's


def test_a_model_of_timm_is_timed_trained_and_counted_as_an_architecture_is(
    with_images: ImageEvaluator,
) -> None:
    model = TimmModel("test_resnet")
    timed = with_images(job(SPACE.reference, Task.TIME, model=model))
    trained = with_images(job(SPACE.reference, Task.TRAIN, 1, model=model))
    counts = {"params", "macs", "activations"}
    assert set(timed.metrics) == TIMED | counts
    assert set(trained.metrics) == TRAINED | counts
    network = build(model, num_classes=10)
    assert trained.metrics["params"] == sum(p.numel() for p in network.parameters())
    assert trained.seed != with_images(job(SPACE.reference, Task.TRAIN, 1)).seed


@pytest.mark.parametrize("task", [Task.TIME, Task.TRAIN])
def test_a_model_of_timm_that_cannot_be_run_at_that_size_is_infeasible(
    with_images: ImageEvaluator, task: Task
) -> None:
    with pytest.raises(InfeasibleError, match="test_vit cannot be run on images of 8 px"):
        with_images(job(SPACE.reference, task, model=TimmModel("test_vit")))


def test_a_model_of_timm_has_no_step_time_of_a_table(tmp_path: Path) -> None:
    table = tmp_path / "times.csv"
    table.write_text(f"architecture,step_time\n{SPACE.reference},1\n")
    config = replace(BARE, step_times=StepTimeConfig(mode="table", table=str(table)))
    with pytest.raises(InfeasibleError, match="its step time is not known"):
        ImageEvaluator(config)(job(SPACE.reference, Task.TIME, model=TimmModel("test_resnet")))


@pytest.mark.parametrize(("image_size", "name"), [(32, "resnet18"), (64, "mobilenetv3_small_100")])
def test_counts_of_a_model_of_timm_are_those_of_an_independent_counter(
    image_size: int, name: str
) -> None:
    network = build(TimmModel(name), num_classes=10)
    counted = counted_model(network, name, image_size)
    expected = FlopCountAnalysis(network.eval(), torch.zeros(1, 3, image_size, image_size))
    by_operator = expected.unsupported_ops_warnings(False).by_operator()
    assert counted["macs"] == by_operator["conv"] + by_operator["linear"]


# -- tasks


@pytest.mark.parametrize(
    ("task", "metrics"),
    [(Task.EVALUATE, TIMED | TRAINED), (Task.TIME, TIMED), (Task.TRAIN, TRAINED)],
)
def test_a_task_gives_its_metrics(
    with_images: ImageEvaluator, task: Task, metrics: set[str]
) -> None:
    found = with_images(job(SPACE.reference, task))
    assert set(found.metrics) == metrics
    assert all(math.isfinite(value) for value in found.metrics.values())
    assert found.hardware == hardware_id(describe_device(torch.device("cpu")))
    assert found.step_time_source == ("" if task is Task.TRAIN else "measured")
    assert (found.seed is None) == (task is Task.TIME)
    assert (found.fidelity == with_images.fidelity) == (task is not Task.TIME)


def test_without_images_networks_are_timed_and_none_is_trained(bare: ImageEvaluator) -> None:
    found = bare(job(ARCHS[0], Task.TIME))
    assert set(found.metrics) == TIMED
    assert (found.fidelity, found.seed, bare.fidelity) == ("", None, "")
    prepared = bare.prepare()
    assert (prepared.train_images, prepared.training_s, prepared.data_fingerprint) == (0, 0.0, "")
    assert min(prepared.timing_s, prepared.peak_memory_bytes, prepared.target_memory_bytes) > 0
    for task in (Task.TRAIN, Task.EVALUATE):
        with pytest.raises(ConfigError, match=r"^this worker has no images to train on"):
            bare(job(ARCHS[0], task))


def test_an_evaluation_repeats_itself_whatever_was_done_before(with_images: ImageEvaluator) -> None:
    one, two = with_images(job(ARCHS[0])), with_images(job(ARCHS[1]))
    again = ImageEvaluator(CONFIG)  # in another order, and after another random state
    torch.manual_seed(77)
    before = torch.get_rng_state()
    two_again, one_again = again(job(ARCHS[1])), again(job(ARCHS[0]))
    assert torch.equal(torch.get_rng_state(), before)
    for measured, repeated in ((one, one_again), (two, two_again)):
        for name in ("accuracy", "train_loss", "peak_memory_bytes"):
            assert measured.metrics[name] == repeated.metrics[name]
        assert (measured.seed, measured.fidelity) == (repeated.seed, repeated.fidelity)
    assert one.seed != two.seed
    prepared = again.prepare()
    assert one.fidelity == f"1 epoch of {prepared.train_images} images at 8 px"
    seeds = {again(job(ARCHS[0], Task.TRAIN, repeat)).seed for repeat in range(3)}
    assert one.seed in seeds
    assert len(seeds) == 3
    assert ImageEvaluator(replace(CONFIG, seed=1))(job(ARCHS[0], Task.TRAIN)).seed not in seeds


def test_what_does_not_fit_the_memory_is_infeasible_before_it_is_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("effnas.evaluation.timing.available_memory_bytes", lambda device: 200_000)
    evaluator = ImageEvaluator(replace(BARE, timing_batch_size=100))
    with pytest.raises(InfeasibleError, match=r"^out of memory at batch 100 and 8 px") as caught:
        evaluator(job(SPACE.reference, Task.TIME))
    assert 0 < caught.value.metrics["largest_batch_size"] < 100


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory.\nSee"), "out of memory: CUDA out of memory."),
        (MemoryError(), "out of memory"),
        (RuntimeError("you tried to allocate memory: 5"), "out of memory on the CPU"),
        (RuntimeError("a bug"), "a bug"),
    ],
    ids=["cuda", "python", "cpu", "another error"],
)
def test_memory_that_runs_out_all_the_same_is_infeasible(
    bare: ImageEvaluator, error: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out(_: Architecture) -> None:
        raise error

    monkeypatch.setattr(bare, "_timing", replace(bare._timing, retimed=run_out))
    kind = RuntimeError if said == "a bug" else InfeasibleError
    with pytest.raises(kind) as caught:
        bare(job(SPACE.reference, Task.TIME))
    assert str(caught.value) == said


# -- what it prepares


def test_what_a_worker_prepares_is_plain_data_that_fixes_the_rest() -> None:
    space = SPACE.with_target(image_size=16)
    free = replace(
        CONFIG,
        space_text=space.to_text(),
        recipe=Recipe(epochs=1),
        execution=None,
        timing_batch_size=None,
    )
    prepared = ImageEvaluator(free).prepare()
    assert prepared.samples_png.startswith(b"\x89PNG")
    plain = asdict(replace(prepared, samples_png=b"")) | {"samples_png": None}
    assert json.loads(json.dumps(plain))["num_classes"] == 10
    assert prepared.recipe.image_size == (16, 16)  # no larger than the target's
    assert prepared.recipe.data_share == 1.0
    assert prepared.recipe.flip is False  # a mirrored digit is another sign
    assert prepared.timing_batch_size == 8
    assert prepared.train_images + prepared.holdout_images == 1438
    assert prepared.class_names == tuple("0123456789")
    assert str(prepared.execution) in prepared.execution_seconds
    assert prepared.step_times == "measured"
    assert prepared.timing_s > 0
    assert prepared.training_s > 0
    settled = replace(
        free,
        recipe=prepared.recipe,
        execution=prepared.execution,
        timing_batch_size=prepared.timing_batch_size,
    )
    again = ImageEvaluator(settled).prepare()
    assert again.data_fingerprint == prepared.data_fingerprint
    assert (again.recipe, again.execution) == (prepared.recipe, prepared.execution)
    assert again.execution_seconds == {}


# -- where step times come from


def here() -> str:
    return hardware_id(describe_device(torch.device("cpu")))


@pytest.fixture
def evaluator_with(tmp_path: Path) -> Callable[..., ImageEvaluator]:
    """Makes evaluators that take step times from a profile."""

    def make(mode: str, profile: DeviceProfile, **changes: Any) -> ImageEvaluator:
        path = tmp_path / "board.json"
        path.write_text(profile.to_json())
        step_times = StepTimeConfig(mode=mode, profile=str(path))  # type: ignore[arg-type]
        return ImageEvaluator(replace(BARE, step_times=step_times, **changes))

    return make


def evaluated(evaluator: ImageEvaluator, arch: Architecture) -> dict[str, float]:
    """The metrics of an evaluation, of which a worker without images does the first half."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluator, "_training", lambda *_: Measurement(metrics={}))
        found = evaluator(job(arch))
    return {**found.metrics, f"is_{found.step_time_source}": 1.0}


def test_predictions_are_the_profiles_and_no_network_is_run(
    evaluator_with: Callable[..., ImageEvaluator], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "effnas.timing.networks.time_networks", lambda *_, **__: pytest.fail("it was timed")
    )
    profile = profile_of(SPACE)  # of another device
    evaluator = evaluator_with("predicted", profile)
    for arch in (SPACE.reference, *ARCHS):
        found = evaluator(job(arch, Task.TIME))
        assert found.metrics == profile(arch).metrics
        assert (found.step_time_source, found.hardware) == ("predicted", profile.hardware)
    with pytest.raises(InfeasibleError, match="outside the device profile"):
        evaluator(job(OUTSIDE, Task.TIME))
    prepared = evaluator.prepare()
    assert prepared.timing_s == 0
    assert prepared.step_times.startswith(f"predicted by the profile of {profile.hardware}")


def test_auto_predicts_in_the_search_and_measures_when_asked_to_time(
    evaluator_with: Callable[..., ImageEvaluator],
) -> None:
    profile = profile_of(SPACE, hardware=here())
    evaluator = evaluator_with("auto", profile)
    found = evaluated(evaluator, ARCHS[0])
    assert found == {**profile(ARCHS[0]).metrics, "is_predicted": 1.0}
    measured = evaluator(job(ARCHS[0], Task.TIME))
    assert set(measured.metrics) == TIMED
    assert measured.step_time_source == "measured"
    assert set(evaluated(evaluator, OUTSIDE)) == TIMED | {"is_measured"}
    assert evaluator.prepare().step_times.endswith("; the best are measured")
    # Networks are run as the profile did.
    way = {"precision": "bfloat16", "memory_format": "channels_last", "compile_mode": "none"}
    evaluator = evaluator_with("auto", replace(profile, execution=way), execution=None)
    assert str(evaluator._timing.setup.execution) == str(
        Execution(precision="bfloat16", memory_format="channels_last")
    )


def test_auto_measures_everything_where_the_profile_is_not_trusted(
    evaluator_with: Callable[..., ImageEvaluator],
) -> None:
    evaluator = evaluator_with("auto", profile_of(SPACE, hardware=here(), error=0.0625))
    assert "is_measured" in evaluated(evaluator, ARCHS[0])
    assert evaluator.prepare().step_times.startswith("measured, not predicted by the profile of")
    assert "6.2%" in evaluator.prepare().step_times


@pytest.mark.parametrize(
    ("mode", "profile", "text", "said"),
    [
        ("auto", profile_of(SPACE.with_target(image_size=16)), TEXT, "for image size 16 (here 8)"),
        ("auto", profile_of(SPACE, stem=16, head=64), TEXT, "stem 16 (here 8), head 64 (here 16)"),
        ("auto", profile_of(SPACE), TEXT.replace("classes: 10", "classes: 7"), "10 (here 7)"),
        ("predicted", profile_of(SPACE), TEXT.replace("_s2_", "_s1_"), "is for space "),
    ],
    ids=["image-size", "stem and head", "classes", "stages"],
)
def test_a_profile_for_something_else_is_refused_in_a_line(
    mode: str,
    profile: DeviceProfile,
    text: str,
    said: str,
    evaluator_with: Callable[..., ImageEvaluator],
) -> None:
    with pytest.raises(ConfigError) as caught:
        evaluator_with(mode, replace(profile, hardware=here()), space_text=text)
    for part in ("board.json: the profile is for", said, "; make one with `effnas profile`"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_auto_refuses_a_profile_of_another_device(
    evaluator_with: Callable[..., ImageEvaluator],
) -> None:
    said = f"the profile is of a board, 2 threads, and this device is {re.escape(here())}"
    with pytest.raises(ConfigError, match=said):
        evaluator_with("auto", profile_of(SPACE))


def test_a_table_gives_its_step_times(tmp_path: Path) -> None:
    path = tmp_path / "times.csv"
    path.write_text(
        f"architecture,step_time_s\n{SPACE.reference},0.5\n{ARCHS[0]},0.125\n", encoding="utf-8"
    )
    evaluator = ImageEvaluator(
        replace(BARE, step_times=StepTimeConfig(mode="table", table=str(path)))
    )
    found = evaluator(job(ARCHS[0], Task.TIME))
    assert found.metrics == {"step_time": 0.25, "step_time_s": 0.125}
    assert found.step_time_source == "table"
    assert "times.csv" in found.hardware
    with pytest.raises(InfeasibleError, match="not in the table"):
        evaluator(job(ARCHS[1], Task.TIME))
    prepared = evaluator.prepare()
    assert (prepared.timing_s, prepared.step_times) == (0.0, found.hardware)


def test_a_command_gives_its_step_times() -> None:
    program = "import json, sys; print(json.load(open(sys.argv[1]))['stem'] / 64)"
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(program)} {{arch_json}}"
    evaluator = ImageEvaluator(
        replace(BARE, step_times=StepTimeConfig(mode="command", command=command))
    )
    found = evaluator(job(ARCHS[0], Task.TIME))
    assert found.metrics == {"step_time": 1.0, "step_time_s": 0.125}
    assert found.step_time_source == "command"
    assert evaluator.prepare().timing_s > 0


# -- constraints


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Everything that is trained from here on."""
    found: list[object] = []

    def train(self: Training, *args: Any, **kwargs: Any) -> bool:
        found.append(self.model)
        return run(self, *args, **kwargs)

    run = Training.run
    monkeypatch.setattr(Training, "run", train)
    return found


def test_what_is_too_slow_is_timed_and_not_trained(trainings: list[object]) -> None:
    evaluator = ImageEvaluator(replace(CONFIG, constraints=("accuracy > 2", "step_time_s < 1e-9")))
    with pytest.raises(
        InfeasibleError, match=r"^step_time_s is .*wants 'step_time_s < 1e-9'$"
    ) as e:
        evaluator(job(ARCHS[0]))
    assert set(e.value.metrics) == TIMED
    assert not trainings
    # It is timed, or trained, for whoever asks for no more than that.
    assert set(evaluator(job(ARCHS[0], Task.TIME)).metrics) == TIMED
    assert set(evaluator(job(ARCHS[0], Task.TRAIN)).metrics) == TRAINED
    assert len(trainings) == 1


def test_what_needs_too_much_memory_is_not_even_timed(
    with_images: ImageEvaluator, trainings: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    peak = int(with_images(job(ARCHS[0], Task.TIME)).metrics["peak_memory_bytes"])
    exact = replace(CONFIG, constraints=(f"peak_memory_bytes <= {peak}",))
    assert ImageEvaluator(exact)(job(ARCHS[0])).metrics["peak_memory_bytes"] == peak
    assert len(trainings) == 1
    less = ImageEvaluator(replace(CONFIG, constraints=(f"peak_memory_bytes < {peak}",)))
    monkeypatch.setattr(MeasuredStepTimes, "__call__", lambda *_: pytest.fail("it was timed"))
    with pytest.raises(InfeasibleError, match=f"^peak_memory_bytes is {peak:,}, and") as e:
        less(job(ARCHS[0]))
    assert e.value.metrics == {"peak_memory_bytes": peak}
    assert len(trainings) == 1


def test_a_constraint_that_nothing_can_meet_is_refused_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    space = replace(SPACE, target=replace(SPACE.target, num_classes=None))
    least = min(SPACE.count(arch).params for arch in SPACE.architectures())  # for 10 classes
    assert space.count(space.reference).params > least + 10_000
    config = replace(CONFIG, space_text=space.to_text(), execution=None)
    fine = replace(config, constraints=(f"params <= {least}",), execution=Execution())
    assert ImageEvaluator(fine)
    monkeypatch.setattr(
        "effnas.evaluation.timing.choose_execution", lambda *_: pytest.fail("it was measured")
    )
    with pytest.raises(SpaceError, match=f"no architecture meets .* has params = {least:,};"):
        ImageEvaluator(replace(config, constraints=(f"params < {least}",)))


# -- mirroring


def write_pets(root: Path) -> None:
    """Two classes to train on."""
    rng = np.random.default_rng(0)
    for c, name in enumerate(("ant", "bee")):
        (root / "train" / name).mkdir(parents=True)
        for i in range(30):
            pixels = rng.integers(0, 128, (16, 16, 3)) + 127 * c
            Image.fromarray(pixels.astype(np.uint8)).save(root / "train" / name / f"{i}.png")


# -- in a search


class Quiet(SearchObserver):
    """Watches a search, and shows nothing."""

    def __init__(self) -> None:
        self.ended: list[Trial] = []
        self.timed: list[Trial] = []

    def trial_ended(self, trial: Trial, search: Search) -> None:
        self.ended.append(trial)

    def finalist_timed(self, trial: Trial, search: Search) -> None:
        self.timed.append(trial)


def settings_for(out: Path, **changes: Any) -> Settings:
    space = out.parent / "small.yaml"
    space.write_text(SPACE.to_text())
    settings = Settings(
        space=str(space),
        data="digits",
        reward="v2",
        budget=1,
        out=out,
        recipe=Recipe(epochs=1, batch_size=16, image_size=(8, 8), data_share=0.05),
        workers=Workers(device="cpu", backend="inline", threads=1),
        baselines=("none",),
    )
    return replace(settings, **changes)


def test_baselines_are_stored_first_and_leave_the_trials_as_they_are(tmp_path: Path) -> None:
    settings = settings_for(
        tmp_path / "run", budget=2, reward="A", baselines=("test_resnet", "test_vit")
    )
    compared = launch(settings, Quiet())
    alone = Search(SPACE, "A", settings.controller, settings.seed)
    assert [t.architecture for t in compared.trials] == [alone.ask(), alone.ask()]
    assert all(t.ended for t in compared.trials)
    run = load_run(settings.out)
    assert run.baselines == compared.baselines
    reference, resnet, vit = run.baselines
    assert len(reference.accuracies) == 3
    assert resnet.reward(compared.reward) is not None
    assert "cannot be run on images of 8 px" in (vit.reason or "")
    assert run.noise.seed_spread is not None
    data = run.manifest.data
    assert data.guessing.chance == 0.1
    assert (data.train_images, data.holdout_images) == (
        sum(data.class_counts), sum(data.holdout_class_counts)
    )  # fmt: skip
    assert data.image_sizes == ((8, 8),) * 3
    with Image.open(settings.out / "samples.png") as picture:
        assert picture.size == (6 * 8 + 5 * 2, 2 * 8 + 2)


def test_a_search_by_predictions_ends_with_measured_ones(tmp_path: Path) -> None:
    from effnas.timing.runtime import configure_process

    configure_process()  # as the search itself will do: it is a part of the hardware's identity
    path = tmp_path / "board.json"
    path.write_text(profile_of(SPACE, hardware=here()).to_json())
    observer = Quiet()
    search = launch(
        settings_for(
            tmp_path / "run", budget=7, step_times=StepTimeConfig(mode="auto", profile=str(path))
        ),
        observer,
    )
    assert {t.measurement.step_time_source for t in observer.ended} == {"predicted"}
    best = search.trials.ranked()[:5]
    assert {t.measurement.step_time_source for t in best} == {"measured"}
    assert len(observer.timed) >= 5
    assert {t.number for t in best} <= {t.number for t in observer.timed}
    for trial in best:
        assert trial.reward == pytest.approx(search.reward.score(trial.metrics))
        assert set(trial.metrics) >= TIMED | TRAINED


def test_a_rung_is_timed_once_and_continued_from_its_checkpoint(tmp_path: Path) -> None:
    config = replace(
        CONFIG, recipe=replace(CONFIG.recipe, epochs=3), checkpoints=str(tmp_path / "checkpoints")
    )
    evaluator = ImageEvaluator(config)
    whole = evaluator(job(ARCHS[0], Task.TRAIN))
    assert not (tmp_path / "checkpoints").exists()
    first = evaluator(job(ARCHS[0], Task.EVALUATE, until=1))
    assert set(first.metrics) == TIMED | TRAINED
    assert first.fidelity == f"1 of {whole.fidelity}"
    kept = [path.name for path in (tmp_path / "checkpoints").iterdir()]
    assert kept == [f"{ARCHS[0].id}.safetensors"]
    again = ImageEvaluator(config)  # another process would be the same
    last = again(job(ARCHS[0], Task.TRAIN, until=3))
    assert set(last.metrics) == TRAINED
    assert (last.fidelity, last.seed) == (whole.fidelity, whole.seed)
    assert first.seed == whole.seed
    for name in ("accuracy", "train_loss"):
        assert last.metrics[name] == whole.metrics[name]
    assert last.metrics["train_time_s"] > first.metrics["train_time_s"]


def test_checkpoints_are_kept_while_trials_are_paused_and_no_longer(tmp_path: Path) -> None:
    rungs = Rungs((1, 2))
    out = tmp_path / "run"

    class Watches(Quiet):
        def trial_ended(self, trial: Trial, search: Search) -> None:
            super().trial_ended(trial, search)
            paused = {
                f"{t.architecture.id}.safetensors"
                for t in search.trials
                if t.state is TrialState.WAITING
            }
            kept = {path.name for path in (out / "checkpoints").iterdir()}
            pruning = any(t.state is TrialState.PRUNED for t in search.trials)
            assert kept >= paused if pruning else kept == paused

    recipe = Recipe(epochs=2, batch_size=16, image_size=(8, 8), data_share=0.05)
    settings = settings_for(out, budget=5, rungs=rungs, recipe=recipe)
    observer = Watches()
    first = launch(settings, observer)
    assert TrialState.WAITING in {t.state for t in observer.ended}
    assert {t.state for t in first.trials} == {TrialState.COMPLETE, TrialState.PRUNED}
    assert list((out / "checkpoints").iterdir()) == []
    # What a kill has left of a trial that had ended is cleared away.
    left = out / "checkpoints" / f"{first.trials[0].architecture.id}.safetensors"
    left.write_bytes(b"left over")
    launch(settings, Quiet())
    assert not left.exists()


def test_the_test_part_is_never_opened_during_a_search(tmp_path: Path) -> None:
    touched: list[str] = []
    watching = True

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event in ("open", "os.scandir", "os.listdir"):
            touched.append(str(arguments[0]))

    root = tmp_path / "pets"
    write_pets(root)
    for part in ("test", "val"):
        shutil.copytree(root / "train", root / part)
    observer = Quiet()
    sys.addaudithook(note)
    try:
        search = launch(
            settings_for(tmp_path / "run", data=str(root), recipe=Recipe(epochs=3, batch_size=16)),
            observer,
        )
    finally:
        watching = False
    below = [Path(path).relative_to(root).parts for path in touched if path.startswith(str(root))]
    parts = {names[0] for names in below if names}
    assert "train" in parts  # the record does work
    assert not parts & {"test", "val"}
    assert [t.state for t in observer.ended] == [TrialState.COMPLETE]
    assert observer.timed == []
    assert search.best is not None
    assert 0 <= search.best.metrics["accuracy"] <= 1
