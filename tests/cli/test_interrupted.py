"""Commands that are stopped or killed: the frame that all have, and each with real trainings."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import SimpleNamespace
from typing import Any

import pytest
from command_line import NO_BASELINES, SMALL, Run, run_until
from safetensors.torch import load_file

from effnas import Search, SearchSpace, cli, load_run
from effnas.cli.session import LongCommand
from effnas.cli.signals import STOPPED, run_until_stopped
from effnas.trials.store import MANIFEST

# -- the frame


@dataclass
class Task:
    """What a test gives a command to do, and where that is stored."""

    do: Callable[[Counting], int]
    out: Path | None = Path("runs/x")


class Counting(LongCommand[Task, int]):
    """Does what a test gives it to do, and fails if that returns 0."""

    def work(self) -> int:
        self.progress("counting", 1, 2)
        return self.settings.do(self)

    def payload(self, result: int) -> object:
        return {"result": result}

    def show(self, result: int) -> None:
        self.say(f"found [{result}]")

    def succeeded(self, result: int) -> bool:
        return result > 0


class Storing(Counting):
    stored = "What was found"


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("result", "code"), [(3, 0), (0, 1)])
@pytest.mark.parametrize("as_json", [True, False])
def test_json_on_stdout_is_nothing_but_json(
    capsys: pytest.CaptureFixture[str], as_json: bool, result: int, code: int
) -> None:
    def work(command: Counting) -> int:
        command.say("at [it]")
        return result

    assert Counting(Task(work), as_json=as_json).run() == code
    out, err = capsys.readouterr()
    if as_json:
        assert (json.loads(out), err) == ({"result": result}, "at [it]\n")
    else:
        assert (out, err) == (f"at [it]\nfound [{result}]\n", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_work_and_says_what_is_stored(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, number: signal.Signals
) -> None:
    def work(command: Counting) -> int:
        if command.settings.out == tmp_path:
            (tmp_path / MANIFEST).touch()
        send(number)
        raise AssertionError("the signal was not heard")

    before = signal.getsignal(number)
    assert Storing(Task(work, tmp_path), as_json=False).run() == STOPPED
    assert Storing(Task(work), as_json=True).run() == STOPPED  # before it begins its folder
    assert Counting(Task(work, tmp_path), as_json=True).run() == STOPPED
    assert signal.getsignal(number) is before
    out, err = capsys.readouterr()
    assert " ".join(out.split()) == (
        f"Stopped. What was found is stored in {tmp_path}; `effnas resume {tmp_path}` or the same "
        "command continues."
    )
    assert err == 2 * "\nStopped; nothing was stored.\n"


def concrete(kind: type[Any]) -> set[type[Any]]:
    found = set().union(*(concrete(each) for each in kind.__subclasses__()))
    return found if inspect.isabstract(kind) else {kind, *found}


def test_every_command_stops_with_a_line_whatever_its_folder_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in iter_modules(cli.__path__):
        import_module(f"effnas.cli.{module.name}")
    kinds = [kind for kind in concrete(LongCommand) if kind.__module__.startswith("effnas.")]
    assert len(kinds) == 12
    for kind in kinds:
        monkeypatch.setattr(kind, "work", lambda self: send(signal.SIGINT))
        for settings in ({}, {"out": None}, {"out": Path("nowhere")}):
            command = object.__new__(kind)
            LongCommand.__init__(command, SimpleNamespace(**settings), as_json=False)
            assert command.run() == STOPPED
            assert capsys.readouterr() == ("\nStopped; nothing was stored.\n", "")


def test_how_long_it_takes_is_forecast_from_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 0.0, 10.0, 12.0, 13.0])
    monkeypatch.setattr("effnas.cli.session.monotonic", lambda: next(times))
    command = Counting(Task(lambda _: 0), as_json=False)
    found = []
    for what, done in (("a", 0), ("a", 1), ("a", 2), ("b", 3), ("b", 4)):
        command.progress(what, done, 5)
        found.append(command.left_s)
    assert found == [None, 0.0, 15.0, None, 1.0]


def test_a_step_is_ended_after_the_first_signal_and_not_after_the_second() -> None:
    heard = []

    def work(command: Counting) -> int:
        command.ends_step = True
        send(signal.SIGTERM)
        heard.append(command.is_stopping)
        send(signal.SIGINT)
        raise AssertionError("the second signal was not heard")

    assert Counting(Task(work), as_json=False).run() == STOPPED
    assert heard == [True]


def test_a_signal_is_heard_outside_the_work_too_unless_it_was_ignored_from_the_start() -> None:
    assert run_until_stopped(lambda: send(signal.SIGTERM)) == STOPPED
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert run_until_stopped(lambda: send(signal.SIGINT)) == 0
    finally:
        signal.signal(signal.SIGINT, before)


# -- each command, with a real Ray and real trainings


BUDGET, SEED = 3, 7
#: A trial waits nearly a second for its step time, so that there is one to disturb.
SEARCH = [
    "search", "--space", SMALL, "--batch-size", "32", "--budget", str(BUDGET),
    "--seed", str(SEED), "--data-share", "0.2", "--threads", "1", "--out", "out",
    "--step-time-command", "sh -c 'sleep 0.9; echo 0.01' {arch_json}", "--backend", "inline",
    *NO_BASELINES,
]  # fmt: skip
#: Of equal training time, by step times of a command; accuracies alone decide, so that everything
#: repeats itself; a training is what is disturbed.
RUNGS = [
    "--fidelity", "1s,2s,3s", "--train-time", "3s", "--budget", "4", "--reward", "A",
    "--step-time-command", "sh -c 'echo 0.01' {arch_json}",
]  # fmt: skip


def records(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def undisturbed() -> list[str]:
    """What the controller proposes while it still draws at random, as in so small a search."""
    space = SearchSpace.load(SMALL).with_target(num_classes=10)
    search = Search(space, "v2", "surrogate", seed=SEED)
    found = []
    for _ in range(BUDGET):
        found.append(search.ask().id)
        search.tell(search.trials[-1].architecture, accuracy=0.5, step_time=1.0)
    return found


@pytest.mark.slow
def test_a_search_that_is_killed_continues_with_the_same_trials(
    effnas: Run, tmp_path: Path
) -> None:
    file = tmp_path / "out" / "trials.jsonl"
    command = [*SEARCH, "--epochs", "1"]
    run_until(command, file, 3, signal.SIGKILL)  # in the middle of the second trial
    assert [t.number for t in load_run("out").trials if t.state.is_finished] == [0]
    result = effnas(*command)
    assert result.code == 0, result.err
    assert [trial.architecture.id for trial in load_run("out").trials] == undisturbed()
    complete = [record["trial"] for record in records(file) if record["state"] == "COMPLETE"]
    assert sorted(complete) == list(range(BUDGET))  # none ran to its end twice


@pytest.mark.slow
def test_a_search_by_rungs_continues_with_the_same_checkpoints(effnas: Run, tmp_path: Path) -> None:
    command = [*SEARCH, *RUNGS]
    assert effnas(*command).code == 0
    Path("out").rename("whole")
    expected = records(tmp_path / "whole" / "trials.jsonl")
    promoted = [n for n, r in enumerate(expected) if r["state"] == "RUNNING" and "rungs" in r]
    assert {r["state"] for r in expected} == {"RUNNING", "WAITING", "COMPLETE", "PRUNED"}

    Path("out").mkdir()
    # The same arithmetic and memory format, which another measurement may not find the fastest.
    shutil.copy("whole/manifest.json", "out")
    file = tmp_path / "out" / "trials.jsonl"
    run_until(command, file, promoted[1] + 1, signal.SIGKILL)  # during a training
    assert list(Path("out/checkpoints").iterdir())
    result = effnas(*command)
    assert result.code == 0, result.err

    def summary(rows: list[dict[str, Any]]) -> list[tuple[object, ...]]:
        last = {r["trial"]: r for r in rows}
        names = ("architecture_id", "state", "rungs", "stages", "reward", "seed", "fidelity")
        return [
            (number, r["metrics"]["train_loss"], *(r[name] for name in names))
            for number, r in sorted(last.items())
        ]

    assert summary(records(file)) == summary(expected)
    assert list(Path("out/checkpoints").iterdir()) == []


@pytest.mark.slow
@pytest.mark.usefixtures("finished_run")
def test_trainings_of_several_networks_continue_and_none_is_repeated(
    effnas: Run, tmp_path: Path
) -> None:
    command = ["promote", "run", "--top", "2", "--epochs", "2", "--seeds", "1", "--json",
               "--out", "out"]  # fmt: skip
    file = tmp_path / "out" / "trainings.jsonl"
    assert run_until(command, file, 1, signal.SIGKILL).out == ""
    before = records(file)
    done = effnas(*command)
    assert done.code == 0, done.err
    results = records(file)
    assert results[: len(before)] == before
    assert len(results) > len(before)
    assert len({(r["candidate"], r["repeat"], r["epochs"]) for r in results}) == len(results)
    assert not Path("out/checkpoints").exists()
    found = json.loads(done.out)
    epochs = [row["epochs"] for row in found["standings"]]
    assert epochs == sorted(epochs, reverse=True)
    assert {row["chance"] for row in found["standings"]} == {None}  # one seed does not tell
    model = load_run("run").trials[found["base"]].architecture.build(num_classes=10)
    model.load_state_dict(load_file(found["weights"]))
    other = effnas(*command, "--epochs", "3")
    assert other.code == 2
    assert "epochs (was 2, is 3)" in other.err
