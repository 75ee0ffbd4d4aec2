"""What trials are trained by: the recipe and what is open of it, their length, and rungs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from effnas.config.recipe_file import DEFAULT, RecipeSpace
from effnas.search.rungs import Rungs

if TYPE_CHECKING:
    from effnas.config.recipe import Recipe
    from effnas.trials.manifest import SearchManifest

#: The `fidelity` of trainings that never pause.
_NO_RUNGS = "none"
#: Trials in all unless a number is given, of trainings of some epochs and of some time.
_BUDGET, _TIMED_BUDGET = 1000, 60
#: Of the time that the winner is to be trained for, what a trial gets, and seconds at least.
_TRIAL_SHARE, _LEAST_TRIAL_S = 1 / 4, 60.0


def trial_time_s(train_time_s: float) -> float:
    """Return how long trials last in a search for a training time: a quarter of it.

    They get a minute at least, or all of a shorter time. What 60 of them find cannot be compared
    at the same cost by whole trainings; learning curves say what is best after the longer time
    (`effnas.trials.learning_curve.best_after`).
    """
    return min(train_time_s, max(_TRIAL_SHARE * train_time_s, _LEAST_TRIAL_S))


def rungs_of(fidelity: str | None) -> Rungs | None:
    """Return the rungs of a `fidelity` that may be `none`, or not given: None.

    Raises:
        ConfigError: If it cannot be read.
    """
    return None if fidelity is None or fidelity == _NO_RUNGS else Rungs.parse(fidelity)


@dataclass(frozen=True, kw_only=True)
class Trainings:
    """The trainings of a search.

    Attributes:
        recipe: Made short.
        recipe_space: The same with what is open of it; None where a stored search goes on, whose
            space has it.
        full_epochs: Of the recipe before it was made short; None where that is not known.
        full_train_time_s: Seconds that the winner is to be trained for; None where trials are not
            by time, or where that is not known.
        rungs: Where they pause.
    """

    recipe: Recipe
    recipe_space: RecipeSpace | None
    full_epochs: float | None
    full_train_time_s: float | None
    rungs: Rungs | None

    @classmethod
    def settle(
        cls,
        name: str | None,
        stored: SearchManifest | None,
        *,
        fidelity: str | None = None,
        closes: bool = False,
        **given: Any,
    ) -> Trainings:
        """Settle the trainings of a new search, or of one that goes on.

        Args:
            name: Name or path of the recipe; None takes that of the stored search, else `DEFAULT`.
            stored: The manifest of the search that goes on.
            fidelity: Rungs as of `Rungs.parse`, which say how long trainings are if nothing else
                does, or `none`: trainings are whole. None makes those by time short by
                `trial_time_s`, but for a stored search of whole ones.
            closes: Whether what is given closes choices of the recipe, and is not refused.
            given: In place of the recipe's own, as of `Recipe.overridden`; None is not given.

        Raises:
            UserError: If something given is wrong.
        """
        rungs = rungs_of(fidelity)
        if rungs and given.get("epochs") is None and given.get("train_time_s") is None:
            given["train_time_s" if rungs.in_seconds else "epochs"] = rungs.at[-1]
        opened: RecipeSpace | None = None
        if stored and stored.recipe and name is None:
            recipe, full_epochs = stored.recipe.overridden(**given), stored.full_epochs
        else:
            found = RecipeSpace.load(name or DEFAULT)
            if closes:
                found = found.without(n for n, value in given.items() if value is not None)
            opened, full_epochs = found.for_trials(**given), found.recipe.epochs
            recipe = opened.recipe
        full_train_time_s = recipe.train_time_s
        if stored and given.get("train_time_s") is None:
            full_train_time_s = stored.full_train_time_s
        elif full_train_time_s and fidelity is None and (not stored or stored.is_made_short):
            recipe = replace(recipe, train_time_s=trial_time_s(full_train_time_s))
        return cls(
            recipe=recipe,
            recipe_space=opened,
            full_epochs=full_epochs,
            full_train_time_s=full_train_time_s,
            rungs=rungs,
        )

    @property
    def default_budget(self) -> int:
        """Trials in all unless a number is given."""
        return _BUDGET if self.recipe.train_time_s is None else _TIMED_BUDGET

    @property
    def default_reward(self) -> str:
        """What is maximized unless it is said: a training time has what a step costs in it."""
        return "v2" if self.recipe.train_time_s is None else "accuracy"
