"""`effnas profile`: make a device profile and say how good its predictions are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from effnas.arch.models import build
from effnas.cli.session import LongCommand
from effnas.cli.tables import counted, duration, step_text
from effnas.config.text import share_text
from effnas.errors import ConfigError
from effnas.space.search_space import SearchSpace
from effnas.timing.device_settings import DeviceSettings
from effnas.timing.profile import TRUSTED_ERROR, DeviceProfile, ModelError
from effnas.timing.profiling import (
    CHECKED,
    FITTED,
    NETWORK_TIME_LIMIT_S,
    PASSES,
    layers_to_time,
    make_profile,
)
from effnas.workflows.proxy.statistics import MIN_RANKED


@dataclass(frozen=True, kw_only=True)
class ProfileSettings:
    """What is profiled: networks of a space, drawn by a seed, on a device; `out` is the file."""

    device: DeviceSettings
    space: str
    out: Path | None
    seed: int


class ProfileCommand(LongCommand[ProfileSettings, DeviceProfile]):
    """Makes a profile, stores it and shows it.

    Raises:
        UserError: If something given is wrong.
    """

    begins = "choosing precision and memory format"
    _has_forecast = False

    def __init__(self, settings: ProfileSettings, *, as_json: bool) -> None:
        super().__init__(settings, as_json=as_json)
        device = settings.device
        self._space = SearchSpace.load(settings.space).with_target(
            image_size=device.image_size,
            batch_size=device.batch_size,
            num_classes=device.num_classes,
        )
        self._setup = device.setup(self._space)
        name = f"{self._space.name}-{self._setup.device.type}.json"
        self._path = settings.out or Path("runs") / "profiles" / name
        # Found out before the measuring, not after it.
        nearest = next(each for each in self._path.absolute().parents if each.exists())
        if self._path.is_dir() or not nearest.is_dir():
            raise ConfigError(f"{self._path}: not a file that can be written; choose another --out")

    def work(self) -> DeviceProfile:
        space, classes = self._space, self._setup.num_classes
        self.plan(
            ("space", f"{space.name}: {counted(len(layers_to_time(space, classes)), 'layer')}, "
                      f"each timed {PASSES} times beside the reference network"),
            ("then", f"{FITTED + CHECKED} networks are timed, to fit a model and to check it: at "
                     f"most {duration((FITTED + CHECKED) * NETWORK_TIME_LIMIT_S)}"),
        )  # fmt: skip
        setup = self.settings.device.with_execution(
            self._setup, lambda: build(space.reference, num_classes=classes), self.waiting
        )
        profile = make_profile(
            space, setup, seed=self.settings.seed, progress=self.progress, waiting=self.waiting
        )
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(profile.to_json(), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{self._path}: cannot be written ({error.strerror})") from error
        return profile

    def progress(self, what: str, done: int, total: int, left: str = "") -> None:
        """Say what is being done, and once, how long the layers will take."""
        super().progress(what, done, total, left)
        if self.left_s is not None and not self._has_forecast:
            self._has_forecast = True
            self.say(f"{what}: about {duration(self.left_s)} left")

    def payload(self, profile: DeviceProfile) -> dict[str, Any]:
        return {"profile": str(self._path), **json.loads(profile.to_json())}

    def show(self, profile: DeviceProfile) -> None:
        model, path, cost_s = profile.model, self._path, profile.cost_s
        way = ", ".join(value for value in profile.execution.values() if value != "none")
        rows = [
            ("profile", str(path)),
            ("device", profile.hardware),
            ("step", f"batch {model.batch_size} at {model.image_size} px, "
                     f"{counted(model.num_classes, 'class', 'classes')}, {profile.optimizer}, "
                     f"{way}; the reference takes {step_text(profile.reference_step_time_s)}"),
            ("measured", f"all {len(model.layers)} layers of space {profile.space} in "
                         f"{duration(cost_s['parts'])}; "
                         f"{counted(len(profile.fitted_on), 'network')} to fit in "
                         f"{duration(cost_s['fit'])}, {len(profile.checked_on)} others to check "
                         f"in {duration(cost_s['check'])}"),
            ("model", f"a network's step is {model.factor:.3f} times the sum of its parts"),
            ("step time", _error_text(profile.step_time_error)),
            ("peak memory", _error_text(profile.memory_error)),
        ]  # fmt: skip
        self.plan(*rows)
        if profile.is_trusted:
            self.say("A search with it predicts step times, and measures those of the best.")
            self.next(["effnas", "search", "--space", self.settings.space, "--profile", path])
        else:
            self.note(
                f"the mean error is above {TRUSTED_ERROR:.0%}, so --step-time auto will measure. "
                "What helps: a device that nothing else uses, larger batches."
            )


def _error_text(error: ModelError) -> str:
    ranks = f"rank correlation {error.spearman:z.3f}, on {counted(error.networks, 'network')}"
    if error.networks < MIN_RANKED:
        ranks = f"rank correlation not known from {counted(error.networks, 'network')}"
    return (
        f"mean error {share_text(error.mean_absolute, 1)} (95% interval "
        f"{share_text(error.mean_absolute_low, 1)} to {share_text(error.mean_absolute_high, 1)}), "
        f"{ranks} that it had not "
        f"seen; one prediction is within "
        f"±{error.half_width:.1%} (95%)"
    )
