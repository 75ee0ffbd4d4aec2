"""How a timing process is set up: its threads sleep, and it keeps the memory that it frees."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

on_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")

SETTLE = """
import os
from effnas.timing.runtime import keeps_freed_memory, configure_process
before = keeps_freed_memory()
configure_process()
configure_process()
print(before, keeps_freed_memory(), os.environ["GOMP_SPINCOUNT"])
"""

#: Prints how much memory a process still holds of a large block that it has freed.
FREE = """
import os, sys
from pathlib import Path
from effnas.timing.runtime import configure_process

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

if sys.argv[1] == "settled":
    configure_process()
before = resident()
block = bytearray(50_000_000)
block[::1000] = b"x" * 50_000
held = resident() - before
del block
print(held, resident() - before)
"""


def output_of(code: str, *arguments: str, **environment: str) -> list[str]:
    inherited = {key: value for key, value in os.environ.items() if key != "GOMP_SPINCOUNT"}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@on_glibc
def test_a_process_is_set_up_once_and_says_so() -> None:
    before, after, spins = output_of(SETTLE)
    assert (before, after) == ("False", "True")
    assert 0 < int(spins) < 100_000


@on_glibc
@pytest.mark.parametrize("how", ["settled", "as it is"])
def test_freed_memory_is_kept_by_a_process_that_is_set_up_and_by_no_other(how: str) -> None:
    held, left = map(int, output_of(FREE, how))
    assert held > 45_000_000
    assert left > 45_000_000 if how == "settled" else left < 10_000_000


def test_nothing_heavy_is_imported_to_set_a_process_up() -> None:
    code = (
        "import sys; from effnas.timing.runtime import configure_process; configure_process();"
        "print({'torch', 'numpy'} & sys.modules.keys())"
    )
    assert output_of(code) == ["set()"]
