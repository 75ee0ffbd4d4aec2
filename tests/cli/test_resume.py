"""Continuing, listing and rescoring what folders hold: never by code that they name."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from command_line import QUICK, Run

from effnas.cli.folders import read_folder
from effnas.trials.manifest import TRAINER
from effnas.trials.run import load_run

GOLDEN = Path(__file__).parents[1] / "golden" / "folders"

#: Kind, state, and how many are done of how many, of folders of every kind.
KINDS = {
    "run": ("search", "finished", 4, 4),
    "rungs": ("search", "unfinished", 1, 6),
    "run-board": ("retargeted", "finished", 4, 4),
    "run-finals": ("finals", "finished", 8, 8),
    "finals-stopped": ("finals", "unfinished", 2, 8),
    "coefficients-stopped": ("coefficients", "unfinished", 2, 6),
    "layers": ("layers", "finished", 3, 3),
    "proxy-stopped": ("proxy", "unfinished", 5, None),
    "training": ("training", "finished", 3, 3),
    "training-stopped": ("training", "unfinished", 1, 3),
    "family": ("family", "finished", 4, 4),
    "profile.json": ("profile", "finished", 16, 16),
}


def copied(name: str, to: Path) -> dict[str, Any]:
    """Copy a golden folder; return its manifest, to be changed."""
    shutil.copytree(GOLDEN / name, to)
    found: dict[str, Any] = json.loads((to / "manifest.json").read_text())
    return found


def test_folders_of_every_kind_tell_how_far_they_are() -> None:
    states = {name: read_folder(GOLDEN / name) for name in KINDS}
    assert {n: (s.kind, s.state, s.done, s.total) for n, s in states.items()} == KINDS


def test_a_broken_folder_is_a_row_with_its_reason(effnas: Run) -> None:
    copied("run", Path("runs/good"))
    copied("run-finals", Path("runs/of-a-day/finals"))
    copied("run", Path("runs/torn"))
    Path("runs/torn/manifest.json").write_text("{")
    rows = json.loads(effnas("runs", "--json").out)["runs"]
    found = {Path(row["path"]).name: row["kind"] for row in rows}
    assert found == {"good": "search", "finals": "finals", "torn": None}
    [reason] = [row["reason"] for row in rows if row["kind"] is None]
    assert "manifest.json" in reason


def test_the_status_of_finals_names_trials_the_pick_and_what_comes_next(effnas: Run) -> None:
    for name in ("run", "run-finals", "finals-stopped"):
        copied(name, Path(name))
    found = json.loads(effnas("status", "run-finals", "--json").out)
    text = effnas("status", "run-finals").out
    assert f"Picked: trial {found['base']}, " in text
    assert f"effnas export run:{found['base']} --weights {found['weights']}\n" in text
    assert {each["trial"] for each in found["standings"]} == set(range(4))
    assert not any(each["architecture_id"] in text.partition("Picked")[0]
                   for each in found["standings"])  # fmt: skip
    assert "Picked" not in effnas("status", "finals-stopped").out
    # Without their search, there are ids of networks still.
    shutil.rmtree("run")
    alone = effnas("status", "run-finals")
    assert (alone.code, alone.err) == (0, "")
    assert all(each["architecture_id"] in alone.out for each in found["standings"])
    assert "their search 'run' is not beside them" in alone.out


def test_a_folder_that_is_written_is_running(finished_run: Path) -> None:
    from effnas.trials.store import RunFolder

    with RunFolder.open(finished_run):
        assert read_folder(finished_run).state == "running"
    assert read_folder(finished_run).state != "running"


@pytest.mark.parametrize("name", ["search-stopped", "rungs", "finals-stopped", "training-stopped"])
def test_what_runs_is_not_offered_to_be_resumed_and_what_was_stopped_does_not_run(
    effnas: Run, name: str
) -> None:
    from effnas.trials.store import RunFolder

    for each in ("run", name):
        stored = copied(each, Path(each))
        stored["asked"] = {"name": "search", "options": {}}
        Path(each, "manifest.json").write_text(json.dumps(stored))
    text = effnas("status", name).out
    assert f"\nNext\n  effnas resume {name}\n" in text
    has_trials = (Path(name) / "trials.jsonl").exists()
    assert ("1 interrupted (to be run again)" in text) == has_trials
    with RunFolder.open(Path(name)):
        text = effnas("status", name).out
        assert "effnas resume" not in text
        assert ("1 running" in text) == has_trials
        assert read_folder(Path(name)).state == "running"


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The settings of searches that would begin."""
    from effnas.cli.search import SearchCommand

    found: list[Any] = []

    def run(self: SearchCommand) -> int:
        found.append(self.settings)
        self.plan()
        return 0

    monkeypatch.setattr(SearchCommand, "run", run)
    return found


