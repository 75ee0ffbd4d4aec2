"""FLOPs instead of time: how many of the best networks change.

    python benchmarks/flops.py --data accel-nasbench.tar.gz

Rewards of the networks of Accel-NASBench, with its accuracies and A · S^-0.07 · P^-0.05, once with
S from the device and once with multiply-accumulates in its place. For the table's six accelerators
S is the reciprocal of the throughput in the table. For this CPU it is the training step at 64 px
and batch 16, from a device profile of the space `mnasnet` that is made here and checked on networks
it was not fitted to: timing 5,000 networks one by one would take days. It takes about ten minutes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from effnas.timing.runtime import configure_process

configure_process()

import numpy as np  # noqa: E402  # after configure_process, as torch is
from numpy.typing import NDArray  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from scipy.stats import spearmanr  # noqa: E402

from accel_nasbench import DEVICES, SPACE, AccelNasBench, params_ratio  # noqa: E402
from effnas.timing.networks import maker  # noqa: E402
from effnas.timing.profile import DeviceProfile  # noqa: E402
from effnas.timing.profiling import make_profile  # noqa: E402
from effnas.workflows.bench import DeviceSettings  # noqa: E402

TOP = 50
IMAGE_SIZE, BATCH_SIZE = 64, 16


def profile_here() -> DeviceProfile:
    """Return a profile of this machine's CPU."""
    settings = DeviceSettings(device="cpu", image_size=IMAGE_SIZE, batch_size=BATCH_SIZE)
    space = SPACE.with_target(image_size=IMAGE_SIZE, batch_size=BATCH_SIZE, num_classes=1000)
    make = maker(space.reference, 1000)
    setup = settings.with_execution(settings.setup(space), make, lambda: None)
    return make_profile(space, setup)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="accel-nasbench.tar.gz")
    table = AccelNasBench.load(parser.parse_args().data)
    archs = table.architectures
    params = params_ratio(archs)
    profile = profile_here()
    small = SPACE.with_target(image_size=IMAGE_SIZE)
    here = np.array([profile.model.step_time(arch) for arch in archs])
    macs = np.array([SPACE.count(arch).macs for arch in archs], dtype=np.float64)
    small_macs = np.array([small.count(arch).macs for arch in archs], dtype=np.float64)
    shown = Table(title=f"the {TOP} best by reward when MACs replace the step time")
    for heading in ("device", "changed", "reward lost", "Spearman of S and MACs"):
        shown.add_column(heading, justify="right", no_wrap=True)
    cases = [(name, table.step_time(device), macs) for device, name in DEVICES.items()]
    for name, step_time, counted in [*cases, ("this CPU", here, small_macs)]:
        known = np.isfinite(step_time)
        shown.add_row(
            name, *row(table.accuracy[known], step_time[known], counted[known], params[known])
        )
    screen = Console(width=100)
    screen.print(shown)
    error = profile.step_time_error
    screen.print(
        f"this CPU: {profile.hardware}; error of the profile {error.mean_absolute:.1%} "
        f"({error.mean_absolute_low:.1%} to {error.mean_absolute_high:.1%}), Spearman "
        f"{error.spearman:.3f}, on {error.networks} unseen networks"
    )


def row(
    accuracy: NDArray[np.float64],
    step_time: NDArray[np.float64],
    macs: NDArray[np.float64],
    params: NDArray[np.float64],
) -> tuple[str, str, str]:
    """Return the cells for one device; all arguments are [N]."""
    by_time, by_macs = (
        accuracy * (cost / np.median(cost)) ** -0.07 * params**-0.05 for cost in (step_time, macs)
    )
    shared = set(np.argsort(-by_time)[:TOP]) & set(np.argsort(-by_macs)[:TOP])
    lost = 1 - by_time[by_macs.argmax()] / by_time.max()
    return (
        f"{TOP - len(shared)} of {TOP}",
        f"{lost:.2%}",
        f"{spearmanr(step_time, macs).statistic:.3f}",
    )


if __name__ == "__main__":
    main()
