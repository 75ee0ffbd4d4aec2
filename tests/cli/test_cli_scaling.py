"""`effnas scaling` as a person types it: real trainings under a real Ray Tune."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Run

from effnas.arch.files import load_architecture

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("short_timings", "finished_run")]
SHORT = ["--epochs", "1", "--seeds", "1", "--json"]


@pytest.mark.parametrize(
    ("arguments", "size", "member"),
    [
        (["coefficients", "run:best", "--grid-step", "0.2", "--tolerance", "0.3", "--macs", "2.5x"],
         ["--image-size", "16"], "phi1"),
        (["layers", "run:best", "--tolerance", "0.4", "--slopes", "0.5,1"], [], "m"),
    ],
    ids=["coefficients", "layers"],
)  # fmt: skip
def test_the_command_that_it_ends_with_makes_the_network_that_won(
    effnas: Run, arguments: list[str], size: list[str], member: str
) -> None:
    found = effnas("scaling", *arguments, *SHORT)
    assert found.code == 0, found.err
    result = json.loads(found.out)
    assert result["best"] == result["standings"][0]["name"]
    if member == "m":
        times = [row["costs"]["step_time"] for row in result["standings"]]
        own = next(r["costs"]["step_time"] for r in result["standings"] if "v2" in r["name"])
        assert all(abs(time / own - 1) <= 0.4 for time in times)
    scaled = effnas(*result["command"].split()[1:], *size, "--out", "family", "--device", "none",
                    "--images", "100")  # fmt: skip
    assert scaled.code == 0, scaled.err
    won = load_architecture(Path("family") / f"{member}.json")
    assert list(won.blocks) == result["standings"][0]["blocks"]