def test_options_that_are_not_given_are_those_of_the_folder(
    effnas: Run, settings: list[Any]
) -> None:
    stored = copied("expression", Path("run"))
    stored["step_times"] = "measured"
    Path("run/manifest.json").write_text(json.dumps(stored))
    assert effnas("search", "--out", "run", "--budget", "9").code == 0
    assert effnas("resume", "run", "--budget", "9").code == 0
    for each in settings:
        assert each.reward.text == stored["reward"]["text"]
        assert (each.controller, each.budget, each.data) == ("evolution", 9, "digits")
        assert each.space.text == stored["space"]["text"]
        assert each.recipe == load_run("run").recipe
        assert each.workers.threads == 1


def test_a_list_in_several_options_is_stored_whole_and_kept(
    effnas: Run, settings: list[Any]
) -> None:
    shutil.copytree(GOLDEN / "objectives", "run")
    stored = json.loads(Path("run/manifest.json").read_text())["objectives"]
    parts = [word for each in stored.split(",") for word in ("--objectives", each)]
    assert effnas("resume", "run", "--budget", "99").code == 0
    assert effnas("search", "--space", "tiny", "--out", "new", *parts).code == 0
    assert [each.objectives for each in settings] == [stored, stored]
    chosen = {"space": "tiny", "data": "digits"}
    assert settings[1].asked.options == {"objectives": stored, **chosen}


def test_what_changes_is_named(effnas: Run, settings: list[Any]) -> None:
    copied("run", Path("run"))
    out = effnas("search", "--out", "run", "--reward", "A", "--budget", "2").out
    assert "reward changes from v2 to A, and scores 4 trials again" in out
    assert "budget changes from 4 to 2" in out
    assert settings[0].reward == "A"


@pytest.mark.parametrize("reason", ["seed", "controller"])
def test_what_is_refused_is_not_said_to_continue(effnas: Run, reason: str) -> None:
    stored = copied("run", Path("run"))
    Path("run/manifest.json").write_text(json.dumps({**stored, "trainer": TRAINER}))
    other = {"seed": "5", "controller": "random"}[reason]
    done = effnas("search", "--out", "run", f"--{reason}", other, "--budget", "9")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert f"{reason} (was " in done.err


def test_nothing_left_to_do_is_said_at_once(effnas: Run, settings: list[Any]) -> None:
    copied("run", Path("run"))
    assert "all 4 trials of run are done; --budget" in effnas("resume", "run").out
    assert "all 4 trials" in effnas("resume", "run", "--budget", "3").out
    # So it is where the stored budget is larger, but the given one is not.
    stored = copied("run", Path("longer"))
    Path("longer/manifest.json").write_text(json.dumps({**stored, "budget": 1000}))
    for budget in "34":
        said = effnas("resume", "longer", "--budget", budget).out
        assert f"a budget of {budget} leaves nothing to do" in said
        assert "without --budget, it goes on to 1,000" in said
    assert not settings


@pytest.mark.parametrize(("folder", "budget"), [("rungs", "1"), ("longer", "5"), ("longer", "")])
def test_what_is_paused_or_within_the_budget_is_left(
    effnas: Run, settings: list[Any], folder: str, budget: str
) -> None:
    stored = copied("rungs" if folder == "rungs" else "run", Path(folder))
    if folder == "longer":
        Path("longer/manifest.json").write_text(json.dumps({**stored, "budget": 1000}))
    assert effnas("resume", folder, *(["--budget", budget] if budget else [])).code == 0
    assert len(settings) == 1


@pytest.mark.parametrize("option", ["reward", "controller", "step-time-command"])
def test_code_that_a_folder_names_is_not_run(effnas: Run, settings: list[Any], option: str) -> None:
    stored = copied("run", Path("run"))
    code = "touch ran" if option == "step-time-command" else "code.py:made (sha256 00)"
    Path("code.py").write_text("open('ran', 'w')")
    if option == "reward":
        stored["reward"] = {"name": "made", "kind": "function", "text": code}
    elif option == "controller":
        stored["controller"] = code
    options = {"step_time_command": code} if option == "step-time-command" else {}
    stored |= {"budget": 9, "asked": {"name": "search", "options": options}}
    Path("run/manifest.json").write_text(json.dumps(stored))
    for command in (["resume", "run"], ["search", "--out", "run"]):
        done = effnas(*command)
        assert done.code == 2
        assert f"--{option}" in done.err
    assert not Path("ran").exists()
    assert not settings


@pytest.mark.parametrize("option", ["recipe", "profile", "data"])
def test_a_pipe_that_a_folder_names_hangs_nothing(
    effnas: Run, settings: list[Any], option: str
) -> None:
    stored = copied("run", Path("run"))
    os.mkfifo("pipe.yaml")
    pipe = str(Path("pipe.yaml").absolute())
    stored |= {"budget": 9, "asked": {"name": "search", "options": {option: pipe}}}
    if option == "data":
        stored["data"]["path"] = pipe
    Path("run/manifest.json").write_text(json.dumps(stored))
    done = effnas("resume", "run")
    assert done.code == 2
    assert "is no file" in done.err
    assert not settings


