"""The run folder: nothing that was stored is lost, changed, or read as something else."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effnas import Measurement, SearchSpace, Trial, TrialState, load_run
from effnas.cli.folder_state import is_running
from effnas.config.recipe import Recipe
from effnas.config.settings import Execution
from effnas.errors import StoreError
from effnas.trials.manifest import Choices, SearchManifest
from effnas.trials.manifest_parts import DataPart, ParentPart, RewardPart, SourcedSpacePart
from effnas.trials.store import MANIFEST, TRIALS, RunFolder, read_events, to_record, write_whole

SPACE = SearchSpace.load("tiny")
ARCHS = [SPACE.sample(np.random.default_rng(seed)) for seed in range(8)]
finite = st.floats(allow_nan=False, allow_infinity=False)
trials = st.builds(
    Trial,
    number=st.integers(0, 10**6),
    architecture=st.sampled_from(ARCHS),
    state=st.sampled_from(TrialState),
    measurement=st.builds(
        Measurement,
        metrics=st.dictionaries(st.text(), finite, max_size=4),
        fidelity=st.text(),
        seed=st.none() | st.integers(),
        hardware=st.text(),
    ),
    reward=st.none() | finite,
    reason=st.none() | st.text(),
    duration_s=st.none() | finite,
)


def trial(number: int, **changes: Any) -> Trial:
    complete = Trial(
        number=number,
        architecture=ARCHS[number % len(ARCHS)],
        state=TrialState.COMPLETE,
        measurement=Measurement(metrics={"accuracy": 0.5, "params": 1e6}, seed=3, hardware="CPU"),
        reward=0.5,
        duration_s=1.25,
    )
    return replace(complete, **changes)


def events(path: Path) -> list[Trial]:
    return list(read_events(path, SPACE))


def write(path: Path, *stored: Trial) -> bytes:
    """Store trials, and return what the file holds then."""
    with RunFolder.open(path) as folder:
        for each in stored:
            folder.append(each, durable=False)
    return (path / TRIALS).read_bytes() if stored else b""


@pytest.mark.slow
@given(st.lists(trials, max_size=5))
def test_events_are_read_in_the_order_in_which_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, stored: list[Trial]
) -> None:
    path = tmp_path_factory.mktemp("run")
    content = write(path, *stored)
    assert events(path) == stored
    assert content.count(b"\n") == len(stored)


def test_a_reason_that_names_an_undecodable_file_is_stored(tmp_path: Path) -> None:
    named = trial(0, state=TrialState.FAILED, reason="cannot read caf\udce9.png")
    write(tmp_path, named)
    assert events(tmp_path) == [named]


def test_bytes_once_written_never_change(tmp_path: Path) -> None:
    before = b""
    for number in range(6):  # closed and opened again between any two
        after = write(tmp_path, trial(number), trial(number, reward=0.75))
        assert after.startswith(before)
        assert len(after) > len(before)
        before = after


def test_a_line_is_on_disk_as_soon_as_append_returns(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path) as folder:
        for number in range(4):
            folder.append(trial(number), durable=number % 2 == 0)
            assert events(tmp_path) == [trial(n) for n in range(number + 1)]


@pytest.mark.parametrize("value", [float("nan"), -float("inf")])
def test_a_number_that_is_not_finite_is_never_written(tmp_path: Path, value: float) -> None:
    measured = Measurement(metrics={"accuracy": value})
    with RunFolder.open(tmp_path) as folder:
        folder.append(trial(0), durable=False)
        for wrong in (trial(1, reward=value), trial(1, measurement=measured)):
            with pytest.raises(ValueError):
                folder.append(wrong, durable=False)
        folder.append(trial(2), durable=False)
    assert events(tmp_path) == [trial(0), trial(2)]


@contextmanager
def file_size_limit(limit_bytes: int) -> Iterator[None]:
    """Let no file grow beyond the limit, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def append_until_full(path: Path) -> None:
    with RunFolder.open(path) as folder:
        for number in range(100):
            folder.append(trial(number), durable=True)


