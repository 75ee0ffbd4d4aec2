"""The page: offline, escaped, small, and honest in its title."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made_runs import HOSTILE, made_run, metrics_of

from effnas.arch.architecture import Architecture
from effnas.cli.report import ReportingCommand, next_commands
from effnas.errors import InfeasibleError
from effnas.report.facts import Facts
from effnas.report.page import report_search, to_html, write_tables
from effnas.report.parts import Page, date_text
from effnas.trials.run import Run
from effnas.trials.store import write_whole
from effnas.trials.trial import TrialState

PROBE = """<iframe src="report.html" style="width:WIDTHpx;height:900px;border:0"></iframe>
<pre id="said"></pre>
<script>
const frame = document.querySelector("iframe");
const look = () => {
  const page = frame.contentDocument;
  if (page?.documentElement?.dataset.ready !== "yes") return setTimeout(look, 100);
  document.getElementById("said").textContent = JSON.stringify({
    title: page.title,
    drawn: page.querySelectorAll(".figure .main-svg").length > 0,
    empty: page.querySelectorAll(".figure:empty").length,
    wide: page.documentElement.scrollWidth,
    inner: frame.contentWindow.innerWidth,
  });
};
look();
</script>"""
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def hostile(arch: Architecture) -> dict[str, float]:
    if arch.stages[0].k == 5:
        raise InfeasibleError(HOSTILE)
    return metrics_of(0.5 + 0.03 * arch.layers, arch)


@pytest.fixture(scope="module")
def run() -> Run:
    return made_run(hostile, trials=50, text=HOSTILE, baseline_accuracy=0.5)


@pytest.fixture(scope="module")
def html(run: Run) -> str:
    return to_html(report_search(run, commands=next_commands))


class Parsed(HTMLParser):
    """Collects elements, and the text of scripts by their id."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str | None, str] = {}
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script":
            self.scripts[self.tags[-1][1].get("id")] = data
            self.tags.append(("text", {}))
        else:
            self.texts.append(data)


def test_hostile_texts_stay_texts(html: str) -> None:
    page = Parsed(html)
    assert page.scripts.keys() == {"figures", "tables", "plotly", None}
    assert sum(tag == "script" for tag, _ in page.tags) == 4
    assert not any("onx" in attributes for _, attributes in page.tags)
    assert not any(tag == "b" for tag, _ in page.tags)
    assert HOSTILE in "".join(page.texts)
    tables = json.loads(page.scripts["tables"])
    assert any(HOSTILE in str(cell) for row in tables["trials"]["rows"] for cell in row)
    figures = page.scripts["figures"]
    assert "<b>" not in figures  # and plotly's labels have only the tags that are ours
    tags = {t.lower() for t in re.findall(r"</?(\w+)", json.dumps(json.loads(figures)))}
    assert tags <= {"b", "br", "extra"}


def test_nothing_is_loaded(html: str) -> None:
    for tag, attributes in Parsed(html).tags:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:")), (tag, value)
    assert "default-src 'none'" in html
    assert len(html) < 5e6


def test_every_figure_has_its_place_and_every_table_its_files(run: Run, html: str,
                                                              tmp_path: Path) -> None:  # fmt: skip
    page = report_search(run)
    ids = {attributes.get("id") for _, attributes in Parsed(html).tags}
    assert {f"figure-{figure.name}" for figure in page.figures} <= ids
    assert len({table.name for table in page.tables}) == len(page.tables)
    write_tables(page, tmp_path)
    for table in page.tables:
        rows = list(csv.DictReader(io.StringIO((tmp_path / f"{table.name}.csv").read_text())))
        assert len(rows) == len(json.loads((tmp_path / f"{table.name}.json").read_text()))
    trials = json.loads((tmp_path / "trials.json").read_text())
    assert [row["trial"] for row in trials] == [t.number for t in run.trials]


def test_the_title_says_who_wins() -> None:
    def worse(arch: Architecture) -> dict[str, float]:
        return metrics_of(0.6, arch)

    assert "A baseline wins" in report_search(made_run(worse, baseline_accuracy=0.99)).title
    beaten = report_search(made_run(worse, baseline_accuracy=0.2)).title
    assert re.match(r"Trial \d+ (wins|is measured best) and beats net", beaten)
    guessing = report_search(made_run(lambda arch: metrics_of(0.1, arch))).title
    assert guessing == "No trial is clearly better than guessing, so none wins"

    def fails(arch: Architecture) -> dict[str, float]:
        raise InfeasibleError("no")

    assert "No trial is complete" in report_search(made_run(fails, trials=3)).title