@pytest.mark.parametrize(
    ("name", "command"),
    [("finals-stopped", "promote"), ("coefficients-stopped", "scaling"),
     ("proxy-stopped", "proxy"), ("training-stopped", "train")],
)  # fmt: skip
def test_an_older_folder_says_what_continues_it(effnas: Run, name: str, command: str) -> None:
    copied(name, Path(name))
    done = effnas("resume", name)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert f"the same `effnas {command}" in done.err


@pytest.mark.parametrize("path", ["nowhere", ".", "odd"])
def test_what_is_no_folder_of_effnas_is_refused_in_one_line(effnas: Run, path: str) -> None:
    Path("odd").mkdir()
    Path("odd/manifest.json").write_text('{"format": 1, "kind": "recipes of cakes"}')
    for command in ("status", "resume"):
        done = effnas(command, path)
        assert done.code == 2
        assert done.err.count("\n") == 1


def test_rescoring_shows_and_stores(effnas: Run) -> None:
    copied("run", Path("run"))
    before = Path("run/trials.jsonl").read_bytes()
    rows = json.loads(effnas("rescore", "run", "--reward", "-A", "--json").out)["trials"]
    places = [row["reward_before"] for row in rows]
    assert places == sorted(places)
    assert Path("run/trials.jsonl").read_bytes() == before
    assert effnas("rescore", "run", "--reward", "-A", "--store").code == 0
    run = load_run("run")
    assert [t.number for t in run.trials.ranked()] == [row["trial"] for row in rows]
    assert run.load_reward().text == "-A"


def test_rescoring_ranks_as_the_leaderboard_does(effnas: Run) -> None:
    copied("run", Path("run"))
    run = load_run("run")
    shown = effnas("rescore", "run", "--reward", "A * S^-0.07 * P^-0.05", "--json").out
    rows = json.loads(shown)["trials"]
    for row, ranked in zip(rows, run.ranking(run.load_reward()), strict=True):
        assert row["trial"] == ranked.trial.number
        for which in ("", "_before"):
            assert (row[f"rank{which}"], row[f"last_rank{which}"]) == (
                ranked.rank,
                ranked.last_rank,
            )
    assert any(row["rank"] < row["last_rank"] for row in rows)
    # Equal rewards share their ranks, whatever the accuracies.
    for reward in ("P^0", "params^0 * train_loss^0"):
        rows = json.loads(effnas("rescore", "run", "--reward", reward, "--json").out)["trials"]
        assert {(row["rank"], row["last_rank"]) for row in rows} == {(1, 4)}


@pytest.mark.slow
@pytest.mark.usefixtures("short_timings")
def test_a_search_is_resumed_from_its_folder_alone(effnas: Run) -> None:
    command = ["search", *QUICK, "--controller", "random", "--device", "cpu", "--baseline", "none"]
    assert effnas(*command, "--budget", "1", "--out", "run").code == 0
    before = load_run("run")
    assert effnas("resume", "run", "--budget", "2").code == 0
    after = load_run("run")
    assert [trial.state for trial in after.trials] == ["COMPLETE", "COMPLETE"]
    assert after.trials[0] == before.trials[0]
    for part in ("recipe", "data", "reward", "controller", "hardware"):
        assert getattr(after.manifest, part) == getattr(before.manifest, part)


#: Commands that train several networks.
STUDIES = {
    "finals": "promote run --top 2 --seeds 1 --epochs 1 --no-report",
    "layers": "scaling layers run:best --tolerance 0.4 --slopes 0.5,1 --epochs 1 --seeds 1",
    "proxy": "proxy check --space small.yaml --networks 4 --seeds 1 --high-seeds 1 --epochs 1 "
             "--high-epochs 2 --data-share 0.1 --image-size 16 --backend inline",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.usefixtures("inline")
@pytest.mark.parametrize("name", STUDIES)
def test_a_study_is_resumed_from_its_folder_alone(effnas: Run, name: str) -> None:
    copied("run", Path("run"))
    shutil.copy(GOLDEN / "small.yaml", "small.yaml")
    command = [*STUDIES[name].split(), "--device", "cpu", "--threads", "1", "--out", name]
    assert effnas(*command).code == 0
    file, trainings = Path(name, "manifest.json"), Path(name, "trainings.jsonl")
    stored = json.loads(file.read_text())
    stored.pop("finished", None)
    file.write_text(json.dumps(stored))
    *before, last = trainings.read_text().splitlines()
    trainings.write_text("".join(f"{line}\n" for line in before))
    assert read_folder(Path(name)).continued_by == f"effnas resume {name}"
    done = effnas("resume", name)
    assert done.code == 0, done.err
    *kept, again = trainings.read_text().splitlines()
    assert kept == before
    for what in {"candidate", "architecture", "repeat", "epochs"} & json.loads(last).keys():
        assert json.loads(again)[what] == json.loads(last)[what]
    assert read_folder(Path(name)).state == "finished"
