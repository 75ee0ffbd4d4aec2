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
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import effnas
from effnas.cli.app import main

GOLDEN = Path(__file__).with_name("golden")
#: The commands that made the folders.
COMMANDS: dict[str, str] = json.loads((GOLDEN / "commands.json").read_text())
PROPOSALS: dict[str, Any] = json.loads((GOLDEN / "proposals.json").read_text())
#: What is stored of a new training, but is never twice the same.
PASSING = frozenset({"duration_s", "train_time_s"})
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
        monkeypatch.setattr(sys, "argv", ["effnas", *shlex.split(command), "--json"])
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
    return json.loads((GOLDEN / "expected" / f"{name}.json").read_text())


def assert_same(found: Any, wanted: Any, place: str = "") -> None:
    """Floats may differ by rounding, as sums do in other versions of NumPy."""
    if isinstance(wanted, dict):
        assert isinstance(found, dict), place
        assert sorted(found) == sorted(wanted), place
        for name, value in wanted.items():
            assert_same(found[name], value, f"{place}/{name}")
    elif isinstance(wanted, list):
        assert isinstance(found, list), place
        assert len(found) == len(wanted), place
        for number, value in enumerate(wanted):
            assert_same(found[number], value, f"{place}/{number}")
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, rel=1e-9, abs=1e-12), place
    else:
        assert found == wanted, place


def without(data: Any, names: frozenset[str]) -> Any:
    """Return plain data without some keys, however deep they are."""
    if isinstance(data, dict):
        return {name: without(each, names) for name, each in data.items() if name not in names}
    return [without(each, names) for each in data] if isinstance(data, list) else data


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def manifest(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(folder, "manifest.json").read_text())
    return found


# -- what is only read

STATUS = (
    "run", "search-stopped", "rungs", "objectives", "constrained", "expression", "predicted",
    "run-board",
)  # fmt: skip


@pytest.mark.parametrize("folder", STATUS)
def test_an_older_search_is_shown_as_it_was(run_json: Command, folder: str) -> None:
    assert_same(run_json(f"status {folder}"), expected(f"status-{folder}"))


@pytest.mark.parametrize("folder", STATUS)
def test_an_older_search_is_read_from_python_as_it_was(folder: str) -> None:
    assert_same(python_view(GOLDEN / "folders" / folder), expected(f"python-{folder}"))


def python_view(folder: Path) -> dict[str, Any]:
    """What `load_run` gives, as plain data."""
    run = effnas.load_run(folder)
    table = run.trials.to_pandas()
    return {
        "columns": list(table.columns),
        "table": json.loads(table.to_json(orient="values", double_precision=15)),
        "best": run.best.architecture.to_timm() if run.best else None,
        "front": [trial.number for trial in run.pareto_front],
        "space": run.space.to_text(),
        "size": run.space.size,
    }


#: Commands that find everything done already.
DONE = {
    "promote": COMMANDS["run-finals"],
    "promote-test": f"{COMMANDS['run-finals']} --test",
    "coefficients": COMMANDS["coefficients"],
    "layers": COMMANDS["layers"],
    "training": COMMANDS["training"],
    "retarget": COMMANDS["run-board"],
}
#: Where each keeps what it found.
KEPT = {
    "promote": "run-finals/trainings.jsonl",
    "promote-test": "run-finals/trainings.jsonl",
    "coefficients": "coefficients/trainings.jsonl",
    "layers": "layers/trainings.jsonl",
    "training": "training/log.csv",
    "retarget": "run-board/trials.jsonl",
    "proxy": "proxy/trainings.jsonl",
}


@pytest.mark.parametrize("name", DONE)
def test_what_is_finished_is_told_again_without_work(run_json: Command, name: str) -> None:
    before = Path(KEPT[name]).read_bytes()
    assert_same(run_json(DONE[name]), expected(name))
    assert Path(KEPT[name]).read_bytes() == before


@pytest.mark.slow
def test_a_finished_proxy_check_is_told_again_without_work(run_json: Command) -> None:
    before = Path(KEPT["proxy"]).read_bytes()
    assert_same(run_json(COMMANDS["proxy"]), expected("proxy"))
    assert Path(KEPT["proxy"]).read_bytes() == before


def test_a_retargeted_run_is_scored_again(run_json: Command) -> None:
    command = f"{COMMANDS['run-board']} --reward 'A / S'"
    assert_same(run_json(command), expected("retarget-rescored"))


