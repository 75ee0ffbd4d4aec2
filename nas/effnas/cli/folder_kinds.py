"""Every kind of folder that effnas writes, read in an instant.

Only what is shown is read, by views of the stored files, so that nothing heavy is imported.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

from effnas.cli.folder_search import read_search
from effnas.cli.folder_state import FolderState, Named, StoredCommand, is_running, records
from effnas.cli.tables import macs_text, number, params_text
from effnas.cli.wording import guessing_text, hardly_beats_guessing
from effnas.config.codec import Amount, Count, Size, from_plain
from effnas.trials.guessing import Guessing
from effnas.trials.manifest import CommandPart
from effnas.trials.store import FAMILY_KIND, PROFILE_KIND, TRAININGS, read_log_rows
from effnas.trials.uncertainty import Noise

#: Seeds of a proxy check that were not given.
_PROXY_SEEDS = {"seeds": 3, "high_seeds": 2}

T = TypeVar("T")


# -- trainings of several networks


@dataclass(frozen=True)
class _Result:
    candidate: str
    repeat: Count
    epochs: Size
    accuracy: float | None = None
    train_time_s: Amount = 0.0


@dataclass(frozen=True)
class _Length:
    epochs: float
    train_time_s: float | None = None

    @property
    def length(self) -> float:
        return self.epochs if self.train_time_s is None else self.train_time_s


@dataclass(frozen=True, kw_only=True)
class _Trainings(StoredCommand):
    recipe: _Length
    seeds: Size
    finished: str | None = None
    run: str = ""
    base: str = ""
    finalists: tuple[str, ...] = ()
    networks: tuple[Named, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return self.finalists or tuple(each.name for each in self.networks)


def _trainings(
    kind: str, what: str, command: str
) -> Callable[[Path, Mapping[str, Any]], FolderState]:
    def read(path: Path, content: Mapping[str, Any]) -> FolderState:
        manifest = from_plain(content, _Trainings)
        results = list(records(path / TRAININGS, _Result, "result"))
        rows, accuracies = [], {}
        for name in manifest.names:
            mine = [each for each in results if each.candidate == name]
            epochs = max((each.epochs for each in mine), default=0)
            found = [r.accuracy for r in mine if r.epochs == epochs and r.accuracy is not None]
            if found and epochs == manifest.recipe.length:
                accuracies[name] = fmean(found)
            shown = f"{fmean(found):.4f}" if found else "-"
            rows.append((name, str(epochs), str(len(found)), shown))
        seconds = {(r.candidate, r.repeat): r.train_time_s for r in results}
        total, cost_s = len(manifest.names) * manifest.seeds, sum(seconds.values())
        best = max(accuracies, key=lambda name: accuracies[name], default="")
        state = "finished" if manifest.finished is not None else "unfinished"
        return FolderState(
            path=path,
            kind=kind,
            what=what.format(manifest.run or f"network {manifest.base}"),
            state="running" if is_running(path) else state,
            unit="trainings",
            done=len(seconds),
            total=total,
            best=accuracies.get(best),
            best_is="accuracy",
            best_of=best,
            cost_s=cost_s,
            left_s=cost_s / len(seconds) * (total - len(seconds)) if seconds else None,
            created=manifest.created or "",
            command=manifest.asked,
            continued_by=_continued(path, state, manifest.asked, command),
            table=(("network", "epochs", "seeds", "accuracy"), *rows),
        )

    return read


@dataclass(frozen=True, kw_only=True)
class _ProxyResult:
    architecture_id: str
    epochs: Size
    image_size: Size
    data_share: float
    repeat: Count
    accuracy: float | None = None
    train_time_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class _Proxy(StoredCommand):
    space: Named
    networks: tuple[str, ...]


def _proxy(path: Path, content: Mapping[str, Any]) -> FolderState:
    manifest = from_plain(content, _Proxy)
    results = list(records(path / TRAININGS, _ProxyResult, "training"))
    by_fidelity: dict[tuple[int, int, float], list[_ProxyResult]] = {}
    for each in results:
        key = each.epochs, each.image_size, each.data_share
        by_fidelity.setdefault(key, []).append(each)
    rows = []
    for (epochs, image_size, share), mine in sorted(by_fidelity.items()):
        found = [each.accuracy for each in mine if each.accuracy is not None]
        mean = f"{fmean(found):.4f}" if found else "-"
        rows.append((str(epochs), f"{image_size} px", f"{share:.3g}", str(len(mine)), mean))
    asked = manifest.asked
    # A check has two fidelities; a search as many as it takes.
    total = None
    if asked and asked.name == "proxy check":
        seeds = (asked.options.get(name, default) for name, default in _PROXY_SEEDS.items())
        total = len(manifest.networks) * sum(n for n in seeds if isinstance(n, int))
    best = max(results, key=lambda each: each.accuracy or 0.0, default=None)
    cost_s = sum(each.train_time_s or 0.0 for each in results)
    state = "unfinished" if total is None or len(results) < total else "finished"
    return FolderState(
        path=path,
        kind="proxy",
        what=f"proxy study of {manifest.space.name}, {len(manifest.networks)} networks",
        state="running" if is_running(path) else state,
        unit="trainings",
        done=len(results),
        total=total,
        best=best.accuracy if best else None,
        best_is="accuracy",
        best_of=f"network {best.architecture_id}" if best else "",
        cost_s=cost_s,
        created=manifest.created or "",
        command=asked,
        continued_by=_continued(path, state, asked, "effnas proxy"),
        table=(("epochs", "image size", "share", "trainings", "accuracy"), *rows),
    )


# -- a long training


@dataclass(frozen=True)
class _Progress:
    best_accuracy: float = -1.0
    best_epoch: Count = 0


@dataclass(frozen=True)
class _Forecast:
    stage_times_s: tuple[Amount, ...] = ()
    epoch_evaluation_s: Amount = 0.0


@dataclass(frozen=True)
class _Images(Named):
    minival: Count = 0
    minival_class_counts: tuple[Count, ...] = ()
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Training(StoredCommand):
    network: Mapping[str, str | int]
    recipe: _Length
    data: _Images
    forecast: _Forecast = field(default_factory=_Forecast)
    progress: _Progress | None = None


def _training(path: Path, content: Mapping[str, Any]) -> FolderState:
    manifest = from_plain(content, _Training)
    rows = read_log_rows(path)
    accuracies = [float(row.get("accuracy") or -1.0) for row in rows]
    best = max(accuracies, default=-1.0)
    cost_s = float(rows[-1].get("train_time_s") or 0.0) if rows else 0.0
    whole_s = sum(manifest.forecast.stage_times_s)
    state = "unfinished" if manifest.progress is None else "finished"
    epochs = ceil(manifest.recipe.epochs) if manifest.progress is None else len(rows)
    network = manifest.network.get("name") or manifest.network.get("architecture")
    data = manifest.data
    guessing = Guessing(classes=len(data.class_names) or None, counts=data.minival_class_counts)
    is_beaten = best < 0 or guessing.is_beaten(best, Noise(holdout_images=data.minival))
    return FolderState(
        path=path,
        kind="training",
        what=f"training of {network} on {manifest.data.name}",
        state="running" if is_running(path) else state,
        unit="epochs",
        done=len(rows),
        total=epochs,
        best=best if best >= 0 else None,
        best_is="accuracy",
        best_of=f"epoch {accuracies.index(best) + 1}" if best >= 0 else "",
        cost_s=cost_s,
        left_s=max(whole_s - cost_s, 0.0) if manifest.progress is None else 0.0,
        created=manifest.created or "",
        command=manifest.asked,
        continued_by=_continued(path, state, manifest.asked, "effnas train"),
        guessing=guessing_text(guessing) if best >= 0 else "",
        warning=hardly_beats_guessing("held-out") if is_beaten is False else "",
    )


# -- what is written at once


@dataclass(frozen=True, kw_only=True)
class _Member:
    name: str
    params: float | None = None
    macs: float | None = None
    step_time: float | None = None
    image_size: int | None = None
    train_image_size: int | None = None


@dataclass(frozen=True, kw_only=True)
class _Family:
    base: str
    family: str
    members: tuple[_Member, ...]


def _family(path: Path, content: Mapping[str, Any]) -> FolderState:
    family = from_plain(content, _Family)
    rows = [
        (
            one.name,
            params_text(one.params) if one.params is not None else "-",
            number(one.image_size, "{}"),
            macs_text(one.macs) if one.macs is not None else "-",
            number(one.train_image_size, "{}"),
            number(one.step_time, "{:.2f}"),
        )
        for one in family.members
    ]
    return FolderState(
        path=path,
        kind="family",
        what=f"family of {family.base}, by the rules {family.family}",
        unit="members",
        done=len(rows),
        total=len(rows),
        # MACs are those of inference, S is that of the last stage of a training.
        table=(("member", "params", "infer px", "MACs", "train px", "S"), *rows),
    )


def _profile(path: Path, content: Mapping[str, Any]) -> FolderState:
    from effnas.timing.profile import DeviceProfile

    profile = from_plain(content, DeviceProfile)
    checked = len(profile.checked_on)
    return FolderState(
        path=path,
        kind="profile",
        what=f"device profile for {profile.space} on {profile.hardware}",
        unit="networks",
        done=checked,
        total=checked,
        best=profile.step_time_error.mean_absolute,
        best_is="mean error of S",
        best_of=f"{checked} networks",
        cost_s=sum(profile.cost_s.values()),
        created=profile.created,
    )


# -- what they share


def _continued(path: Path, state: str, asked: CommandPart | None, command: str) -> str:
    """Return the command that continues a folder, or in words where an earlier version began it."""
    if state == "finished":
        return ""
    resume = shlex.join(["effnas", "resume", str(path)])
    return resume if asked else f"the same `{command}` as before"


#: Readers by what a JSON file has as `kind`.
KINDS: Mapping[str | None, Callable[[Path, Mapping[str, Any]], FolderState]] = {
    None: read_search,
    "finals": _trainings("finals", "finals of {}", "effnas promote"),
    "trainings of a grid of coefficients": _trainings(
        "coefficients", "search for coefficients to scale {}", "effnas scaling coefficients"
    ),
    "trainings of growths of layers": _trainings(
        "layers", "search for layers to scale {}", "effnas scaling layers"
    ),
    "proxy": _proxy,
    "training": _training,
    FAMILY_KIND: _family,
    PROFILE_KIND: _profile,
}
