"""Folders and files that an older version wrote still open, and say what they said.

`golden` holds them with the output of that version; golden/README.md says how each was made. What
only reads must give the very same. Trials are trained by another trainer now, so that what trains
several networks is not continued; a training of one network is, to the very same weights where the
device is the same.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import effnas
from effnas.cli.app import main
from effnas.config.text import in_singular

GOLDEN = Path(__file__).with_name("golden")
#: The commands that made the folders.
COMMANDS: dict[str, str] = json.loads((GOLDEN / "commands.json").read_text())
PROPOSALS: dict[str, Any] = json.loads((GOLDEN / "proposals.json").read_text())
#: What is stored of a new training, but is never twice the same.
PASSING = frozenset({"duration_s", "train_time_s", "ended"})
#: Of the facts about a device: what no accuracy depends on.
WITHOUT_EFFECT = frozenset({"system", "freed_memory"})

Command = Callable[..., Any]


# -- commands


@pytest.fixture
def run_json(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    """Runs `effnas ARGUMENTS --json` in a copy of the golden folder; returns what it printed."""
    shutil.copytree(GOLDEN / "folders", tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    on_sigterm = signal.getsignal(signal.SIGTERM)

    def run(command: str, *, code: int = 0) -> Any:
        quick = {"search": ["--baseline", "none"], "retarget": ["--no-report"]}.get(
            command.split()[0], []
        )
        monkeypatch.setattr(sys, "argv", ["effnas", *shlex.split(command), *quick, "--json"])
        found = 0
        try:
            main()
        except SystemExit as stop:
            found = stop.code if isinstance(stop.code, int) else 0
        finally:
            signal.signal(signal.SIGTERM, on_sigterm)
        out, err = capfd.readouterr()
        assert found == code, err
        return json.loads(out) if code == 0 else err

    return run


def expected(name: str) -> Any:
    return json.loads(in_singular((GOLDEN / "expected" / f"{name}.json").read_text()))


def leaves(data: Any, place: str = "") -> dict[str, Any]:
    """The values in plain data by their place, and the sizes of lists."""
    if not isinstance(data, (dict, list)):
        return {place: data}
    found: dict[str, Any] = {f"{place}/": len(data)} if isinstance(data, list) else {}
    for name, each in data.items() if isinstance(data, dict) else enumerate(data):
        found |= leaves(each, f"{place}/{name}")
    return found


def assert_same(found: Any, wanted: Any) -> None:
    """There may be more by now; floats may differ by rounding, as sums do in other NumPy."""
    near = {
        place: pytest.approx(value, rel=1e-9, abs=1e-12) if isinstance(value, float) else value
        for place, value in leaves(wanted).items()
    }
    now = leaves(found)
    assert {place: now.get(place) for place in near} == near


def without(data: Any, names: frozenset[str]) -> Any:
    """Return plain data without some keys, however deep they are."""
    if isinstance(data, dict):
        return {name: without(each, names) for name, each in data.items() if name not in names}
    return [without(each, names) for each in data] if isinstance(data, list) else data


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(in_singular(line)) for line in file.read_text().splitlines()]


def manifest(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(folder, "manifest.json").read_text())
    return found


# -- what is only read


@pytest.mark.parametrize(
    "folder",
    ["run", "search-stopped", "rungs", "objectives", "constrained", "expression", "predicted",
     "run-board"],
)  # fmt: skip
def test_an_older_search_is_shown_and_read_as_it_was(run_json: Command, folder: str) -> None:
    assert_same(run_json(f"status {folder}"), expected(f"status-{folder}"))
    run = effnas.load_run(folder)
    table = run.trials.to_pandas()
    view = {
        "columns": list(table.columns),
        "table": json.loads(table.to_json(orient="values", double_precision=15)),
        "best": run.best.architecture.to_timm() if run.best else None,
        "front": [trial.number for trial in run.pareto_front],
        "space": run.space.to_text(),
        "size": run.space.size,
    }
    assert_same(view, expected(f"python-{folder}"))


#: What has another value now: words, and figures that were given although they were not known.
CHANGED = frozenset({"advice", "verdict", "chance", "spread", "proxy_correlation", "single",
                     "averaged", "guessing_accuracy"})  # fmt: skip
#: Commands that only read, or find everything done already, and the file with the results.
DONE = {
    "training": (COMMANDS["training"], "training/log.csv"),
    "retarget": (COMMANDS["run-board"], "run-board/trials.jsonl"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DONE)
def test_what_is_finished_is_shown_again_without_work(run_json: Command, name: str) -> None:
    command, file = DONE[name]
    before = Path(file).read_bytes()
    assert_same(without(run_json(command), CHANGED), without(expected(name), CHANGED))
    assert Path(file).read_bytes() == before


@pytest.mark.slow
def test_older_finals_say_the_same(run_json: Command) -> None:
    found, wanted = run_json("status run-finals"), expected("promote-test")
    assert_same(without(found, CHANGED), without(wanted, CHANGED))


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["coefficients", "layers", "proxy"])
def test_the_status_of_an_older_study_has_all_its_trainings(run_json: Command, folder: str) -> None:
    found = run_json(f"status {folder}")
    results = lines(Path(folder, "trainings.jsonl"))
    trainings = {(each.get("candidate", n), each["repeat"]) for n, each in enumerate(results)}
    assert found["done"] == len(trainings)
    assert found["best"] == pytest.approx(best_mean(results))


def best_mean(results: list[dict[str, Any]]) -> float:
    """The best accuracy, as a mean over the seeds of a network; of a proxy study, of a training."""
    found: dict[Any, list[float]] = {}
    for n, each in enumerate(results):
        found.setdefault(each.get("candidate", n), []).append(each["accuracy"])
    return max(sum(values) / len(values) for values in found.values())


REPORTED = ["run", "rungs", "objectives", "run-board", "run-finals", "training", "family"]


@pytest.mark.slow
@pytest.mark.parametrize("folder", REPORTED)
def test_an_older_folder_is_reported(run_json: Command, folder: str) -> None:
    run_json(f"report {folder} --out page.html --tables tables")
    assert Path("page.html").stat().st_size > 10_000


@pytest.mark.slow
def test_an_older_search_is_rescored(run_json: Command) -> None:
    before = Path("constrained/trials.jsonl").read_bytes()
    found = run_json("rescore constrained --reward 'A * P^-0.3 - 0.01 * S' --store")
    ranked = [t.number for t in effnas.load_run("constrained").trials.ranked()]
    assert [row["trial"] for row in found["trials"]] == ranked
    assert Path("constrained/trials.jsonl").read_bytes().startswith(before)


#: Networks that are found in older files, and what is made of them.
MADE = {
    "scale-file": "scale net.json --family v2-b --device none --image-size 16 --classes 10",
    "scale-found-rules": "scale run:best --family layers/rules.yaml --device none",
    "space": "space small.yaml",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MADE)
def test_what_older_files_name_is_understood_as_it_was(run_json: Command, name: str) -> None:
    assert_same(run_json(MADE[name]), expected(name))


@pytest.mark.slow
def test_members_are_written_as_they_were(run_json: Command) -> None:
    command = "scale run:best --family v2 --device none --epochs 10 --images 1000"
    assert_same(run_json(f"{command} --out again"), expected("scale-run"))
    names = sorted(path.name for path in Path("family").iterdir())
    assert sorted(path.name for path in Path("again").iterdir()) == names
    for name in names:
        if name != "family.json":  # that one holds step times
            assert Path("again", name).read_text() == Path("family", name).read_text()


EXPORTS = {
    "export-training": "export net.json --weights training/best.safetensors",
    "export-finals": "export run:3 --weights run-finals/weights/ad38c005d5f29d99-0.safetensors",
    "export-member": "export family/m.json",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTS)
def test_older_weights_and_members_are_exported_as_they_were(run_json: Command, name: str) -> None:
    found = run_json(f"{EXPORTS[name]} --formats timm --out exports/it")
    # Of the device; and words of figures, among which are sizes of files.
    other = frozenset({"checks", "files", "versions", "text"})
    wanted = expected(name)
    if name == "export-finals":  # S times the median of the run now, as the leaderboard shows it
        trial, step_s = effnas.load_run("run").trials[3], effnas.load_run("run").reference_step_s
        step = next(each for each in wanted["figures"] if each["name"] == "step time")
        assert step["value"] == trial.metrics["step_time_s"]
        step["value"] = trial.metrics["step_time"] * (step_s or 0.0)
    assert_same(without(found, other), without(wanted, other))


#: Folders whose accuracies are of the trainer that was: searches, finished or not, and studies.
OF_ANOTHER_TRAINER = [
    "run", "search-stopped", "rungs", "constrained", "run-finals", "finals-stopped",
    "coefficients-stopped", "layers-stopped", "layers", "proxy-stopped",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("folder", OF_ANOTHER_TRAINER)
def test_what_another_trainer_trained_is_not_continued(run_json: Command, folder: str) -> None:
    before = {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}
    command = COMMANDS[folder].replace("--recipe trial-recipe.yaml", "--epochs 1")
    command = command.replace("--epochs 1 --step-times times.csv --fidelity 1,2", "--fidelity 1,2")
    error = run_json(command if "--out" in command else f"{command} --out {folder}", code=2)
    assert f"{folder}: another version of effnas began the " in error
    assert "do not compare with those of this one: begin a new one with another --out" in error
    assert error.count("\n") == 1
    now = {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}
    now.pop(Path(folder, ".lock"), None)
    assert now == before


@pytest.mark.slow
def test_a_search_of_another_trainer_is_retargeted_without_new_trainings(
    run_json: Command,
) -> None:
    error = run_json(f"{COMMANDS['run-board']} --budget 2 --out other", code=2)
    assert "run: another version of effnas trained its networks" in error
    assert "leave out --budget" in error
    assert error.count("\n") == 1


@pytest.mark.slow
def test_finals_of_an_older_search_are_new_trainings(run_json: Command) -> None:
    """They are by its recipe, as this version understands it."""
    found = run_json(
        "promote run --top 1 --seeds 1 --epochs 1 --data-share 0.2 --device cpu --threads 1 "
        "--no-report --out new"
    )
    assert {row["epochs"] for row in found["standings"]} == {1}
    recipe = manifest("new")["recipe"]
    assert (recipe["regime"], recipe["optimizer"], recipe["ema_decay"]) == ("fixed", "adamw", None)


@pytest.mark.slow
def test_an_older_training_does_not_continue_with_other_settings(run_json: Command) -> None:
    before = Path("training-stopped/manifest.json").read_bytes()
    error = run_json(f"{COMMANDS['training-stopped']} --seed 5", code=2)
    assert "seed (was 0, is 5)" in error
    assert Path("training-stopped/manifest.json").read_bytes() == before


# -- what continues


@pytest.fixture
def is_same_device() -> bool:
    """Whether accuracies are those of the device that made the folders."""
    import torch

    from effnas.timing.device import describe_device
    from effnas.timing.runtime import configure_process

    configure_process()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    here: dict[str, Any] = without(dict(describe_device(torch.device("cpu"))), WITHOUT_EFFECT)
    torch.set_num_threads(threads)
    before = json.loads((GOLDEN / "folders" / "expression" / "manifest.json").read_text())
    return bool(here == without(before["device"], WITHOUT_EFFECT))


@pytest.mark.slow
def test_an_older_training_continues_within_its_epoch(
    run_json: Command, is_same_device: bool
) -> None:
    stopped, whole = Path("training-stopped"), Path("training")
    assert (stopped / "checkpoint.safetensors").exists()
    before = log(stopped)
    run_json(COMMANDS["training-stopped"])
    found = log(stopped)
    assert found[: len(before)] == before
    assert not (stopped / "checkpoint.safetensors").exists()
    assert [row["step"] for row in found] == [row["step"] for row in log(whole)]
    if is_same_device:
        assert found == log(whole)
        for name in ("best.safetensors", "last.safetensors"):
            assert (stopped / name).read_bytes() == (whole / name).read_bytes()


def log(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as file:
        found: list[dict[str, str]] = without(list(csv.DictReader(file)), PASSING)
    return found


# -- what controllers propose


def propose(case: Mapping[str, Any], count: int) -> list[str]:
    """The ids of the first architectures that a search tries, in their order."""
    name: str = case["space"]
    file = str(GOLDEN / "folders" / name) if name.endswith(".yaml") else name
    space = effnas.SearchSpace.load(file).with_target(num_classes=10)
    of_reference = space.count(space.reference).macs

    def measure(arch: effnas.Architecture, epochs: int = 4) -> dict[str, float]:
        noise = int(hashlib.sha256(arch.id.encode()).hexdigest()[:8], 16) / 2**32
        if noise < 0.05:
            raise effnas.InfeasibleError("infeasible by decision")
        counts = effnas.count(arch, image_size=space.target.image_size, num_classes=10)
        learned = 1 - math.exp(-((counts.params / 1e5) ** 0.5) * epochs / 4)
        return {
            "accuracy": 0.9 * learned + 0.05 * noise,
            "step_time": 0.2 + 0.8 * counts.macs / of_reference,
        }

    options = dict(case["options"])
    if rungs := options.get("rungs"):
        options["rungs"] = effnas.Rungs(tuple(rungs))
    search = effnas.Search(space, "v2", controller=case["controller"], seed=case["seed"], **options)
    search.run(evaluate=measure, budget=count)
    return [trial.architecture.id for trial in search.trials]


#: Those of the packages that the proposals of models depend on.
VERSIONS = [f"{name} {version(name)}" for name in ("numpy", "scipy", "torch", "optuna", "cmaes")]


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    PROPOSALS["cases"],
    ids=lambda case: " ".join(map(str, [case["controller"], case["space"], *case["options"]])),
)
def test_a_controller_proposes_what_it_did(case: dict[str, Any]) -> None:
    is_same = PROPOSALS["versions"] == VERSIONS
    if case["controller"].startswith("optuna:") and not is_same:
        pytest.skip("other versions than then: Optuna's samplers may have changed")
    # Elsewhere: what is drawn before a model has learned anything.
    wanted = case["ids"] if is_same else case["ids"][: case["drawn"]]
    assert propose(case, len(wanted)) == wanted