def test_few_trials_are_said_to_be_few() -> None:
    page = report_search(made_run(lambda arch: metrics_of(0.6, arch), trials=5))
    answers = {section.name: section.answer for section in page.sections}
    assert "needs 20 complete trials" in answers["random"]
    assert "needs 20 complete trials" in answers["why"]


@pytest.mark.slow
def test_it_is_said_after_how_many_trials_random_search_was_passed() -> None:
    run = made_run(
        lambda arch: metrics_of(0.4 + 0.1 * (arch.layers / 9) ** 2, arch),
        trials=100, controller="evolution",
    )  # fmt: skip
    [section] = [each for each in report_search(run).sections if each.name == "random"]
    estimates = next(t.records() for t in section.tables if t.name == "random-search")
    assert [estimates[0]["trials"], estimates[-1]["trials"]] == [1, 100]
    assert all(e["reward_low"] <= e["reward"] <= e["reward_high"] for e in estimates)  # type: ignore[operator]
    expected = estimates[-1]["reward"]
    passed = next(n for n, t in enumerate(run.trials, 1) if (t.reward or 0) > expected)  # type: ignore[operator]
    assert f"random search would have reached {expected:.4f}" in section.answer
    assert f"which evolution passed after {passed} trials" in section.answer


def test_commands_can_be_pasted() -> None:
    run = made_run(lambda arch: metrics_of(0.6, arch), trials=4, path=Path("-a b; rm 'x'"))
    for _, command in next_commands(Facts.of(run)):
        words = subprocess.run(
            ["bash", "-c", f'effnas() {{ printf "%s\\0" "$@"; }}; {command}'],
            capture_output=True, text=True, check=True,
        ).stdout.split("\0")  # fmt: skip
        assert any(word.startswith("./-a b; rm 'x'") for word in words)


class Fails(ReportingCommand[Any, int]):
    """A command whose report cannot be made."""

    def work(self) -> int:
        self.write_report(1)
        return 1

    def payload(self, result: int) -> int:
        return result

    def show(self, result: int) -> None:
        self.say(f"found {result}")

    def page(self, result: int) -> Page:
        raise ValueError(f"{result} is no run")


def test_a_report_that_fails_does_not_fail_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = Fails(SimpleNamespace(out=tmp_path), as_json=False)
    assert command.run() == 0
    said = capsys.readouterr().out
    assert "Note: the report was not written (ValueError: 1 is no run)" in said
    assert "found 1" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_draws_it_within_its_width(html: str, tmp_path: Path, width: int) -> None:
    """A frame as wide as the screen: a headless window cannot be as narrow as a phone."""
    write_whole(tmp_path / "report.html", html)
    (tmp_path / "probe.html").write_text(PROBE.replace("WIDTH", str(width)))
    assert CHROMIUM is not None
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
         "--no-first-run", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--allow-file-access-from-files", f"--user-data-dir={tmp_path}/user",
         "--enable-logging=stderr", "--virtual-time-budget=60000", "--window-size=1400,1000",
         "--dump-dom", (tmp_path / "probe.html").as_uri()],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr, done.stderr
    said = re.search(r'<pre id="said">(.*?)</pre>', done.stdout)
    assert said, done.stdout[-2000:]
    found = json.loads(said[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert found["drawn"]
    assert found["empty"] == 0
    assert found["wide"] <= found["inner"] == width
    assert "taken" not in found["title"][:5]


def test_with_several_objectives_the_front_comes_first_and_hostile_names_stay_texts(
    run: Run,
) -> None:
    manifest = replace(run.manifest, objectives="accuracy:max,step_time:min,params_ratio:min")
    found = replace(run, manifest=manifest)
    page = report_search(found)
    front, baselines = page.sections[:2]
    assert (front.name, baselines.name) == ("front", "baselines")
    [table] = front.tables
    assert len(table.rows) == len(found.pareto_front)
    said = (
        f"{len(table.rows)} trials of {found.trials.count(TrialState.COMPLETE)} are on the Pareto"
    )
    assert front.answer.startswith(said)
    assert page.title.startswith(said)
    assert HOSTILE in baselines.answer
    assert HOSTILE not in to_html(page)


def test_dates_are_readable_and_other_texts_stay() -> None:
    assert date_text("2026-11-08T20:15:11Z") == "8 Nov 2026, 20:15 UTC"
    assert [date_text(text) for text in ("2026-13-08T20:15:11Z", HOSTILE, "", None)] == [
        "2026-13-08T20:15:11Z", HOSTILE, "?", "?"]  # fmt: skip
