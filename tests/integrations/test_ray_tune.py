"""Ray Tune runs, a controller of effnas proposes: real tuners, stopped, pruned and restored."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

from effnas.evaluation.ray import start_ray  # isort: skip  # before ray, as in a search
from ray import cloudpickle, tune
from ray.tune.schedulers import ASHAScheduler

from effnas import SearchSpace, TrialState
from effnas.errors import ConfigError, StoreError
from effnas.integrations.ray_tune import EffnasSearcher
from effnas.testing import MNASNET


def depth_of(config: dict[str, Any], iteration: int = 4) -> float:
    """More layers are more accurate, the more so the longer they train."""
    layers = sum(value for name, value in config.items() if name.endswith(".r"))
    return 0.3 + 0.02 * layers * iteration / 4


def end(searcher: EffnasSearcher, trial: str, **result: Any) -> None:
    searcher.on_trial_complete(trial, {"training_iteration": 4, **result})


def played(searcher: EffnasSearcher, count: int, first: int = 0) -> list[dict[str, Any]]:
    found = []
    for n in range(first, first + count):
        config = searcher.suggest(f"t{n}")
        found.append(config)
        end(searcher, f"t{n}", accuracy=depth_of(config))
    return found


def test_a_trial_has_a_key_for_each_decision() -> None:
    searcher = EffnasSearcher("tiny", "random")
    config = searcher.suggest("a")
    arch = SearchSpace.load("tiny").architecture(config)
    assert str(arch) == config["architecture"]
    assert config.keys() - {"architecture"} == SearchSpace.load("tiny").decisions(arch).keys()  # type: ignore[union-attr]


@pytest.mark.parametrize("mode", ["max", "min"])
def test_the_controller_learns_what_tune_reports(mode: str) -> None:
    searcher = EffnasSearcher(MNASNET, "evolution", metric="m", mode=mode)
    for n in range(60):
        end(searcher, f"t{n}", m=depth_of(searcher.suggest(f"t{n}")))
    trials = searcher._search.trials
    layers = [t.architecture.layers for t in trials]
    late, early = sum(layers[-15:]), sum(layers[:15])
    assert late > early if mode == "max" else late < early


def test_the_reward_is_of_what_is_counted_and_reported() -> None:
    searcher = EffnasSearcher("tiny", "random", reward="A * S^-0.07 * P^-0.05")
    searcher.suggest("a")
    end(searcher, "a", accuracy=0.5, step_time=2.0, config={"x": 1}, done=True)
    [trial] = searcher._search.trials
    expected = 0.5 * 2**-0.07 * trial.metrics["params_ratio"] ** -0.05
    assert trial.reward == pytest.approx(expected)


def test_what_was_stopped_at_a_rung_is_pruned_with_what_it_reached() -> None:
    searcher = EffnasSearcher("tiny", "surrogate", rungs=(1, 2, 4))
    for name, last in (("a", 1), ("b", 2), ("c", 4), ("d", 3)):
        config = searcher.suggest(name)
        for n in range(1, last + 1):
            result = {"training_iteration": n, "accuracy": depth_of(config, n)}
            if n < last:
                searcher.on_trial_result(name, result)
        searcher.on_trial_complete(name, result)
    states = [t.state for t in searcher._search.trials]
    assert [str(s) for s in states] == ["PRUNED", "PRUNED", "COMPLETE", "PRUNED"]
    assert [[*t.measurement.rungs] for t in searcher._search.trials] == [
        [1], [1, 2], [1, 2, 4], [1, 2],
    ]  # fmt: skip
    assert all(t.reward is not None for t in searcher._search.trials)


@pytest.mark.parametrize(
    ("result", "error"), [(None, True), ({"accuracy": float("nan")}, False), ({}, False)]
)
def test_a_trial_without_a_result_teaches_nothing(
    result: dict[str, Any] | None, error: bool
) -> None:
    searcher = EffnasSearcher("tiny", "random")
    searcher.suggest("a")
    searcher.on_trial_complete("a", result, error)
    searcher.on_trial_complete("a", {"accuracy": 0.5})  # it ends once
    searcher.on_trial_complete("unknown", {"accuracy": 0.5})
    [trial] = searcher._search.trials
    assert trial.state is TrialState.FAILED
    assert trial.reward is None


def test_a_space_that_is_used_up_ends_the_search(tmp_path: Path) -> None:
    (tmp_path / "two.yaml").write_text("stages: [mbconv_r<1|2>_k3_s2_e4_c16]\n")
    searcher = EffnasSearcher(str(tmp_path / "two.yaml"), "random")
    assert [isinstance(searcher.suggest(f"{n}"), dict) for n in range(3)] == [True, True, False]
    assert searcher.suggest("4") == searcher.FINISHED


@pytest.mark.parametrize("how", ["json", "pickle"])
@pytest.mark.parametrize("name", ["evolution", pytest.param("surrogate", marks=pytest.mark.slow)])
def test_a_restored_searcher_continues_as_the_first_would(
    tmp_path: Path, how: str, name: str
) -> None:
    first = EffnasSearcher(MNASNET, name, seed=3)
    played(first, 14)
    first.suggest("running")
    if how == "json":
        first.save(str(tmp_path / "state"))
        assert b"MNASNET" not in (tmp_path / "state").read_bytes()
        second = EffnasSearcher(MNASNET, name, seed=3)
        second.restore(str(tmp_path / "state"))
    else:
        second = pickle.loads(pickle.dumps(first))
    for searcher in (first, second):
        end(searcher, "running", accuracy=0.4)
    assert played(first, 3, 14) == played(second, 3, 14)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"kind": "effnas searcher of ray tune"}', '{"kind": "x", "numbers": {}}',
     '{"kind": "effnas searcher of ray tune", "space": "SPACE", "numbers": {"a": "b"}}',
     '{"kind": "effnas searcher of ray tune", "space": "SPACE", "numbers": {}, "reached": {}, '
     '"events": [{"trial": -1}]}'],
)  # fmt: skip
def test_a_damaged_state_is_a_line(tmp_path: Path, text: str) -> None:
    searcher = EffnasSearcher("tiny", "random")
    (tmp_path / "state").write_text(text.replace("SPACE", searcher.space.id))
    with pytest.raises(StoreError, match="state"):
        searcher.restore(str(tmp_path / "state"))


def test_mistakes_are_lines() -> None:
    for wrong in ({"mode": "up"}, {"mode": "min", "reward": "A"}, {"rungs": (4, 2)}):
        with pytest.raises(ConfigError):
            EffnasSearcher("tiny", **wrong)  # type: ignore[arg-type]
    searcher = EffnasSearcher("tiny")
    assert searcher.set_search_properties("accuracy", "max", {"data": "x"})
    for metric, mode, config in (
        ("loss", "max", {}), ("accuracy", "min", {}), (None, None, {"lr": tune.uniform(0, 1)}),
        (None, None, {"lr": tune.grid_search([1])}),
    ):  # fmt: skip
        with pytest.raises(ConfigError):
            searcher.set_search_properties(metric, mode, config)  # type: ignore[arg-type]


@pytest.fixture
def real_ray() -> None:
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import it
    start_ray()


def train(config: dict[str, Any]) -> None:
    network = SearchSpace.load("tiny").architecture(config)
    if network.layers == 3:
        raise RuntimeError("out of luck")
    for n in range(1, 5):
        tune.report({"accuracy": depth_of(config, n)})


@pytest.mark.slow
def test_a_tuner_with_asha_finds_and_is_restored(tmp_path: Path, real_ray: None) -> None:
    def tuner(searcher: EffnasSearcher) -> tune.Tuner:
        return tune.Tuner(
            train,
            tune_config=tune.TuneConfig(
                metric="accuracy", mode="max", num_samples=8, search_alg=searcher,
                scheduler=ASHAScheduler(max_t=4, grace_period=1, reduction_factor=2),
                max_concurrent_trials=2,
            ),
            run_config=tune.RunConfig(name="x", storage_path=str(tmp_path), verbose=0),
        )  # fmt: skip

    searcher = EffnasSearcher("tiny", "evolution", rungs=(1, 2, 4))
    results = tuner(searcher).fit()
    assert len(results) == 8
    best = results.get_best_result()
    assert best.metrics is not None
    rewards = [t.reward for t in searcher._search.trials if t.reward is not None]
    assert max(rewards) == pytest.approx(best.metrics["accuracy"])
    assert len({str(t.architecture) for t in searcher._search.trials}) == 8
    restored = tune.Tuner.restore(str(tmp_path / "x"), train, restart_errored=True)
    again = restored.fit()
    assert len(again) == 8
