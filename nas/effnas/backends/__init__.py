"""Back ends: where evaluations run. Those of Ray and of a made-up clock are imported when used."""

from effnas.backends.base import Backend, Job, MakeEvaluator, Outcome, run_job
from effnas.backends.inline import InlineBackend

__all__ = ["Backend", "InlineBackend", "Job", "MakeEvaluator", "Outcome", "run_job"]
