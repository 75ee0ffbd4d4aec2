"""What the terminal shows fits its width, and no word of it is cut."""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import Run as Command
from rich.text import Text

from effnas import Architecture, load_run
from effnas.cli import tables
from effnas.cli.bench import BenchCommand, BenchSettings
from effnas.cli.leaderboard import Leaderboard
from effnas.cli.pareto_front import show_pareto_front
from effnas.cli.tables import Screen
from effnas.config.text import plain
from effnas.errors import UserError, shortened
from effnas.timing.device_settings import DeviceSettings
from effnas.trials.baselines import BaselineResult, grouped
from effnas.trials.objectives import Objectives
from effnas.trials.reward import METRICS
from effnas.trials.run import Run
from effnas.trials.trial import Trials, TrialState
from effnas.workflows.bench import BenchResult

FOLDERS = Path(__file__).parents[1] / "golden" / "folders"
BLOCKS = " ".join(f"mbconv_r{n + 10}_k5_s{1 + n % 2}_e6_c{1280 + n}_se0.25" for n in range(7))
WIDTHS = [80, 100, 160]


def shown(width: int, show: Callable[[Screen], None]) -> str:
    """Return what is printed on a terminal of this width."""
    file = io.StringIO()
    show(Screen(file=file, width=width, highlight=False))
    return file.getvalue()


def check(text: str, width: int, *whole: str) -> None:
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    assert {word for part in whole for word in part.split()} <= set(text.split())


@pytest.fixture
def run() -> Run:
    """A run whose figures are all as long as they become, and whose networks are large."""
    run = load_run(FOLDERS / "run")
    arch = Architecture.parse(BLOCKS)
    large = {
        **dict.fromkeys(METRICS, 1234.5678), "accuracy": 0.98765, "step_time_low": 1234.1,
        "step_time_high": 1235.9, "params": 987_654_321.0, "train_time_s": 1e4,
        "step_time_settled": 0.0,
    }  # fmt: skip
    trials = [
        replace(t, number=1000 + n, architecture=arch, reward=0.98765,
                measurement=replace(t.measurement, metrics=large))
        for n, t in enumerate(run.trials)
    ]  # fmt: skip
    result = BaselineResult(
        baseline="tf_efficientnetv2_b0", network="tf_efficientnetv2_b0", repeat=0, metrics=large
    )
    return replace(run, trials=Trials(trials), baselines=grouped([result]))


@pytest.mark.parametrize(("accuracy", "says_so"), [(0.96, True), (0.999, False)])
def test_a_search_that_learned_no_more_than_guessing_says_so(
    run: Run, accuracy: float, says_so: bool
) -> None:
    data = replace(run.manifest.data, classes=2, holdout_images=1000,
                   holdout_class_counts=(960, 40))  # fmt: skip
    trials = Trials(
        replace(t, measurement=replace(t.measurement, metrics={**t.metrics, "accuracy": accuracy}))
        for t in run.trials
    )
    found = replace(run, trials=trials, manifest=replace(run.manifest, data=data), baselines=())
    text = shown(200, Leaderboard(found, run.load_reward(), 10).show)
    assert ("no trial is clearly more accurate than guessing" in text) == says_so


@pytest.mark.parametrize("width", WIDTHS)
def test_the_leaderboard_has_a_row_of_figures_for_each_trial(run: Run, width: int) -> None:
    text = shown(width, Leaderboard(run, run.load_reward(), 10).show)
    check(text, width, BLOCKS)
    rows = text.split("\n\n")[0].splitlines()
    assert rows[0].split()[:4] == ["rank", "trial", "reward", "accuracy"]
    assert [row.split()[:2] for row in rows[5:6]] == [["-", "tf_efficientnetv2_b0"]]
    assert ("987,654" in text or "988 M" in text) == (width > 80)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_table_that_is_too_wide_continues_below_with_its_key(width: int) -> None:
    names = [f"column {n}" for n in range(20)]
    found = tables.table("trial", *names)
    found.add_row("17", *[Text(f"[{'9' * 10}]")] * 20)
    text = shown(width, lambda screen: screen.print(found))
    check(text, width, "[9999999999]")
    heads = [line for line in text.splitlines() if line.startswith("trial")]
    assert len(heads) > 1
    assert all(name in text for name in names)


def test_a_front_shows_its_networks_in_full(run: Run) -> None:
    objectives = Objectives.parse("accuracy:max,step_time:min,peak_memory_bytes:min,params:min")
    text = shown(80, lambda on: show_pareto_front(on, run, objectives))
    check(text, 80, BLOCKS)


def test_texts_wrap_between_words_and_a_longer_word_stands_whole() -> None:
    path = f"runs/{'a-' * 50}b"
    for printed in (tables.facts([("run", f"{path} {BLOCKS}")]), f"Stored in {path} {BLOCKS}"):
        text = shown(40, lambda screen, printed=printed: screen.print(printed))  # type: ignore[misc]
        assert path in text
        check(text.replace(path, ""), 40, BLOCKS)


@pytest.mark.parametrize("columns", ["50", "200", None])
def test_columns_say_how_wide_a_pipe_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str | None
) -> None:
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    else:
        monkeypatch.delenv("COLUMNS", raising=False)
    for stderr in (False, True):
        tables.console(stderr=stderr).print("word " * 100)
        out, err = capsys.readouterr()
        width = max(map(len, (err if stderr else out).splitlines()))
        assert int(columns or 160) - len("word ") < width <= int(columns or 160)


