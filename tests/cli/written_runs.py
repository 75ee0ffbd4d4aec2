"""A finished search, written without running it."""

from __future__ import annotations

from pathlib import Path

from command_line import SMALL

from effnas import Architecture, Measurement, SearchSpace, Trial, TrialState
from effnas.config.recipe import Recipe
from effnas.config.settings import Execution
from effnas.trials.manifest import SearchManifest
from effnas.trials.manifest_parts import DataPart, RewardPart, SourcedSpacePart
from effnas.trials.store import RunFolder


def write_run(path: Path, state: TrialState = TrialState.COMPLETE) -> None:
    """Write a finished search on the digits, of two small networks."""
    space = SearchSpace.load(SMALL).with_target(num_classes=10)
    manifest = SearchManifest(
        created="2026-01-01T00:00:00Z",
        space=SourcedSpacePart.of(space),
        reward=RewardPart(name="v2", kind="expression", text="A * S^-0.07 * P^-0.05"),
        data=DataPart(name="digits", path="digits"),
        recipe=Recipe(epochs=1, batch_size=32, flip=False).sized(16, 16),
        execution=Execution(),
    )
    done = state is TrialState.COMPLETE
    with RunFolder.open(path) as folder:
        manifest.write(path)
        for n, first in enumerate(("fused_r1_k3_s2_e1_c8", "mbconv_r1_k3_s2_e1_c8_se0.25")):
            blocks = f"{first} fused_r1_k3_s2_e1_c16"
            arch = Architecture.parse(blocks, stem=space.stem, head=space.head)
            accuracy = 0.5 + n / 10
            metrics = {"accuracy": accuracy, "step_time": 1.0, "params_ratio": 1.0, "params": 1e4}
            trial = Trial(
                number=n,
                architecture=arch,
                state=state,
                measurement=Measurement(metrics=metrics if done else {}),
                reward=accuracy if done else None,
                reason=None if done else "none fits",
            )
            folder.append(trial, durable=True)
