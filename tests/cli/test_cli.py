"""The commands as a person types them: what they print, what they refuse, and their exit codes."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from command_line import SMALL, Run
from PIL import Image

from effnas import SearchSpace, load_run

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("short_timings")

QUICK = ["--space", SMALL, "--backend", "inline", "--epochs", "1", "--data-share", "0.3",
         "--target-batch-size", "8", "--batch-size", "32"]  # fmt: skip


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


STAGE = "stages:\n  - "

SPACES = {
    "a misspelt field": (STAGE + "mbconv_r2_k3_z1_e1_c8\n", ["space.yaml:2:18", "'z'", "r, k, s"]),
    "a wrong type": ("stem: wide\n" + STAGE + "mbconv_r2_k3_s1_e1_c8\n", ["space.yaml:1:7"]),
    "an empty choice": (STAGE + "mbconv_r2_k3_s1_e1_c<>\n", ["space.yaml:2", "empty"]),
    "an unknown key": ("stagez:\n  - x\n", ["space.yaml:1:1", "did you mean 'stages'"]),
    "a contradiction": (
        STAGE + "mbconv_r<1..3>_k3_s1_e1_c8\nconstraints: [stage1.r > 2, stage1.r < 2]\n",
        ["no architecture meets", "stage1.r > 2", "stage1.r = 2"],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", SPACES)
@pytest.mark.parametrize("command", [["space"], ["search", "--backend", "inline", "--space"]])
def test_a_bad_space_is_one_readable_error(
    effnas: Run, tmp_path: Path, case: str, command: list[str]
) -> None:
    text, words = SPACES[case]
    result = effnas(*command, write(tmp_path / "space.yaml", text))
    assert result.code == 2
    assert result.err.startswith("effnas: error: ")
    assert all(word in result.err for word in words), result.err
    assert "Traceback" not in result.err
    assert not (tmp_path / "runs").exists() or not any((tmp_path / "runs").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--space", "v22"], ["did you mean 'v2'"]),
        (["--data", "nowhere"], ["'nowhere'", "torch/cifar10"]),
        (["--data", "empty"], ["empty"]),
        (["--data", "lonely"], ["one class", "'cat'"]),
        (["--out", "/proc/none"], ["/proc/none", "--out"]),
        (["--out", "file/run"], ["file/run", "--out"]),
        (["--out", "lonely"], ["lonely", "not empty", "--out"]),
        (["--reward", "A * speed"], ["'speed'", "step_time"]),
        (["--reward", "A / 0"], ["division by zero"]),
        (["--reward", "A / (S - 1)"], ["division by zero", "S = 1"]),
        (["--reward", "v3"], ["'v3'", "did you mean 'v2'"]),
        (["--reward", "none.py:f"], ["none.py"]),
        (["--constraint", "parms <= 5e6"], ["'parms'", "did you mean 'params'"]),
        (["--constraint", "stage4.r > 1"], ["'stage4.r'", "did you mean 'stage"]),
        (["--constraint", "params * 2"], ["'params * 2' is a number", "params <= 30e6"]),
        (["--constraint", "A > 0.1 and"], ["not an expression", "allowed"]),
        (["--constraint", "S <= 1 / 0"], ["division by zero"]),
        (["--constraint", "stage1.r > 2"], ["no architecture meets 'stage1.r > 2'", "= 1;"]),
        (
            ["--constraint", "largest_batch_size > 8"],
            ["'largest_batch_size > 8' needs largest_batch_size", "nothing gives it"],
        ),
        (
            ["--step-times", "times.csv", "--constraint", "step_time_low < 1"],
            ["needs step_time_low", "nothing gives it", "step_time"],
        ),
        (["--budget", "0"], ["--budget", "1 or more"]),
        (["--budget", "-3"], ["--budget", "1 or more"]),
        (["--budget", "many"], ["--budget"]),
        (["--controller", "evolutoin"], ["did you mean 'evolution'"]),
        (["--objectives", "accuracy"], ["accuracy:max or accuracy:min"]),
        (["--objectives", "accuracy:up"], ["accuracy:max or accuracy:min"]),
        (["--objectives", "accuracy:max"], ["two or more"]),
        (["--objectives", ""], ["--objectives", "accuracy"]),
        (["--objectives", "accuracy:max,accuracy:min"], ["accuracy is there twice"]),
        (["--objectives", "acuracy:max,params:min"], ["did you mean 'accuracy'"]),
        (
            ["--objectives", "A:max,S:min", "--controller", "evolution"],
            ["evolution", "optuna:nsgaii", "optuna:tpe", "random", "surrogate"],
        ),
        (
            ["--objectives", "A:max,peak_memory_bytes:min", "--step-time-command", "x {arch_json}"],
            ["need peak_memory_bytes", "step_time_s"],
        ),
        (["--epochs", "0"], ["epochs", "1 or more"]),
        (["--fidelity", "4,2"], ["--fidelity 4,2", "such as 1,2,4"]),
        (["--fidelity", "1"], ["--fidelity 1 ", "two or more"]),
        (["--fidelity", "0,2"], ["--fidelity 0,2", "1 or more"]),
        (["--fidelity", "a,b"], ["--fidelity 'a,b'", "such as 1,2,4"]),
        (["--fidelity", "1,2,4"], ["--fidelity 1,2,4 ends at 4", "has 1", "--epochs"]),
        (["--data-share", "1.5"], ["data_share"]),
        (["--learning-rate", "-1"], ["learning_rate"]),
        (["--seed", "-1"], ["--seed"]),
        (["--device", "abacus"], ["'abacus'", "cuda"]),
        (["--device", "cuda:77"], ["cuda:77", "--device cpu"]),
        (["--recipe", "none.yaml"], ["none.yaml"]),
        (["--workers", "2"], ["--backend inline", "--workers"]),
        (["--on-bad-image", "mend"], ["--on-bad-image"]),
    ],
)
def test_bad_search_options_are_refused_with_place_and_remedy(
    effnas: Run, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    blocks = SearchSpace.load(SMALL).reference
    (tmp_path / "times.csv").write_text(f"architecture,step_time_s\n{blocks},0.1\n")
    (tmp_path / "lonely" / "cat").mkdir(parents=True)
    Image.new("RGB", (16, 16)).save(tmp_path / "lonely" / "cat" / "1.png")
    result = effnas("search", *QUICK, *arguments)
    assert result.code == 2
    assert all(word in result.err for word in words), result.err
    assert "Traceback" not in result.err


@pytest.mark.slow
def test_a_bad_image_is_named_and_refused_or_skipped(effnas: Run, tmp_path: Path) -> None:
    for name, colour in (("cat", "red"), ("dog", "blue")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for n in range(12):
            Image.new("RGB", (16, 16), colour).save(tmp_path / "photos" / name / f"{n}.png")
    (tmp_path / "photos" / "cat" / "torn.png").write_bytes(b"\x89PNG nothing")
    command = ["search", *QUICK, "--data-share", "1", "--data", "photos", "--budget", "1"]
    refused = effnas(*command)
    assert refused.code == 2
    assert "torn.png" in refused.err
    assert "--on-bad-image skip" in refused.err
    skipped = effnas(*command, "--on-bad-image", "skip")
    assert skipped.code == 0
    assert "torn.png" in skipped.out


@pytest.mark.slow
def test_errors_outside_the_users_hands_do_not_show_a_traceback_unless_asked(
    effnas: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("lost")

    monkeypatch.setattr("effnas.cli.space.show_space", broken)
    quiet = effnas("space", "v2")
    assert quiet.code == 1
    assert quiet.err.startswith("effnas: internal error: KeyError")
    assert "Traceback" not in quiet.err
    assert "Traceback" in effnas("space", "v2", "--debug").err


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
    begun = effnas("search", *QUICK, "--budget", "2", "--out", "run")
    assert begun.code == 0, begun.err
    for word in ("reward", "device", "held out", "one trial", "budget", "best so far", "rank"):
        assert word in begun.out
    stored = (tmp_path / "run" / "trials.jsonl").read_bytes()

    extended = effnas("search", *QUICK, "--budget", "3", "--out", "run")
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

    refused = effnas("search", *QUICK, "--budget", "3", "--out", "run", "--seed", "1")
    assert refused.code == 2
    assert "seed (was 0, is 1)" in refused.err

    rescored = effnas("search", *QUICK, "--budget", "3", "--out", "run", "--reward", "accuracy")
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
def test_a_search_with_objectives_ends_with_a_front(effnas: Run, tmp_path: Path) -> None:
    command = ["search", *QUICK, "--out", "run", "--controller", "optuna:nsgaii",
               "--step-time-command", "sh -c 'wc -c < {arch_json}'",
               "--objectives", "A:max,step_time:min,params:min"]  # fmt: skip
    begun = effnas(*command, "--budget", "3")
    assert begun.code == 0, begun.err
    for words in ("accuracy:max,step_time:min,params:min", "on the front", "best ", " M ",
                  "Hypervolume"):  # fmt: skip
        assert words in begun.out
    assert "rank" not in begun.out

    extended = json.loads(effnas(*command, "--budget", "5", "--json").out)
    run = load_run(tmp_path / "run")
    assert extended["front"] == [t.number for t in run.front] != []
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

    for other in ([], ["--objectives", "accuracy:max,step_time:min"]):
        refused = effnas(*command[:-2], *other, "--budget", "5")
        assert refused.code == 2
        assert "objectives (was accuracy:max,step_time:min,params:min, is" in refused.err


@pytest.mark.slow
def test_a_search_by_rungs_says_what_it_costs_and_what_pauses(effnas: Run, tmp_path: Path) -> None:
    command = ["search", *QUICK, "--epochs", "2", "--budget", "2", "--out", "run",
               "--step-time-command", "sh -c 'echo 0.01' {arch_json}"]  # fmt: skip
    found = effnas(*command, "--fidelity", "1,2")
    assert found.code == 0, found.err
    for words in (
        "pause after 1,2 epochs", "1.5 of 2 epochs a trial", "rung 1 of 2: reward", "paused",
        "pruned", "Trained 3 epochs in all; 2 whole trainings have 4.",
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
    refused = effnas(*command)
    assert refused.code == 2
    assert "fidelity (was [1, 2], is None)" in refused.err


@pytest.mark.slow
def test_json_on_stdout_is_nothing_but_json(effnas: Run) -> None:
    result = effnas("search", *QUICK, "--budget", "1", "--out", "run", "--json",
                    "--step-time-command", "sh -c 'echo 0.01' {arch_json}")  # fmt: skip
    (row,) = json.loads(result.out)["trials"]
    assert {"trial", "state", "architecture", "architecture_id", "reward", "accuracy"} <= set(row)
    assert "best so far" in result.err


def test_the_options_are_those_that_were_decided_on() -> None:
    """A new option fails here until it is added on purpose."""
    from typer.main import get_command

    from effnas.cli.app import app

    commands = dict(get_command(app).commands)  # type: ignore[attr-defined]
    for group in ("proxy", "scaling"):
        inner = commands.pop(group).commands
        commands |= {f"{group} {name}": command for name, command in inner.items()}
    options = {
        name: {option for p in command.params for option in p.opts if option.startswith("--")}
        for name, command in commands.items()
    }
    data = {"--data", "--data-root", "--on-bad-image"}
    where = {"--device", "--backend", "--workers", "--threads"}
    training = {
        "--recipe", "--epochs", "--image-size", "--batch-size", "--learning-rate", "--data-share",
        "--holdout-share",
    }  # fmt: skip
    step_times = {
        "--step-time", "--profile", "--step-times", "--step-time-command", "--step-time-timeout",
    }  # fmt: skip
    way = {"--device", "--threads", "--precision", "--memory-format", "--compile"}
    target = {"--target-image-size", "--target-batch-size"}
    study = {
        "--space", "--out", "--seed", "--networks", "--seeds", "--high-seeds", "--high-epochs",
        "--target-image-size", "--json",
    }  # fmt: skip
    scaling = {
        "--out", "--tolerance", "--data", "--data-root", "--seeds", "--seed", "--recipe",
        "--epochs", "--image-size", "--batch-size", "--learning-rate", "--data-share", "--device",
        "--workers", "--threads", "--json",
    }  # fmt: skip
    assert options == {
        "search": data | where | training | step_times | target | {
            "--space", "--budget", "--out", "--reward", "--controller", "--objectives", "--seed",
            "--fidelity", "--json", "--constraint",
        },
        "status": {"--top", "--json"},
        "space": {"--samples", "--seed", "--json"},
        "bench": way | {
            "--space", "--image-size", "--batch-size", "--classes", "--interval", "--time-limit",
            "--json",
        },
        "profile": way | target | {"--space", "--classes", "--out", "--seed", "--json"},
        "retarget": where | step_times | {
            "--out", "--timings", "--budget", "--reward", "--data", "--data-root", "--json",
        },
        "promote": {
            "--top", "--seeds", "--out", "--epochs", "--image-size", "--batch-size",
            "--learning-rate", "--data-share", "--reward", "--test", "--data", "--data-root",
            "--device", "--workers", "--threads", "--json",
        },
        "scale": {
            "--family", "--alpha", "--beta", "--gamma", "--phi", "--round-limit", "--last-stage",
            "--step-time", "--params", "--memory", "--image-size", "--max-image-size", "--space",
            "--batch-size", "--classes", "--epochs", "--images", "--device", "--threads", "--out",
            "--json",
        },
        "export": {
            "--weights", "--out", "--image-size", "--classes", "--formats", "--json",
        },
        "train": data | way | {
            "--recipe", "--out", "--regime", "--epochs", "--image-size", "--batch-size",
            "--device-batch-size", "--weights", "--new-head", "--seed", "--test", "--workers",
            "--checkpoint-every", "--log", "--json",
        },
        "scaling coefficients": scaling | {"--grid-step", "--macs", "--memory", "--round-limit"},
        "scaling layers": scaling | {"--family", "--member", "--slopes"},
        "proxy check": data | where | training | study,
        "proxy search": data | where | training | study,
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [["search"], ["status"], ["space"], ["bench"], ["profile"], ["retarget"], ["promote"],
     ["scale"], ["export"], ["train"], ["proxy", "check"], ["proxy", "search"],
     ["scaling", "coefficients"], ["scaling", "layers"]],
    ids=" ".join,
)  # fmt: skip
def test_the_help_of_a_command_shows_its_example_on_a_line_of_its_own(
    effnas: Run, command: list[str]
) -> None:
    shown = effnas(*command, "--help").out
    assert f"\n    effnas {' '.join(command)} " in shown
    assert "\\b" not in shown


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
