"""Uniform compound scaling against EfficientNetV2's, of one base and at equal predicted step time.

    python benchmarks/scaling.py runs/first:12 --data tiny-imagenet-20.tar.gz [--members m]

The base grows by the rules of V2 (later stages gain the most layers, a stage is added, images stay
small) and by EfficientNet's coefficients (all stages and the image alike), with the exponent whose
predicted step time is closest to that of V2's member. Both are trained from random weights with
three seeds by the recipe of the base's run, on all training images, for `--epochs`; the base can
also be an architecture file. Trainings are stored in `--out`, and resume there.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from effnas.timing.runtime import configure_process

configure_process()

from rich.console import Console  # noqa: E402  # after configure_process, as torch is
from rich.table import Table  # noqa: E402

from effnas import Architecture  # noqa: E402
from effnas.arch.counts import count  # noqa: E402
from effnas.cli.tables import with_spread  # noqa: E402
from effnas.config.recipe import Recipe  # noqa: E402
from effnas.config.recipe_file import default_recipe  # noqa: E402
from effnas.config.settings import EvaluationConfig, Execution  # noqa: E402
from effnas.evaluation.observer import Observer  # noqa: E402
from effnas.evaluation.workers import Workers  # noqa: E402
from effnas.scaling.compound import CompoundScaling  # noqa: E402
from effnas.scaling.family import FamilyMember, scale  # noqa: E402
from effnas.scaling.rules import ScalingRules  # noqa: E402
from effnas.scaling.sizing import MemberCosts  # noqa: E402
from effnas.space.search_space import SearchSpace  # noqa: E402
from effnas.timing.device_settings import DeviceSettings  # noqa: E402
from effnas.timing.layer_times import LayerTimes  # noqa: E402
from effnas.trials.differences import ALL_MUST_MATCH, must_match  # noqa: E402
from effnas.trials.network_ref import find_network  # noqa: E402
from effnas.workflows.trainings.folder import TrainingsFolder, TrainingsManifest  # noqa: E402
from effnas.workflows.trainings.standings import Schedule  # noqa: E402
from effnas.workflows.trainings.train import Candidate, Trainings  # noqa: E402

#: Exponents of compound scaling that are tried.
PHIS = [n / 25 for n in range(1, 151)]


@dataclass(frozen=True, kw_only=True)
class Made(TrainingsManifest):
    """What the trainings are made with."""

    kind: ClassVar[str] = "trainings of a benchmark"

    base: str = field(metadata=must_match("base"))
    recipe: Recipe = field(metadata=ALL_MUST_MATCH)
    seeds: int = field(metadata=must_match("seeds"))


def uniform_like(
    base: Architecture, image_size: int, wanted: float, costs: MemberCosts
) -> FamilyMember:
    """Return the uniformly scaled network whose predicted step time is closest to `wanted`."""
    members = list(scale(base, CompoundScaling().rules(PHIS, image_size=image_size)))
    low, high = 0, len(members) - 1

    def step_time(n: int) -> float:
        return costs.limited(members[n], ["step_time"])["step_time"]

    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if step_time(middle) <= wanted else (low, middle)
    best = min((low, high), key=lambda n: abs(step_time(n) - wanted))
    return replace(members[best], name=f"uniform, {members[best].name}")


def networks(
    base: Architecture, names: Sequence[str], image_size: int, costs: MemberCosts
) -> list[FamilyMember]:
    """Return the base, and for each name V2's member and the uniformly scaled network like it."""
    family = {one.name: one for one in scale(base, ScalingRules.load("v2"),
                                             train_image_size=image_size)}  # fmt: skip
    found = [replace(family["s"], name="base")]
    for name in names:
        member = family[name]
        wanted = costs.limited(member, ["step_time"])["step_time"]
        found += [
            uniform_like(base, image_size, wanted, costs),
            replace(member, name=f"V2, {name}"),
        ]
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", help="RUN:NUMBER, RUN:best or an architecture file")
    parser.add_argument("--data", required=True)
    parser.add_argument("--members", nargs="+", default=["m"], choices=("m", "l", "xl"))
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/scaling-benchmark"))
    arguments = parser.parse_args()
    subject = find_network(arguments.base, None)
    base, run = subject.arch, subject.run
    assert base is not None, f"{arguments.base} cannot be scaled"
    recipe = (run.recipe if run else default_recipe()).overridden(
        epochs=arguments.epochs, data_share=1.0, image_size=arguments.image_size
    )
    setup = DeviceSettings(
        device="cpu", image_size=arguments.image_size, batch_size=recipe.batch_size
    ).setup(None)
    costs = MemberCosts(
        LayerTimes(base, setup), batch_size=recipe.batch_size, num_classes=1000, epochs=1,
        images=1,
    )  # fmt: skip
    members = networks(base, arguments.members, arguments.image_size, costs)
    schedule = Schedule(levels=(arguments.epochs,), seeds=arguments.seeds)
    space = run.space if run else SearchSpace.load("v2-cifar")
    place = Path(arguments.data)
    data = str(place.absolute()) if place.exists() else arguments.data
    config = EvaluationConfig(
        space_text=space.to_text(),
        data=data,
        recipe=recipe,
        execution=Execution(),
        step_times=None,
    )
    with TrainingsFolder.open(arguments.out) as folder:
        results = folder.begin(Made(base=base.id, recipe=recipe, seeds=arguments.seeds))
        trainings = Trainings(
            folder=folder,
            candidates=[
                Candidate(
                    name=one.name,
                    architecture=one.architecture,
                    recipe=recipe.overridden(image_size=one.train_image_size),
                )
                for one in members
            ],
            schedule=schedule,
            results=results,
            score=lambda name, accuracy: accuracy,
            on_result=lambda result: print(result, flush=True),
        )
        trainings.finish(config, Workers(device="cpu"), "accuracy", Observer())
    standings = {one.name: one for one in trainings.ranked([m.name for m in members])}
    table = Table(title=f"{arguments.base}, {arguments.epochs} epochs, {arguments.seeds} seeds")
    for heading in ("", "layers", "px", "params", "MACs", "memory", "predicted S", "accuracy",
                    "training"):  # fmt: skip
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for one in members:
        found = costs.limited(one, ["step_time", "peak_memory_bytes"])
        standing = standings[one.name]
        table.add_row(
            one.name,
            " ".join(str(stage.r) for stage in one.architecture.stages),
            str(one.train_image_size),
            f"{found['params'] / 1e6:.2f} M",
            f"{count(one.architecture, one.train_image_size).macs / 1e6:,.1f} M",
            f"{found['peak_memory_bytes'] / 1e6:,.0f} MB",
            f"{found['step_time']:.2f}",
            with_spread(standing.mean, standing.spread),
            f"{standing.train_time_s / arguments.seeds:.0f} s",
        )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
