"""Two processes that train one network, under a real Ray Train."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_training
from tiny_training import RECIPE, Watching, prepare, stop_after

from effnas.errors import DataError
from effnas.evaluation.ray import start_ray
from effnas.workflows.train.worker import TrainReport

pytestmark = pytest.mark.slow

#: Of the 60 images six are held out: four steps of 12 in an epoch.
LONG = replace(RECIPE, batch_size=12, epochs=40)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a network and images in it."""
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path)


def launch(
    watching: Watching, out: str, stopping: Callable[[], bool] = lambda: False, **options: Any
) -> TrainReport | None:
    return tiny_training.launch(LONG, Path(out), stopping, watching, threads=1, **options)[0]


def losses(report: TrainReport | None) -> list[float]:
    assert report is not None
    return [row.train_loss for row in report.progress.rows]


def workers() -> list[int]:
    """The processes of our Ray that train; others may run on the machine."""
    parents, found = {}, []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, text = int(stat.parent.name), stat.read_text()
            if b"RayTrainWorker" in stat.with_name("cmdline").read_bytes():
                found.append(pid)
        except OSError:  # it has ended
            continue
        parents[pid] = int(text.rpartition(")")[2].split()[1])

    def is_ours(pid: int) -> bool:
        while pid and pid != os.getpid():
            pid = parents.get(pid, 0)
        return pid == os.getpid()

    return sorted(pid for pid in found if is_ours(pid))


def test_two_processes_train_as_one_does_even_if_one_is_killed() -> None:
    killed: list[int] = []

    def kill(step: int) -> None:
        if step > 16 and not killed:  # they agree on a checkpoint after every sixteenth
            killed.extend(workers())
            assert len(killed) == 2
            os.kill(killed[1], signal.SIGKILL)

    watching = Watching(kill)
    together = launch(watching, "together", workers=2, checkpoint_every_s=0.0)
    assert killed
    assert len(watching.plans) == 2  # they were started again
    assert watching.plans[1].first_step > 0
    assert together is not None
    assert together.plan.manifest.workers == 2
    assert together.plan.manifest.parts == (2, 2)
    assert together.progress.rows[-1] == watching.rows[-1]
    assert len(losses(together)) == 40

    # The same images in the same two parts, augmented alike; batch norm sees each part alone.
    alone = Watching()
    stop = stop_after(48)
    assert launch(alone, "alone", stop, workers=1, device_batch_size=6) is None
    expected = [row.train_loss for row in alone.rows]
    assert losses(together)[:2] == pytest.approx(expected[:2], rel=1e-4)
    # Differences of rounding grow over the steps.
    assert losses(together)[:12] == pytest.approx(expected, rel=1e-2)


def test_a_mistake_that_a_worker_meets_is_one_line(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    start_ray()  # before the folder is changed to: paths are those of the command
    Path("here").mkdir()
    monkeypatch.chdir("here")
    shutil.copytree("../photos", "photos")
    shutil.copy("../network.json", "network.json")
    Path("photos/b/torn.png").write_bytes(b"\x89PNG nothing")
    with pytest.raises(DataError, match=r"torn\.png") as caught:
        launch(Watching(), "out", workers=2)
    assert "\n" not in str(caught.value)
    assert not Path("out").exists()
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")