def test_a_full_disk_loses_no_earlier_trial_and_is_told_in_a_line(tmp_path: Path) -> None:
    limit = 5 * len(write(tmp_path / "one", trial(0))) + 20
    path = tmp_path / "run"
    with (
        file_size_limit(limit),
        pytest.raises(StoreError, match=r"trials\.jsonl: cannot be written \(File too large\)"),
    ):
        append_until_full(path)
    assert events(path) == [trial(n) for n in range(5)]
    write(path, trial(5))
    assert events(path) == [trial(n) for n in range(6)]


@pytest.mark.slow
def test_a_last_line_torn_at_any_byte_is_tolerated_and_cut_off(tmp_path: Path) -> None:
    source = tmp_path / "whole"
    kept = write(source, trial(0), trial(1))
    whole = write(source, trial(2, reason="caf\u00e9 \u2028 \U0001f600"))
    path = tmp_path / "torn"
    for length in range(len(kept), len(whole)):
        path.mkdir(exist_ok=True)
        (path / TRIALS).write_bytes(whole[:length])
        assert events(path) == [trial(0), trial(1)]
        RunFolder.open(path).close()
        assert (path / TRIALS).read_bytes() == kept
    write(path, trial(2))
    assert events(path) == [trial(0), trial(1), trial(2)]


def changed(**changes: object) -> bytes:
    return json.dumps(to_record(trial(1)) | changes).encode()


DAMAGE = {
    "text": b"what is this",
    "cut": changed()[:-9],
    "a list": b"[1, 2]",
    "the number is text": changed(trial="1"),
    "an unknown state": changed(state="GOOD"),
    "another id": changed(architecture_id="0" * 16),
    "no id": json.dumps({k: v for k, v in to_record(trial(1)).items() if k[-2:] != "id"}).encode(),
    "a block that is not one": changed(architecture="mbconv_r1_k4_s1_e1_c16"),
    "metrics are a list": changed(metrics=[1]),
    "a metric is text": changed(metrics={"accuracy": "good"}),
    "the reason is a number": changed(reason=7),
    "a number is too large to be one": changed(metrics={"params": 10**400}),
}


@pytest.mark.parametrize("line", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path, line: bytes) -> None:
    write(tmp_path, trial(0))
    with (tmp_path / TRIALS).open("ab") as file:
        file.write(line + b"\n")
    write(tmp_path, trial(2))
    with pytest.raises(StoreError, match=r"trials\.jsonl:2: not a trial") as caught:
        events(tmp_path)
    assert "delete this line" in str(caught.value)
    # What it advises helps.
    content = (tmp_path / TRIALS).read_bytes().split(b"\n")
    (tmp_path / TRIALS).write_bytes(b"\n".join(content[:1] + content[2:]))
    assert events(tmp_path) == [trial(0), trial(2)]


def manifest(text: str = "a\nb é", **changes: Any) -> SearchManifest:
    return SearchManifest(space=SourcedSpacePart(text=text), **changes)


def test_a_manifest_survives_being_written_and_read(tmp_path: Path) -> None:
    assert SearchManifest.stored(tmp_path) is None
    whole = manifest(
        seed=7,
        constraints=("params < 5",),
        rungs=(1, 2),
        recipe=Recipe(),
        execution=Execution(),
        device={"threads": 1, "name": "CPU"},
        parent=ParentPart(path="x", best=3),
    )
    for each in (manifest(), whole):
        each.write(tmp_path)
        assert SearchManifest.read(tmp_path) == each


def test_a_search_continues_with_another_budget_and_reward_but_nothing_else() -> None:
    before = manifest(seed=1, recipe=Recipe(), constraints=("S < 1", "A > 0"), parent=None)
    alike = replace(before, budget=9, reward=RewardPart(name="A"), constraints=("A > 0", "S < 1"))
    assert alike.differences(before) == []
    before = replace(before, space=SourcedSpacePart.of(SPACE.with_target(num_classes=5)))
    other = replace(
        before,
        seed=2,
        space=SourcedSpacePart.of(SPACE.with_target(num_classes=2, image_size=24)),
        recipe=Recipe(label_smoothing=0.2),
        data=DataPart(fingerprint="f"),
        step_times="a table",
        parent=ParentPart(created="then"),
    )
    assert other.differences(before) == [
        "seed (was 1, is 2)",
        "target image size (was 16, is 24)",
        "classes (was 5, is 2)",
        "data (other images or labels)",
        "label-smoothing (was 0.1, is 0.2)",
        "step times (was measured, is a table)",
        "finished run (was None, is then)",
    ]
    changed = SearchSpace.parse(SPACE.to_text().replace("_r<1|2>_", "_r<1|3>_"))
    for name, words in (("tiny", "tiny has changed"), ("mine", "was tiny, is mine")):
        part = replace(SourcedSpacePart.of(changed.with_target(num_classes=5)), name=name)
        assert replace(before, space=part).differences(before) == [f"space ({words})"]
    assert Choices(seed=2).differences(before) == [
        "seed (was 1, is 2)",
        "constraints (was ['S < 1', 'A > 0'], is [])",
    ]


