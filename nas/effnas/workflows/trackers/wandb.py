"""Weights & Biases: a run of the user's account, or files in the training's folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from effnas.workflows.trackers.base import PROJECT, TrackedTraining

if TYPE_CHECKING:
    from wandb import Run

#: Folder of the files, in that of the training; the name is W&B's.
FOLDER = "wandb"
_FINISH_S = 60.0  # for the last uploads; what is not sent by then stays on disk
_OFF = ("offline", "dryrun", "disabled")


class WandB:
    """Writes to W&B's own process, which uploads it when it can."""

    def __init__(self, run: Run) -> None:
        self._run = run

    @classmethod
    def open(cls, training: TrackedTraining) -> WandB:
        """Resume a run, or start one; without a login it is on disk only, and nothing is asked."""
        import wandb

        # Silent and away from the terminal, which belongs to the progress bar.
        ours = wandb.Settings(
            silent=True, console="off", finish_timeout=_FINISH_S, finish_timeout_raises=True
        )
        mode = wandb.setup(ours).settings.mode
        if mode not in _OFF and not wandb.login(prompt=False, verify=False):
            mode = "offline"
            files = training.folder / FOLDER
            training.notify(f"wandb: no login, so it writes to {files}; `wandb sync` sends that")
        known = training.runs.get("wandb")
        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            name=training.run_name,
            id=known,
            resume="allow" if known else None,
            config=dict(training.settings),
            dir=training.folder,
            mode=mode,
            reinit="create_new",
            settings=ours,
        )
        run.define_metric("*", step_metric="step")
        if run.url:
            training.notify(f"wandb: {run.url}")
        training.runs["wandb"] = run.id
        return cls(run)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values of a step.

        The step is one of them: W&B's own never goes back, and values logged again would be lost.
        """
        self._run.log({"step": step, **values})

    def close(self, *, failed: bool = False) -> None:
        """Mark the run as finished or failed."""
        self._run.finish(exit_code=int(failed))
