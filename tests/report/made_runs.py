"""Runs of functions in place of trainings, with texts that somebody hostile has written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from effnas.arch.architecture import Architecture
from effnas.search.search import Search
from effnas.space.search_space import SearchSpace
from effnas.trials.baselines import BaselineResult, grouped
from effnas.trials.manifest import SearchManifest
from effnas.trials.manifest_parts import DataPart, RewardPart, SourcedSpacePart
from effnas.trials.reward import Reward
from effnas.trials.run import Run

#: The last character is of a name that is not UTF-8.
HOSTILE = "</script><script>document.title='taken'</script>]]><b title=\"' onx=1\">&amp;\udce9"
SPACE = SearchSpace.load("tiny")


def metrics_of(accuracy: float, arch: Architecture) -> dict[str, float]:
    counts = SPACE.count(arch)
    ratio = counts.macs / SPACE.count(SPACE.reference).macs
    return {"accuracy": accuracy, "step_time": ratio**0.5, "train_time_s": 2.0}


def made_run(
    evaluate: Callable[[Architecture], dict[str, float]],
    *,
    trials: int = 30,
    controller: str = "random",
    path: Path = Path("a run"),
    text: str = "",
    baseline_accuracy: float | None = None,
) -> Run:
    """Return a run that nobody stored; `text` is in all that others can write."""
    search = Search(SPACE, "v2", controller, 0)
    search.run(evaluate, budget=trials)
    manifest = SearchManifest(
        controller=controller,
        budget=trials,
        space=SourcedSpacePart.of(SPACE, path=text),
        reward=RewardPart.of(Reward.load("v2")),
        data=DataPart(
            name=f"images {text}",
            path=f"images {text}",
            classes=10,
            class_names=tuple(f"{n} {text}" for n in range(10)),
            train_images=1000,
            holdout_images=2000,
        ),
        hardware=f"device {text}",
        device={"name": text},
    )
    results = [
        BaselineResult(
            baseline=f"net {text}",
            network=text,
            repeat=repeat,
            metrics={"accuracy": baseline_accuracy, "step_time": 1.0, "params_ratio": 1.0},
            duration_s=3.0,
        )
        for repeat in range(2)
        if baseline_accuracy is not None
    ]
    return Run(path, manifest, SPACE, search.trials, grouped(results))