def test_no_line_breaks_within_a_command() -> None:
    command = "`effnas resume runs/first --budget 24`;"
    for start in range(40):
        text = shown(40, lambda screen, n=start: screen.print(f"{'x' * n} {command} it is"))  # type: ignore[misc]
        assert command in text


def test_commands_to_paste_are_quoted_and_stand_in_bounded() -> None:
    words = ["effnas", "train", "my [bold] runs/first:best", BLOCKS]
    text = shown(40, lambda screen: tables.next_commands(screen, words))
    assert f"\n  effnas train 'my [bold] runs/first:best' '{BLOCKS}'\n" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.012, "12 ms"), (9.96, "10 s"), (59.6, "60 s"), (99.5, "1.7 min"),
     (597, "10 min"), (3600, "60 min"), (5970, "1 h 40 min"), (86_400, "24 h 00 min"),
     (172_790, "2.0 days")],
)  # fmt: skip
def test_durations_never_show_a_unit_that_is_full(seconds: float, text: str) -> None:
    assert tables.duration(seconds) == text


def test_bench_names_long_networks_below_its_table() -> None:
    figures = dict.fromkeys(
        ("step_time", "step_time_low", "step_time_high", "step_time_s", "step_time_low_s",
         "step_time_high_s", "forward_time_s", "backward_time_s", "optimizer_time_s",
         "images_per_s", "timed_steps", "step_time_settled"), 123.456,
    )  # fmt: skip
    row = {"network": BLOCKS, "params": 1e9, "peak_memory_bytes": 1e11, **figures}
    setup = dict.fromkeys(("batch_size", "image_size", "num_classes"), 100)
    setup |= dict.fromkeys(("optimizer", "precision", "memory_format", "compile_mode"), "none")
    result = BenchResult(rows=[row, {**row, "network": "b[0]"}], setup=setup, hardware={})
    settings = BenchSettings(networks=[], device=DeviceSettings(), interval=0.02, time_limit=60.0)
    command = BenchCommand(settings, as_json=False)

    def show(screen: Screen) -> None:
        command.screen = screen
        command.show(result)

    check(shown(80, show), 80, BLOCKS, "b[0]")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["run-finals", "layers", "run-board", "status", "space", "plan"])
def test_commands_fit_a_terminal_of_80_columns(
    effnas: Command, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(FOLDERS, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")  # as if it were a terminal
    commands = json.loads((FOLDERS.parent / "commands.json").read_text())
    commands |= {
        "status": "status run", "space": "space v2 --samples 20",
        # Commands of an earlier trainer are not done again.
        "run-finals": "status run-finals", "layers": "status layers",
        "plan": "search --space tiny --recipe mine.yaml --data digits --budget 1 "
                "--baseline none --backend inline --train-time 4s --no-report --out new",
    }  # fmt: skip
    (tmp_path / "mine.yaml").write_text("format: 1\nbase: small\nimage_size: <8..16|16..32>\n")
    done = effnas(*shlex.split(commands[name]))
    assert done.code == 0, done.err
    text, _, after = Text.from_ansi(done.out).plain.rpartition("\nNext\n")
    progress = "━"
    lines = [line for line in (text or after).splitlines() if progress not in line]
    check("\n".join(lines), 80)


HOSTILE = (
    "[/dev/ttyUSB0] [red]timeout[/] \x1b]0;taken\x07\x1b[2J\x1b[31mred\x1b[0m "
    "\x9b1mbold \r\x08back \u202eturned\u2069 caf\udce9"
)
SHOWN = "[/dev/ttyUSB0] [red]timeout[/] red bold back turned caf�"


def test_a_terminal_shows_what_others_wrote_and_obeys_none_of_it(run: Run) -> None:
    trial = replace(run.trials[0], state=TrialState.INFEASIBLE, reason=HOSTILE)
    found = tables.table("name", "value", left=["name", "value"])
    found.add_row(HOSTILE, "1")

    def show(screen: Screen) -> None:
        screen.print(HOSTILE)
        screen.print(Text(HOSTILE))
        screen.print(tables.facts([("what", HOSTILE)]))
        screen.print(found)
        screen.print(tables.trial_line(trial, None, ""))
        tables.note(screen, HOSTILE)
        tables.next_commands(screen, ["effnas", HOSTILE])

    text = shown(160, show)
    assert text.isprintable() or set(filter(lambda c: not c.isprintable(), text)) == {"\n"}
    assert sum(SHOWN in line for line in text.splitlines()) == 7
    text.encode()


def test_what_cannot_be_encoded_ends_nothing(tmp_path: Path) -> None:
    program = (
        "import sys; from effnas.cli import app; "
        f"sys.argv = ['effnas', 'status', {str(FOLDERS / 'run')!r}]; app.main()"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "80"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, env=environment, check=True
    )
    assert b"accuracy" in done.stdout
    assert done.stdout.isascii()


def test_an_error_is_what_may_be_shown_and_no_more_than_a_screen() -> None:
    assert plain(f"a\n{HOSTILE}") == f"a\n{SHOWN}"
    assert len(shortened("x" * 10**6)) < 2_100
    assert len(str(UserError("x" * 10**6))) < 2_100
    mojibake = "“quoted”: choose another".encode().decode("latin-1")
    assert plain(mojibake).endswith("quotedâ: choose another")