#: Networks that are found in older files, and what is made of them.
MADE = {
    "scale-run": "scale run:best --family v2 --device none --epochs 10 --images 1000",
    "scale-constrained": "scale constrained:4 --alpha 1.2 --beta 1.2 --phi 1,2 --device none",
    "scale-file": "scale net.json --family v2-b --device none --image-size 16 --classes 10",
    "scale-found-rules": "scale run:best --family layers/rules.yaml --device none",
    "space": "space small.yaml",
}


@pytest.mark.parametrize("name", MADE)
def test_what_older_files_name_is_understood_as_it_was(run_json: Command, name: str) -> None:
    assert_same(run_json(MADE[name]), expected(name))


def test_members_are_written_as_they_were(run_json: Command, tmp_path: Path) -> None:
    run_json(f"{MADE['scale-run']} --out again")
    older = sorted((tmp_path / "family").iterdir())
    assert [path.name for path in older] == sorted(p.name for p in Path("again").iterdir())
    for path in older:
        if path.name != "family.json":  # that one holds step times
            assert Path("again", path.name).read_text() == path.read_text()


EXPORTS = {
    "export-training": "export net.json --weights training/best.safetensors",
    "export-finals": "export run:3 --weights run-finals/weights/{weights}-0.safetensors",
    "export-member": "export family/m.json",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTS)
def test_older_weights_and_members_are_exported_as_they_were(run_json: Command, name: str) -> None:
    assert_same(exported(run_json(f"{export_command(name)} --out exports/it")), expected(name))


def export_command(name: str) -> str:
    best = effnas.load_run("run").trials[3].architecture.id
    return f"{EXPORTS[name].format(weights=best)} --formats timm"


def exported(payload: dict[str, Any]) -> dict[str, Any]:
    """What does not depend on the device that checks the files."""
    found: dict[str, Any] = without(payload, frozenset({"checks", "files", "versions"}))
    return found


#: What is different from what a folder was begun with, and a word of how that is refused.
REFUSED = {
    "constrained": ("constrained", "--seed 5", "seed (was 0, is 5)"),
    "rungs": ("rungs", "--fidelity 1,2,4 --epochs 4", "fidelity (was [1, 2], is [1, 2, 4])"),
    "objectives": ("objectives", "--objectives accuracy:max,macs:min", "objectives (was"),
    "expression": ("expression", "--controller random", "controller (was evolution, is random)"),
    "finals": ("finals-stopped", "--seeds 3", "seeds (was 2, is 3)"),
    "coefficients": ("coefficients-stopped", "--grid-step 0.1", "other settings: grid"),
    "layers": ("layers-stopped", "--epochs 2", "epochs (was 1, is 2)"),
    "proxy": ("proxy-stopped", "--learning-rate 0.02", "learning-rate (was 0.01, is 0.02)"),
    "training": ("training-stopped", "--seed 5", "seed (was 0, is 5)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_older_folder_does_not_continue_with_other_settings(
    run_json: Command, name: str
) -> None:
    folder, options, words = REFUSED[name]
    before = Path(folder, "manifest.json").read_bytes()
    assert words in run_json(f"{COMMANDS[folder]} {options}", code=2)
    assert Path(folder, "manifest.json").read_bytes() == before


# -- searches that go on

#: Made with the default back end of its time, or without Ray: all go on without it.
INLINE = "--backend inline"


_HERE: dict[str, Any] = {}


@pytest.fixture
def device(run_json: Command) -> dict[str, Any]:
    """What a run records of the device at hand, as `hardware` and `device`; found out once."""
    if not _HERE:
        move_here("expression", {"hardware": "another"})
        refused = run_json(f"{COMMANDS['expression']}", code=2)
        start, end = "hardware (was another, is ", "). Give those again to continue"
        assert start in refused
        assert end in refused
        hardware = refused.partition(start)[2].partition(end)[0]
        move_here("expression", {"hardware": hardware})
        run_json(COMMANDS["expression"])
        _HERE.update(hardware=hardware, device=manifest("expression")["device"])
        shutil.copytree(GOLDEN / "folders" / "expression", "expression", dirs_exist_ok=True)
    return _HERE


def is_same(device: Mapping[str, Any]) -> bool:
    """Whether trainings come to the same accuracies here as where the folders were made."""
    then = json.loads((GOLDEN / "folders" / "expression" / "manifest.json").read_text())["device"]
    return bool(without(then, WITHOUT_EFFECT) == without(device["device"], WITHOUT_EFFECT))


def move_here(folder: str, device: Mapping[str, Any]) -> None:
    """Make a run one of the device at hand: on others it is rightly refused."""
    Path(folder, "manifest.json").write_text(
        json.dumps(manifest(folder) | {"hardware": device["hardware"]})
    )


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["objectives", "constrained", "expression", "predicted"])
def test_a_finished_search_is_scored_again(
    run_json: Command, device: dict[str, Any], folder: str
) -> None:
    move_here(folder, device)
    before = Path(folder, "trials.jsonl").read_bytes()
    found = run_json(f"{COMMANDS[folder]} --reward 'A * P^-0.3 - 0.01 * S'")
    assert_same(found, expected(f"rescored-{folder}"))
    assert Path(folder, "trials.jsonl").read_bytes().startswith(before)


