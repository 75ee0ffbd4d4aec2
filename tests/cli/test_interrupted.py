"""A search that is killed or stopped loses nothing, with a real Ray and real trainings."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from command_line import SMALL, Run

from effnas import Search, SearchSpace, load_run

pytestmark = pytest.mark.slow

BUDGET, SEED = 3, 7
#: A trial waits nearly a second for its step time, so that there is one to disturb.
COMMAND = [
    "search", "--space", SMALL, "--epochs", "1", "--batch-size", "32", "--budget", str(BUDGET),
    "--seed", str(SEED), "--data-share", "0.2", "--threads", "1",
    "--step-time-command", "sh -c 'sleep 0.9; echo 0.01' {arch_json}",
]  # fmt: skip


#: Accuracies alone decide, so that all of it repeats itself.
RUNGS = ("--fidelity", "1,2,3", "--epochs", "3", "--budget", "4", "--reward", "A")


def command(out: Path, backend: str, options: Sequence[str] = ()) -> list[str]:
    return [*COMMAND, "--out", str(out), "--backend", backend, *options]


def begin(out: Path, backend: str, options: Sequence[str] = ()) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "effnas", *command(out, backend, options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=hear_interrupts,
    )


def hear_interrupts() -> None:
    """Have the command hear SIGINT, also where what runs the tests does not (`make test &`)."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for_lines(out: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    file = out / "trials.jsonl"
    while not file.exists() or file.read_bytes().count(b"\n") < count:
        assert time.monotonic() < deadline, "the search did not get so far"
        time.sleep(0.05)


def architectures(out: Path) -> list[str]:
    return [trial.architecture.id for trial in load_run(out).trials]


def test_after_sigkill_the_same_command_finishes_the_same_search(
    effnas: Run, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    search = begin(out, "ray")
    wait_for_lines(out, 3)  # in the middle of the second trial
    os.killpg(search.pid, signal.SIGKILL)
    search.wait()
    finished = {t.number for t in load_run(out).trials if t.state.is_finished}
    result = effnas(*command(out, "ray"))
    assert result.code == 0, result.err
    assert architectures(out) == undisturbed()
    complete = [record["trial"] for record in records(out) if record["state"] == "COMPLETE"]
    assert sorted(complete) == list(range(BUDGET))  # none ran to its end twice
    assert finished == {0}


def undisturbed() -> list[str]:
    """What the controller proposes while it still draws at random, as in so small a search."""
    space = SearchSpace.load(SMALL).with_target(num_classes=10)
    search = Search(space, "v2", "surrogate", seed=SEED)
    found = []
    for _ in range(BUDGET):
        found.append(search.ask().id)
        search.tell(search.trials[-1].architecture, accuracy=0.5, step_time=1.0)
    return found


@pytest.mark.parametrize(
    ("number", "backend"), [(signal.SIGINT, "ray"), (signal.SIGTERM, "inline")]
)
def test_a_signal_stops_cleanly(tmp_path: Path, number: signal.Signals, backend: str) -> None:
    out = tmp_path / "run"
    search = begin(out, backend)
    wait_for_lines(out, 3)
    os.kill(search.pid, number)
    output, _ = search.communicate(timeout=60)
    assert search.returncode == 130, output
    assert "Traceback" not in output
    assert "the same command goes on" in output.replace("\n", " ")
    assert any(trial.state.is_finished for trial in load_run(out).trials)


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "trials.jsonl").read_text().splitlines()]


def test_after_sigkill_in_the_midst_of_rungs_the_same_search_is_finished(
    effnas: Run, tmp_path: Path
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "run"
    result = effnas(*command(whole, "inline", RUNGS))
    assert result.code == 0, result.err
    told = records(whole)
    promoted = [n for n, r in enumerate(told) if r["state"] == "RUNNING" and "rungs" in r]
    assert len(promoted) >= 3
    assert {r["state"] for r in told} == {"RUNNING", "WAITING", "COMPLETE", "PRUNED"}

    out.mkdir()
    # The same arithmetic and memory format, which another measurement may not find the fastest.
    shutil.copy(whole / "manifest.json", out)
    search = begin(out, "inline", RUNGS)
    wait_for_lines(out, promoted[1] + 1)  # while a training goes on
    os.killpg(search.pid, signal.SIGKILL)
    search.wait()
    assert list((out / "checkpoints").iterdir())
    result = effnas(*command(out, "inline", RUNGS))
    assert result.code == 0, result.err

    def summary(path: Path) -> list[tuple[object, ...]]:
        last = {r["trial"]: r for r in records(path)}
        names = ("architecture_id", "state", "rungs", "reward", "seed", "fidelity")
        return [
            (number, r["metrics"]["train_loss"], *(r[name] for name in names))
            for number, r in sorted(last.items())
        ]

    assert summary(out) == summary(whole)
    assert list((out / "checkpoints").iterdir()) == []
