"""`effnas scaling` as a person types it: real trainings under a real Ray."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Run

from effnas.arch.files import load_architecture

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("short_timings", "finished_run")]


def test_the_command_that_it_ends_with_makes_the_network_that_won(effnas: Run) -> None:
    found = effnas("scaling", "layers", "run:best", "--tolerance", "0.4", "--slopes", "0.5,1",
                   "--epochs", "1", "--seeds", "1", "--json")  # fmt: skip
    assert found.code == 0, found.err
    result = json.loads(found.out)
    rows = result["standings"]
    assert result["best"] == rows[0]["name"]
    own = next(row["costs"]["step_time"] for row in rows if "v2" in row["name"])
    assert all(abs(row["costs"]["step_time"] / own - 1) <= 0.4 for row in rows)
    scaled = effnas(*result["command"].split()[1:], "--out", "family", "--device", "none",
                    "--images", "100")  # fmt: skip
    assert scaled.code == 0, scaled.err
    assert list(load_architecture(Path("family/m.json")).blocks) == rows[0]["blocks"]
