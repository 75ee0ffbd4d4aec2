"""The command behind a folder of a version that did not store it, as far as the folder tells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any, TypeVar

from effnas.cli.folder_state import FolderState
from effnas.config.catalog import names
from effnas.config.codec import Count, Size, from_plain, parse_json, read_text
from effnas.config.settings import Recipe
from effnas.errors import StoreError
from effnas.scaling.compound import coefficients_grid
from effnas.scaling.rules import ScalingRules
from effnas.space.search_space import SearchSpace
from effnas.trials.manifest import SearchManifest
from effnas.trials.run import Run, load_run
from effnas.trials.store import MANIFEST, TRAININGS, read_records
from effnas.workflows.finals.finalists import choose_finalists
from effnas.workflows.finals.folder import FinalsManifest
from effnas.workflows.finals.launch import usual_recipe
from effnas.workflows.finals.stored import search_of
from effnas.workflows.proxy.trainings import Fidelity, ProxyManifest

#: Parts of a recipe that commands have options for.
_OPTIONS = ("epochs", "image_size", "batch_size", "learning_rate", "data_share")

#: Words that stand for what a folder does not tell.
UNKNOWN = frozenset({"BASE", "DATA", "DEVICE", "FAMILY", "NETWORK", "RECIPE", "RUN", "SPACE",
                     "STEP", "TOLERANCE", "TOP", "WEIGHTS"})  # fmt: skip

T = TypeVar("T")


def earlier_command(state: FolderState) -> list[str]:
    """Return the words of the command that continues a folder of a version that stored none.

    What the folder does not tell is one of `UNKNOWN`.

    Raises:
        StoreError: If the folder, or what it was made of, cannot be read.
    """
    words = {
        "retargeted": _retarget,
        "finals": _promote,
        "coefficients": _coefficients,
        "layers": _layers,
        "proxy": _proxy,
        "training": _train,
    }[state.kind]
    return ["effnas", *words(state.path), "--out", str(state.path)]


def _retarget(path: Path) -> Iterator[str]:
    manifest = SearchManifest.read(path)
    yield from ("retarget", manifest.parent.path if manifest.parent else "RUN")
    kind, _, rest = manifest.step_times.partition(": ")
    option = {"table": "--step-times", "command": "--step-time-command"}.get(kind)
    yield from (option, rest.partition(" (sha256 ")[0]) if option else ("--device", "DEVICE")


def _promote(path: Path) -> Iterator[str]:
    manifest = FinalsManifest.read(path)
    run = search_of(path, manifest)
    yield from ("promote", str(run.path))

    def finalists(top: int) -> tuple[str, ...]:
        return tuple(each.trial.architecture.id for each in choose_finalists(run, top))

    tops = range(1, len(manifest.finalists) + 1)
    top = next((top for top in tops if finalists(top) == manifest.finalists), "TOP")
    yield from ("--top", str(top), "--seeds", str(manifest.seeds))
    yield from _recipe_options(manifest.recipe.to_dict(), usual_recipe(run))
    if manifest.finished and manifest.finished != run.manifest.reward.text:
        yield from ("--reward", manifest.finished.partition(" (sha256 ")[0])


@dataclass(frozen=True, kw_only=True)
class _Scaling:
    base: str
    data: str
    seeds: Size
    seed: int
    recipe: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class _Grid(_Scaling):
    grid: tuple[tuple[float, float, float], ...]
    limits: tuple[str, ...]
    round_limit: float


@dataclass(frozen=True, kw_only=True)
class _Layers(_Scaling):
    rules: str
    member: str
    slopes: tuple[float, ...]
    tolerance: float


def _coefficients(path: Path) -> Iterator[str]:
    manifest = _manifest(path, _Grid)
    yield from ("scaling", "coefficients", *_scaling(path, manifest))
    values = sorted({value for point in manifest.grid for value in (1.0, *point)})
    step = round(min((b - a for a, b in pairwise(values)), default=0.0), 6)
    grown = (alpha * beta**2 * gamma**2 for alpha, beta, gamma in manifest.grid)
    tolerance = ceil(max((abs(each - 2) for each in grown), default=0.0) * 100) / 100
    found = coefficients_grid(step=step, tolerance=tolerance) if step and tolerance else ()
    is_same = tuple((each.alpha, each.beta, each.gamma) for each in found) == manifest.grid
    yield from ("--grid-step", _text(step) if is_same else "STEP")
    yield from ("--tolerance", _text(tolerance) if is_same else "TOLERANCE")
    yield from (word for limit in manifest.limits for word in limit.split())
    yield from ("--round-limit", _text(manifest.round_limit))


def _layers(path: Path) -> Iterator[str]:
    manifest = _manifest(path, _Layers)
    yield from ("scaling", "layers", *_scaling(path, manifest))
    families = names("scaling_rules")
    is_of = (name for name in families if ScalingRules.load(name).to_text() == manifest.rules)
    yield from ("--family", next(is_of, "FAMILY"), "--member", manifest.member)
    yield from ("--slopes", ",".join(map(_text, manifest.slopes)))
    yield from ("--tolerance", _text(manifest.tolerance))


def _scaling(path: Path, manifest: _Scaling) -> Iterator[str]:
    """Return the base and the options that both searches for a way to scale have."""
    run, number = _trial_beside(path, manifest.base)
    yield f"{run.path}:{number}" if run else "BASE"
    if not run or Path(run.manifest.data.path or "").name != manifest.data:
        yield from ("--data", manifest.data)
    if not run:
        yield from ("--seed", str(manifest.seed))
    yield from ("--seeds", str(manifest.seeds))
    usual = run.recipe if run else Recipe()
    yield from _recipe_options(manifest.recipe, usual, has_file=True)


def _trial_beside(path: Path, architecture_id: str) -> tuple[Run | None, int]:
    """Return the search that a folder RUN-NAME is beside, and the number of a network's trial."""
    beside = path.with_name(path.resolve().name.rpartition("-")[0] or "RUN")
    with suppress(StoreError):  # nothing there, or no search
        run = load_run(beside)
        for trial in run.trials:
            if trial.architecture.id == architecture_id:
                return run, trial.number
    return None, 0


