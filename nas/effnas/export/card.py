"""The model card: the README.md of an export, in the format of Hugging Face."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from string import Template

from effnas.config.text import counted
from effnas.export.figures import Figure, data_name
from effnas.export.network import Network
from effnas.export.programs import Check
from effnas.export.weights import SEED
from effnas.trials.manifest import versions
from effnas.trials.manifest_parts import RewardPart
from effnas.workflows.train.provenance import Trained

_TEMPLATE = Path(__file__).with_name("card.tmpl")
_LONGEST = 300
_ONNX = """
With onnxruntime, on any number of images of {size} × {size} pixels:

```python
import numpy
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
images = numpy.zeros((1, 3, {size}, {size}), numpy.float32)
(logits,) = session.run(None, {{"images": images}})
```
"""
_TORCH_EXPORT = """
With torch alone, likewise:

```python
import torch

network = torch.export.load("model.pt2").module()
```
"""


def card(
    network: Network, figures: Iterable[Figure], checks: Sequence[Check], *, is_random: bool
) -> str:
    """Return the text of the card, which names no path of this machine."""
    files = {check.file for check in checks}
    programs = "".join(
        text.format(size=network.image_size)
        for file, text in (("model.onnx", _ONNX), ("model.pt2", _TORCH_EXPORT))
        if file in files
    )
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        name=network.name,
        image_size=network.image_size,
        num_classes=network.num_classes,
        weights=_weights(network, is_random),
        figures=_rows([one.name, one.text, one.how, one.at] for one in figures),
        training=_training(network),
        stem=network.arch.stem,
        stem_stride=network.arch.stem_stride,
        head=network.arch.head,
        blocks="\n".join(f"- `{block}`" for block in network.arch.blocks),
        programs=programs,
        checks=_rows(
            [
                f"`{check.file}`",
                f"{check.difference:.2g}",
                f"{check.largest_logit:.2g}",
                f"{check.allowed:.2g}",
                " and ".join(map(str, check.batch_sizes)),
            ]
            for check in checks
        ),
        provenance="\n".join(f"- {name}: {text}" for name, text in _provenance(network)),
    )


def _weights(network: Network, is_random: bool) -> str:
    if is_random:
        return (
            f"**The weights are random** (seed {SEED}): the network is not trained, and its "
            "outputs mean nothing."
        )
    if network.trained:
        return _trained_weights(network.trained)
    if network.final:
        return (
            "The weights are those of a training in the finals of the search (`effnas promote`), "
            "the moving averages of batch norm with them."
        )
    return (
        "The weights are those of a file that was given; what they were trained on, and how well, "
        "is not known."
    )


def _trained_weights(trained: Trained) -> str:
    outcome = trained.outcome
    if outcome is None:
        epoch = "the best epoch so far of a training that had not ended"
    elif not trained.is_best:
        epoch = f"the last of {counted(outcome.epochs, 'epoch')} of a training"
    else:
        which = "that of the highest accuracy" if trained.manifest.data.minival else "the last"
        epoch = f"epoch {outcome.epoch} of {outcome.epochs}, {which}, of a training"
    average = (
        ""
        if trained.manifest.recipe.ema_decay is None
        else "; they are a moving average over its steps"
    )
    return f"The weights are those of {epoch} (`effnas train`){average}."


def _training(network: Network) -> str:
    if network.trained:
        return _training_done(network.trained)
    member = network.member
    if not member:
        return ""
    return (
        f"\n## Training\n\nMember {_code(member.name)} of a family by the rules "
        f"{_code(member.family)}: train it with images of up to {member.train_image_size} "
        f"pixels and use it at {member.image_size}, with a regularization that grows from the "
        f"start to the end of the training:\n{_strengths(member.strengths)}"
    )


def _training_done(trained: Trained) -> str:
    first, last = trained.image_size
    recipe = trained.manifest.recipe
    sizes = f"{first} to {last}" if first != last and recipe.regime != "fixed" else f"{last}"
    ramps = {
        # Only adaptive regimes start with strengths other than the last.
        name: (ramp.first if recipe.regime.endswith("adaptive") else ramp.last, ramp.last)
        for name, ramp in trained.strengths.items()
    }
    regularised = f", with this regularization:\n{_strengths(ramps)}" if ramps else ".\n"
    return (
        f"\n## Training\n\nBy the regime {_code(recipe.regime)}, with images of {sizes} pixels "
        f"in batches of {recipe.batch_size}{regularised}"
    )


def _strengths(ramps: Mapping[str, tuple[float, float]]) -> str:
    rows = [[name, f"{first:g}", f"{last:g}"] for name, (first, last) in ramps.items()]
    return f"\n| strength | start | end |\n|---|---|---|\n{_rows(rows)}\n"


def _provenance(network: Network) -> Iterator[tuple[str, str]]:
    """Yield names and texts in Markdown."""
    yield "architecture", network.arch.id
    if network.run and network.trial:
        manifest = network.run.manifest
        yield "search space", f"{_code(data_name(manifest.space.name))} ({network.run.space.id})"
        yield "search", _bare(f"created {manifest.created}, seed {manifest.seed}")
        yield "trial", f"{network.trial.number} of {len(network.run.trials)}"
        yield "reward", _reward(manifest.reward)
        if network.run.objectives:
            yield "objectives", _code(str(network.run.objectives))
        yield "data", _code(data_name(manifest.data.name))
        yield "versions in the search", _bare(_versions(manifest.versions))
    if network.final:
        final = network.final
        yield (
            "weights",
            _bare(
                f"seed {final.result.repeat} in the finals of {final.run}, a search that began "
                f"{final.created}"
            ),
        )
    if network.trained:
        trained = network.trained.manifest
        start = ", from weights that were given" if trained.weights else ""
        yield (
            "weights",
            _bare(f"a training that began {trained.created}, seed {trained.seed}{start}"),
        )
        yield "images of the training", _code(data_name(trained.data.name))
    if network.member:
        yield "scaled from", _code(data_name(network.member.base))
    yield "versions in this export", _versions(versions())


def _reward(stored: RewardPart) -> str:
    if stored.kind != "expression":
        return f"the Python function {_code(stored.name)}"
    return _code(stored.text)


def _versions(found: Mapping[str, str]) -> str:
    return ", ".join(
        f"{name} {found[name]}" for name in ("effnas", "torch", "timm") if name in found
    )


def _rows(rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(_bare(cell) for cell in row)} |" for row in rows)


def _bare(text: str) -> str:
    """Return a text of a file as one line without markup."""
    return re.sub(r"[|<>\[\]]", r"\\\g<0>", _line(text))


def _code(text: str) -> str:
    """Return a text of a file as one line of code."""
    return f"`{_line(text).replace('`', '')}`"


def _line(text: str) -> str:
    return " ".join(text.split())[:_LONGEST]
