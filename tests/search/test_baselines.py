"""Baselines: trained first, stored at once, never twice, and unseen by the controller."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from searches import TINY, Shuffled

from effnas import InfeasibleError, Measurement
from effnas.arch.models import TimmModel
from effnas.config.recipe import Recipe
from effnas.config.settings import Execution
from effnas.errors import ConfigError
from effnas.evaluation.backend import Backend, InlineBackend, Outcome
from effnas.evaluation.baselines import networks_to_compare
from effnas.evaluation.evaluator import Job, Network, Task
from effnas.search.baselines import find_baselines, plan_baselines, train_baselines
from effnas.trials.baselines import Baseline, append_baseline, read_baselines
from effnas.trials.worker_info import WorkerInfo

NETWORKS: dict[str, Network] = {
    "reference": TINY.reference,
    "resnet18": TimmModel("resnet18"),
    "vit": TimmModel("vit"),
}
PREPARED = WorkerInfo(
    hardware="here", device={}, recipe=Recipe(), execution=Execution(), execution_seconds={},
    timing_batch_size=8, step_times="measured", num_classes=10, class_names=(), train_images=90,
    holdout_images=10, data_fingerprint="", skipped_images=(), timing_s=2.0, training_s=10.0,
    peak_memory_bytes=0, target_memory_bytes=0, available_memory_bytes=0,
)  # fmt: skip


class Evaluator:
    """Gives figures that follow from the network and the repeat; `vit` cannot be run."""

    def __init__(self, stop_after: int = 99) -> None:
        self.jobs: Counter[tuple[str, Task, int]] = Counter()
        self.stop_after = stop_after

    def __call__(self, job: Job) -> Measurement:
        network = job.model or job.architecture
        if self.jobs.total() == self.stop_after:
            raise KeyboardInterrupt
        self.jobs[str(network), job.task, job.repeat] += 1
        if str(network) == "vit":
            raise InfeasibleError("vit cannot be run")
        known = {"params": 5e6} if job.model else {}
        if job.task is Task.TIME:
            return Measurement(metrics={**known, "step_time": 2.0}, step_time_source="measured")
        metrics = {**known, "accuracy": 0.5 + job.repeat / 10}
        return Measurement(metrics=metrics, fidelity="4 epochs", seed=job.repeat)


def train(
    folder: Path, backend: Backend, costs: Mapping[str, float] | None = None
) -> tuple[Baseline, ...]:
    """Train what is missing of the baselines in a folder."""
    prepared = replace(PREPARED, baseline_training_s=costs or {})
    planned = plan_baselines(NETWORKS, prepared, read_baselines(folder), {})
    train_baselines(planned, TINY, backend, lambda result: append_baseline(folder, result))
    return read_baselines(folder)


def test_each_is_timed_once_and_trained_with_three_seeds(tmp_path: Path) -> None:
    evaluator = Evaluator()
    reference, resnet, vit = train(tmp_path, InlineBackend(evaluator))
    assert max(evaluator.jobs.values()) == 1
    assert reference.accuracies == resnet.accuracies == (0.5, 0.6, 0.7)
    assert reference.metrics.items() >= TINY.counted_metrics(TINY.reference).items()
    params = TINY.count(TINY.reference).params
    assert resnet.metrics.items() >= {"step_time": 2.0, "params_ratio": 5e6 / params}.items()
    assert [("step_time" in r.metrics) for r in resnet.results] == [True, False, False]
    assert vit.reason == "vit cannot be run"
    assert len(vit.results) == 1  # no use in trying other seeds


@pytest.mark.parametrize("stop_after", range(1, 10))
def test_after_a_stop_only_what_is_missing_is_trained(tmp_path: Path, stop_after: int) -> None:
    first, second = Evaluator(stop_after), Evaluator()
    with suppress(KeyboardInterrupt):
        train(tmp_path, InlineBackend(first))
    found = train(tmp_path, InlineBackend(second))
    assert [len(b.results) for b in found] == [3, 3, 1]
    stored = {key for key in first.jobs if key[1] is Task.TRAIN and key[0] != "vit"}
    assert stored.isdisjoint(second.jobs)


def test_several_workers_give_the_same_results(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "three").mkdir()
    backend = Shuffled(Evaluator())
    assert {b.name: b.accuracies for b in train(tmp_path / "three", backend)} == {
        b.name: b.accuracies for b in train(tmp_path / "one", InlineBackend(Evaluator()))
    }
    assert backend.most == 3


def test_a_lost_worker_is_tried_again_and_then_a_result_that_the_next_start_tries_again(
    tmp_path: Path,
) -> None:
    class Losing(InlineBackend):
        def next_done(self) -> Outcome:
            job = self._jobs[0]
            outcome = super().next_done()
            if job.model != TimmModel("resnet18"):
                return outcome
            return Outcome(trial=job.trial, failure="the worker was lost")

    evaluator = Evaluator()
    _, resnet, _ = train(tmp_path, Losing(evaluator))
    assert resnet.reason is not None
    assert "the worker was lost" in resnet.reason
    assert evaluator.jobs["resnet18", Task.TRAIN, 0] == 2
    found = {b.name: b for b in train(tmp_path, InlineBackend(Evaluator()))}
    assert found["resnet18"].accuracies == (0.5, 0.6, 0.7)
    assert found["resnet18"].reason is None


@pytest.mark.parametrize(("training_s", "seeds"), [(5.0, 3), (10.0, 3), (14.0, 2), (40.0, 1)])
def test_a_baseline_costs_what_three_trials_do_unless_one_training_costs_more(
    training_s: float, seeds: int
) -> None:
    prepared = replace(PREPARED, baseline_training_s={"resnet18": training_s})
    planned = plan_baselines(NETWORKS, prepared, [], {})[1]
    assert planned.seeds == seeds
    assert planned.left_s <= 36.0 or seeds == 1
    assert plan_baselines(NETWORKS, prepared, [], {"resnet18": 2})[1].seeds == 2  # as begun


def test_baselines_are_the_reference_and_those_named_or_the_default_of_the_image_size() -> None:
    def chosen(*names: str, size: int = 32) -> list[str]:
        named = find_baselines(names or None, TINY)
        return list(networks_to_compare(named, TINY.reference, size))

    assert chosen(size=32) == ["reference", "resnet10t"]
    assert chosen(size=224) == ["reference", "resnet18"]
    block = "fused_r1_k3_s1_e1_c16"
    assert chosen("resnet50", block) == ["reference", "resnet50", block]
    assert chosen("none") == []
    with pytest.raises(ConfigError, match=r"resnet181.*did you mean"):
        chosen("resnet181")
    with pytest.raises(ConfigError, match="leave"):
        chosen("none", "resnet18")
