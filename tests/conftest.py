"""What all tests share."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# While all tests are imported there is much to look through and nothing to find.
gc.disable()

# Bytecode is written, as on a machine where nothing is set: programs that are started again begin
# sooner, and what it may spoil shows.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# Before torch is imported: waiting threads soon sleep, so that a busy machine slows tests little.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")
if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    # As many processes as cores: with more threads than those they would wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Device locks are files in the temporary folder: workers are not to wait for each other's.
    os.environ["TMPDIR"] = str(Path(tempfile.gettempdir(), f"effnas-{worker}-{os.getuid()}"))
    Path(os.environ["TMPDIR"]).mkdir(exist_ok=True)
    tempfile.tempdir = None

settings.register_profile("patient", deadline=None)  # the machine may be busy
settings.load_profile("patient")

ROOT = Path(__file__).resolve().parents[1]

#: Files whose tests start a Ray, of which a small machine starts few at a time.
RAY = (
    "workflows/train/test_distributed.py",
    "cli/test_cli_promote.py",
    "evaluation/test_backends.py",
    "integrations/test_ray_tune.py",
)
#: Files that take longest, which are not to come last; the others follow in their order.
LONG = (
    *RAY,
    "cli/test_interrupted.py",
    "test_older_folders.py",
    "cli/test_cli_devices.py",
    "cli/test_cli_train.py",
    "cli/test_cli.py",
    "cli/test_cli_scale.py",
    "controllers/test_surrogate_controller.py",
    "export/test_export.py",
    "trials/test_constraints.py",
)


def file_of(nodeid: str) -> str:
    return nodeid.partition("::")[0].removeprefix("tests/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest."""
    place = {name: n for n, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(file_of(item.nodeid), len(place)))


def pytest_collection_finish() -> None:
    """Take what is there by now for no garbage, and look for garbage again."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give a process whole files, and one process all that use Ray: they share what it started."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = file_of(nodeid)
            return "Ray" if file in RAY else file

    return Scheduling(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real data sets; skips the test where there is none."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data sets: {folder} does not exist")
    return folder


@pytest.fixture
def short_timings(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of `shorten_timings`."""
    from shortened_timings import shorten_timings

    shorten_timings(monkeypatch)
