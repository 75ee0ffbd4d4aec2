"""`effnas scaling` as a person types it: real trainings under a real Ray Tune."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import Run
from test_cli_promote import write_run

from effnas.arch.files import load_architecture

GRID = ["--grid-step", "0.2", "--tolerance", "0.3", "--macs", "2.5x"]
SHORT = ["--epochs", "2", "--seeds", "1"]
pytestmark = pytest.mark.usefixtures("short_timings")
SCALED = ["--out", "family", "--device", "none", "--images", "100"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["coefficients", "nowhere:best"], ["nowhere: no run there"]),
        (["coefficients", "none.json"], ["none.json", "no such file"]),
        (["coefficients", "run:99"], ["no trial '99'"]),
        (["coefficients", "resnet50"], ["resnet50", "architecture file"]),
        (["coefficients", "mbconv_r1_k3_s1_e1_c16"], ["no run says which images", "--data"]),
        (["coefficients", "run:best", "--seeds", "0"], ["--seeds is 0"]),
        (["coefficients", "run:best", "--epochs", "0"], ["epochs is 0"]),
        (["coefficients", "run:best", "--grid-step", "0"], ["a grid of step 0"]),
        (["coefficients", "run:best", "--tolerance", "-1"], ["tolerance -1"]),
        (["coefficients", "run:best", "--macs", "much"], ["--macs much", "above 0"]),
        (["coefficients", "run:best", "--macs", "1.001x"], ["what binds", "--macs 1.001x"]),
        (["coefficients", "run:best", "--memory", "lots"], ["--memory lots", "above 0"]),
        (["coefficients", "run:best", "--round-limit", "2"], ["--round-limit is 2"]),
        (["coefficients", "run:best", "--out", "run"], ["run", "holds no trainings"]),
        (["coefficients", "run:best", "--recipe", "none.yaml"], ["none.yaml"]),
        (["layers", "run:best", "--member", "s"], ["the base itself", "m, l, xl"]),
        (["layers", "run:best", "--member", "q"], ["no member 'q'"]),
        (["layers", "run:best", "--family", "v9"], ["no family is called 'v9'"]),
        (["layers", "run:best", "--slopes", "a"], ["--slopes 'a'"]),
        (["layers", "run:best", "--tolerance", "0"], ["--tolerance is above 0"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_is_one_line_with_place_and_remedy(
    effnas: Run, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    write_run(tmp_path / "run")
    result = effnas("scaling", *arguments)
    assert result.code == 2, result.err
    assert all(word in result.err for word in words), result.err
    assert result.err.count("\n") == 1


@pytest.mark.slow
def test_a_grid_that_is_killed_is_finished_by_the_same_command(effnas: Run, tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    arguments = ["scaling", "coefficients", "run:best", *GRID, *SHORT, "--json"]
    file = tmp_path / "run-coefficients" / "trainings.jsonl"

    def lines() -> list[dict[str, object]]:
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    process = subprocess.Popen(
        [sys.executable, "-m", "effnas", *arguments], cwd=tmp_path, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not lines():
        assert time.monotonic() < deadline, "the trainings did not get so far"
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = lines()

    done = effnas(*arguments)
    assert done.code == 0, done.err
    told = json.loads(done.out)
    results = lines()
    assert results[: len(before)] == before
    assert len(results) > len(before)
    assert len({(r["candidate"], r["repeat"], r["epochs"]) for r in results}) == len(results)
    assert not (tmp_path / "run-coefficients" / "checkpoints").exists()
    assert told["best"] == told["standings"][0]["name"]
    assert sum(row["chance"] for row in told["standings"]) == pytest.approx(1)
    assert told["command"].endswith("--round-limit 0.9")
    # The command that it ends with makes the network that won.
    scaled = effnas(*told["command"].split()[1:], *SCALED, "--image-size", "16")
    assert scaled.code == 0, scaled.err
    won = load_architecture(tmp_path / "family" / "phi1.json")
    assert list(won.blocks) == told["standings"][0]["blocks"]
    other = effnas(*arguments, "--epochs", "3")
    assert other.code == 2
    assert "began with other settings: epochs (was" in other.err


@pytest.mark.slow
def test_the_growth_of_layers_that_won_is_a_file_of_rules(effnas: Run, tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    found = effnas("scaling", "layers", "run:best", "--tolerance", "0.4", "--slopes", "0.5,1",
                   "--epochs", "1", "--seeds", "1", "--json")  # fmt: skip
    assert found.code == 0, found.err
    told = json.loads(found.out)
    times = [row["costs"]["step_time"] for row in told["standings"]]
    own = next(row["costs"]["step_time"] for row in told["standings"] if "v2" in row["name"])
    assert all(abs(time / own - 1) <= 0.4 for time in times)
    scaled = effnas(*told["command"].split()[1:], *SCALED)
    assert scaled.code == 0, scaled.err
    won = load_architecture(tmp_path / "family" / "m.json")
    assert list(won.blocks) == told["standings"][0]["blocks"]
