"""`bench`, `profile`, `retarget` and `proxy` as a person types them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from command_line import NO_BASELINES, QUICK, SMALL, Result, Run

from effnas import SearchSpace, TrialState, load_run

BLOCKS = "fused_r1_k3_s1_e1_c16 mbconv_r1_k3_s2_e4_c24_se0.25 fused_r1_k3_s2_e1_c48"
pytestmark = pytest.mark.usefixtures("short_timings")


def search(effnas: Run, *arguments: str) -> Result:
    done = effnas("search", *QUICK, *NO_BASELINES, *arguments)
    assert done.code == 0, done.err
    return done


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the run that the first test makes, and others copy."""
    return tmp_path_factory.mktemp("searched")


@pytest.fixture
def run(effnas: Run, searched: Path, tmp_path: Path) -> None:
    """Has `run` be a finished search of four trials."""
    if not (searched / "run").exists():
        search(effnas, "--budget", "4", "--out", str(searched / "run"))
    shutil.copytree(searched / "run", tmp_path / "run")


@pytest.mark.slow
@pytest.mark.usefixtures("run")
def test_networks_of_every_kind_are_timed_side_by_side(effnas: Run, tmp_path: Path) -> None:
    best = load_run(tmp_path / "run").best
    assert best is not None
    arch = {"format": 1, "stem": 8, "head": 16, "blocks": ["fused_r1_k3_s1_e1_c8"]}
    file = write(tmp_path / "arch.json", json.dumps(arch))
    result = effnas(
        "bench", "run:best", "run:0", BLOCKS, file, "test_efficientnet",
        "--image-size", "16", "--batch-size", "4", "--threads", "1", "--time-limit", "0.1",
        "--precision", "float32", "--memory-format", "contiguous", "--json",
    )  # fmt: skip
    assert result.code == 0, result.err
    found = json.loads(result.out)
    names = [row["network"] for row in found["rows"]]
    assert names == ["run:best", "run:0", BLOCKS, file, "test_efficientnet"]
    assert found["rows"][0]["step_time"] == 1
    assert found["rows"][0]["params"] == best.metrics["params"]
    for row in found["rows"]:
        assert row["step_time_low"] <= row["step_time"] <= row["step_time_high"]
        assert row["images_per_s"] == pytest.approx(4 / row["step_time_s"])
    assert found["conditions"]["batch_size"] == 4
    assert {"threads", "torch", "onednn", "name"} <= found["hardware"].keys()


@pytest.mark.slow
def test_a_network_too_large_is_reported_with_the_batch_that_fits(effnas: Run) -> None:
    huge = ["--image-size", "16", "--batch-size", "50000000", "--time-limit", "0.1"]
    result = effnas("bench", "fused_r1_k3_s2_e1_c8", *huge)
    assert result.code == 2
    assert "out of memory" in result.err
    assert "the largest batch that fits is" in result.err


