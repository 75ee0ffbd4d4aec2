"""Retargeting: what is known stays known, and new work is asked for only where it may pay."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import exp, sin

import numpy as np
import pytest

from effnas import Architecture, InfeasibleError, Reward, Search, SearchSpace, Trials, TrialState
from effnas.errors import ConfigError
from effnas.evaluation.backend import Backend, InlineBackend
from effnas.evaluation.evaluator import Job, Task
from effnas.search.retime import retime
from effnas.timing.step_time import StepTime
from effnas.trials.baselines import Baseline, BaselineResult, grouped
from effnas.trials.trial import Measurement
from effnas.workflows.retarget.baselines import looking_up, retime_baselines
from effnas.workflows.retarget.launch import _Untrained as Untrained
from effnas.workflows.retarget.retargeting import Candidate, Retargeting

TINY = SearchSpace.load("tiny")
REWARD = Reward.load("v2")
ONE = SearchSpace.parse("stages: [fused_r1_k3_s2_e1_c8]\n")
FEW = SearchSpace.parse("stages: ['fused_r<1..3>_k<3|5>_s2_e<1|4>_c<8|16>']\n")
Measure = Callable[[Architecture], dict[str, float]]


def accuracy(arch: Architecture) -> float:
    """Saturates with size, and has a liking of its own."""
    depth = sum(s.r * (1 + 0.1 * s.k) * s.c for s in arch.stages) / 100
    return 0.8 - 0.4 * exp(-depth) + 0.02 * sin(sum(s.e for s in arch.stages))


def old_step_time(arch: Architecture) -> float:
    return 0.2 + sum(s.r * s.e * s.k for s in arch.stages) / 50


def new_step_time(arch: Architecture) -> float:
    """A device that dislikes depthwise convolutions."""
    return 0.2 + sum(s.r * s.e * s.k * (6 if s.op == "mbconv" else 1) for s in arch.stages) / 50


def on_old(arch: Architecture) -> dict[str, float]:
    return {"accuracy": accuracy(arch), "step_time": old_step_time(arch)}


def on_new(arch: Architecture) -> dict[str, float]:
    return {"accuracy": accuracy(arch), "step_time": new_step_time(arch)}


def finished(space: SearchSpace = TINY, n: int = 40, reward: Reward = REWARD) -> Trials:
    return Search(space, reward, "random", 3).run(on_old, budget=n)


PARENT = finished()


def time_all(engine: Retargeting, most: int, step_time: Measure = on_new) -> list[Architecture]:
    timed: list[Architecture] = []
    while len(timed) < most and (arch := engine.next_to_time()):
        timed.append(arch)
        engine.tell_step_time(arch, {"step_time": step_time(arch)["step_time"]})
    return timed


def train_all(engine: Retargeting, most: int) -> list[Architecture]:
    trained: list[Architecture] = []
    while len(trained) < most and (arch := engine.next_to_train()):
        trained.append(arch)
        engine.tell_trained(arch, on_new(arch))
    return trained


def rescored(trials: Trials, step_time: Measure = on_new) -> list[tuple[str, float]]:
    """What plain scoring with new step times gives, the best first."""
    scores = {
        t.architecture.id: REWARD.score({**t.metrics, **step_time(t.architecture)}) for t in trials
    }
    return sorted(scores.items(), key=lambda item: -item[1])


def brief(ranking: list[Candidate]) -> list[tuple[str, float]]:
    return [(c.architecture.id, c.reward) for c in ranking]


# -- ranking


@pytest.mark.slow
def test_with_all_step_times_the_ranking_is_plain_scoring() -> None:
    free = Retargeting(TINY, REWARD, PARENT, step_time_of=on_new)
    paid = Retargeting(TINY, REWARD, PARENT)
    assert free.next_to_time() is None
    assert len(time_all(paid, 1000)) == len(PARENT)
    wanted = rescored(PARENT)
    old = {t.architecture.id: (rank, t) for rank, t in enumerate(PARENT.ranked(), start=1)}
    for ranking in (free.ranking(), paid.ranking()):
        assert [key for key, _ in brief(ranking)] == [key for key, _ in wanted]
        assert [r for _, r in brief(ranking)] == pytest.approx([r for _, r in wanted], rel=1e-12)
        assert [c.rank for c in ranking] == list(range(1, len(PARENT) + 1))
        for c in ranking:
            assert c.timed
            assert c.reward_deviation == c.step_time_deviation == 0
            rank, trial = old[c.architecture.id]
            assert (c.old_rank, c.old_reward) == (rank, trial.reward)
            assert c.old_metrics["step_time"] == trial.metrics["step_time"]
            assert c.metrics["accuracy"] == trial.metrics["accuracy"]
            assert c.step_time == c.metrics["step_time"] == new_step_time(c.architecture)
    slowdowns = [c.slowdown for c in ranking if c.slowdown is not None]
    assert np.median(slowdowns) == pytest.approx(1)
    fused = [c.slowdown for c in ranking if {s.op for s in c.architecture.stages} == {"fused"}]
    assert max(slowdown or 9 for slowdown in fused) == min(slowdowns)


def test_before_anything_is_timed_the_old_ranking_stands() -> None:
    ranking = Retargeting(TINY, REWARD, PARENT).ranking()
    assert [c.old_rank for c in ranking[:5]] == [c.rank for c in ranking[:5]]
    assert not any(c.timed for c in ranking)
    assert all(c.reward_deviation > 0 and c.step_time_deviation > 0 for c in ranking)


@pytest.mark.slow
def test_a_few_timings_find_the_best_and_bound_the_rest() -> None:
    engine = Retargeting(TINY, REWARD, PARENT)
    time_all(engine, 20)
    ranking = engine.ranking()
    assert ranking[0].architecture.id == rescored(PARENT)[0][0]
    predicted = [c for c in ranking if not c.timed]
    assert len(predicted) == len(PARENT) - 20
    errors = [abs(np.log(c.step_time / new_step_time(c.architecture))) for c in predicted]
    assert np.median(errors) < 0.5  # S differs by a factor of 60
    within = [e < 4 * c.step_time_deviation + 0.02 for e, c in zip(errors, predicted, strict=True)]
    assert np.mean(within) > 0.8


def test_the_last_trial_of_an_architecture_counts_and_incomplete_ones_do_not() -> None:
    first = PARENT[0]
    again = replace(
        first,
        number=900,
        measurement=replace(first.measurement, metrics={**first.metrics, "accuracy": 0.1}),
    )
    lost = replace(PARENT[1], state=TrialState.INFEASIBLE, reward=None)
    engine = Retargeting(TINY, REWARD, Trials([first, again, lost, PARENT[2]]))
    by_id = {c.architecture.id: c for c in engine.ranking()}
    assert set(by_id) == {first.architecture.id, PARENT[2].architecture.id}
    assert by_id[first.architecture.id].metrics["accuracy"] == 0.1
    with pytest.raises(ConfigError, match="nothing to retarget"):
        Retargeting(TINY, REWARD, Trials([lost]))


@pytest.mark.parametrize("metrics", [{}, {"step_time": 0.0}, {"step_time": float("nan")}])
def test_a_step_time_must_be_above_zero(metrics: Mapping[str, float]) -> None:
    with pytest.raises(ConfigError, match="above 0"):
        Retargeting(TINY, REWARD, PARENT).tell_step_time(PARENT[0].architecture, metrics)


# -- proposals


@pytest.mark.slow
def test_nothing_is_proposed_twice_nor_from_outside_the_space() -> None:
    space = SearchSpace.parse(TINY.to_text() + "constraints: ['layers <= 5']\n")
    parent = finished(space)
    engine, same = Retargeting(space, REWARD, parent), Retargeting(space, REWARD, parent)
    old = {t.architecture.id for t in parent}
    # Asked for ahead of their answers, as several workers do.
    timed = [engine.next_to_time() for _ in range(len(parent) + 1)]
    assert [same.next_to_time() for _ in timed] == timed
    assert timed.pop() is None
    assert {arch.id for arch in timed if arch} == old
    for arch in timed[:20]:
        assert arch is not None
        engine.tell_step_time(arch, on_new(arch))
        same.tell_step_time(arch, on_new(arch))
    trained = [arch for _ in range(5) if (arch := engine.next_to_train())]
    assert [same.next_to_train() for _ in trained] == trained
    assert len({arch.id for arch in trained}) == len(trained) > 3
    assert not {arch.id for arch in trained} & old
    assert all(space.contains(arch) and arch.layers <= 5 for arch in trained)


@pytest.mark.slow
def test_trainings_find_better_ones_than_the_finished_search_had() -> None:
    engine = Retargeting(TINY, REWARD, PARENT)
    time_all(engine, 20)
    assert train_all(engine, 5)
    best = engine.ranking()[0]
    assert best.reward > rescored(PARENT)[0][1]
    assert (best.old_rank, best.old_reward, best.slowdown, dict(best.old_metrics)) == (
        *(None, None, None),
        {},
    )


@pytest.mark.slow
def test_infeasible_architectures_are_left_out_and_others_proposed() -> None:
    engine = Retargeting(TINY, REWARD, PARENT)
    timed = [engine.next_to_time() for _ in range(16)]
    for n, arch in enumerate(timed):
        assert arch is not None
        if n % 2:
            engine.tell_infeasible(arch)
        else:
            engine.tell_step_time(arch, on_new(arch))
    untrained = engine.next_to_train()
    assert untrained is not None
    engine.tell_infeasible(untrained)
    assert engine.next_to_train() != untrained
    left = {t.architecture.id for t in PARENT} - {arch.id for arch in timed[1::2] if arch}
    assert {c.architecture.id for c in engine.ranking()} == left


@pytest.mark.slow
def test_what_breaks_a_constraint_on_the_new_device_is_out_and_teaches_all_the_same() -> None:
    def times(job: Job) -> Measurement:
        assert job.task is Task.TIME
        metrics = {"step_time": new_step_time(job.architecture)}
        return Measurement(metrics=metrics, step_time_source="measured")

    timed = list(PARENT)[:16]
    limit = float(np.median([new_step_time(t.architecture) for t in timed]))
    engine, free = Retargeting(TINY, REWARD, PARENT), Retargeting(TINY, REWARD, PARENT)
    controller = Untrained(engine, PARENT, 0)
    search = Search(
        TINY, REWARD, controller, constraints=[f"step_time <= {limit!r}"], first_number=100
    )
    retime(
        search,
        InlineBackend(times),
        lambda under_way: next(
            (t for t in timed if t.number not in {*under_way, *(s.number for s in search.trials)}),
            None,
        ),
    )
    for trial in timed:
        free.tell_step_time(trial.architecture, on_new(trial.architecture))
    gone = {t.architecture.id for t in search.trials if t.state is TrialState.INFEASIBLE}
    assert gone == {t.architecture.id for t in timed if new_step_time(t.architecture) > limit}
    assert gone
    predicted = {c.architecture.id: c.step_time for c in free.ranking()}
    kept = {c.architecture.id: c.step_time for c in engine.ranking()}
    assert kept == {key: step_time for key, step_time in predicted.items() if key not in gone}


@pytest.mark.slow
def test_only_the_pool_is_trained() -> None:
    rng = np.random.default_rng(5)
    pool = [TINY.sample(rng) for _ in range(60)]
    feasible = {arch.id for arch in pool[:30]} | {t.architecture.id for t in PARENT}

    def table(arch: Architecture) -> Mapping[str, float]:
        if arch.id not in feasible:
            raise InfeasibleError("not in the table")
        return {"step_time": new_step_time(arch)}

    engine = Retargeting(TINY, REWARD, PARENT, step_time_of=table, pool=[*pool, ONE.reference])
    trained = {arch.id for arch in train_all(engine, 50)}
    assert trained
    assert trained <= feasible - {t.architecture.id for t in PARENT}
    feasible = set()
    engine = Retargeting(TINY, REWARD, PARENT, step_time_of=table)
    assert engine.next_to_time() is engine.next_to_train() is None
    assert engine.ranking() == []


@pytest.mark.slow
def test_no_training_is_asked_for_where_none_can_win() -> None:
    # The reward is known before training, and the best of the whole space is trained already.
    reward = Reward.load("-params")
    best = min(FEW.architectures(), key=lambda arch: FEW.count(arch).params)
    search = Search(FEW, reward)
    for arch in [best, *list(FEW.architectures())[3:9]]:
        search.tell(arch, **on_old(arch))
    engine = Retargeting(FEW, reward, search.trials, step_time_of=on_new)
    assert engine.next_to_train() is None
    # Nor in a large space where every network is as good as any other.
    flat = Reward.load("accuracy * 0 + step_time * 0")
    assert Retargeting(TINY, flat, PARENT, step_time_of=on_new).next_to_train() is None


@pytest.mark.slow
def test_a_small_space_is_found_out_whole_and_ranked_to_the_end() -> None:
    engine = Retargeting(FEW, REWARD, finished(FEW, 4), step_time_of=on_new)
    train_all(engine, 100)
    best = max(REWARD.score({**on_new(a), **FEW.counted_metrics(a)}) for a in FEW.architectures())
    assert engine.ranking()[0].reward == pytest.approx(best, rel=0.02)
    for space in (ONE, FEW):
        trials = finished(space, 100)
        engine = Retargeting(space, REWARD, trials)
        assert len(time_all(engine, 100)) == len(trials) == space.size
        assert engine.next_to_train() is None
        assert [c[0] for c in brief(engine.ranking())] == [key for key, _ in rescored(trials)]


# -- rewards


@pytest.mark.slow
def test_other_metrics_of_timing_are_predicted_too() -> None:
    def memory(arch: Architecture) -> float:
        return 1e8 * (1 + arch.layers)

    def measure(arch: Architecture) -> dict[str, float]:
        return {**on_old(arch), "peak_memory_bytes": memory(arch), "step_time_s": 0.1}

    reward = Reward.load("A if peak_memory_bytes < 8e8 else A - 1")
    trials = Search(TINY, reward, "random", 3).run(measure, budget=40)
    engine = Retargeting(TINY, reward, trials)
    for _ in range(25):
        arch = engine.next_to_time()
        assert arch is not None
        engine.tell_step_time(arch, {**on_new(arch), "peak_memory_bytes": 1.2 * memory(arch)})
    best = engine.ranking()[0]
    assert 1.2 * memory(best.architecture) < 8e8
    assert all("step_time_s" not in c.metrics for c in engine.ranking())
    errors = [
        abs(c.metrics["peak_memory_bytes"] / (1.2 * memory(c.architecture)) - 1)
        for c in engine.ranking()
    ]
    assert np.median(errors) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("text", ["A / (1 + macs / 1e6) - 0.1 * log(S)", "-train_loss"])
def test_any_expression_may_be_the_reward(text: str) -> None:
    reward = Reward.load(text)

    def measure(arch: Architecture) -> dict[str, float]:
        return {**on_old(arch), "train_loss": 1 - accuracy(arch)}

    trials = Search(TINY, reward, "random", 3).run(measure, budget=30)
    engine = Retargeting(TINY, reward, trials)
    time_all(engine, 12)
    arch = engine.next_to_train()
    assert arch is not None
    engine.tell_trained(arch, {**measure(arch), **on_new(arch)})
    rewards = [c.reward for c in engine.ranking()]
    assert np.isfinite(rewards).all()
    assert rewards == sorted(rewards, reverse=True)


@pytest.mark.slow
def test_predictions_without_a_reward_count_as_the_worst() -> None:
    reward = Reward.load("A * sqrt(2 * (0.2 + 3) - S)")  # no value for the slowest
    trials = [t for t in PARENT if t.metrics["step_time"] < 6]
    engine = Retargeting(
        TINY, reward, Trials(replace(t, reward=reward.score(t.metrics)) for t in trials)
    )
    time_all(engine, 5, on_old)
    assert engine.next_to_train() is not None
    assert all(np.isfinite(c.reward) for c in engine.ranking())


def test_baselines_are_taken_over_with_step_times_of_the_new_device() -> None:
    """Each is timed once; those of timm's only where the device is."""
    blocks = str(TINY.reference)
    counted = TINY.counted_metrics(TINY.reference)

    def result(baseline: str, network: str, repeat: int, **metrics: float) -> BaselineResult:
        return BaselineResult(baseline=baseline, network=network, repeat=repeat, metrics=metrics)

    parent = grouped([
        result("reference", blocks, 0, accuracy=0.5, step_time=1.0, **counted),
        result("reference", blocks, 1, accuracy=0.6, **counted),
        result("other", blocks, 0, accuracy=0.5, step_time=1.0, params=1.0),
        result("resnet18", "resnet18", 0, accuracy=0.7, step_time=3.0, params=5e6),
        replace(result("vit", "vit", 0), reason="it cannot be built"),
    ])  # fmt: skip

    def taken_over(backend: Backend, stored: Sequence[Baseline] = ()) -> dict[str, Baseline]:
        found: list[BaselineResult] = []
        retime_baselines(parent, stored, TINY, backend, found.append)
        return {each.name: each for each in grouped(found)}

    jobs: list[Job] = []

    def time_step(job: Job) -> Measurement:
        jobs.append(job)
        return Measurement(metrics={"step_time": 7.0}, hardware="there")

    here = taken_over(InlineBackend(time_step))
    assert [job.model.name if job.model else "" for job in jobs] == ["", "resnet18"]
    assert here["reference"].accuracies == (0.5, 0.6)
    assert {name: b.metrics.get("step_time") for name, b in here.items()} == {
        "reference": 7.0, "resnet18": 7.0, "other": None, "vit": None,
    }  # fmt: skip
    assert "stem or head" in (here["other"].reason or "")
    assert here["vit"].reason == "it cannot be built"
    assert taken_over(InlineBackend(time_step), list(here.values())) == {}

    class Board:
        description = "a table"

        def __call__(self, arch: Architecture) -> StepTime:
            return StepTime(metrics={"step_time": 9.0}, source="table", hardware="a board")

    looked_up = taken_over(looking_up(Board()))
    assert looked_up["reference"].metrics["step_time"] == 9.0
    assert "step_time" not in looked_up["resnet18"].metrics
    assert looked_up["resnet18"].reward(REWARD) is None
    assert (
        looked_up["resnet18"].reason == "its step time is not known: it is no network of the space"
    )
