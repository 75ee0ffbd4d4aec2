"""MLflow: a run on the user's server, or in a database in the training's folder."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from effnas.workflows.trackers.base import PROJECT, TrackedTraining

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

#: The database, if the user names no server. MLflow 3 refuses folders of plain files.
DATABASE = "mlflow.db"
_PARAMS = 100  # that MLflow takes in one request


class MLflow:
    """Writes one request a step, and waits for the answer."""

    def __init__(self, client: MlflowClient, run: str) -> None:
        self._client = client
        self._run = run

    @classmethod
    def open(cls, training: TrackedTraining) -> MLflow:
        """Resume a run, if the server knows it, else start one."""
        # By default, MLflow and the training wait four minutes for a server that is gone.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)  # else it reports every table
        local = f"sqlite:///{training.folder.resolve() / DATABASE}"
        client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or local)
        run = training.runs.get("mlflow")
        if run and _is_known(client, run):
            client.update_run(run, status="RUNNING")
            return cls(client, run)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
        found = client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else client.create_experiment(name)
        run = str(client.create_run(experiment, run_name=training.run_name).info.run_id)
        params = [Param(name, str(value)) for name, value in training.settings.items()]
        for start in range(0, len(params), _PARAMS):
            client.log_batch(run, params=params[start : start + _PARAMS])
        training.runs["mlflow"] = run
        return cls(client, run)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write a metric for each value."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, step) for name, value in values.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def close(self, *, failed: bool = False) -> None:
        """Mark the run as finished or failed."""
        self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")


def _is_known(client: MlflowClient, run: str) -> bool:
    """Return whether the server has a run: another server has not, or one that was emptied."""
    from mlflow.exceptions import MlflowException

    try:
        return bool(client.get_run(run).info.lifecycle_stage == "active")
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
