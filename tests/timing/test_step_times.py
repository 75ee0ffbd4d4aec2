"""Step times from tables and commands: S is right, and mistakes are named and cleaned up."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest

from effnas import Architecture, Search, SearchSpace
from effnas.arch.files import load_architecture
from effnas.errors import ConfigError, InfeasibleError
from effnas.timing.command import StepTimeCommand
from effnas.timing.table import StepTimeTable

SPACE = SearchSpace.load("tiny")
REFERENCE = SPACE.reference
ARCHS = [SPACE.sample(np.random.default_rng(seed)) for seed in range(5)]
ARCH = ARCHS[0]
DOCS = Path(__file__).resolve().parents[2] / "docs" / "step-times.md"
Write = Callable[[str], Path]


@pytest.fixture
def csv(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "times.csv"
        path.write_text(text, encoding="utf-8", newline="")
        return path

    return write


@pytest.fixture
def table_json(tmp_path: Path) -> Callable[[object], Path]:
    def write(content: object) -> Path:
        path = tmp_path / "times.json"
        text = content if isinstance(content, str) else json.dumps(content)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as raised:
        StepTimeTable.load(path, SPACE)
    text = str(raised.value)
    assert text.startswith(str(path))
    assert "\n" not in text
    return text.removeprefix(str(path)).removeprefix(":").strip()


def step_time_of(table: StepTimeTable, arch: Architecture) -> float | None:
    """S of a network, or None if the table has none."""
    try:
        return table(arch).metrics["step_time"]
    except InfeasibleError:
        return None


# -- tables


def test_seconds_are_divided_by_those_of_the_reference(csv: Write) -> None:
    table = StepTimeTable.load(
        csv(f"architecture,step_time_s\n{REFERENCE},0.5\n{ARCH},0.125\n"), SPACE
    )
    assert table(ARCH).metrics == {"step_time": 0.25, "step_time_s": 0.125}
    assert table(REFERENCE).metrics == {"step_time": 1.0, "step_time_s": 0.5}
    assert table(ARCH).source == "table"
    assert table.note is None
    assert table.architectures() == (REFERENCE, ARCH)


def test_without_the_reference_seconds_are_divided_by_their_median_and_a_note_says_so(
    table_json: Callable[[object], Path],
) -> None:
    seconds = [0.3, 7.0, 1e-6, 0.125, 1e6]
    path = table_json(dict(zip(map(str, ARCHS), seconds, strict=True)))
    table = StepTimeTable.load(path, SPACE)
    found = [table(arch).metrics["step_time"] for arch in ARCHS]
    assert found == [s / median(seconds) for s in seconds]
    assert table.note is not None
    assert "median" in table.note


def test_a_network_that_is_not_in_the_table_has_no_step_time(csv: Write) -> None:
    path = csv(f"architecture,step_time\n{REFERENCE},1\n")
    table = StepTimeTable.load(path, SPACE)
    assert step_time_of(table, ARCH) is None
    with pytest.raises(InfeasibleError) as raised:
        table(ARCH)
    assert str(raised.value) == f"not in the table {path}"


def test_a_run_of_the_project_is_a_table(tmp_path: Path) -> None:
    search = Search(space=SPACE, seed=1)

    def evaluate(arch: Architecture) -> dict[str, float]:
        if len(search.trials) == 3:
            raise InfeasibleError("too, large\nfor the board")
        s = 0.1 * len(search.trials)
        return {"accuracy": 0.5, "step_time": s, "step_time_low": s / 2, "step_time_s": 3 * s}

    search.run(evaluate=evaluate, budget=6)
    search.ask()
    frame = search.trials.to_pandas()
    frame.to_csv(tmp_path / "run.csv")
    frame.to_csv(tmp_path / "run-without-index.csv", index=False)
    frame.to_json(tmp_path / "run.json", orient="records", double_precision=15)
    for path in sorted(tmp_path.glob("run*")):
        table = StepTimeTable.load(path, SPACE)
        assert table.architectures() == tuple(t.architecture for t in search.trials if t.metrics)
        for trial in search.trials:
            step_time = step_time_of(table, trial.architecture)
            assert step_time == pytest.approx(trial.metrics.get("step_time"))
            if trial.metrics:
                seconds = table(trial.architecture).metrics["step_time_s"]
                assert seconds == pytest.approx(trial.metrics["step_time_s"])


def test_repetitions_must_agree(csv: Write) -> None:
    rows = f"{ARCH.id},,2\n,{ARCH},2.0\n"
    table = StepTimeTable.load(csv(f"architecture_id,architecture,step_time\n{rows}"), SPACE)
    assert table.architectures() == (ARCH,)
    text = f"architecture,step_time\n{ARCH},2\n{ARCHS[1]},2\n{ARCH},3\n"
    assert re.match(r"4: another .* at .*times.csv:2 \(3 here, 2 there\)", refusal(csv(text)))


@pytest.mark.parametrize(
    ("cell", "part"),
    [
        ("fast", "'fast' is not a number"),
        ("٣", "is not a number"),
        ("nan", "not a number above 0"),
        ("1e-300", "not a number above 0"),
    ],
)
def test_a_bad_step_time_is_refused_with_its_line(csv: Write, cell: str, part: str) -> None:
    text = f'note,architecture,step_time_s\n"two\nlines",{ARCH},1\n,{ARCHS[1]},{cell}\n'
    answer = refusal(csv(text))
    assert answer.startswith("4: step_time_s: ")
    assert part in answer


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "empty"),
        ("architecture,step_time_s\n", "no row has a step time"),
        ("architecture,time\nx,1\n", "1: the header 'architecture, time' lacks a column"),
        ("step_time,architecture,step_time\n", "1: the column step_time is there twice"),
        ("architecture,step_time\nx,1,2\n", "2: 3 cells, and the header has 2"),
        ('architecture,step_time\n"x,1\n', "2: not valid CSV"),
        (f"architecture,step_time\n{'x' * 200_000},1\n", "2: not valid CSV"),
        ("architecture,step_time\n,1\n", "2: a step time without architecture"),
        ("architecture,step_time\nmbconv_r1,1\n", "2: architecture: stage 1:1:1: mbconv lacks"),
        ("architecture_id,step_time\nabc,1\n", "2: architecture_id: 'abc' is not 16"),
        (
            f"architecture,architecture_id,step_time\n{ARCH},{ARCHS[1].id},1\n",
            f"2: architecture_id is {ARCHS[1].id}, but the blocks with stem 8",
        ),
        (
            f"architecture,step_time,step_time_s\n{ARCH},1,1\n{ARCHS[1]},,1\n",
            "3: step_time_s without step_time",
        ),
    ],
)
def test_a_bad_csv_table_is_refused_with_its_line(csv: Write, text: str, part: str) -> None:
    assert refusal(csv(text)).startswith(part) or part in refusal(csv(text)).split(";")[0]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("{", "not valid JSON"),
        ('[\n{"architecture": 1,}]', "not valid JSON: Expecting property name"),
        ("[" * 100_000, "not valid JSON"),
        ([{"architecture": str(ARCH), "step_time_ms": 3}], "no row has a step time"),
        ([[str(ARCH), 3]], "entry 1: not an object"),
        ({str(ARCH): "fast"}, "entry 1: step_time_s: 'fast' is not a number"),
        (f'{{"{ARCH}": NaN}}', "not valid JSON: the number NaN is not finite"),
        (f'{{"{ARCH}": 1, "{ARCH}": 2}}', "not valid JSON: the key"),
        ([{"architecture": 7, "step_time": 1}], "entry 1: architecture: not a text"),
        ({"reference": 1}, "entry 1: architecture: stage 1"),
    ],
)
def test_a_bad_json_table_is_refused_with_its_entry(
    table_json: Callable[[object], Path], content: object, part: str
) -> None:
    assert refusal(table_json(content)).startswith(part)


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "none.csv")
    assert ".csv or a .json" in refusal(tmp_path / "times.xlsx")
    (tmp_path / "folder.csv").mkdir()
    assert "directory" in refusal(tmp_path / "folder.csv")
    (tmp_path / "latin.csv").write_bytes("architecture,step_time\n\xe9,1".encode("latin-1"))
    assert "not UTF-8" in refusal(tmp_path / "latin.csv")
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    assert "not a regular file" in refusal(tmp_path / "zero.csv")
    with (tmp_path / "large.csv").open("wb") as file:
        file.truncate(64_000_001)
    assert "larger than 64,000,000 bytes" in refusal(tmp_path / "large.csv")


# -- commands


@pytest.fixture(autouse=True)
def own_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def python(program: str) -> str:
    """The template of a command that runs a program; `arch` is the network as the file says."""
    lines = ["import json, os, sys, time", "arch = json.load(open(sys.argv[1]))", program]
    words = [sys.executable, "-I", "-S", "-c", "\n".join(lines)]
    return " ".join(shlex.quote(w).replace("{", "{{").replace("}", "}}") for w in words) + (
        " {arch_json}"
    )


def but_for_the_reference(program: str) -> str:
    """The same of a program that behaves so for all networks but the reference."""
    return python(f"if arch['id'] == '{REFERENCE.id}': print(1); sys.exit()\n{program}")


def reason(program: str, timeout_s: float = 30) -> str:
    command = StepTimeCommand(but_for_the_reference(program), SPACE, timeout_s)
    with pytest.raises(InfeasibleError) as raised:
        command(ARCH)
    assert "\n" not in str(raised.value)
    assert not list(Path(tempfile.gettempdir()).iterdir())
    return str(raised.value)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def wait_until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def test_s_is_relative_to_the_reference_which_is_timed_once_and_first(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = StepTimeCommand(
        python(f"open({str(log)!r}, 'a').write(arch['id'] + '\\n'); print(len(arch['blocks'][0]))"),
        SPACE,
    )
    assert not log.exists()
    result = command(ARCH)
    seconds, of_reference = len(ARCH.blocks[0]), len(REFERENCE.blocks[0])
    assert result.metrics == {"step_time": seconds / of_reference, "step_time_s": seconds}
    assert command(REFERENCE).metrics == {"step_time": 1.0, "step_time_s": of_reference}
    command(ARCHS[1])
    assert log.read_text().split() == [REFERENCE.id, ARCH.id, ARCHS[1].id]
    assert result.source == "command"
    assert result.hardware.startswith("command: ")


def test_the_command_gets_a_file_that_is_the_network_at_the_target(tmp_path: Path) -> None:
    copy = tmp_path / "copy.json"
    space = SPACE.with_target(image_size=48, batch_size=7, num_classes=3)
    command = StepTimeCommand(
        python(f"open({str(copy)!r}, 'w').write(open(sys.argv[1]).read()); print(1)"), space
    )
    command(ARCH)
    assert load_architecture(copy) == ARCH
    content = json.loads(copy.read_text())
    assert content["timm"] == ARCH.to_timm()
    sizes = {name: content[name] for name in ("image_size", "batch_size", "num_classes")}
    assert sizes == {"image_size": 48, "batch_size": 7, "num_classes": 3}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("printed", "seconds"),
    [
        ("compiling\\n\\n  2.5e-1 \\n\\n", 0.25),
        ("10 %\\r20 %\\r0.25", 0.25),
        ('{"step_time_s": 0.25, "board": "x"}', 0.25),
    ],
)
def test_the_last_line_gives_the_seconds(printed: str, seconds: float) -> None:
    command = StepTimeCommand(but_for_the_reference(f"print('{printed}')"), SPACE)
    assert command(ARCH).metrics == {"step_time": seconds, "step_time_s": seconds}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "part"),
    [
        ("print(0.1); print('done')", "printed 'done' at the end, which is not a number"),
        ("""print('{"seconds": 1}')""", "which is not a number"),
        ("""print('{"step_time_s": NaN}')""", "which is not a number above 0"),
        ("print('{\"a\":' * 10_000)", "which is not a number"),
        ("os.write(1, b'\\x1b[31m\\x00\\xff')", "which is not a number"),
        ("sys.exit(3)", "ended with exit code 3"),
        ("print(0.1); sys.exit('no\\nroom \\x1b[0m\\n')", "ended with exit code 1: room"),
        ("os.kill(os.getpid(), 9)", "was killed by signal 9"),
    ],
)
def test_a_command_that_fails_for_a_network_makes_it_infeasible(program: str, part: str) -> None:
    answer = reason(program)
    assert part in answer
    assert answer.isprintable()
    assert len(answer) < 300


@pytest.mark.slow
def test_a_command_that_takes_too_long_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    program = f"""
child = os.fork()
if child: open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child}}')
import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(300)
"""
    assert reason(program, timeout_s=0.3) == "the step-time command took longer than 0.3 s"
    wait_until(lambda: not any(alive(int(pid)) for pid in pids.read_text().split()))


@pytest.mark.slow
def test_a_child_that_is_left_behind_neither_delays_the_answer_nor_lives_on(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    program = f"""
child = os.fork()
if child == 0: time.sleep(300)
open({str(pid)!r}, 'w').write(str(child)); print(0.5)
"""
    command = StepTimeCommand(but_for_the_reference(program), SPACE, 20)
    assert command(ARCH).metrics["step_time_s"] == 0.5
    wait_until(lambda: not alive(int(pid.read_text())))


def test_when_the_reference_cannot_be_timed_nothing_can() -> None:
    template = python("sys.exit('no board')")
    command = StepTimeCommand(template, SPACE)
    with pytest.raises(ConfigError) as raised:
        command(ARCH)
    text = str(raised.value)
    assert text.startswith("`step_time_command`: the reference network")
    assert "exit code 1: no board" in text
    assert " ".join(template.split()) in text
    assert "\n" not in text


def test_a_program_that_is_not_there_is_a_mistake_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a program")
    for program in ("no-such-program-anywhere", str(tmp_path / "notes.txt"), str(tmp_path)):
        with pytest.raises(ConfigError, match="cannot be started") as raised:
            StepTimeCommand(f"{program} {{arch_json}}", SPACE)(ARCH)
        assert program in str(raised.value)
    assert not list(Path(tempfile.gettempdir()).iterdir())


@pytest.mark.parametrize(
    ("template", "part"),
    [
        ("python time_on_board.py {{arch_json}}", "lacks {arch_json}"),
        ("run {arch}", "unknown field {arch}"),
        ("run {arch_json!r}", "written exactly like that"),
        ("run {arch_json", "cannot be read"),
        ("run {arch_json} \0", "cannot be read"),
    ],
)
def test_a_template_is_checked_at_once(template: str, part: str) -> None:
    with pytest.raises(ConfigError) as raised:
        StepTimeCommand(template, SPACE)
    assert str(raised.value).startswith("`step_time_command`: ")
    assert part in str(raised.value)
    assert "\n" not in str(raised.value)


def test_no_shell_reads_the_command(tmp_path: Path) -> None:
    program = python("print(len(sys.argv))") + " ; '$(touch x)' '{{}}' `to`={arch_json} | tail"
    assert StepTimeCommand(program, SPACE)(ARCH).metrics["step_time_s"] == 8


# -- when the search itself is stopped

DRIVER = """
import signal, sys, tempfile
from effnas import SearchSpace
from effnas.timing.command import StepTimeCommand
signal.signal(signal.SIGINT, signal.default_int_handler)
tempfile.tempdir = sys.argv[1]
space = SearchSpace.load("tiny")
try:
    StepTimeCommand(sys.argv[2], space)(space.reference)
