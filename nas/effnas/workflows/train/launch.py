"""Starting a training: in this process, or in several that share each batch."""

from __future__ import annotations

from collections.abc import Callable

import torch

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
    """Train a network, or resume its training.

    Args:
        settings: What the user asked for.
        observer: Receives what happens.
        stopping: Whether to stop, asked after each step.

    Returns:
        The finished training; None if it was stopped, and the same settings resume it.

    Raises:
        UserError: If something given is wrong; what is stored already stays.
        InfeasibleError: If the training diverges.
        SearchFailedError: If workers fail repeatedly.
    """
    with TrainingFolder.open(settings.out):
        workers = settings.workers
        if workers is None:
            on_gpus = settings.device in ("auto", "cuda")
            workers = max(torch.cuda.device_count(), 1) if on_gpus else 1
        if workers == 1:
            return train_here(settings, ProcessGroup(), observer, stopping)
        from effnas.workflows.train.distributed import train_distributed

        return train_distributed(settings, workers, observer, stopping)
