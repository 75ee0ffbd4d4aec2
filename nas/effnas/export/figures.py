"""Figures of an exported network, each with how and where it was found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from effnas.arch.counts import count
from effnas.config.text import counted, share_text
from effnas.data.named import is_timm_name
from effnas.export.network import Network
from effnas.scaling.family_file import Member
from effnas.search.cost_estimate import memory_text
from effnas.trials.run import Run
from effnas.trials.step_unit import StepUnit
from effnas.trials.trial import Trial
from effnas.workflows.finals.folder import Final
from effnas.workflows.train.provenance import Outcome, Trained

#: `told`: by the program that ran the search, which does not say how it found it.
How = Literal["counted", "measured", "predicted", "from a table", "from a command", "told"]
_SOURCES: dict[str, How] = {
    "measured": "measured",
    "predicted": "predicted",
    "table": "from a table",
    "command": "from a command",
}


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        name: In words.
        value: A share, seconds, bytes, or a count.
        text: The value as it is shown.
        how: How it was found.
        at: Device, sizes and everything else that it depends on.
    """

    name: str
    value: float
    text: str
    how: How
    at: str


def figures_of(network: Network) -> tuple[Figure, ...]:
    """Return all figures: counts, those of the weights, of the trial and of the family."""
    found = list(_counts(network))
    if network.trained and network.trained.outcome:
        found += _of_training(network.trained, network.trained.outcome)
    if network.final:
        found += _of_final(network.final)
    if network.run and network.trial:
        found += _of_trial(network.run, network.trial)
    if network.member:
        found += _of_member(network.member)
    return tuple(found)


def data_name(name: str) -> str:
    """Return the name of a data set, without its folders."""
    return name if is_timm_name(name) and not Path(name).exists() else Path(name).name


def _counts(network: Network) -> Iterator[Figure]:
    counts = count(network.arch, network.image_size, network.num_classes)
    classes, size = f"{network.num_classes} classes", f"one image of {network.image_size} px"
    for name, value, at in (
        ("params", counts.params, classes),
        ("multiply-accumulates", counts.macs, f"{size}, {classes}"),
        ("activations", counts.activations, f"{size}, {classes}"),
    ):
        yield Figure(name, value, f"{value:,}", "counted", at)


def _of_training(trained: Trained, outcome: Outcome) -> Iterator[Figure]:
    manifest = trained.manifest
    size = f"{manifest.eval_image_size} px"
    if outcome.accuracy is not None:
        chosen = ", which the epoch was chosen by" if trained.is_best else ""
        yield _accuracy(
            "accuracy of these weights",
            outcome.accuracy,
            f"{manifest.data.minival:,} held-out images of {size}{chosen}, after {outcome.epoch} "
            f"of {counted(outcome.epochs, 'epoch')}",
        )
    if outcome.test:
        yield _accuracy(
            "accuracy of these weights on the test part",
            outcome.test.accuracy,
            f"{counted(outcome.test.images, 'image')} of {size}, part {outcome.test.part!r} of "
            f"{data_name(manifest.data.name)}",
        )
    steps = (
        f"all steps of {counted(outcome.epochs, 'epoch')} of "
        f"{counted(manifest.data.images, 'image')}"
    )
    name, at = "time of the training of these weights", f"{steps}, {manifest.hardware}"
    yield Figure(name, outcome.train_time_s, _duration(outcome.train_time_s), "measured", at)


def _of_final(final: Final) -> Iterator[Figure]:
    recipe, result = final.recipe, final.result
    share = share_text(recipe.data_share) if recipe.data_share else "all"
    after = f"after {counted(result.epochs, 'epoch')} of {share} of the training images"
    yield _accuracy(
        "accuracy of these weights",
        cast("float", result.accuracy),
        f"held-out images of {recipe.eval_image_size} px, {after}",
    )
    if final.test and final.test_accuracy is not None:
        yield _accuracy(
            "accuracy of these weights on the test part",
            final.test_accuracy,
            f"{counted(final.test.images, 'image')} of {recipe.eval_image_size} px, part "
            f"{final.test.part!r} of {final.test.data}",
        )


def _of_trial(run: Run, trial: Trial) -> Iterator[Figure]:
    metrics, measured = trial.metrics, trial.measurement
    if "accuracy" in metrics:
        training = f"after a short training: {measured.fidelity or 'not known'}"
        how: How = "measured" if measured.fidelity else "told"
        yield _accuracy(
            "accuracy in the search",
            metrics["accuracy"],
            f"held-out images, {training}; not that of the weights here",
            "predicted" if trial.is_predicted else how,
        )
    target = run.space.target
    batch_size = run.manifest.timing_batch_size or target.batch_size
    step = f"training step of {counted(batch_size, 'image')} of {target.image_size} px"
    place = f"{step}, {measured.hardware or 'device not known'}"
    how = _SOURCES.get(measured.step_time_source, "told")
    if (ratio := metrics.get("step_time")) is not None:
        is_over_reference = run.step_unit is StepUnit.REFERENCE
        whose = "the reference network's" if is_over_reference else run.step_unit.value
        yield Figure(f"S, step time over {whose}", ratio, f"{ratio:.3f}", how, place)
        if (unit_s := run.reference_step_s) is not None:
            yield _step_time(ratio * unit_s, how, place)
    if "peak_memory_bytes" in metrics:
        on_gpu = run.manifest.device.get("device") == "cuda"
        # Off CUDA it is the result of a dry run (`effnas.timing.memory`).
        if on_gpu or how != "measured":
            yield _memory(metrics["peak_memory_bytes"], how, place)
        else:
            yield _memory(metrics["peak_memory_bytes"], "predicted", f"{step}, by a dry run")


def _of_member(member: Member) -> Iterator[Figure]:
    step = f"training step of {counted(member.batch_size, 'image')} of {member.train_image_size} px"
    step += f", {member.num_classes} classes"
    costs, device = member.costs, member.hardware or "device not known"
    if "step_time_s" in costs:
        yield _step_time(costs["step_time_s"], "predicted", f"{step}, {device}")
    if "peak_memory_bytes" in costs:
        yield _memory(costs["peak_memory_bytes"], "predicted", f"{step}, float32, by a dry run")
    training = f"{counted(member.epochs, 'epoch')} of {counted(member.images, 'image')}, {device}"
    for name, key, how in (
        ("training", "train_time_s", f"images of {member.train_image_size} px"),
        ("training with growing images", "progressive_train_time_s", "images that grow"),
    ):
        if key in costs:
            at = f"{training}, {how}"
            yield Figure(f"time of a {name}", costs[key], _duration(costs[key]), "predicted", at)


def _accuracy(name: str, value: float, at: str, how: How = "measured") -> Figure:
    return Figure(name, value, f"{value:.4f}", how, at)


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:,.2f} h" if seconds >= 360 else f"{seconds:.1f} s"


def _step_time(seconds: float, how: How, at: str) -> Figure:
    return Figure("step time", seconds, f"{seconds * 1e3:,.1f} ms", how, at)


def _memory(count: float, how: How, at: str) -> Figure:
    return Figure("peak memory", count, memory_text(count), how, at)
