"""What all tests share."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

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


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real data sets; skips the test where there is none."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data sets: {folder} does not exist")
    return folder
