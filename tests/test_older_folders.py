"""Folders and files that an older version wrote still open, continue, and give the same results.

`golden` holds them with the output of that version; golden/README.md says how each was made. What
only reads must give the very same. What trains must reach the very same accuracies too, but only
where the device is the same: elsewhere the same networks reach the same states.
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
#: Commands that find everything done already, and the file that each has its results from.
DONE = {
    "promote-test": (f"{COMMANDS['run-finals']} --test", "run-finals/trainings.jsonl"),
    "coefficients": (COMMANDS["coefficients"], "coefficients/trainings.jsonl"),
    "layers": (COMMANDS["layers"], "layers/trainings.jsonl"),
    "training": (COMMANDS["training"], "training/log.csv"),
    "retarget": (COMMANDS["run-board"], "run-board/trials.jsonl"),
    "proxy": (COMMANDS["proxy"], "proxy/trainings.jsonl"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DONE)
def test_what_is_finished_is_shown_again_without_work(run_json: Command, name: str) -> None:
    command, file = DONE[name]
    before = Path(file).read_bytes()
    assert_same(without(run_json(command), CHANGED), without(expected(name), CHANGED))
    assert Path(file).read_bytes() == before


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


#: What is different from what a folder was begun with, and words of the refusal.
REFUSED = {
    "constrained": ("--seed 5", "seed (was 0, is 5)"),
    "rungs": ("--fidelity 1,2,4 --epochs 4", "fidelity (was [1, 2], is [1, 2, 4])"),
    "finals-stopped": ("--seeds 3", "seeds (was 2, is 3)"),
    "coefficients-stopped": ("--grid-step 0.1", "other settings: grid"),
    "layers-stopped": ("--epochs 2", "epochs (was 1, is 2)"),
    "training-stopped": ("--seed 5", "seed (was 0, is 5)"),
}


@pytest.mark.slow
@pytest.mark.parametrize("folder", REFUSED)
def test_an_older_folder_does_not_continue_with_other_settings(
    run_json: Command, folder: str
) -> None:
    options, words = REFUSED[folder]
    before = Path(folder, "manifest.json").read_bytes()
    command = COMMANDS[folder]
    if "--fidelity" in options:  # of lists, both would count
        command = command.replace("--fidelity 1,2 ", "")
    assert words in run_json(f"{command} {options}", code=2)
    assert Path(folder, "manifest.json").read_bytes() == before


# -- what continues

_HERE: dict[str, Any] = {}


@pytest.fixture
def is_same_device(run_json: Command) -> bool:
    """Whether accuracies are those of the device that made the folders.

    The runs are made ones of the device at hand: on others they are rightly refused.
    """
    if not _HERE:
        set_hardware("expression", "another")
        refused = run_json(COMMANDS["expression"], code=2)
        start, end = "hardware (was another, is ", "). Give those again to continue"
        _HERE["hardware"] = refused.partition(start)[2].partition(end)[0]
        set_hardware("expression", _HERE["hardware"])
        before = manifest("expression")["device"]
        run_json(COMMANDS["expression"])
        here = manifest("expression")["device"]
        _HERE["is_same"] = without(here, WITHOUT_EFFECT) == without(before, WITHOUT_EFFECT)
    for file in Path().glob("*/trials.jsonl"):
        set_hardware(file.parent.name, _HERE["hardware"])
    return bool(_HERE["is_same"])


def set_hardware(folder: str, hardware: str) -> None:
    content = manifest(folder) | {"hardware": hardware}
    Path(folder, "manifest.json").write_text(json.dumps(content))


#: What follows from a training, and so differs between devices.
TRAINED = frozenset({"accuracy", "train_loss", "reward", "rungs", "state", "reason", "hardware"})


def assert_same_results(found: Any, wanted: Any, is_same_device: bool) -> None:
    names = PASSING if is_same_device else PASSING | TRAINED
    assert_same(without(found, names), without(wanted, names))


def results(folder: str) -> list[dict[str, Any]]:
    """The last line of each trial."""
    last = {r["trial"]: r for r in lines(Path(folder, "trials.jsonl"))}
    return [last[number] for number in sorted(last)]


@pytest.mark.slow
def test_a_finished_search_is_scored_again(run_json: Command, is_same_device: bool) -> None:
    file = Path("constrained/trials.jsonl")
    before = file.read_bytes()
    found = run_json(f"{COMMANDS['constrained']} --reward 'A * P^-0.3 - 0.01 * S'")
    assert_same(found, expected("rescored-constrained"))
    assert file.read_bytes().startswith(before)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "budget"),
    [("search-stopped", 4), ("objectives", 6), ("constrained", 7), ("expression", 6),
     ("predicted", 5)],
)  # fmt: skip
def test_an_older_search_continues(
    run_json: Command, is_same_device: bool, folder: str, budget: int
) -> None:
    file = Path(folder, "trials.jsonl")
    finished = [r for r in lines(file) if r["state"] != "RUNNING"]
    run_json(f"{COMMANDS[folder]} --budget {budget}")
    assert [r for r in lines(file) if r["state"] != "RUNNING"][: len(finished)] == finished
    assert_same_results(results(folder), expected(f"continued-{folder}"), is_same_device)


@pytest.mark.slow
def test_an_older_search_with_a_paused_training_continues(
    run_json: Command, is_same_device: bool
) -> None:
    assert [path.suffix for path in Path("rungs/checkpoints").iterdir()] == [".safetensors"]
    run_json(COMMANDS["rungs"])
    found, wanted = results("rungs"), expected("continued-rungs")
    if is_same_device:
        assert_same_results(found, wanted, is_same_device)
    assert [r["architecture"] for r in found] == [r["architecture"] for r in wanted]
    assert {r["state"] for r in found} == {"COMPLETE", "PRUNED"}
    assert list(Path("rungs/checkpoints").iterdir()) == []


@pytest.mark.slow
def test_an_older_search_that_measures_continues(run_json: Command, is_same_device: bool) -> None:
    before = lines(Path("run/trials.jsonl"))
    run_json(f"{COMMANDS['run']} --budget 5 --backend inline")
    now = lines(Path("run/trials.jsonl"))
    assert now[: len(before)] == before
    wanted = expected("continued-run")
    last = now[-1]
    assert (last["trial"], last["state"]) == (4, "COMPLETE")
    assert last["architecture"] == wanted["architecture"]
    assert sorted(last["metrics"]) == wanted["metrics"]
    if is_same_device:
        assert last["metrics"]["accuracy"] == wanted["accuracy"]


@pytest.mark.slow
def test_an_older_proxy_check_continues(run_json: Command, is_same_device: bool) -> None:
    file = Path("proxy-stopped/trainings.jsonl")
    before = file.read_bytes()
    run_json(COMMANDS["proxy-stopped"])
    assert file.read_bytes().startswith(before)
    assert_same_results(lines(file), lines(Path("proxy/trainings.jsonl")), is_same_device)


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


@pytest.mark.slow
def test_older_finals_under_ray_continue(run_json: Command, is_same_device: bool) -> None:
    file = Path("finals-stopped/trainings.jsonl")
    before = lines(file)
    payload = run_json(COMMANDS["finals-stopped"])
    now = lines(file)
    assert now[: len(before)] == before
    assert not Path("finals-stopped/checkpoints").exists()
    names = ("candidate", "repeat", "epochs", *(["accuracy"] if is_same_device else []))
    found = {tuple(r[name] for name in names) for r in now}
    whole = lines(Path("run-finals/trainings.jsonl"))
    wanted = {tuple(r[name] for name in names) for r in whole if is_same_device or r["epochs"] == 1}
    assert found >= wanted
    if is_same_device:
        assert found == wanted
        assert payload["base"] == expected("continued-finals-stopped")


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
