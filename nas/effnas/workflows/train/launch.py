"""From settings to a trained network: what `effnas train` does."""

from __future__ import annotations

from collections.abc import Callable

from effnas.train.process_group import ProcessGroup
from effnas.workflows.train.folder import TrainingFolder
from effnas.workflows.train.settings import TrainSettings
from effnas.workflows.train.worker import TrainObserver, TrainReport, train_here


def launch_training(
    settings: TrainSettings,
    observer: TrainObserver,
    *,
    stopping: Callable[[], bool] = lambda: False,
) -> TrainReport | None:
    """Train a network, or go on where its folder has come to.

    Args:
        settings: What the user asked for.
        observer: Is told how it goes.
        stopping: Whether to stop, asked behind each step.

    Returns:
        What came of it; None if it was stopped, and the same settings go on.

    Raises:
        UserError: If something given is wrong; what is stored already stays.
        InfeasibleError: If the training diverges.
        SearchFailedError: If a worker fails time after time.
    """
    with TrainingFolder.open(settings.out):
        workers = settings.workers or _devices(settings.device)
        if workers == 1:
            return train_here(settings, ProcessGroup(), observer, stopping)
        from effnas.workflows.train.distributed import train_together

        return train_together(settings, workers, observer, stopping)


def _devices(device: str) -> int:
    """Return how many devices of the kind there are here, if they are GPUs; else 1."""
    if device not in ("auto", "cuda"):
        return 1
    import torch

    return max(torch.cuda.device_count(), 1)