#: What goes on, with what is given in place of what its command says.
CONTINUED = {
    "search-stopped": "",
    "objectives": "--budget 6",
    "constrained": "--budget 7",
    "expression": "--budget 6",
    "predicted": "--budget 5",
}


@pytest.mark.slow
@pytest.mark.parametrize("folder", CONTINUED)
def test_an_older_search_continues(run_json: Command, device: dict[str, Any], folder: str) -> None:
    move_here(folder, device)
    finished = [r for r in lines(Path(folder, "trials.jsonl")) if r["state"] != "RUNNING"]
    run_json(f"{COMMANDS[folder]} {CONTINUED[folder]}")
    found, wanted = results(folder), expected(f"went-on-{folder}")
    now = lines(Path(folder, "trials.jsonl"))
    assert [r for r in now if r["state"] != "RUNNING"][: len(finished)] == finished
    if is_same(device):
        assert_same(found, wanted)
    else:
        assert_same(without(found, TRAINED), without(wanted, TRAINED))


#: What follows from a training, and so differs between devices.
TRAINED = frozenset(
    {"accuracy", "train_loss", "reward", "rungs", "state", "reason", "hardware", *PASSING}
)


def results(folder: str) -> list[dict[str, Any]]:
    """The last line of each trial."""
    last = {r["trial"]: r for r in lines(Path(folder, "trials.jsonl"))}
    return [without(last[number], PASSING) for number in sorted(last)]


@pytest.mark.slow
def test_an_older_search_with_a_paused_training_continues(
    run_json: Command, device: dict[str, Any]
) -> None:
    move_here("rungs", device)
    assert [path.suffix for path in Path("rungs/checkpoints").iterdir()] == [".safetensors"]
    run_json(COMMANDS["rungs"])
    found, wanted = results("rungs"), expected("went-on-rungs")
    if is_same(device):
        assert_same(found, wanted)
    assert [r["architecture"] for r in found] == [r["architecture"] for r in wanted]
    assert {r["state"] for r in found} == {"COMPLETE", "PRUNED"}
    assert list(Path("rungs/checkpoints").iterdir()) == []


@pytest.mark.slow
def test_an_older_search_that_measures_continues(run_json: Command, device: dict[str, Any]) -> None:
    move_here("run", device)
    before = lines(Path("run/trials.jsonl"))
    run_json(f"{COMMANDS['run']} --budget 5 {INLINE}")
    now = lines(Path("run/trials.jsonl"))
    assert now[: len(before)] == before
    assert (now[-1]["trial"], now[-1]["state"]) == (4, "COMPLETE")
    wanted = expected("went-on-run")
    assert now[-1]["architecture"] == wanted["architecture"]
    assert sorted(now[-1]["metrics"]) == wanted["metrics"]
    if is_same(device):
        assert now[-1]["metrics"]["accuracy"] == wanted["accuracy"]


@pytest.mark.slow
def test_an_older_proxy_check_continues(run_json: Command, device: dict[str, Any]) -> None:
    file = Path("proxy-stopped/trainings.jsonl")
    before = file.read_bytes()
    assert before
    run_json(COMMANDS["proxy-stopped"])
    assert file.read_bytes().startswith(before)
    found = [without(each, PASSING) for each in lines(file)]
    wanted = [without(each, PASSING) for each in lines(Path(KEPT["proxy"]))]
    if is_same(device):
        assert_same(found, wanted)
    else:
        assert_same(without(found, TRAINED), without(wanted, TRAINED))


# -- trainings that go on


@pytest.mark.slow
def test_an_older_training_continues_within_its_epoch(
    run_json: Command, device: dict[str, Any]
) -> None:
    assert Path("training-stopped/checkpoint.safetensors").exists()
    before = rows("training-stopped")
    run_json(COMMANDS["training-stopped"])
    found, whole = rows("training-stopped"), rows("training")
    assert found[: len(before)] == before
    assert not Path("training-stopped/checkpoint.safetensors").exists()
    if is_same(device):
        assert found == whole
        for name in ("best.safetensors", "last.safetensors"):
            assert (
                Path("training-stopped", name).read_bytes() == Path("training", name).read_bytes()
            )
    else:
        assert [row["step"] for row in found] == [row["step"] for row in whole]


