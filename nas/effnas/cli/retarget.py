"""`effnas retarget`: what is best on another device, what moved, why, and what that cost."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from rich.text import Text

from effnas.cli.following import after_search
from effnas.cli.leaderboard import network_text
from effnas.cli.report import SearchReportingCommand
from effnas.cli.tables import (
    PREDICTED,
    SHOWN_NETWORKS,
    counted,
    duration,
    networks,
    number,
    scores_text,
    table,
    trial_line,
)
from effnas.trials.trial import TrialState
from effnas.workflows.retarget import launch
from effnas.workflows.retarget.launch import Retargeted, RetargetObserver
from effnas.workflows.retarget.settings import RetargetSettings

if TYPE_CHECKING:
    from effnas.search.search import Search
    from effnas.trials.run import Run
    from effnas.trials.trial import Trial
    from effnas.workflows.retarget.retargeting import Candidate

#: New trainings that are proposed at least where accuracies are predictions.
_TRAININGS = 5
#: Rows of the table.
_TOP = 10
#: Trials without a row in a table that are named.
_NAMED = 3
#: Step times that differ by a smaller share are called the same.
_SAME = 0.01
#: Of a candidate, in JSON.
_SHOWN = (
    "rank", "old_rank", "reward", "reward_deviation", "old_reward", "step_time",
    "step_time_deviation", "slowdown", "timed", "accuracy_deviation",
)  # fmt: skip


class RetargetCommand(SearchReportingCommand[RetargetSettings, Retargeted], RetargetObserver):
    """Shows the plan, a line per new training, the new ranking, and what it cost."""

    begins = "reading the run"
    stored = "What was timed and trained"
    _timed = 0

    def work(self) -> Retargeted:
        found = launch.retarget(self.settings, self)
        self.write_report(found)
        return found

    def search(self, found: Retargeted) -> Search:
        return found.search

    def planned(self, parent: Run, hardware: str, step_times: str, timings: int) -> None:
        self._timings, new = timings, self.settings.budget
        seconds = parent.recipe.train_time_s
        self.plan(
            ("finished run", f"{parent.path}: {counted(len(parent.trials), 'trial')} on "
                             f"{parent.manifest.hardware}"),
            ("new run", f"{self.settings.out}: {hardware}"),
            ("step times", f"{step_times}; of at most {counted(timings, 'trial')}"),
            ("accuracies", "" if seconds is None else
             f"trained for {seconds:g} s of the old device: predicted from learning curves, by "
             "the steps that fit in there"),
            ("trainings", "no new ones" if not new else f"{counted(new, 'new one')} at most"
             + ("" if seconds is None else ", of new networks and of known ones again")),
        )  # fmt: skip
        if hardware == parent.manifest.hardware:
            self.note(
                "this is the device that the run was timed on: what moves is the noise of timing."
            )
        self.preparing("timing")

    def timed(self, trial: Trial) -> None:
        self._timed += 1
        self.preparing(f"timed {self._timed} of {self._timings}")
        if trial.state is not TrialState.COMPLETE:
            self.screen.print(Text.assemble(f"trial {trial.number}  ", trial_line(trial, None, "")))

    def trained(self, trial: Trial, search: Search) -> None:
        self.preparing("training")
        text = trial_line(trial, search, f"trained: {scores_text(trial)}")
        self.screen.print(Text.assemble(f"trial {trial.number}  ", text))

    def payload(self, found: Retargeted) -> dict[str, Any]:
        numbers = _numbers(found)
        rows = [
            {
                "trial": numbers[c.architecture.id],
                "architecture": str(c.architecture),
                "architecture_id": c.architecture.id,
                **{name: getattr(c, name) for name in _SHOWN},
                "old_step_time": c.old_metrics.get("step_time"),
                **{name: c.metrics[name] for name in ("accuracy", "params_ratio")},
                "old_accuracy": c.old_metrics.get("accuracy"),
            }
            for c in found.ranking
        ]
        return {
            "run": str(self.settings.out),
            "parent": str(self.settings.run),
            "cost": _cost(found),
            "candidates": rows,
        }

    def show(self, found: Retargeted) -> None:
        numbers, run, comparable = _numbers(found), self.facts(found).run, found.same_unit
        rows = table(
            "rank", "old rank", "trial", "reward", *["old reward"] * comparable, "S",
            *["old S"] * comparable, "accuracy", "P", "against most",
            left=["against most"], key=3,
            spare=["P", "against most" if found.by_time else "accuracy"],
        )  # fmt: skip
        for c in found.ranking[:_TOP]:
            spread = f" ±{2 * c.reward_deviation:.4f}" if c.reward_deviation else ""
            guess = "" if c.timed else f" ±{200 * c.step_time_deviation:.0f}%"
            rows.add_row(
                str(c.rank),
                str(c.old_rank or "-"),
                str(numbers[c.architecture.id]),
                f"{c.reward:z.4f}{spread}",
                *[number(c.old_reward, "{:z.4f}")] * comparable,
                f"{c.step_time:.3f}{guess}",
                *[number(c.old_metrics.get("step_time"), "{:.3f}")] * comparable,
                "~" * (c.accuracy_deviation > 0) + f"{c.metrics['accuracy']:.4f}",
                f"{c.metrics['params_ratio']:.3f}",
                _against_most(c),
            )
        self.screen.print(rows)
        legend = (
            "old: in the finished run; against most: S over what it was, beside the median of all"
        )
        self.screen.print(Text(legend, style="dim"))
        if any(c.accuracy_deviation for c in found.ranking[:_TOP]):
            self.screen.print(Text(PREDICTED, style="dim"))
        if not comparable:
            legend = (
                f"S is over {run.step_unit.value} step here, and over "
                f"{found.parent.step_unit.value} in the finished run: S and rewards do not compare "
                "with those there; ranks do, under a reward such as v2"
            )
            self.screen.print(Text(legend, style="dim"))
        self.screen.print()
        self.screen.print(
            networks(
                (
                    f"rank {c.rank} · trial {numbers[c.architecture.id]} · "
                    f"{_why(c, comparable)}{_accuracy_text(c) if found.by_time else ''}",
                    network_text(c.architecture),
                )
                for c in found.ranking[:SHOWN_NETWORKS]
            )
        )
        self.say(self._what_differs(found))
        if found.by_time and found.parent.baselines:
            self.note("baselines are left out: how accurate they are there is not known.")
        if lacking := found.not_in_table:
            named = ", ".join(str(trial.number) for trial in lacking[:_NAMED])
            more = f" and {len(lacking) - _NAMED} more" if len(lacking) > _NAMED else ""
            self.note(
                f"the table has no row for {counted(len(lacking), 'trial')} of the run, left out "
                f"here: {named}{more}.", "Warning",
            )  # fmt: skip
        if guessed := sum(not c.timed for c in found.ranking):
            more = " More --timings tell whether number 1 is one." * (not found.ranking[0].timed)
            self.say(
                f"\nNot timed: {guessed} of {counted(len(found.ranking), 'candidate')}; there, S "
                f"is a guess with the 95% interval shown, from those that were.{more}"
            )
        was_best = next((c for c in found.ranking if c.old_rank == 1), None)
        if was_best:
            best = next((c for c in found.ranking if c.timed), found.ranking[0])
            gain = best.reward / was_best.reward - 1 if was_best.reward else 0.0
            has = "is expected to have" if best.accuracy_deviation else "has"
            unsure = ""
            if best.accuracy_deviation and was_best.reward:
                unsure = f" (±{2 * best.reward_deviation / abs(was_best.reward):.0%})"
            other = (
                f"; the best that was timed, trial {numbers[best.architecture.id]}, {has} "
                f"{gain:.2%} more reward{unsure}"
            )
            self.say(
                f"\nThe best of the finished run, trial {numbers[was_best.architecture.id]}, is "
                f"now number {was_best.rank}{'' if best is was_best else other}."
            )
        cost = _cost(found)
        self.say(
            f"Cost: {counted(cost['timings'], 'step time')}{_in(cost['timings_s'])}, "
            f"{counted(cost['trainings'], 'new training')}{_in(cost['trainings_s'])}"
            + (f", {again:,} of known networks" if (again := len(found.trained_again)) else "")
            + ". "
            f"The finished run took {duration(cost['from_scratch_s'])} for its "
            f"{counted(cost['from_scratch_trials'], 'trial')}, as a search from scratch would."
        )
        self.say(f"Stored in {self.settings.out}.")
        self.say_report()
        self.next(*(words for _, words in after_search(run, self.facts(found).ranked)))

    def _what_differs(self, found: Retargeted) -> str:
        """Return what is another device's, and how sure that is."""
        if not found.by_time:
            return "A and P are as in the finished run: on another device, S alone differs."
        deviations = [c.accuracy_deviation for c in found.ranking if c.accuracy_deviation]
        if not deviations:
            return "P is as in the finished run; no accuracy is a prediction."
        text = (
            "P is as in the finished run. Accuracy there is predicted from learning curves for "
            f"{len(deviations):,} of {counted(len(found.ranking), 'network')}, "
            f"±{100 * median(deviations):.1f} points (a standard deviation)"
        )
        more = max(2 * self.settings.budget, _TRAININGS)
        return f"{text}; `--budget {more}` trains those that may win."

    def succeeded(self, found: Retargeted) -> bool:
        return found.search.best is not None


