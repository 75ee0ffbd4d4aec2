"""`effnas scale` as a person types it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from command_line import SMALL, Run

from effnas import Architecture, SearchSpace, count
from effnas.arch.files import load_architecture, to_json
from effnas.timing import layer_timer as part_timer
from effnas.timing import layer_times
from effnas.timing.profile import LayerFigures

B0 = (
    "mbconv_r1_k3_s1_e1_c16_se0.25 mbconv_r2_k3_s2_e6_c24_se0.25 mbconv_r2_k5_s2_e6_c40_se0.25 "
    "mbconv_r3_k3_s2_e6_c80_se0.25 mbconv_r3_k5_s1_e6_c112_se0.25 mbconv_r4_k5_s2_e6_c192_se0.25 "
    "mbconv_r1_k3_s1_e6_c320_se0.25"
)
#: A network of two layers.
TINY = str(SearchSpace.load(SMALL).reference)
COUNTED = ["--device", "none"]
pytestmark = pytest.mark.usefixtures("short_timings")


@pytest.fixture
def small(tmp_path: Path) -> str:
    """The architecture file of a network for images of 32 pixels."""
    (tmp_path / "small.json").write_text(to_json(SearchSpace.load("v2-cifar").reference))
    return "small.json"


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    """The architecture file of a network of two layers."""
    (tmp_path / "tiny.json").write_text(to_json(SearchSpace.load(SMALL).reference))
    return "tiny.json"


@pytest.mark.slow
def test_a_family_is_shown_written_and_told(effnas: Run, small: str, tmp_path: Path) -> None:
    how = [*COUNTED, "--batch-size", "2", "--classes", "10"]
    shown = effnas("scale", small, *how, "--out", "family")
    assert shown.code == 0, shown.err
    for words in ("family", "v2", "0.41 M", "128-300", "384", "mbconv_r1_k3_s1_e4_c192_se0.25",
                  "0.1-0.4", "5-20", "0-0.2", "family/s.json"):  # fmt: skip
        assert words in shown.out
    told = json.loads((tmp_path / "family" / "family.json").read_text())
    assert [row["name"] for row in told["members"]] == ["s", "m", "l", "xl"]
    for row in told["members"]:
        arch = load_architecture(tmp_path / "family" / f"{row['name']}.json")
        assert (str(arch), arch.id) == (row["architecture"], row["architecture_id"])
        assert row["params"] == count(arch, 384, 10).params
        assert row["stage_image_sizes"][-1] == row["train_image_size"]
        assert "step_time" not in row
    assert told["members"][1]["stage_image_sizes"] == [128, 212, 296, 380]  # Table 6
    other = effnas("scale", "family/m.json", *how, "--out", "family")
    assert (other.code, json.loads((tmp_path / "family" / "family.json").read_text())) == (2, told)
    # A member is a base, too.
    again = json.loads(effnas("scale", "family/m.json", *how, "--params", "1.8e6", "--json").out)
    assert again["members"][0]["params"] == told["members"][1]["params"]


@pytest.mark.slow
def test_compound_scaling_by_phi(effnas: Run) -> None:
    base = ["scale", B0, "--space", "mnasnet", *COUNTED, "--image-size", "224", "--json"]
    told = json.loads(effnas(*base, "--phi", "1,2").out)
    assert [row["name"] for row in told["members"]] == ["phi0", "phi1", "phi2"]
    assert told["members"][0]["params"] == 5_288_548
    assert told["members"][1]["params"] == 9_109_994  # B2's layers and channels
    assert [row["train_image_size"] for row in told["members"]] == [224, 256, 296]
    wide = json.loads(effnas("scale", TINY, "--space", SMALL, *COUNTED, "--alpha", "1", "--gamma",
                             "1", "--beta", "1.2", "--phi", "1", "--round-limit", "0",
                             "--json").out)  # fmt: skip
    stage = Architecture.parse(wide["members"][1]["architecture"]).stages[0]
    assert (stage.c, stage.r) == (8, 1)  # 16 with the rule of nine tenths


@pytest.mark.slow
def test_the_largest_network_within_limits(effnas: Run, tiny: str) -> None:
    command = ["scale", tiny, *COUNTED, "--batch-size", "2"]
    found = effnas(*command, "--params", "3e4", "--memory", "16e9")
    assert found.code == 0, found.err
    assert re.search(r"\d+% of the way from m to l. What binds: --params 3e4", found.out)
    told = json.loads(effnas(*command, "--params", "3e4", "--json").out)
    base, fit = told["members"]
    assert (base["name"], fit["name"]) == ("s", "fit")
    assert 27_152 <= fit["params"] <= 3e4  # no less than m has
    assert 1 < told["fit"]["position"] < 2
    assert "within all limits (it is xl)" in effnas(*command, "--params", "1e12").out
    told = json.loads(effnas("scale", tiny, *COUNTED, "--no-last-stage", "--json").out)
    assert {len(row["architecture"].split()) for row in told["members"]} == {2}


@pytest.mark.slow
def test_a_batch_that_cannot_be_trained_leaves_the_memory_out_and_says_why(effnas: Run) -> None:
    command = ["scale", "fused_r1_k3_s2_e1_c16", "--image-size", "4", "--batch-size", "1", *COUNTED]
    shown = effnas(*command)
    assert shown.code == 0, shown.err
    assert "cannot be trained: Expected more than 1 value per channel" in shown.out
    told = json.loads(effnas(*command, "--json").out)["members"][0]
    assert "peak_memory_bytes" not in told
    assert told["params"] > 0


TIMED = ["--space", SMALL, "--device", "cpu", "--threads", "1", "--batch-size", "4",
         "--classes", "10", "--epochs", "3", "--images", "10"]  # fmt: skip


@pytest.mark.slow
def test_step_times_are_predicted_from_those_of_the_layers(
    effnas: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_timer, "_ROUNDS", 1)
    monkeypatch.setattr(part_timer, "_WARM_UPS", 1)
    told = json.loads(effnas("scale", *TIMED, TINY, "--json").out)
    first, *others = told["members"]
    assert first["step_time"] == pytest.approx(1)
    assert others
    for row in told["members"]:
        assert row["train_time_s"] == pytest.approx(9 * row["step_time_s"])  # 3 steps an epoch
        assert row["step_time_s"] == pytest.approx(row["step_time"] * first["step_time_s"])
        assert row["progressive_train_time_s"] > 0
    assert told["hardware"]


@pytest.mark.slow
def test_a_limit_of_the_step_time_binds(effnas: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    # Every layer takes as long: whatever else the machine does, the larger network is slower.
    figures = LayerFigures(
        forward=0.1, backward=0.2, optimizer=0.0, kept_bytes=1.0, weight_bytes=1.0
    )
    monkeypatch.setattr(
        layer_times, "measure_layers", lambda new, *_, **__: (dict.fromkeys(new, figures), 0.5)
    )
    shown = effnas("scale", *TIMED, TINY, "--step-time", "1.5x")
    assert shown.code == 0, shown.err
    assert "What binds: --step-time 1.5x" in shown.out
    assert "3 epochs of 10 images" in shown.out
    told = json.loads(effnas("scale", *TIMED, TINY, "--step-time", "1.5x", "--json").out)
    first, last = told["members"]
    assert last["step_time"] == (last["layers"] + 2) / (first["layers"] + 2)  # stem and head, too
    assert 1.25 < last["step_time"] <= 1.5
    assert last["step_time_s"] == 0.5 * last["step_time"]