def test_a_manifest_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    manifest(seed=1).write(tmp_path)
    with (
        file_size_limit(100),
        pytest.raises(StoreError, match=r"manifest\.json: cannot be written \(File too large"),
    ):
        manifest(seed=2).write(tmp_path)
    assert SearchManifest.read(tmp_path).seed == 1


def test_a_crash_while_the_first_manifest_is_written_does_not_bar_the_folder(
    tmp_path: Path,
) -> None:
    (tmp_path / ".lock").touch()
    (tmp_path / TRIALS).touch()
    (tmp_path / f"{MANIFEST}.tmp").write_text('{"for')
    with RunFolder.open(tmp_path):
        manifest(seed=1).write(tmp_path)
    assert SearchManifest.read(tmp_path).seed == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"format": 2}', "format 2 is not known"),
        ("[]", "holds no run"),
        ('{"format": 1, "kind": "finals"}', "holds no run, but finals"),
        ('{"format": 1', r"manifest\.json: not valid JSON: .*line 1, column 13.*restore it"),
        ("", r"manifest\.json: the file is empty"),
        ('{"format": 1, "space": {"text": 3}}', r"space\.text: Expected `str`, got `int`"),
        ('{"format": 1, "space": {"text": ""}, "seed": 1, "seed": 2}', "'seed' is there twice"),
        ('{"format": 1, "space": {"text": ""}, "recipe": {"epochs": 0}}', "recipe: .*epochs is 0"),
        (
            '{"format": 1, "space": {"text": ""}, "execution": {"precison": "float32"}}',
            "manifest.json: execution: unknown key 'precison'; did you mean 'precision'",
        ),
        ('{"format": 1, "recipe": {"learning_rate": 1e999}}', "1e999 is not finite"),
        ('{"format": 1, "seed": ' + "9" * 5000 + "}", "not valid JSON: Exceeds the limit"),
        ('{"format": 1, "more": ' + "[" * 100_000, "not valid JSON: maximum recursion"),
    ],
    ids=lambda text: text[:40],
)
def test_a_manifest_of_another_format_or_damaged_is_refused_in_a_line(
    tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(StoreError, match=said) as caught:
        load_run(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_used_is_refused_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "busy" / TRIALS).mkdir(parents=True)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    for name in ("file", "file/run", "/proc/run", "busy", "foreign"):
        reason = "not empty and holds no run" if name == "foreign" else "cannot be written"
        with pytest.raises(StoreError, match=f"{name}: .*{reason}.*`out`") as caught:
            RunFolder.open(tmp_path / name)
        assert "\n" not in str(caught.value)
    assert [p for p in sorted(tmp_path.rglob("*")) if p.name != ".lock"] == before


def test_a_new_folder_to_which_nothing_came_is_removed(tmp_path: Path) -> None:
    RunFolder.open(tmp_path / "a" / "run").close()
    assert not (tmp_path / "a" / "run").exists()
    with RunFolder.open(tmp_path / "run"):
        manifest().write(tmp_path / "run")
    assert (tmp_path / "run" / MANIFEST).exists()


def test_a_run_is_written_by_one_process_at_a_time(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from effnas.trials.store import RunFolder\n"
        "try: RunFolder.open(Path(sys.argv[1])); print('opened')\n"
        "except ValueError as error: print(error)"
    )

    def open_elsewhere() -> str:
        return subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
        ).stdout

    with RunFolder.open(tmp_path) as folder:
        folder.append(trial(0), durable=False)
        refusal = open_elsewhere()
        folder.append(trial(1), durable=False)
    assert refusal.startswith(f"{tmp_path}: another command is writing there")
    assert refusal.count("\n") == 1
    assert events(tmp_path) == [trial(0), trial(1)]
    assert open_elsewhere() == "opened\n"