except KeyboardInterrupt:
    print("interrupted")
"""


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["interrupt", "kill its children, then it"])
def test_nothing_outlives_a_search_that_is_stopped(
    tmp_path: Path, own_temporary_files: Path, how: str
) -> None:
    pids = tmp_path / "pids"
    program = f"""
child = os.fork()
if child: open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child}} ')
time.sleep(300)
"""
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(own_temporary_files), python(program)],
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: pids.exists() and pids.read_text().endswith(" "))
    assert list(own_temporary_files.iterdir())
    if how == "interrupt":
        driver.send_signal(signal.SIGINT)
    else:
        for child in children(driver.pid):  # as Ray does to its workers
            os.kill(child, signal.SIGKILL)
        driver.kill()
    output, _ = driver.communicate(timeout=30)
    assert ("interrupted" in output) == (how == "interrupt")
    wait_until(lambda: not any(alive(int(pid)) for pid in pids.read_text().split()))
    wait_until(lambda: not list(own_temporary_files.iterdir()))


# -- the page for users


def examples(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)


def test_the_file_of_the_page_is_an_architecture(tmp_path: Path) -> None:
    path = tmp_path / "arch.json"
    path.write_text(examples("json")[0], encoding="utf-8")
    assert json.loads(path.read_text())["timm"] == load_architecture(path).to_timm()


@pytest.mark.slow
def test_the_command_of_the_page_works_as_it_stands(tmp_path: Path) -> None:
    (script,) = (text for text in examples("python") if "time_on_board.py" in text)
    path = tmp_path / "time_on_board.py"
    path.write_text(script, encoding="utf-8")
    command = StepTimeCommand(f"{sys.executable} {path} {{arch_json}}", SPACE)
    assert command(ARCH).metrics["step_time"] > 0
