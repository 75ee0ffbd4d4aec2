"""Whether all that a search needs is here and works: each part by itself, then one trial."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch

from effnas.config.recipe_file import default_recipe
from effnas.config.text import counted
from effnas.data.decoding import decode_into
from effnas.data.loading import absolute_name, find_source, native_image_size
from effnas.errors import EffnasError
from effnas.evaluation.config import default_space
from effnas.evaluation.workers import Workers, divide_resources
from effnas.search.cost_estimate import memory_text
from effnas.search.launch import SearchObserver, Settings, launch
from effnas.timing import lock
from effnas.timing.device import (
    available_memory_bytes,
    describe_device,
    hardware_id,
    open_device,
)
from effnas.trials.manifest import versions
from effnas.trials.store import RunFolder
from effnas.trials.trial import TrialState

State = Literal["ok", "warning", "failed"]
#: How a part is, and what is to be said of it.
Finding: TypeAlias = tuple[State, str]

#: Less memory, or less room on a disk, is worth a warning.
_LITTLE_BYTES = 1_000_000_000
#: Share of the CPUs that other programs may take before step times spread.
_BUSY = 0.5
#: Images that are decoded, and their size in pixels.
_DECODED, _PIXELS = 100, 32
#: Of a trial that only shows that one works: images, and images in a step.
_TRIAL_IMAGES, _BATCH_SIZE = 600, 32


@dataclass(frozen=True, kw_only=True)
class DoctorSettings:
    """What a search would be given.

    Attributes:
        data: Name or path of the images.
        data_root: Folder of a timm data set.
        out: Where its folder would be.
        workers: Where trials would run.
    """

    data: str = "digits"
    data_root: Path | None = None
    out: Path = Path("runs")
    workers: Workers = field(default_factory=Workers)


@dataclass(frozen=True, kw_only=True)
class Check:
    """How a part is.

    Attributes:
        name: Of the part.
        state: `failed` if a search would end, `warning` if it would suffer.
        text: What was found.
        seconds: That it took.
    """

    name: str
    state: State
    text: str
    seconds: float


def examine(
    settings: DoctorSettings, begins: Callable[[str], None] = lambda name: None
) -> Iterator[Check]:
    """Try one part after the other; what fails keeps none of the others from being tried.

    Args:
        settings: What a search would be given.
        begins: Receives the name of a part that takes a while, before it is tried.
    """
    parts: dict[str, Callable[[DoctorSettings], Finding]] = {
        "versions": _versions, "device": _device, "memory": _memory, "disk": _disk,
        "locks": _locks, "Ray": _ray, "images": _images, "trial": _trial,
    }  # fmt: skip
    for name, examined in parts.items():
        begins(name)
        began = time.monotonic()
        try:
            state, text = examined(settings)
        except EffnasError as error:
            state, text = "failed", str(error)
        except Exception as error:  # noqa: BLE001 - whatever is broken is to be told
            state, text = "failed", f"{type(error).__name__}: {error}"
        yield Check(name=name, state=state, text=text, seconds=time.monotonic() - began)


def _versions(_: DoctorSettings) -> Finding:
    return "ok", ", ".join(f"{name} {version}" for name, version in versions().items())


def _device(settings: DoctorSettings) -> Finding:
    device = open_device(settings.workers.device)
    cpus = len(os.sched_getaffinity(0))
    gpus = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    text = f"{hardware_id(describe_device(device))}; {counted(cpus, 'CPU')}"
    text += f"; {', '.join(gpus)}" if gpus else "; no GPU"
    load = os.getloadavg()[0]
    if device.type == "cpu" and load > _BUSY * cpus:
        return "warning", f"{text}; other programs keep {load:.1f} CPUs busy: step times spread"
    return "ok", text


def _memory(settings: DoctorSettings) -> Finding:
    free = available_memory_bytes(torch.device("cpu"))
    everything = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    text = f"{memory_text(free)} of {memory_text(everything)} are free"
    device = open_device(settings.workers.device)
    if device.type == "cuda":
        text += f"; {memory_text(available_memory_bytes(device))} on the GPU"
    return ("ok" if free > _LITTLE_BYTES else "warning"), text


def _nearest(path: Path) -> Path:
    """Return the folder that is there already, of a path and those that it lies in."""
    place = path.absolute()
    return next(each for each in (place, *place.parents) if each.is_dir())


def _disk(settings: DoctorSettings) -> Finding:
    there = _nearest(settings.out)
    with tempfile.TemporaryFile(dir=there) as file:
        file.write(b"x")
    rooms = {there: shutil.disk_usage(there).free}
    temporary = Path(tempfile.gettempdir())
    rooms[temporary] = shutil.disk_usage(temporary).free
    text = ", ".join(f"{memory_text(room)} free in {where}" for where, room in rooms.items())
    return ("ok" if min(rooms.values()) > _LITTLE_BYTES else "warning"), text


class _InUseError(Exception):
    """A device is in use."""


def _holder(settings: DoctorSettings) -> str:
    """Return who uses the device; nothing if nobody does."""

    def refuse(holder: str) -> None:
        raise _InUseError(holder)

    try:
        with lock.timing(open_device(settings.workers.device), refuse):
            return ""
    except _InUseError as error:
        return str(error)


def _locks(settings: DoctorSettings) -> Finding:
    there = _nearest(settings.out)
    with tempfile.TemporaryDirectory(dir=there) as folder:
        RunFolder.open(Path(folder) / "run").close()
    if holder := _holder(settings):
        return "warning", f"{holder} uses the device; a search would wait for it"
    return "ok", f"of run folders in {there}, and of devices in {lock.folder()}"


def _ray(settings: DoctorSettings) -> Finding:
    if settings.workers.backend == "inline":
        return "ok", "not used"
    share = divide_resources(settings.workers)
    address = os.environ.get("RAY_ADDRESS", "").strip()
    workers = counted(share.workers, "worker")
    where = f"the cluster at {address}" if address else "this machine"
    return "ok", (
        f"on {where}; {workers} of {counted(share.cpus, 'CPU')} and {counted(share.gpus, 'GPU')}"
    )


def _images(settings: DoctorSettings) -> Finding:
    source = find_source(settings.data, settings.data_root)
    source.check_classes()
    found, count = source.found, len(source.names)
    chosen = np.unique(np.linspace(0, count - 1, min(count, _DECODED)).astype(np.int64))
    pixels = np.zeros((len(chosen), _PIXELS, _PIXELS, 3), np.uint8)
    bad = decode_into(source.read(chosen), pixels)
    text = f"{found.name}: {count:,} images of {len(source.classes)} classes"
    text += f", about {native_image_size(settings.data, settings.data_root)} px" if not bad else ""
    if found.passed_over:
        files = counted(found.passed_over, "file")
        text += f"; {files} passed over, such as {found.passed_example}"
    if bad:
        position, reason = bad[0]
        return "failed", (
            f"{text}; {len(bad)} of {len(chosen)} that were tried cannot be decoded, such as "
            f"{source.names[chosen[position]]} ({reason}); `on_bad_image` skip leaves them out"
        )
    return "ok", f"{text}; {len(chosen)} of them decoded"


def _trial(settings: DoctorSettings) -> Finding:
    """Search for one trial, of few images, in a folder that is removed."""
    if holder := _holder(settings):
        return "warning", f"not tried: {holder} uses the device"
    native = native_image_size(settings.data, settings.data_root)
    images = len(find_source(settings.data, settings.data_root).names)
    recipe = default_recipe().for_trials(
        epochs=1, batch_size=_BATCH_SIZE, data_share=min(1.0, _TRIAL_IMAGES / images)
    )
    with tempfile.TemporaryDirectory() as folder:
        search = launch(
            Settings(
                space=default_space(native),
                data=absolute_name(settings.data),
                data_root=settings.data_root,
                out=Path(folder) / "run",
                recipe=recipe,
                reward="accuracy",
                controller="random",
                budget=1,
                baselines=("none",),
                workers=settings.workers,
                target_batch_size=_BATCH_SIZE,
            ),
            SearchObserver(),
        )
    (trial,) = search.trials
    if trial.state is TrialState.COMPLETE:
        step_ms = 1e3 * trial.metrics.get("step_time_s", 0.0)
        return "ok", f"in {search.space.name}: timed ({step_ms:.0f} ms a step), trained and scored"
    state: State = "warning" if trial.state is TrialState.INFEASIBLE else "failed"
    return state, f"{trial.state.lower()}: {trial.reason}"