def _proxy(path: Path) -> Iterator[str]:
    manifest, file = ProxyManifest.read(path), path / TRAININGS
    records = read_records(file, lambda plain: from_plain(plain, Fidelity), "training")
    # A check begins with the proxy; a search with what all proxies are compared with.
    fidelities = list(dict.fromkeys(records))
    is_check = len(fidelities) < 3 and fidelities == sorted(fidelities)
    yield from ("proxy", "check" if is_check else "search")
    is_named = manifest.space.name in names("search_spaces")
    yield from ("--space", manifest.space.name if is_named else "SPACE", "--data", "DATA")
    yield from ("--networks", str(len(manifest.networks)), "--seed", str(manifest.seed))
    proxy = asdict(fidelities[0]) if is_check and fidelities else {}
    yield from _recipe_options({**manifest.recipe, **proxy}, Recipe(), has_file=True)
    if is_check and len(fidelities) == 2:
        yield from ("--high-epochs", str(fidelities[1].epochs))


@dataclass(frozen=True, kw_only=True)
class _Training:
    network: Mapping[str, str | int]
    data: Mapping[str, Any]
    seed: Count
    weights: str | None = None


def _train(path: Path) -> Iterator[str]:
    manifest = _manifest(path, _Training)
    network, v2 = manifest.network, SearchSpace.load("v2")
    blocks = str(network.get("architecture") or "NETWORK")
    is_usual = (network.get("stem"), network.get("head")) == (v2.stem, v2.head)
    yield from ("train", str(network.get("name") or (blocks if is_usual else "NETWORK")))
    yield from ("--data", str(manifest.data.get("name") or "DATA"), "--recipe", "RECIPE")
    if manifest.seed:
        yield from ("--seed", str(manifest.seed))
    if manifest.weights:
        yield from ("--weights", "WEIGHTS")


def _manifest(path: Path, kind: type[T]) -> T:
    try:
        return from_plain(parse_json(read_text(path / MANIFEST)), kind)
    except ValueError as error:
        raise StoreError(f"{path / MANIFEST}: {error}; restore it from a copy") from None


def _recipe_options(
    recipe: Mapping[str, Any], usual: Recipe, *, has_file: bool = False
) -> Iterator[str]:
    """Return what differs from the usual recipe as options; with a file, that of all the rest."""
    differing = [name for name, value in usual.to_dict().items()
                 if name in recipe and recipe[name] not in (value, None)]  # fmt: skip
    if has_file and not set(differing) <= set(_OPTIONS):
        yield from ("--recipe", "RECIPE")
    for name in _OPTIONS:
        if name in differing:
            yield from (f"--{name.replace('_', '-')}", _text(recipe[name]))


def _text(number: float) -> str:
    return f"{number:.12g}"
