"""Timing networks side by side: everything that names one, and the rows of a timing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from effnas import Architecture, Search, SearchSpace, count
from effnas.arch.files import to_json
from effnas.config.recipe import Recipe
from effnas.errors import ConfigError, SpaceError, StoreError, UserError
from effnas.evaluation.evaluator import TIMING_METRICS
from effnas.timing.device_settings import DeviceSettings
from effnas.timing.memory import estimate_peak_memory
from effnas.trials.manifest import SearchManifest
from effnas.trials.manifest_parts import SourcedSpacePart
from effnas.trials.network_ref import NetworkRef, find_network
from effnas.trials.run import load_run
from effnas.trials.store import RunFolder
from effnas.workflows.bench import BenchResult, bench

TINY = SearchSpace.load("tiny")
SMALL = "fused_r1_k3_s2_e1_c8"
OTHER = "mbconv_r1_k3_s2_e4_c8"
ARCH = Architecture.parse([SMALL], stem=8, head=16)
SIZES = {"threads": 1, "image_size": 8, "batch_size": 4, "num_classes": 5}
FAST = DeviceSettings(device="cpu", precision="float32", memory_format="contiguous", **SIZES)


@pytest.fixture(scope="module", autouse=True)
def _one_thread_and_own_locks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("locks")))
        yield
    torch.set_num_threads(threads)


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run of three trials: 0 is good, 1 is better, 2 cannot be trained."""
    path = tmp_path / "run"
    with RunFolder.open(path) as folder:
        search = Search(TINY, "A", seed=3, store=folder)
        archs = [search.ask() for _ in range(3)]
        for arch, accuracy in zip(archs, (0.5, 0.7), strict=False):
            search.tell(arch, accuracy=accuracy)
        search.tell(archs[2], reason="out of memory")
        SearchManifest(space=SourcedSpacePart.of(TINY)).write(folder.path)
    return path


# -- what names a network


@pytest.mark.parametrize(
    "text", [f"{SMALL} {OTHER}", f" {SMALL} ", "mbconv_k3_r1_s2_e4_c8", f"identity_s1_c8 {SMALL}"]
)
def test_blocks_have_the_stem_and_head_of_their_space(text: str) -> None:
    for home, space in ((TINY, TINY), (None, SearchSpace.load("v2"))):
        found = find_network(text, home)
        assert found.arch == Architecture.parse(text, stem=space.stem, head=space.head)
        assert (found.name, found.space) == (text, None)


def test_a_trial_of_a_run_brings_its_space(run_folder: Path, tmp_path: Path) -> None:
    trials = load_run(run_folder).trials
    for number, trial in (("0", 0), ("2", 2), ("best", 1)):
        found = find_network(f"{run_folder}:{number}", None)
        assert found.arch == trials[trial].architecture
        assert found.space is not None
        assert found.space.to_text() == TINY.to_text()
    for number in ("3", "-1", "01", "worst"):
        with pytest.raises(ConfigError, match=rf"no trial '{number}' among 3; give a number, or b"):
            find_network(f"{run_folder}:{number}", None)
    with pytest.raises(StoreError, match="no run there"):
        find_network(f"{tmp_path}:best", None)


def test_files_and_names_of_timms_are_networks_too(tmp_path: Path) -> None:
    path = tmp_path / "small.json"
    path.write_text(to_json(ARCH))
    assert find_network(str(path), TINY) == NetworkRef(str(path), ARCH, file=path)
    assert find_network("resnet18", TINY) == NetworkRef("resnet18")
    with torch.device("meta"):
        model = find_network("resnet18", TINY).maker(7)()
    assert model.get_classifier().out_features == 7


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("no/such/file.json", SpaceError, r"^no/such/file\.json: cannot be read"),
        (f"{SMALL} resnet18", SpaceError, "resnet18"),
        ("resnet19", ConfigError, "did you mean .*resnet"),
        ("no/such/run:best", ConfigError, "^no/such/run: no run there"),
    ],
)
def test_what_names_no_network_is_refused(text: str, error: type[UserError], said: str) -> None:
    with pytest.raises(error, match=said):
        find_network(text, TINY).maker(10)()


# -- the device's settings


@pytest.mark.parametrize("name", SIZES)
def test_sizes_below_one_are_refused_by_their_name(name: str) -> None:
    shown = {"num_classes": "classes"}.get(name, name)
    with pytest.raises(ConfigError, match=f"^`{shown}` is 0, it must be 1 or more$"):
        replace(FAST, **{name: 0})  # type: ignore[arg-type]


# -- timing


def bench_small(*networks: str, **options: object) -> BenchResult:
    return bench(networks, FAST, space="tiny", time_limit_s=0.001, **options)  # type: ignore[arg-type]


@pytest.mark.slow
def test_networks_are_timed_in_their_order_with_all_metrics(tmp_path: Path) -> None:
    (tmp_path / "small.json").write_text(to_json(ARCH))
    texts = [OTHER, str(tmp_path / "small.json"), SMALL]
    notes: list[str] = []
    found = bench_small(*texts, notify=notes.append)
    assert [row["network"] for row in found.rows] == texts
    for text, row in zip(texts, found.rows, strict=True):
        assert set(row) == {"network", "params", "images_per_s", "step_time", *TIMING_METRICS}
        assert row["images_per_s"] == pytest.approx(4 / row["step_time_s"])
        arch = find_network(text, TINY).arch
        assert arch is not None
        assert row["params"] == count(arch, 8, 5).params
    assert found.rows[0]["step_time"] == 1
    sizes = {"image_size": 8, "batch_size": 4, "num_classes": 5}
    how = {"precision": "float32", "memory_format": "contiguous", "compile_mode": "none"}
    assert found.setup == {**sizes, "optimizer": "adamw", **how}
    assert found.hardware["threads"] == 1
    assert "timing 3 networks in turn" in notes
    assert not any("waiting" in note for note in notes)


@pytest.mark.slow
def test_a_network_that_does_not_fit_has_a_reason_and_the_first_one_must(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = find_network(SMALL, TINY).maker(5)()
    limit = estimate_peak_memory(model, Recipe(), image_size=8, batch_size=4)
    monkeypatch.setattr(
        "effnas.timing.device_settings.available_memory_bytes", lambda device: limit
    )
    large = "fused_r2_k3_s2_e4_c32"
    fits, fails = bench_small(SMALL, large).rows
    assert "reason" not in fits
    assert set(fails) == {"network", "params", "reason", "largest_batch_size"}
    assert str(fails["reason"]).startswith("out of memory at batch 4 and 8 px")
    with pytest.raises(ConfigError, match=f"^{large}: out of memory at batch 4"):
        bench_small(large, SMALL)


def test_an_interval_or_time_limit_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^`interval` is nan, it must be above 0"):
        bench([SMALL], FAST, precision=float("nan"))
    with pytest.raises(ConfigError, match=r"^`time_limit` is 0.0, it must be above 0"):
        bench([SMALL], FAST, time_limit_s=0.0)
