"""Back ends: where evaluations run. Ray's is imported only when it is used."""

from effnas.backends.base import Backend, Job, MakeEvaluator, Outcome, run_job
from effnas.backends.inline import InlineBackend

__all__ = ["Backend", "InlineBackend", "Job", "MakeEvaluator", "Outcome", "run_job"]
