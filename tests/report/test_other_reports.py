"""Reports of trainings and families say what their files say, and keep hostile texts texts."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from made_runs import HOSTILE

from effnas.cli.report import page_of
from effnas.cli.status import show_status
from effnas.errors import UserError
from effnas.report.page import to_html
from effnas.report.parts import Page

GOLDEN = Path(__file__).parents[1] / "golden/folders"


def answers(page: Page) -> dict[str, str]:
    return {section.name: section.answer for section in page.sections}


def records(page: Page, name: str) -> list[dict]:
    return next(table for table in page.tables if table.name == name).records()


def test_a_training_is_as_its_log_has_it() -> None:
    page = page_of(GOLDEN / "training")
    rows = list(csv.DictReader((GOLDEN / "training/log.csv").open()))
    stored = json.loads((GOLDEN / "training/manifest.json").read_text())
    best = max(float(row["accuracy"]) for row in rows)
    assert f"{stored['test']['accuracy']:.2%}" in answers(page)["accuracy"]
    assert f"it is {best:.2%}" in answers(page)["accuracy"]
    assert [r["train_loss"] for r in records(page, "log")] == [float(r["train_loss"]) for r in rows]
    seconds, forecast = float(rows[-1]["train_time_s"]), sum(stored["forecast"]["stage_times_s"])
    off = seconds / forecast - 1
    assert f"{abs(off):.0%} {'less' if off < 0 else 'more'} than" in answers(page)["time"]
    for row, share in zip(
        records(page, "stages"), stored["progress"]["stage_times_s"], strict=True
    ):
        assert row["measured_s"] == share


def test_a_training_under_way_is_read_from_its_log(tmp_path: Path) -> None:
    stopped = page_of(GOLDEN / "training-stopped")
    assert stopped.title.endswith("classified correctly so far")
    assert "40 steps" in answers(stopped)["time"]
    shutil.copytree(GOLDEN / "training-stopped", tmp_path / "t")
    (tmp_path / "t/log.csv").write_text("epoch,step\n1,many\n")
    with pytest.raises(UserError, match=r"log\.csv: .*restore it"):
        page_of(tmp_path / "t")


def test_a_family_is_as_its_file_has_it() -> None:
    page = page_of(GOLDEN / "family")
    members = json.loads((GOLDEN / "family/family.json").read_text())["members"]
    ratio = members[-1]["params"] / members[0]["params"]
    assert f"{ratio:.1f} times the parameters" in answers(page)["members"]
    assert [row["macs"] for row in records(page, "members")] == [m["macs"] for m in members]
    # The third stage is added by the rules: no stage of the base grew into it.
    xl = [row for row in records(page, "growth") if row["member"] == "xl"]
    assert [row["channels"] for row in xl] == [8, 24, 32, 40, 16]
    assert [row["width"] for row in xl] == [1, 24 / 16, 32 / 16, None, 1]
    growth = next(section for section in page.sections if section.name == "growth")
    assert "as the rules v2 have them" in growth.sure


@pytest.mark.parametrize("name", ["training", "family"])
def test_hostile_texts_of_other_folders_stay_texts(tmp_path: Path, name: str) -> None:
    shutil.copytree(GOLDEN / name, tmp_path / name)
    file = tmp_path / name / ("family.json" if name == "family" else "manifest.json")
    stored = json.loads(file.read_text())
    stored["hardware"] = HOSTILE
    if name == "family":
        stored |= {"base": HOSTILE, "family": HOSTILE}
        stored["members"][1] |= {"name": HOSTILE, "reason": HOSTILE}
    else:
        stored["data"] |= {"name": HOSTILE, "class_names": [HOSTILE] * 10}
        stored["network"]["name"] = HOSTILE
    file.write_text(json.dumps(stored))
    html = to_html(page_of(tmp_path / name))
    assert HOSTILE not in html
    assert html.count("<script") == 4


def test_other_folders_have_no_report() -> None:
    with pytest.raises(UserError, match="no report of a proxy"):
        page_of(GOLDEN / "proxy")


def with_counts(tmp_path: Path, counts: list[int], part: str = "minival") -> Path:
    """A copy of the training whose held-out or test images are of these classes."""
    place = tmp_path / part
    shutil.copytree(GOLDEN / "training", place)
    stored = json.loads((place / "manifest.json").read_text())
    if part == "minival":
        stored["test"] = None
        stored["data"] |= {"minival": sum(counts), "minival_class_counts": counts}
    else:
        stored["test"] |= {"images": sum(counts), "class_counts": counts}
    (place / "manifest.json").write_text(json.dumps(stored))
    return place


@pytest.mark.parametrize("part", ["minival", "test"])
def test_a_training_is_held_against_always_guessing_the_largest_class(
    tmp_path: Path, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = [280, *[8] * 9]
    place = with_counts(tmp_path, counts, part)
    page = page_of(place)
    section = next(s for s in page.sections if s.name == "accuracy")
    assert f"Always guessing the largest class gives {280 / sum(counts):.1%}" in section.sure
    stored = json.loads((place / "manifest.json").read_text())
    best = max(float(row["accuracy"]) for row in csv.DictReader((place / "log.csv").open()))
    accuracy = best if part == "minival" else stored["test"]["accuracy"]
    assert accuracy < 280 / sum(counts)
    assert page.title.startswith("Not clearly better than guessing: ")
    assert "not clearly more accurate than guessing" in section.answer
    if part == "minival":
        show_status(place, top=3, as_json=False)
        said = " ".join(capsys.readouterr().out.split())
        assert f"the largest class is {280 / sum(counts):.4f} of the held-out images" in said
        assert "Warning: on the held-out images the network is not clearly more" in said


def test_the_largest_class_of_an_older_training_is_not_known() -> None:
    page = page_of(GOLDEN / "training")
    section = next(s for s in page.sections if s.name == "accuracy")
    assert "of the largest one is not known" in section.sure
    assert "guessing" not in page.title
