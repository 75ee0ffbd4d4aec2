"""`effnas search`, `status` and `space` as a person types them, and the wheel."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from command_line import NO_BASELINES, QUICK, Run

from effnas import Measurement, SearchSpace, Trial, TrialState, load_run
from effnas.cli.tables import console, facts, trial_line

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("short_timings")
SEARCH = ["search", *QUICK, *NO_BASELINES, "--target-batch-size", "8", "--out", "run"]


def test_texts_of_others_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    trial = Trial(
        number=0,
        architecture=SearchSpace.load("tiny").reference,
        state=TrialState.INFEASIBLE,
        measurement=Measurement(metrics={}),
        reason="tensor[bold] of [/] runs/[red]x",
    )
    screen = console()
    screen.print(facts([("run", "runs/[red]x")]))
    screen.print(trial_line(trial, None, ""))
    out = capsys.readouterr().out
    assert "runs/[red]x" in out
    assert "infeasible: tensor[bold] of [/] runs/[red]x" in out


@pytest.mark.slow
def test_space_shows_choices_size_counts_and_the_reference(effnas: Run) -> None:
    shown = effnas("space", "v2", "--samples", "50")
    assert shown.code == 0
    assert "43,893,964,800 architectures" in shown.out
    assert "inside the space" in shown.out
    described = json.loads(effnas("space", "v2", "--samples", "50", "--json").out)
    assert described["reference"]["params"] == 21_458_488
    assert described["choices"]["stage1.op"] == ["fused", "mbconv_se0.25"]
    low, median, high = described["quantiles"]["params"]
    assert low <= median <= high <= 40e6


@pytest.mark.slow
def test_a_search_stores_scores_extends_and_rescores(effnas: Run, tmp_path: Path) -> None:
    begun = effnas(*SEARCH, "--budget", "2", "--report")
    assert begun.code == 0, begun.err
    assert "report.html there shows it" in begun.out
    assert (tmp_path / "run" / "report.html").exists()
    for word in ("reward", "device", "held out", "one trial", "budget", "best so far", "rank"):
        assert word in begun.out
    stored = (tmp_path / "run" / "trials.jsonl").read_bytes()

    extended = effnas(*SEARCH, "--budget", "3")
    assert "2 done" in extended.out
    trials = load_run(tmp_path / "run").trials
    assert len(trials) == 3
    assert (tmp_path / "run" / "trials.jsonl").read_bytes().startswith(stored)
    for trial in trials:
        m = trial.metrics
        by_hand = m["accuracy"] * m["step_time"] ** -0.07 * m["params_ratio"] ** -0.05
        assert trial.reward is not None
        assert math.isclose(trial.reward, by_hand, rel_tol=1e-12)
        assert m["step_time_low"] <= m["step_time"] <= m["step_time_high"]

    refused = effnas(*SEARCH, "--budget", "3", "--seed", "1")
    assert refused.code == 2
    assert "seed (was 0, is 1)" in refused.err

    rescored = effnas(*SEARCH, "--budget", "3", "--reward", "accuracy")
    assert rescored.code == 0
    again = load_run(tmp_path / "run").trials
    assert [t.reward for t in again] == [t.metrics["accuracy"] for t in trials]

    status = json.loads(effnas("status", "run", "--json").out)
    assert status["states"] == {"COMPLETE": 3}
    assert status["forecast_s"] == 0
    rewards = [row["reward"] for row in status["trials"]]
    assert rewards == sorted(rewards, reverse=True)
    assert "rank" in effnas("status", "run").out


@pytest.mark.slow
def test_a_search_with_objectives_ends_with_a_pareto_front(effnas: Run, tmp_path: Path) -> None:
    command = [*SEARCH, "--controller", "optuna:nsgaii",
               "--step-time-command", "sh -c 'wc -c < {arch_json}'",
               "--objectives", "A:max,step_time:min,params:min"]  # fmt: skip
    begun = effnas(*command, "--budget", "3")
    assert begun.code == 0, begun.err
    for words in ("accuracy:max,step_time:min,params:min", "on the Pareto front", "best ", " M ",
                  "Hypervolume"):  # fmt: skip
        assert words in begun.out
    assert "\nrank" not in begun.out

    extended = json.loads(effnas(*command, "--budget", "5", "--json").out)
    run = load_run(tmp_path / "run")
    assert extended["front"] == [t.number for t in run.pareto_front] != []
    assert [point["trials"] for point in extended["hypervolume"]] == [1, 2, 3, 4, 5]
    values = [point["value"] for point in extended["hypervolume"]]
    assert values == sorted(values)
    front = [run.trials[number].metrics for number in extended["front"]]
    for mine in front:
        for other in run.trials:
            m = other.metrics
            assert not (
                m["accuracy"] >= mine["accuracy"]
                and m["step_time"] < mine["step_time"]
                and m["params"] <= mine["params"]
            )

    status = json.loads(effnas("status", "run", "--json").out)
    assert (status["front"], status["hypervolume"]) == (
        extended["front"],
        extended["hypervolume"],
    )
    shown = effnas("status", "run").out
    assert all(str(run.trials[number].architecture)[:12] in shown for number in status["front"])

    other = ["--objectives", "accuracy:max,step_time:min"]
    refused = effnas(*command[:-2], *other, "--budget", "5")
    assert refused.code == 2
    assert "objectives (was accuracy:max,step_time:min,params:min, is" in refused.err


@pytest.mark.slow
def test_a_search_by_rungs_says_what_it_costs_and_what_pauses(effnas: Run, tmp_path: Path) -> None:
    command = [*SEARCH, "--epochs", "2", "--budget", "2",
               "--step-time-command", "sh -c 'echo 0.01' {arch_json}"]  # fmt: skip
    found = effnas(*command, "--fidelity", "1,2")
    assert found.code == 0, found.err
    for words in (
        "pause after 1,2 epochs", "1.5 of 2 epochs a trial", "rung 1 of 2: reward", "paused",
        "pruned", "Trained 3 epochs in all; trained to the end, 2 trials would take 4.",
    ):  # fmt: skip
        assert words in found.out
    status = json.loads(effnas("status", "run", "--json").out)
    assert status["states"] == {"COMPLETE": 1, "PRUNED": 1}
    (row,) = status["trials"]
    assert row["state"] == "COMPLETE"
    records = (tmp_path / "run" / "trials.jsonl").read_text().splitlines()
    kept = [line for line in records if '"PRUNED"' not in line]
    (tmp_path / "run" / "trials.jsonl").write_text("\n".join(kept) + "\n")
    assert "1 complete, 1 paused" in " ".join(effnas("status", "run").out.split()).replace(
        "1 paused, 1 complete", "1 complete, 1 paused"
    )
    resumed = effnas(*command)  # what is not given is as the run began
    assert resumed.code == 0, resumed.err
    assert json.loads(effnas("status", "run", "--json").out)["states"] == status["states"]


@pytest.mark.slow
def test_a_wheel_works_in_an_empty_folder(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
         str(ROOT), "--wheel-dir", str(tmp_path)],
        check=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    empty = tmp_path / "empty"
    empty.mkdir()
    shown = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); "
         "sys.argv = ['effnas', 'space', 'v2']; from effnas.cli.app import main; main()"],
        cwd=empty, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert str(tmp_path / "site") in shown.stdout.replace("\n", "")
    assert "43,893,964,800" in shown.stdout
