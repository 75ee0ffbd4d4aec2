"""`effnas scaling` as a person types it, with real trainings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Run

from effnas.arch.files import load_architecture

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("short_timings", "finished_run", "inline")]


STUDIES = {
    "layers": "--tolerance 0.4 --slopes 0.5,1",
    "coefficients": "--tolerance 0.3 --grid-step 0.2 --macs 2.5x",
}


@pytest.mark.parametrize("study", STUDIES)
def test_the_command_that_it_ends_with_makes_the_network_that_won(effnas: Run, study: str) -> None:
    found = effnas("scaling", study, "run:best", *STUDIES[study].split(), "--epochs", "1",
                   "--seeds", "1", "--threads", "1", "--json")  # fmt: skip
    assert found.code == 0, found.err
    result = json.loads(found.out)
    rows = result["standings"]
    assert result["best"] == rows[0]["name"]
    if study == "layers":
        own = next(row["costs"]["step_time"] for row in rows if "v2" in row["name"])
        assert all(abs(row["costs"]["step_time"] / own - 1) <= 0.4 for row in rows)
    scaled = effnas(*result["command"].split()[1:], "--image-size", "16", "--out", "family",
                    "--device", "none", "--images", "100")  # fmt: skip
    assert scaled.code == 0, scaled.err
    won = Path("family", {"layers": "m.json", "coefficients": "phi1.json"}[study])
    assert list(load_architecture(won).blocks) == rows[0]["blocks"]