def _numbers(found: Retargeted) -> dict[str, int]:
    """Return the trial number of each architecture, by its id."""
    trials = [*found.search.trials, *found.parent.trials]
    return {trial.architecture.id: trial.number for trial in trials}


def _cost(found: Retargeted) -> dict[str, Any]:
    """Return what was spent, and what a search from scratch would have spent."""
    old = {trial.number for trial in found.parent.trials}
    again = {trial.number for trial in found.trained_again}
    timed = [t for t in found.search.trials if t.number in old and "step_time" in t.metrics]
    new = [t for t in found.search.trials if t.number not in old or t.number in again]
    before = [t.duration_s for t in found.parent.trials if t.duration_s is not None]
    return {
        "timings": len(timed),
        "timings_s": sum(t.duration_s or 0.0 for t in timed if t.number not in again),
        "trainings": len(new),
        "trainings_s": sum(t.duration_s or 0.0 for t in new),
        "trained_again": len(again),
        "from_scratch_trials": len(found.parent.trials),
        "from_scratch_s": sum(before),
    }


def _in(seconds: float) -> str:
    """Return ` in 12 s`; nothing for what took no time, such as looking into a table."""
    return f" in {duration(seconds)}" if seconds else ""


def _why(candidate: Candidate, comparable: bool) -> str:
    """Return in words what its step time did to a candidate's rank.

    Args:
        candidate: The candidate.
        comparable: Whether its S compares with the one that it had.
    """
    if candidate.slowdown is None or candidate.old_rank is None:
        return "new"
    if not candidate.timed:
        return "S is a guess"
    if not comparable:
        against = _against_most(candidate)
        than = " than most" * against.endswith("er")
        return f"rank {candidate.old_rank} before; {against}{than}"
    new, old = candidate.step_time, candidate.old_metrics["step_time"]
    if abs(new / old - 1) < _SAME:
        text = f"S {new:.2f} as before"
    else:
        text = f"{'slower' if new > old else 'faster'} here: S {new:.2f} instead of {old:.2f}"
    if candidate.accuracy_deviation:  # which moves ranks, too
        return text
    if new > old and candidate.rank < candidate.old_rank:
        text += ", others slowed more"
    elif new < old and candidate.rank > candidate.old_rank:
        text += ", others gained more"
    return text


def _accuracy_text(candidate: Candidate) -> str:
    """Return in words what became of the accuracy of a trial of equal training time."""
    new, old = candidate.metrics["accuracy"], candidate.old_metrics.get("accuracy")
    if old is None or new == old:
        return ""
    return f"; A {'~' * (candidate.accuracy_deviation > 0)}{new:.3f}, {old:.3f} before"


def _against_most(candidate: Candidate) -> str:
    """Return how its step time changed beside the median of all."""
    if candidate.slowdown is None:
        return "new"
    percent = (candidate.slowdown - 1) * 100
    if abs(percent) < 1:
        return "as most"
    return f"{abs(percent):.0f}% {'slower' if percent > 0 else 'faster'}"
