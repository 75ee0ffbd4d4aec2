"""The leaderboard of a run: its best trials beside its baselines, and how sure all that is."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import floor, log10
from typing import TYPE_CHECKING

from rich.text import Text

from effnas.cli.tables import (
    PREDICTED,
    SHOWN_NETWORKS,
    Table,
    accuracy_text,
    counted,
    duration,
    networks,
    note,
    number,
    params_text,
    source_text,
    step_text,
    table,
    with_error,
)
from effnas.cli.wording import error_text, guessing_text
from effnas.report.parts import chance_text
from effnas.report.statements import Contender, contenders
from effnas.trials.guessing import WHAT_HELPS
from effnas.trials.reward import Reward
from effnas.trials.step_unit import StepUnit
from effnas.trials.uncertainty import (
    LEVEL,
    Difference,
    Noise,
    RankedTrial,
    Ranking,
)

if TYPE_CHECKING:
    from effnas.arch.architecture import Architecture
    from effnas.cli.tables import Screen
    from effnas.trials.baselines import Baseline
    from effnas.trials.run import Run

_LEVEL = f"{LEVEL * 100:.0f}%"
#: What a warning says where accuracies tell nothing.
LEARNED_NOTHING = (
    "no trial is clearly more accurate than guessing, so the accuracies rank nothing; what helps: "
    f"{WHAT_HELPS}."
)
#: What ranks such as `1-3` mean.
SHARED_RANKS = f"rank: trials that cannot be told apart share their ranks ({_LEVEL})"
#: Trials that are listed by their numbers.
_NAMED = 5


@dataclass(frozen=True)
class Leaderboard:
    """What a run has found.

    Attributes:
        run: The run.
        reward: What its trials are worth; None where that is a function, which is not known here.
        top: Trials that are shown.
    """

    run: Run
    reward: Reward | None
    top: int

    def show(self, screen: Screen) -> None:
        """Print the table, the best networks in full, and what can be believed of it."""
        screen.print(self._table())
        for line in self._legend():
            screen.print(Text(line, style="dim"))
        screen.print()
        shown = self._ranked[: min(self.top, SHOWN_NETWORKS)]
        screen.print(networks(_named(each, is_only=len(self._ranked) == 1) for each in shown))
        chances = [each.best_probability or 0.0 for each in shown]
        if chances != sorted(chances, reverse=True):
            legend = (
                "the best with: how likely a trial is the truly best; the luck in its accuracy is "
                "taken off, so a trial with a lower reward may be likelier"
            )
            screen.print(Text(legend, style="dim"))
        self.show_verdict(screen)

    def show_verdict(self, screen: Screen) -> None:
        """Print how the best compares with guessing and baselines, and whether it is the best."""
        screen.print()
        for line in (self._guessing(), *self._unbuilt(), self._tied()):
            if line:
                screen.print(line)
        if self.learned_nothing:
            note(screen, LEARNED_NOTHING, "Warning")
        if self.comparisons:
            screen.print()
            screen.print(self._compared())
            if self._ranked.is_known:
                legend = (
                    f"±: half of the {_LEVEL} interval; the luck of being chosen is taken off, so "
                    "that less is left than was measured; a baseline known to be good is beaten "
                    "less often than 'better with' says"
                )
                screen.print(Text(legend, style="dim"))
            self._judge(screen)

    def _compared(self) -> Table:
        first = f"{self._best} against"
        found = table(
            first, "better with", "reward", "accuracy", "step time", "params", left=[first],
            spare=["params", "step time"],
        )  # fmt: skip
        for each in self.comparisons:
            gap = each.reward_gap
            found.add_row(
                each.baseline.name,
                "-" if gap is None else chance_text(gap.probability),
                number(each.measured_gap, "{:+z.4f}") if gap is None else _gap_text(gap),
                "-" if each.accuracy_gap is None else _gap_text(each.accuracy_gap),
                number(each.ratio("step_time"), "{:.3g}x"),
                number(each.ratio("params"), "{:.3g}x"),
            )
            if gap is not None:  # luck is taken off these, so that they may have another sign
                measured = (each.measured_gap, each.measured_accuracy_gap)
                cells = (number(value, "{:+z.4f}") for value in measured)
                found.add_row("  as measured", "", *cells, "", "")
        return found

    @property
    def _best(self) -> str:
        return f"trial {self._ranked[0].trial.number}"

    def _judge(self, screen: Screen) -> None:
        """Print in words whether the best is better than the baselines."""
        unbeaten = [each.baseline.name for each in self.comparisons if not each.is_beaten]
        if unbeaten:
            text = (
                f"the best trial does not clearly beat {' and '.join(unbeaten)}; what helps: more "
                "trials, more epochs, more images held out, or another space."
            )
            note(screen, text, "Warning")
        else:
            names = " and ".join(
                each.baseline.name
                + (f" ({chance_text(each.reward_gap.probability)})" if each.reward_gap else "")
                for each in self.comparisons
            )
            screen.print(f"{self._best.capitalize()} is better than {names}.")

    @cached_property
    def comparisons(self) -> list[Contender]:
        """The best trial against each baseline that has a reward."""
        found = contenders(self.run, self.reward, self._ranked) if self.reward else []
        return [each for each in found if each.measured_gap is not None]

    @property
    def learned_nothing(self) -> bool:
        """Whether no trial is clearly more accurate than always guessing the largest class."""
        return self.run.learned_nothing(self._ranked)

    @cached_property
    def _noise(self) -> Noise:
        return self.run.noise

    @cached_property
    def _ranked(self) -> Ranking:
        return self.run.ranking(self.reward)

    @cached_property
    def _reference_step_s(self) -> float | None:
        return self.run.reference_step_s

    def _worth(self, baseline: Baseline) -> float | None:
        return baseline.reward(self.reward) if self.reward else None

    def _error(self, baseline: Baseline) -> float | None:
        if not (trainings := len(baseline.accuracies)):
            return None
        return self._noise.standard_error(baseline.metrics["accuracy"], trainings)

    def _table(self) -> Table:
        found = table(
            "rank", "trial", "reward", "accuracy", "S", "params", "step", "training", key=2,
            left=["trial"], spare=["training", "params"],
        )  # fmt: skip
        for ranked in self._ranked[: self.top]:
            trial = ranked.trial
            head = ranks_text(ranked), str(trial.number), number(trial.reward, "{:z.4f}")
            mark = _mark(trial.metrics, source_text(trial))
            accuracy = accuracy_text(trial, ranked.accuracy_error)
            found.add_row(*head, accuracy, *self._cells(trial.metrics, mark))
        for each in self.run.baselines:
            source = each.results[0].step_time_source
            mark = _mark(each.metrics, "" if source in ("measured", "training") else source)
            head = "-", each.name, number(self._worth(each), "{:z.4f}")
            known = each.metrics.get("accuracy")
            accuracy = "-" if known is None else with_error(known, self._error(each))
            found.add_row(*head, accuracy, *self._cells(each.metrics, mark))
        return found

    def _cells(self, m: Mapping[str, float], mark: str) -> Iterator[str]:
        """Return S, params, step and training."""
        interval = ""
        if "step_time_low" in m:
            interval = f" ±{(m['step_time_high'] - m['step_time_low']) / 2:.3f}"
        yield mark + number(m.get("step_time"), "{:.3f}") + interval
        yield params_text(m["params"]) if "params" in m else "-"
        reference_s = self._reference_step_s
        yield step_text(m["step_time"] * reference_s) if reference_s and "step_time" in m else "-"
        yield duration(m["train_time_s"]) if "train_time_s" in m else "-"

    def _legend(self) -> Iterator[str]:
        """Return what the marks of the table mean, of those that it has."""
        shown = [each.trial for each in self._ranked[: self.top]]
        if len(shown) < (count := len(self._ranked)):
            command = f"effnas status {shlex.quote(str(self.run.path))} --top {count}"
            yield f"the best {len(shown)} of {count:,} complete trials; `{command}` shows all"
        if any(each.rank < each.last_rank for each in self._ranked[: self.top]):
            yield SHARED_RANKS
        if self.reward and (text := error_text(self._noise, "the baselines'")):
            yield text
        metrics = [t.metrics for t in shown] + [b.metrics for b in self.run.baselines]
        has_interval = any("step_time_low" in m for m in metrics)
        interval = ", ± half of its 95% interval" if has_interval else ""
        if reference_s := self._reference_step_s:
            unit = self.run.step_unit
            median = ", the median of this run" if unit is StepUnit.REFERENCE else ""
            yield (
                f"S: over {unit.value} step{interval}; step: S times {unit.value} "
                f"{step_text(reference_s)}{median}"
            )
        if any(t.measurement.step_time_source == "training" for t in shown):
            yield "S and step: of steps of the training's last stage, by the image, not timed apart"
        if any(m.get("step_time_settled", 1.0) < 1 for m in metrics):
            yield "* the time limit ended the timing before S was known to 2%"
        if sources := sorted({source_text(t).strip() for t in shown} - {""}):
            yield f"~ S is not measured: {' or '.join(sources)}"
        if any(trial.is_predicted for trial in shown):
            yield PREDICTED

    def _guessing(self) -> str:
        """Return the accuracies of networks that have learned nothing."""
        return guessing_text(self.run.manifest.data.guessing)

    def _unbuilt(self) -> Iterator[str]:
        for each in self.run.baselines:
            if each.reason:
                yield f"Baseline {each.name}: {each.reason}"

    def _tied(self) -> str:
        """Return which trials may be the best, and what it would take to know."""
        images, numbers = self._noise.holdout_images, self._ranked.best_set
        if len(numbers) < 2 or not images:
            return ""
        which = ", ".join(
            f"{each.trial.number} ({chance_text(each.best_probability or 0.0)})"
            for each in numbers[:_NAMED]
        )
        if len(numbers) > _NAMED:
            which += f" and {len(numbers) - _NAMED:,} more"
        text = (
            f"{len(numbers):,} trials may be the truly best one (with {_LEVEL}): {which}; "
            f"{counted(images, 'held-out image')} do not tell them apart"
        )
        needed = self._ranked.images_to_tell(2)
        if needed is not None and needed > images:
            text += f"; about {_rounded(needed):,} would tell the first two apart"
        return f"{text}."


def _gap_text(gap: Difference) -> str:
    return f"{gap.expected:+z.4f} ±{(gap.high - gap.low) / 2:.3f}"


def _named(ranked: RankedTrial, *, is_only: bool) -> tuple[str, object]:
    trial = ranked.trial
    trained = trial.metrics.get("train_time_s")
    name = f"rank {ranks_text(ranked)} · trial {trial.number}"
    if trained is not None:
        name += f" · trained in {duration(trained)}"
    elif trial.is_predicted:
        name += f" · {trial.measurement.fidelity}"
    if ranked.best_probability is not None and not is_only:
        name += f" · the best with {chance_text(ranked.best_probability)}"
    return name, network_text(trial.architecture)


def network_text(arch: Architecture) -> str:
    """Return a network, and what was decided of its recipe."""
    return f"{arch} · {arch.recipe_text}" if arch.recipe else str(arch)


def ranks_text(ranked: RankedTrial) -> str:
    """Return its rank, or the ranks that it shares with others."""
    last = f"-{ranked.last_rank}" if ranked.last_rank > ranked.rank else ""
    return f"{ranked.rank}{last}"


def _mark(metrics: Mapping[str, float], source: str) -> str:
    if source:
        return "~"
    return "*" if metrics.get("step_time_settled", 1.0) < 1 else ""


def _rounded(count: int) -> int:
    """Return a count with two digits that say something."""
    return round(count, min(0, 1 - floor(log10(count))))