@pytest.mark.slow
def test_constraints_of_a_run_hold_when_it_continues_and_when_it_moves(
    effnas: Run, tmp_path: Path
) -> None:
    limits = ["--constraint", "step_time <= 1.05", "--constraint", "params < 4e3"]
    timed = ["--step-time-command", "sh -c 'wc -c < {arch_json}'"]  # between 0.98 and 1.11
    first = search(effnas, "--budget", "6", "--out", "run", *limits, *timed,
                   "--target-batch-size", "4")  # fmt: skip
    assert "step_time <= 1.05; params < 4e3; as far as is known before a trial" in first.out
    parent = load_run(tmp_path / "run")
    assert parent.space == SearchSpace.load(SMALL).with_target(batch_size=4, num_classes=10)
    assert {t.state for t in parent.trials} == {TrialState.COMPLETE, TrialState.INFEASIBLE}
    for trial in parent.trials:
        assert parent.space.count(trial.architecture).params < 4e3
        is_fine = trial.metrics["step_time"] <= 1.05
        assert trial.state is (TrialState.COMPLETE if is_fine else TrialState.INFEASIBLE)
        assert (trial.measurement.step_time_source == "command") == is_fine
        assert ("accuracy" in trial.metrics) == is_fine
        assert is_fine or "and the search wants 'step_time <= 1.05'" in (trial.reason or "")
    assert "step_time <= 1.05; params < 4e3" in effnas("status", "run").out
    assert json.loads(effnas("status", "run", "--json").out)["constraints"] == limits[1::2]
    command = ("search", *QUICK, *NO_BASELINES, "--budget", "9", "--out", "run")
    refused = effnas(*command, *timed, *limits[:2])
    assert refused.code == 2
    assert "constraints (was ['step_time <= 1.05', 'params < 4e3']" in refused.err
    assert len(load_run(tmp_path / "run").trials) == 6

    complete = parent.trials.ranked()
    rows = "".join(f"{t.architecture},{1 + n}\n" for n, t in enumerate(complete))
    reference = f"{parent.space.reference},1\n"
    table = write(tmp_path / "board.csv", f"architecture,step_time_s\n{reference}{rows}")
    assert effnas("retarget", "run", "--step-times", table).code == 0
    moved = load_run(tmp_path / "run-board")
    assert list(moved.manifest.constraints) == limits[1::2]
    states = {t.number: t.state for t in moved.trials}
    assert len(states) > 1
    # On the board, every network but the first takes twice the reference's time or more.
    assert states.pop(complete[0].number) is TrialState.COMPLETE
    assert set(states.values()) == {TrialState.INFEASIBLE}


@pytest.mark.slow
@pytest.mark.usefixtures("run")
def test_a_table_retargets_a_run_at_once(effnas: Run, tmp_path: Path) -> None:
    parent = load_run(tmp_path / "run")
    seconds = {trial.number: 4.0 - trial.number for trial in parent.trials}
    rows = "".join(f"{t.architecture},{seconds[t.number]}\n" for t in parent.trials)
    table = write(tmp_path / "board.csv", f"architecture,step_time_s\n{rows}")
    result = effnas("retarget", "run", "--step-times", table)
    assert result.code == 0, result.err
    assert "run-board" in result.out
    assert "Cost: 4 step times" in result.out
    assert "Report: run-board/report.html" in result.out
    report = tmp_path / "run-board" / "report.html"
    assert "<title>" in report.read_text()
    report.unlink()
    moved = load_run(tmp_path / "run-board")
    assert moved.manifest.parent is not None
    assert moved.manifest.parent.path == "run"
    middle = sorted(seconds.values())[1:3]
    for trial in moved.trials:
        old = parent.trials[trial.number]
        assert trial.architecture == old.architecture
        assert trial.metrics["accuracy"] == old.metrics["accuracy"]
        assert trial.metrics["step_time"] == pytest.approx(
            seconds[trial.number] / (sum(middle) / 2)
        )
        assert "forward_time_s" not in trial.metrics  # of the old device
        assert trial.measurement.step_time_source == "table"
        m = trial.metrics
        assert trial.reward == pytest.approx(
            m["accuracy"] * m["step_time"] ** -0.07 * m["params_ratio"] ** -0.05
        )
    again = json.loads(
        effnas("retarget", "run", "--step-times", table, "--json", "--no-report").out
    )
    assert not report.exists()
    assert [row["rank"] for row in again["candidates"]] == [1, 2, 3, 4]
    assert len(load_run(tmp_path / "run-board").trials) == 4
    other = write(tmp_path / "board.csv", f"architecture,step_time_s\n{rows}{BLOCKS},1\n")
    refused = effnas("retarget", "run", "--step-times", other)
    assert refused.code == 2
    assert "hardware (table: board.csv, whose content is another one)" in refused.err


