"""From a finished search to its finals: who takes part, longer trainings, and the pick."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from effnas.config import EvaluationConfig, Execution, Recipe
from effnas.errors import ConfigError
from effnas.promotion.finalists import Finalist, choose_finalists
from effnas.promotion.folder import WEIGHTS, FinalsFolder, Result
from effnas.promotion.report import FinalsReport, make_report
from effnas.reward import Reward
from effnas.runs import Run, load_run
from effnas.store import CHECKPOINTS, Json
from effnas.workers import Workers, share_out

if TYPE_CHECKING:
    from effnas.promotion.tune import Schedule

#: Epochs of a final over those of the search's trainings.
_LONGER = 4


@dataclass(frozen=True, kw_only=True)
class FinalsSettings:
    """What the user asked for.

    Attributes:
        run: Folder of the search.
        out: Folder of the finals.
        top: Trials by reward; as many more at most from the front.
        seeds: Trainings of each.
        recipe: What differs from the search's recipe, by name; None is as in the search, but for
            `epochs` (four times as many) and `data_share` (1: all images).
        data: Where the images are now; None takes the place that the run stored.
        data_root: Folder of a timm data set, likewise.
        workers: Where trainings run.
    """

    run: Path
    out: Path
    top: int = 5
    seeds: int = 3
    recipe: Mapping[str, int | float | None] = field(default_factory=dict)
    data: str | None = None
    data_root: Path | None = None
    workers: Workers = field(default_factory=Workers)

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ConfigError(f"--seeds is {self.seeds}, it must be 1 or more")


class FinalsObserver(Protocol):
    """Is told what happens, to show it."""

    def planned(
        self, run: Run, finalists: Sequence[Finalist], recipe: Recipe, schedule: Schedule
    ) -> None:
        """The trainings are about to begin."""
        ...

    def trained(self, finalist: Finalist, result: Result, reward: float | None) -> None:
        """A training has come to a level."""
        ...


def launch_finals(settings: FinalsSettings, observer: FinalsObserver) -> FinalsReport:
    """Train the best of a search longer; what the folder holds is not trained again.

    Raises:
        UserError: If something given is wrong; what is stored already stays.
        SearchFailedError: If a training fails time after time.
    """
    run = load_run(settings.run)
    finalists = choose_finalists(run, settings.top)
    score = _scorer(run)
    for finalist in finalists:
        score(finalist, finalist.trial.metrics.get("accuracy", 0.5))  # it can be scored
    from effnas.promotion.tune import Candidate, Schedule, train_all

    recipe = _recipe(run, settings)
    schedule = Schedule.of(recipe.epochs, settings.seeds)
    with FinalsFolder.open(settings.out) as folder:
        results = folder.begin(_manifest(run, finalists, recipe, settings))
        observer.planned(run, finalists, recipe, schedule)
        share = share_out(settings.workers)
        config = replace(_config(run, recipe, settings), device=share.device, threads=share.threads)
        by_name = {finalist.trial.architecture.id: finalist for finalist in finalists}

        def took(result: Result) -> None:
            folder.add(result)
            results.append(result)
            finalist = by_name[result.candidate]
            accuracy = result.accuracy
            observer.trained(
                finalist, result, None if accuracy is None else score(finalist, accuracy)
            )

        train_all(
            [
                Candidate(name=name, architecture=f.trial.architecture, config=config)
                for name, f in by_name.items()
            ],
            schedule,
            list(results),
            cpus=share.cpus,
            gpus=share.gpus,
            score=lambda name, accuracies: (
                sum(score(by_name[name], a) for a in accuracies) / len(accuracies)
            ),
            on_result=took,
        )
        shutil.rmtree(settings.out / CHECKPOINTS, ignore_errors=True)
    return make_report(finalists, schedule, results, score)


def _scorer(run: Run) -> Callable[[Finalist, float], float]:
    """Return what scores a finalist with the accuracy of its final: S and P are the search's."""
    stored = cast("dict[str, str]", run.manifest["reward"])
    if stored["kind"] == "function":
        raise ConfigError(
            f"{run.path}: its reward is a Python function ({stored['name']}), which finals do not "
            "run; score the run with an expression first: `effnas search ... --reward`"
        )
    reward = Reward.load(stored["text"])

    def score(finalist: Finalist, accuracy: float) -> float:
        return reward.score({**finalist.trial.metrics, "accuracy": accuracy})

    return score


def _recipe(run: Run, settings: FinalsSettings) -> Recipe:
    stored = Recipe(**cast("dict[str, Any]", run.manifest["recipe"]))
    longer = replace(stored, epochs=_LONGER * stored.epochs, data_share=1.0)
    return longer.overridden(**settings.recipe)


def _config(run: Run, recipe: Recipe, settings: FinalsSettings) -> EvaluationConfig:
    data = cast("dict[str, str | None]", run.manifest["data"])
    place = settings.data or data.get("path") or data.get("name")
    if place and Path(place).exists():
        place = str(Path(place).absolute())
    folder = settings.out.absolute()
    return EvaluationConfig(
        space_text=run.space.to_text(),
        data=place,
        data_root=str(settings.data_root.absolute()) if settings.data_root else data.get("root"),
        on_bad_image="skip" if data.get("on_bad_image") == "skip" else "refuse",
        recipe=recipe,
        seed=cast("int", run.manifest.get("seed", 0)),
        execution=Execution(**cast("dict[str, Any]", run.manifest["execution"])),
        step_times=None,
        checkpoints=str(folder / CHECKPOINTS),
        weights=str(folder / WEIGHTS),
    )


def _manifest(
    run: Run, finalists: Sequence[Finalist], recipe: Recipe, settings: FinalsSettings
) -> dict[str, Json]:
    return {
        "run": run.path.resolve().name,
        "run created": run.manifest.get("created"),
        "finalists": [finalist.trial.architecture.id for finalist in finalists],
        "recipe": dict(recipe.to_dict()),
        "seeds": settings.seeds,
    }