def rows(folder: str) -> list[dict[str, str]]:
    """The log of a training, without its times."""
    with Path(folder, "log.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    for row in found:
        del row["train_time_s"]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["finals", "layers"])
def test_older_trainings_under_ray_continue(
    run_json: Command, device: dict[str, Any], kind: str
) -> None:
    stopped, whole = f"{kind}-stopped", {"finals": "run-finals"}.get(kind, kind)
    file = Path(stopped, "trainings.jsonl")
    before = lines(file)
    payload = run_json(COMMANDS[stopped])
    now = lines(file)
    assert now[: len(before)] == before
    assert not Path(stopped, "checkpoints").exists()
    wanted = lines(Path(whole, "trainings.jsonl"))
    assert by_training(now, ("accuracy",) if is_same(device) else ()) >= by_training(
        [r for r in wanted if r["epochs"] == 1], ("accuracy",) if is_same(device) else ()
    )
    if is_same(device):
        assert by_training(now, ("accuracy",)) == by_training(wanted, ("accuracy",))
        assert picked(payload) == expected(f"went-on-{stopped}")


def by_training(results: Sequence[dict[str, Any]], more: tuple[str, ...]) -> set[tuple[Any, ...]]:
    return {tuple(r[name] for name in ("candidate", "repeat", "epochs", *more)) for r in results}


def picked(payload: dict[str, Any]) -> Any:
    return payload["base"] if "base" in payload else payload["best"]


# -- what controllers propose


def noise(arch: effnas.Architecture) -> float:
    """A number of 0 to 1 that only the architecture decides on."""
    return int(hashlib.sha256(arch.id.encode()).hexdigest()[:8], 16) / 2**32


def propose(case: Mapping[str, Any], count: int) -> list[str]:
    """The ids of the first architectures that a search tries, in their order."""
    name: str = case["space"]
    file = str(GOLDEN / "folders" / name) if name.endswith(".yaml") else name
    space = effnas.SearchSpace.load(file).with_target(num_classes=10)
    of_reference = space.count(space.reference).macs

    def measure(arch: effnas.Architecture, epochs: int = 4) -> dict[str, float]:
        if noise(arch) < 0.05:
            raise effnas.InfeasibleError("so it was decided")
        counts = effnas.count(arch, image_size=space.target.image_size, num_classes=10)
        learned = 1 - math.exp(-((counts.params / 1e5) ** 0.5) * epochs / 4)
        return {
            "accuracy": 0.9 * learned + 0.05 * noise(arch),
            "step_time": 0.2 + 0.8 * counts.macs / of_reference,
        }

    options = dict(case["options"])
    if "rungs" in options:
        options["rungs"] = effnas.Rungs(tuple(options["rungs"]))
    search = effnas.Search(space, "v2", controller=case["controller"], seed=case["seed"], **options)
    search.run(evaluate=measure, budget=count)
    return [trial.architecture.id for trial in search.trials]


def versions() -> Iterator[str]:
    """Those that proposals of models depend on."""
    from importlib.metadata import version

    for name in ("numpy", "scipy", "torch", "optuna", "cmaes"):
        yield f"{name} {version(name)}"


def case_name(case: Mapping[str, Any]) -> str:
    more = "".join(f" {name}" for name in case["options"])
    return f"{case['controller']} {case['space']} {case['seed']}{more}"


def cases() -> Iterator[Any]:
    """One for each controller, space and seed; those whose models take time are slow."""
    for case in PROPOSALS["cases"]:
        is_slow = case["controller"] in ("surrogate", "reinforce", "optuna:gp")
        marks = [pytest.mark.slow] if is_slow else []
        yield pytest.param(case, id=case_name(case), marks=marks)


@pytest.mark.parametrize("case", [*cases()])
def test_a_controller_proposes_what_it_did(case: dict[str, Any]) -> None:
    wanted = case["ids"][: case["checked"]]
    if case["controller"].startswith("optuna:") and PROPOSALS["versions"] != [*versions()]:
        pytest.skip("other versions than then: Optuna's samplers may have changed")
    found = propose(case, len(wanted))
    if PROPOSALS["versions"] == [*versions()]:
        assert found == wanted
    else:  # what is drawn before a model has learned anything
        assert found[: case["drawn"]] == wanted[: case["drawn"]]