def test_a_file_system_without_locks_is_not_taken_for_another_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(file: object, mode: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(StoreError, match=r"its file system has no locks \(No locks available\)"):
        RunFolder.open(tmp_path)


def test_a_trial_has_one_architecture(tmp_path: Path) -> None:
    other = replace(SPACE.reference, stages=SPACE.reference.stages[::-1])
    with RunFolder.open(tmp_path) as folder:
        for each in (trial(0), trial(1), replace(trial(0), architecture=other)):
            folder.append(each, durable=False)
    with pytest.raises(StoreError, match=r"jsonl:3: not a trial \(trial 0 is of another architec"):
        events(tmp_path)


@pytest.mark.parametrize(
    ("name", "use"),
    [(MANIFEST, load_run), (TRIALS, load_run), (TRIALS, RunFolder.open), (".lock", RunFolder.open)],
)
def test_what_is_no_file_hangs_nothing(
    tmp_path: Path, name: str, use: Callable[[Path], object]
) -> None:
    with RunFolder.open(tmp_path) as folder:
        folder.append(trial(0), durable=False)
        manifest(SPACE.to_text()).write(tmp_path)
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        (tmp_path / name).unlink()
        make(tmp_path / name)
        with pytest.raises(StoreError, match=r"(?i)not a regular file|no such device") as caught:
            use(tmp_path)
        assert "\n" not in str(caught.value)
        assert not is_running(tmp_path)


def test_what_is_written_follows_no_link_that_somebody_has_left(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("kept")
    (tmp_path / "report.html.tmp").symlink_to(other)
    write_whole(tmp_path / "report.html", "new")
    assert other.read_text() == "kept"
    assert (tmp_path / "report.html").read_text() == "new\n"
    os.mkfifo(tmp_path / "report.html.tmp")
    write_whole(tmp_path / "report.html", "newer")
    assert (tmp_path / "report.html").read_text() == "newer\n"


@pytest.mark.parametrize("how", ["removed", "replaced", "moved"])
def test_a_folder_that_is_taken_away_is_noticed_at_the_next_write(tmp_path: Path, how: str) -> None:
    run = tmp_path / "run"
    with RunFolder.open(run) as folder:
        manifest(SPACE.to_text()).write(run)
        folder.append(trial(0), durable=False)
        moved = run.rename(tmp_path / "moved")
        if how == "replaced":
            shutil.copytree(moved, run)
        if how == "removed":
            shutil.rmtree(moved)
        with pytest.raises(StoreError, match=r"jsonl: it was removed or replaced while a command"):
            folder.append(trial(1), durable=False)
    if how != "removed":
        assert events(moved) == [trial(0)]


def test_of_several_records_of_a_trial_the_last_wins(tmp_path: Path) -> None:
    started = trial(0, state=TrialState.RUNNING, reward=None, measurement=Measurement(metrics={}))
    with RunFolder.open(tmp_path) as folder:
        manifest(SPACE.to_text()).write(tmp_path)
        for each in (started, trial(0), trial(1), trial(0, reward=0.9)):
            folder.append(each, durable=False)
        run = load_run(tmp_path)  # while it is being written
    assert list(run.trials) == [trial(0, reward=0.9), trial(1)]
    assert run.best == trial(0, reward=0.9)
    assert run.space == SPACE


def test_trials_of_a_space_whose_stem_has_stride_1_are_read_back(tmp_path: Path) -> None:
    space = replace(SPACE, stem_stride=1, given_reference=None)
    stored = trial(0, architecture=space.sample(np.random.default_rng(0)))
    with RunFolder.open(tmp_path) as folder:
        manifest(space.to_text()).write(tmp_path)
        folder.append(stored, durable=False)
    assert list(load_run(tmp_path).trials) == [stored]
    with pytest.raises(StoreError, match="architecture_id does not belong"):
        events(tmp_path)
