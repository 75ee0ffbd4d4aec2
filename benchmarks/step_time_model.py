"""How well a device profile predicts step times of networks it was not fitted to.

    python benchmarks/step_time_model.py [--networks 60] [--spaces v2-cifar v2-b0]

For `v2-cifar` and for `v2-b0` at small images: a profile is made, then random networks that took no
part in it are timed, and the profile's predictions are compared with what was measured. Beside it
stands what one would do without a profile: a ridge regression of log S on log MACs and log params
(and, to be generous, on log activations), fitted on the very networks that the profile was fitted
and checked on. Wanted: rank correlation 0.98 or more, mean absolute error 5 % or less, and a
profile that costs less than timing the networks. It takes about 40 minutes on two cores.
"""

from __future__ import annotations

import argparse
import time

from effnas.timing.runtime import configure_process

configure_process()

import numpy as np  # noqa: E402  # after configure_process, as torch is
from numpy.typing import NDArray  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from sklearn.linear_model import RidgeCV  # noqa: E402

from effnas import Architecture, SearchSpace  # noqa: E402
from effnas.timing.networks import maker, time_networks  # noqa: E402
from effnas.timing.profile import ModelError  # noqa: E402
from effnas.timing.profiling import make_profile, model_error  # noqa: E402
from effnas.workflows.bench import DeviceSettings  # noqa: E402

#: Space -> image size and batch size.
CASES = {"v2-cifar": (32, 64), "v2-b0": (48, 16)}
#: Networks that are timed in turn, and seconds for each of them.
TOGETHER, LIMIT_S = 8, 10.0


def counts(space: SearchSpace, archs: list[Architecture], names: list[str]) -> NDArray[np.float64]:
    """Return logarithms of counts, [N, names]."""
    return np.log([[getattr(space.count(arch), name) for name in names] for arch in archs])


def ridge(
    space: SearchSpace,
    known: tuple[list[Architecture], NDArray[np.float64]],
    unseen: list[Architecture],
    names: list[str],
) -> NDArray[np.float64]:
    """Return S of unseen networks by a regression on counts of known ones, [N]."""
    middle = counts(space, known[0], names).mean(axis=0)
    model = RidgeCV(alphas=np.logspace(-4, 2, 13))
    model.fit(counts(space, known[0], names) - middle, np.log(known[1]))
    return np.exp(model.predict(counts(space, unseen, names) - middle))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=60)
    parser.add_argument("--spaces", nargs="+", choices=CASES, default=list(CASES))
    arguments = parser.parse_args()
    wanted = arguments.networks
    table = Table(title=f"{wanted} unseen networks of each space")
    for heading in ("space", "model", "mean error", "95 % interval", "Spearman", "cost"):
        table.add_column(heading, justify="left" if heading == "model" else "right", no_wrap=True)
    for name in arguments.spaces:
        image_size, batch_size = CASES[name]
        rows = measure(name, image_size, batch_size, wanted)
        for model, error, cost in rows:
            table.add_row(
                f"{name}, {image_size} px",
                model,
                f"{error.mean_absolute:.1%}" if error else "",
                f"{error.mean_absolute_low:.1%} to {error.mean_absolute_high:.1%}" if error else "",
                f"{error.spearman:.3f}" if error else "",
                cost,
            )
    Console(width=170).print(table)


def measure(
    name: str, image_size: int, batch_size: int, wanted: int
) -> list[tuple[str, ModelError | None, str]]:
    """Return the rows of one space, one for each model."""
    settings = DeviceSettings(
        device="cpu",
        image_size=image_size,
        batch_size=batch_size,
        num_classes=10,
        precision="float32",
        memory_format="channels_last",
    )
    space = SearchSpace.load(name).with_target(
        image_size=image_size, batch_size=batch_size, num_classes=10
    )
    setup = settings.with_execution(settings.setup(space), maker(space.reference, 10), lambda: None)
    profile = make_profile(space, setup)
    seen = [*profile.fitted_on, *profile.checked_on]
    known = [space.parse_blocks(n.architecture) for n in seen]
    known_s = np.array([network.step_time for network in seen])
    rng = np.random.default_rng(1234)
    drawn: dict[Architecture, None] = {}
    while len(drawn) < wanted:
        arch = space.sample(rng)
        if arch not in known:
            drawn[arch] = None
    unseen = list(drawn)
    started = time.perf_counter()
    measured: list[float] = []
    half_widths: list[float] = []
    for start in range(0, wanted, TOGETHER):
        group = unseen[start : start + TOGETHER]
        _, *found = time_networks(
            [maker(arch, 10) for arch in (space.reference, *group)],
            setup,
            time_limit_s=LIMIT_S * len(group),
        )
        for metrics in found:
            assert isinstance(metrics, dict)
            measured.append(metrics["step_time"])
            width = metrics["step_time_high"] - metrics["step_time_low"]
            half_widths.append(width / 2 / metrics["step_time"])
    truth, spent = np.array(measured), time.perf_counter() - started
    predicted = np.array([profile.model.step_time(arch) for arch in unseen])
    cost = profile.cost_s
    of = f"{len(seen)} timed networks"
    return [
        (
            f"profile ({len(profile.model.layers)} layers)",
            model_error(predicted, truth),
            f"{sum(cost.values()):.0f} s: layers {cost['parts']:.0f}, fit {cost['fit']:.0f}, "
            f"check {cost['check']:.0f}",
        ),
        *(
            (
                f"ridge on {' and '.join(names)}",
                model_error(ridge(space, (known, known_s), unseen, names), truth),
                of,
            )
            for names in (["macs", "params"], ["macs", "params", "activations"])
        ),
        (
            f"timing itself (half-width {np.median(half_widths):.1%})",
            None,
            f"{spent:.0f} s for {wanted} networks",
        ),
    ]


if __name__ == "__main__":
    main()
