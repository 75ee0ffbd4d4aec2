"""`effnas profile`: make a device profile and say how good its predictions are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import BarColumn

from effnas.arch.models import build
from effnas.cli.search import INTERRUPTED
from effnas.cli.tables import (
    console,
    duration,
    facts,
    progress_on,
)
from effnas.errors import ConfigError
from effnas.space.search_space import SearchSpace
from effnas.timing.profile import TRUSTED_ERROR, DeviceProfile, ModelError
from effnas.timing.profiling import make_profile

if TYPE_CHECKING:
    from rich.console import Console

    from effnas.timing.device_settings import DeviceSettings
    from effnas.timing.setup import MeasurementSetup


def run_profile(
    space_name: str, settings: DeviceSettings, *, out: Path | None, seed: int, as_json: bool
) -> int:
    """Make a profile, store it and show it; return the exit code.

    Raises:
        UserError: If something given is wrong.
    """
    space = SearchSpace.load(space_name).with_target(
        image_size=settings.image_size,
        batch_size=settings.batch_size,
        num_classes=settings.num_classes,
    )
    setup = settings.setup(space)
    path = out or Path("runs") / "profiles" / f"{space.name}-{setup.device.type}.json"
    _check_writable(path)
    screen = console(stderr=as_json)
    try:
        profile = _measure(space, settings, setup, seed, screen)
    except KeyboardInterrupt:
        screen.print("Stopped. A profile is stored when it is complete; nothing was.")
        return INTERRUPTED
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(profile.to_json(), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror})") from error
    if as_json:
        print(json.dumps({"profile": str(path), **json.loads(profile.to_json())}, indent=2))
    else:
        _show(profile, path)
    return 0


def _measure(
    space: SearchSpace,
    settings: DeviceSettings,
    setup: MeasurementSetup,
    seed: int,
    screen: Console,
) -> DeviceProfile:
    """Make the profile and show how far it is."""
    with progress_on(screen, BarColumn()) as progress:
        task = progress.add_task("choosing precision and memory format", total=None)

        def waiting() -> None:
            progress.update(task, description="waiting for the device, which others use")

        setup = settings.with_execution(
            setup,
            lambda: build(space.reference, num_classes=setup.num_classes),
            waiting,
        )
        return make_profile(
            space,
            setup,
            seed=seed,
            progress=lambda what, done, total: progress.update(
                task, description=f"{what} {done} of {total}", completed=done, total=total
            ),
            waiting=waiting,
        )


def _check_writable(path: Path) -> None:
    """Find out before the measuring, not behind it."""
    nearest = next(parent for parent in path.absolute().parents if parent.exists())
    if path.is_dir() or not nearest.is_dir():
        raise ConfigError(f"{path}: not a file that can be written; choose another --out")


def _show(profile: DeviceProfile, path: Path) -> None:
    model, screen = profile.model, console()
    way = ", ".join(value for value in profile.execution.values() if value != "none")
    rows = [
        ("profile", str(path)),
        ("device", profile.hardware),
        ("step", f"batch {model.batch_size} at {model.image_size} px, {model.num_classes} classes, "
                 f"{profile.optimizer}, {way}; the reference takes "
                 f"{profile.reference_step_time_s * 1e3:.1f} ms"),
        ("measured", f"all {len(model.layers)} parts of space {profile.space} in "
                     f"{duration(profile.cost_s['parts'])}; {len(profile.fitted_on)} networks to "
                     f"fit in {duration(profile.cost_s['fit'])}, {len(profile.checked_on)} others "
                     f"to check in {duration(profile.cost_s['check'])}"),
        ("model", f"a network's step is {model.factor:.3f} times the sum of its parts"),
        ("step time", _error_text(profile.step_time_error)),
        ("peak memory", _error_text(profile.memory_error)),
    ]  # fmt: skip
    screen.print(facts(rows))
    if profile.is_trusted:
        screen.print(f"\n`effnas search --space {profile.space} --profile {path}` predicts step "
                     "times and measures those of the best.")  # fmt: skip
    else:
        screen.print(
            f"\n[bold yellow]Note:[/] the mean error is above {TRUSTED_ERROR:.0%}, so --step-time "
            "auto will measure. What helps: a device that nothing else uses, larger batches."
        )


def _error_text(error: ModelError) -> str:
    return (
        f"mean error {error.mean_absolute:.1%} (95 % interval {error.mean_absolute_low:.1%} to "
        f"{error.mean_absolute_high:.1%}), rank correlation {error.spearman:.3f}, on "
        f"{error.networks} networks that it had not seen; one prediction is within "
        f"±{error.half_width:.1%} (95 %)"
    )
