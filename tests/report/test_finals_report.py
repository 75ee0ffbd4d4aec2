"""The report of finals says what their lines say, and keeps hostile names of classes texts."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
from made_runs import HOSTILE

from effnas.cli.report import page_of
from effnas.errors import StoreError
from effnas.report.about_finals import report_finals
from effnas.report.confusion import confused_pairs, recalls, what_is_confused, wilson
from effnas.report.page import to_html
from effnas.workflows.finals.stored import StoredFinals, load_finals

GOLDEN = Path(__file__).parents[1] / "golden/folders"
COUNTS = ((8, 2, 0), (1, 9, 0), (0, 0, 0))


@pytest.fixture
def finals(tmp_path: Path) -> StoredFinals:
    """Golden finals, with the counts of a network whose classes somebody hostile has named."""
    for name in ("run", "run-finals"):
        shutil.copytree(GOLDEN / name, tmp_path / name)
    file = tmp_path / "run-finals/trainings.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        if line["epochs"] == 2:
            line["confusion"] = COUNTS
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = load_finals(tmp_path / "run-finals")
    data = replace(found.run.manifest.data, class_names=tuple(f"{n} {HOSTILE}" for n in "abc"))
    run = replace(found.run, manifest=replace(found.run.manifest, data=data))
    return replace(found, run=run)


def test_it_says_what_the_lines_say(finals: StoredFinals) -> None:
    lines = [json.loads(line) for line in
             (GOLDEN / "run-finals/trainings.jsonl").read_text().splitlines()]  # fmt: skip
    whole = [line for line in lines if line["epochs"] == 2]
    mean = fmean(line["accuracy"] for line in whole)
    page = report_finals(finals)
    assert "Trial 3 is picked of 4 finalists" in page.title
    answers = {section.name: section.answer for section in page.sections}
    assert f"{mean:.2%} accuracy" in answers["picked"]
    assert "unknown: it alone was trained to the end" in answers["better"]
    assert f"{(0.8356545961002786 + 0.8662952646239555) / 2:.2%}" in answers["test"]
    [cost] = [table for table in page.tables if table.name == "cost"]
    seconds = {(line["candidate"], line["repeat"]): line["train_time_s"] for line in lines}
    assert sum(row["seconds"] for row in cost.records()) == pytest.approx(sum(seconds.values()))
    assert "8 of 10 images" in answers["confusion"]


def test_hostile_names_of_classes_stay_texts(finals: StoredFinals) -> None:
    html = to_html(report_finals(finals))
    assert HOSTILE not in html
    assert html.count("<script") == 4


def test_what_is_not_stored_is_said_to_be_unknown(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "run-finals", tmp_path / "alone")
    with pytest.raises(StoreError, match="search 'run' is not beside"):
        page_of(tmp_path / "alone")
    page = page_of(GOLDEN / "finals-stopped")
    assert page.title.startswith("So far, no network")
    assert "Not known" in {s.name: s.answer for s in page.sections}["confusion"]


def test_recalls_have_intervals_and_the_worst_comes_first() -> None:
    worst, best, empty = recalls(COUNTS, "abc")
    assert (worst.name, worst.correct, worst.images, worst.taken_for) == ("a", 8, 10, "b")
    assert worst.low < 0.8 < worst.high
    assert (best.name, empty.share) == ("b", None)
    assert confused_pairs(COUNTS) == [(2, 0, 1), (1, 1, 0)]
    # The ends of Wilson's interval are the shares that lie 1.645 standard errors from what is seen.
    for end in wilson(8, 10):
        assert abs(0.8 - end) == pytest.approx(1.645 * (end * (1 - end) / 10) ** 0.5)
    many = [[9 * (n == m) for m in range(30)] for n in range(30)]
    many[3][4] = 5
    section = what_is_confused({0: many}, 0, None)
    assert [figure.name for figure in section.figures] == ["recalls"]
    assert [table.name for table in section.tables if table.is_open] == ["confused-pairs"]
