"""`effnas doctor` says of each part whether it works, with a real search for one trial."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import numpy as np
import pytest
from command_line import Run
from PIL import Image

from effnas.workflows import doctor
from effnas.workflows.doctor import DoctorSettings, examine

PARTS = ["versions", "device", "memory", "disk", "locks", "Ray", "images", "trial"]


def write_photos(folder: Path, bad: bool = False) -> None:
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for n in range(12):
            pixels = np.random.default_rng(n).integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{n}.png")
    if bad:
        (folder / "cat" / "0.png").write_bytes(b"\xff\xd8\xff")
        (folder / "cat" / "notes.txt").write_text("what they are")


@pytest.fixture
def no_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_trial", lambda settings: ("ok", "not tried"))


@pytest.mark.slow
@pytest.mark.usefixtures("short_timings")
def test_every_part_is_tried_up_to_a_trial(effnas: Run) -> None:
    done = effnas("doctor", "--backend", "inline", "--threads", "1", "--json")
    found = json.loads(done.out)
    assert [check["name"] for check in found["checks"]] == PARTS
    assert found["ok"], done.out
    assert done.code == 0
    assert found["checks"][-1]["text"].startswith("in tiny: timed (")
    assert not Path("runs").exists()


@pytest.mark.usefixtures("no_trial")
def test_what_fails_keeps_no_other_part_from_being_tried(effnas: Run) -> None:
    write_photos(Path("photos"), bad=True)
    done = effnas("doctor", "--backend", "inline", "--data", "photos")
    assert done.code == 1
    said = " ".join(done.out.split())
    assert "24 images of 2 classes; 1 file passed over, such as cat/notes.txt; 1 of 24 that" in said
    assert "cat/0.png (" in said
    assert "--on-bad-image skip leaves them out" in said
    assert "trial ok: not tried" in said
    assert "1 part of 8 failed" in said
    done = effnas("doctor", "--backend", "inline", "--data", "nowhere", "--json")
    states = {each["name"]: each["state"] for each in json.loads(done.out)["checks"]}
    assert states["images"] == "failed"
    assert done.code == 1


@pytest.mark.usefixtures("no_trial")
def test_a_device_in_use_and_a_disk_without_locks_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = DoctorSettings(out=tmp_path / "runs" / "mine")

    def locks() -> tuple[str, str]:
        (found,) = (check for check in examine(settings) if check.name == "locks")
        return found.state, found.text

    monkeypatch.setattr(doctor, "_ray", lambda settings: ("ok", "not tried"))
    assert locks()[0] == "ok"
    descriptor = os.open(doctor.lock.folder() / "cpu.lock", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    state, text = locks()
    os.close(descriptor)
    assert state == "warning"
    assert text.endswith("uses the device; a search would wait for it")

    def flock(file: object, mode: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    state, text = locks()
    assert (state, "has no locks" in text) == ("failed", True)
    assert not list(tmp_path.iterdir())