@pytest.mark.slow
@pytest.mark.usefixtures("run")
def test_a_device_is_timed_and_new_networks_are_trained(effnas: Run, tmp_path: Path) -> None:
    command = ["retarget", "run", "--device", "cpu", "--backend", "inline", "--threads", "1"]
    first = effnas(*command, "--timings", "2", "--out", "new")
    assert first.code == 0, first.err
    assert len(load_run(tmp_path / "new").trials) == 2
    result = effnas(*command, "--timings", "3", "--budget", "1", "--out", "new", "--json")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    trials = load_run(tmp_path / "new").trials
    assert found["cost"]["timings"] == 3
    assert found["cost"]["trainings"] == len(trials) - 3 <= 1
    assert {t.number for t in trials[:3]} < {0, 1, 2, 3}
    assert all(t.measurement.step_time_source == "measured" for t in trials)


@pytest.mark.slow
def test_a_profile_is_made_used_and_checked_by_measurement(
    effnas: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from effnas.timing import layer_timer as part_timer
    from effnas.timing import profile, profiling

    monkeypatch.setattr(profiling, "PASSES", 1)
    monkeypatch.setattr(part_timer, "_ROUNDS", 2)
    monkeypatch.setattr(profiling, "FITTED", 2)
    monkeypatch.setattr(profiling, "CHECKED", 4)
    monkeypatch.setattr(profiling, "NETWORK_TIME_LIMIT_S", 0.01)
    monkeypatch.setattr(profile, "TRUSTED_ERROR", 1e9)  # on a busy machine too
    way = ["--threads", "1", "--precision", "float32", "--memory-format", "contiguous"]
    made = effnas("profile", "--space", SMALL, "--classes", "10", *way)
    assert made.code == 0, made.err
    assert "mean error" in made.out
    path = "runs/profiles/small-cpu.json"
    search(effnas, "--budget", "2", "--out", "run", "--profile", path)
    trials = load_run(tmp_path / "run").trials
    assert {t.measurement.step_time_source for t in trials} == {"measured"}  # the best five
    command = ("search", *QUICK, *NO_BASELINES, "--budget", "1", "--profile", path)
    predicted = effnas(*command, "--step-time", "predicted", "--out", "predicted")
    assert predicted.code == 0, predicted.err
    for trial in load_run(tmp_path / "predicted").trials:
        assert trial.measurement.step_time_source == "predicted"
        assert "forward_time_s" not in trial.metrics
    refused = effnas(*command, "--target-image-size", "24", "--out", "other")
    assert refused.code == 2
    assert "image size 16 (here 24)" in refused.err
    # What a profile says needs neither the device nor the images, and is checked all the same.
    moved = effnas("retarget", "run", "--profile", path, "--step-time", "predicted", "--json")
    assert moved.code == 0, moved.err
    assert json.loads(moved.out)["cost"]["timings"] == 2
    for trial in load_run(tmp_path / "run-small-cpu").trials:
        assert trial.measurement.step_time_source == "predicted"
    larger = effnas("search", *QUICK, *NO_BASELINES, "--target-image-size", "24",
                    "--budget", "1", "--out", "larger")  # fmt: skip
    assert larger.code == 0, larger.err
    wrong = effnas("retarget", "larger", "--profile", path, "--step-time", "predicted")
    assert wrong.code == 2
    assert "image size 16 (here 24)" in wrong.err


@pytest.mark.slow
def test_a_proxy_is_checked_and_trains_only_what_is_missing(effnas: Run, tmp_path: Path) -> None:
    command = ["proxy", "check", *QUICK, "--seeds", "1", "--high-seeds", "1",
               "--high-epochs", "2", "--out", "proxy", "--json"]  # fmt: skip
    first = effnas(*command, "--networks", "4")
    assert first.code == 0, first.err
    report = json.loads(first.out)
    assert report["networks"] == 4
    assert "4 networks do not tell how well a proxy ranks" in first.err
    stored = (tmp_path / "proxy" / "trainings.jsonl").read_text().splitlines()
    assert len(stored) == 8
    again = effnas(*command, "--networks", "5")
    assert json.loads(again.out)["networks"] == 5
    assert "do not tell" not in again.err
    more = (tmp_path / "proxy" / "trainings.jsonl").read_text().splitlines()
    assert more[:8] == stored
    assert len(more) == 10
    shown = effnas("status", "proxy")
    assert shown.code == 0, shown.err
    assert "proxy study of small, 5 networks" in shown.out
