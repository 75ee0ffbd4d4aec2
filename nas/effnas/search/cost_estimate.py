"""What a search is about to cost, and what can be done where that is too much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import TYPE_CHECKING

from effnas.config.text import counted, share_text
from effnas.space.summary import feasible_share
from effnas.trials.trial import TrialState
from effnas.trials.worker_info import WorkerInfo

if TYPE_CHECKING:
    from effnas.search.baselines import PlannedBaseline
    from effnas.search.search import Search

_DAY_S = 86_400.0
#: Seconds that any trial may take.
_LEAST_TIMEOUT_S = 1_800.0


@dataclass(frozen=True)
class CostEstimate:
    """A search before it starts.

    Attributes:
        search: The search, with the trials that are stored already.
        prepared: What the first worker has found out.
        budget: Trials in all.
        trials_left: Trials still to run.
        trial_s: Seconds of one trial: the mean of the stored ones, else the reference network's;
            with rungs, at the share of trials that is expected to continue.
        workers: Trials at once.
        baselines: What is trained before the first trial.
    """

    search: Search
    prepared: WorkerInfo
    budget: int
    trials_left: int
    trial_s: float
    workers: int
    baselines: Sequence[PlannedBaseline] = ()

    @classmethod
    def make(
        cls,
        budget: int,
        search: Search,
        prepared: WorkerInfo,
        workers: int,
        baselines: Sequence[PlannedBaseline] = (),
    ) -> CostEstimate:
        """Forecast the rest of a search."""
        done = [t for t in search.trials if t.has_result and t.state != TrialState.FAILED]
        seconds = [t.duration_s for t in done if t.duration_s]
        rungs = search.rungs
        share = rungs.expected / rungs.at[-1] if rungs else 1.0
        trial_s = mean(seconds) if seconds else prepared.timing_s + share * prepared.training_s
        left = max(min(budget, search.space.size) - len(done), 0)
        return cls(search, prepared, budget, left, trial_s, workers, baselines)

    @property
    def total_s(self) -> float:
        """Seconds until the budget is used up, baselines included."""
        return self.baselines_s + self.trials_left * self.trial_s / self.workers

    @property
    def trial_timeout_s(self) -> float:
        """Seconds that no trial takes unless its worker hangs.

        Trainings by the time of this device take about as long as the reference's. By epochs the
        largest networks of a space take much longer, and by the time of another device all may.
        """
        ready = self.prepared
        is_alike = ready.recipe.train_time_s and ready.step_times.startswith("measured")
        usual_s = max(self.trial_s, ready.timing_s + ready.training_s)
        return max(_LEAST_TIMEOUT_S, (10 if is_alike else 100) * usual_s)

    @property
    def baselines_s(self) -> float:
        """Seconds until the baselines are trained."""
        return sum(each.left_s for each in self.baselines) / self.workers

    @property
    def feasible_share(self) -> float:
        """Share of random architectures that break no constraint as far as is known, 0 to 1."""
        return feasible_share(self.search.space)

    def warnings(self) -> list[str]:
        """Return what the user should know before the first trial, with the options that help."""
        found = []
        ready, target = self.prepared, self.search.space.target
        if ready.timing_batch_size < target.batch_size:
            found.append(
                f"A training step of the reference network at the target's batch of "
                f"{target.batch_size} and {target.image_size} px needs about "
                f"{memory_text(ready.target_memory_bytes)}; "
                f"{memory_text(ready.available_memory_bytes)} are free, and other networks of the "
                f"space need more. Steps are timed with batches of {ready.timing_batch_size}. What "
                "helps: `target_image_size`, `target_batch_size`, a smaller space such as "
                "`space` v2-cifar, or a device with more memory."
            )
        if ready.recipe.image_size and ready.recipe.last_image_size > target.image_size:
            found.append(
                f"Networks train at {ready.recipe.last_image_size} px, but are meant for, and "
                f"timed at, {target.image_size} px; `target_image_size` changes that."
            )
        if ready.peak_memory_bytes > ready.available_memory_bytes:
            found.append(
                f"The reference network needs about {memory_text(ready.peak_memory_bytes)}, "
                f"{memory_text(ready.available_memory_bytes)} are free: it and larger networks "
                "will be infeasible. What helps: `batch_size`, `image_size`, "
                "`target_image_size`, or a smaller space."
            )
        if self.total_s > _DAY_S:
            timing = ready.timing_s / (ready.timing_s + ready.training_s)
            found.append(
                f"The whole budget takes about {self.total_s / _DAY_S:,.0f} days: "
                f"{share_text(timing)} of it for timing, {share_text(1 - timing)} for training. "
                "What helps: a smaller `budget`; "
                "for timing `target_image_size` and `target_batch_size`; for training `epochs`, "
                "`data_share` and `image_size`; for both a smaller space such as `space` v2-cifar, "
                "an accelerator, or more of them (Ray joins the cluster that RAY_ADDRESS names)."
            )
        if self.workers > 1 and ready.device["device"] == "cpu":
            found.append(
                f"{self.workers} workers share this CPU: while one of them times a step, the "
                "others wait, and each trains more slowly than one alone would."
            )
        if ready.skipped_images:
            skipped = ready.skipped_images
            names = ", ".join(skipped[:3]) + ", ..." * (len(skipped) > 3)
            count = counted(len(skipped), "image")
            found.append(f"Left out, since it cannot be decoded: {count} ({names}).")
        return found


def memory_text(count: float) -> str:
    """Return a number of bytes as text such as `1.3 GB`, `82 MB` or `450 kB`."""
    if count < 0.9995e6:
        return f"{count / 1e3:.0f} kB"
    return f"{count / 1e9:.1f} GB" if count >= 0.9995e9 else f"{count / 1e6:.0f} MB"
