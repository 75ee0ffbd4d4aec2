"""Accel-NASBench (Ahmad et al. 2023): proxy accuracies of 5,125 networks, and six accelerators.

The table is a tar of one JSON file a network. All its networks lie in the search space `mnasnet`;
each has an accuracy after 16 epochs of ImageNet, and throughputs of *inference* on six devices. The
reciprocal of a throughput serves as the step time here, since no training throughput is published.

The table holds 5e-8 of the space, so a search meets networks that are not in it. `Simulation` gives
them values by gradient boosting on the decisions, fitted on the whole table.
"""

from __future__ import annotations

import json
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor

from effnas import Architecture, SearchSpace
from effnas.arch.blocks import Stage

SPACE = SearchSpace.load("mnasnet")
DEVICES: Mapping[str, str] = {
    "a100": "A100",
    "3090": "RTX 3090",
    "tpuv2": "TPUv2",
    "tpuv3": "TPUv3",
    "zcu102": "ZCU102",
    "vck190": "VCK190",
}
#: The proxy training itself, as one more device: S = 1 is a training of 2,000 s. Those that took
#: more than 6,000 s are left out as outliers.
TRAINING = "training"
_TRAINING_UNIT_S, _LONGEST_TRAINING_S = 2_000, 6_000
_CHANNELS = (16, 24, 40, 80, 112, 192, 320)
_STRIDES = (1, 2, 2, 2, 1, 2, 1)
_MAX_BYTES = 1 << 16


@dataclass(frozen=True)
class AccelNasBench:
    """The table; networks that it lists twice are there once, with the mean of their values.

    Attributes:
        architectures: The networks, N of them.
        accuracy: Top-1 of the proxy training, 0 to 1, [N].
        train_time_s: Seconds of the proxy training, [N].
        throughput: Device -> images a second of inference, [N]; NaN where there is no value.
    """

    architectures: tuple[Architecture, ...]
    accuracy: NDArray[np.float64]
    train_time_s: NDArray[np.float64]
    throughput: Mapping[str, NDArray[np.float64]]

    @classmethod
    def load(cls, path: str | Path) -> AccelNasBench:
        """Read `anb_dataset_jsons.tar.gz` of the authors' repository, in memory."""
        found: dict[Architecture, list[list[float]]] = defaultdict(list)
        for row in _rows(path):
            throughputs = [
                row["platform_perf"][f"throughput_{device}"]["throughput_mean"]
                for device in DEVICES
            ]
            metrics = row["metrics"]
            found[_architecture(row["architecture"])].append(
                [metrics["val_top1"] / 100, metrics["train_time"]]
                + [float("nan") if value is None else value for value in throughputs]
            )
        values = np.array([np.mean(rows, axis=0) for rows in found.values()])
        return cls(
            architectures=tuple(found),
            accuracy=values[:, 0],
            train_time_s=values[:, 1],
            throughput={device: values[:, 2 + n] for n, device in enumerate(DEVICES)},
        )

    def step_time(self, device: str) -> NDArray[np.float64]:
        """Return S on a device: the reciprocal of throughput, 1 at the table's median, [N].

        On `TRAINING`, the time of the training, 1 at 2,000 s.
        """
        if device == TRAINING:
            times_s = self.train_time_s
            return np.where(times_s > _LONGEST_TRAINING_S, float("nan"), times_s / _TRAINING_UNIT_S)
        throughput = self.throughput[device]
        return np.asarray(np.nanmedian(throughput) / throughput)


class Simulation:
    """Accuracy and step times of any network of the space, from a regression on the table.

    Gradient boosting is another kind of model than the Gaussian process of
    `effnas.controllers.gaussian_process`, so that the latter is not judged by its like.

    Args:
        table: The table.
        rows: The rows to fit, such as those that are not held out; all by default.
    """

    def __init__(self, table: AccelNasBench, rows: Sequence[int] | None = None) -> None:
        self.table = table
        used = np.arange(len(table.architectures)) if rows is None else np.array(rows)
        decisions = decision_matrix(table.architectures)
        targets = {"accuracy": table.accuracy} | {
            device: np.log(table.step_time(device)) for device in (*DEVICES, TRAINING)
        }
        self._models = {}
        for name, target in targets.items():
            known = used[np.isfinite(target[used])]
            model = HistGradientBoostingRegressor(
                max_iter=500, learning_rate=0.1, max_leaf_nodes=8, l2_regularization=1.0
            )
            self._models[name] = model.fit(decisions[known], target[known])
        self._known: dict[str, dict[Architecture, float]] = {name: {} for name in targets}

    def accuracy(self, archs: Sequence[Architecture]) -> NDArray[np.float64]:
        """Return accuracies, 0 to 1, of N networks, [N]."""
        return self._predict("accuracy", archs)

    def step_time(self, device: str, archs: Sequence[Architecture]) -> NDArray[np.float64]:
        """Return S of N networks on a device, in the unit of `AccelNasBench.step_time`, [N]."""
        return np.exp(self._predict(device, archs))

    def metrics(self, device: str, arch: Architecture) -> dict[str, float]:
        """Return what a trial on a device would measure."""
        return {
            "accuracy": float(self.accuracy([arch])[0]),
            "step_time": float(self.step_time(device, [arch])[0]),
        }

    @cached_property
    def of_table(self) -> Mapping[str, NDArray[np.float64]]:
        """Accuracy, and S by device, of the table's networks, as this simulation has them, [N]."""
        archs = self.table.architectures
        return {"accuracy": self.accuracy(archs)} | {
            device: self.step_time(device, archs) for device in DEVICES
        }

    def _predict(self, name: str, archs: Sequence[Architecture]) -> NDArray[np.float64]:
        known = self._known[name]
        unknown = [arch for arch in dict.fromkeys(archs) if arch not in known]
        if unknown:
            values = self._models[name].predict(decision_matrix(unknown))
            known.update(zip(unknown, values.tolist(), strict=True))
        return np.array([known[arch] for arch in archs])


def decision_matrix(archs: Sequence[Architecture]) -> NDArray[np.float64]:
    """Return layers, kernel, expansion and squeeze-and-excitation of each stage, [N, 28]."""
    return np.array(
        [[value for s in arch.stages for value in (s.r, s.k, s.e, s.se)] for arch in archs],
        dtype=np.float64,
    )


def params_ratio(archs: Sequence[Architecture]) -> NDArray[np.float64]:
    """Return P, parameters over those of EfficientNet-B0, [N]."""
    reference = SPACE.count(SPACE.reference).params
    return np.array([SPACE.count(arch).params / reference for arch in archs])


def _rows(path: str | Path) -> Iterator[dict[str, dict[str, object]]]:
    with tarfile.open(path) as tar:
        for member in tar:
            if member.isfile() and member.name.endswith(".json") and member.size < _MAX_BYTES:
                file = tar.extractfile(member)
                assert file is not None  # a regular file
                yield json.loads(file.read())


def _architecture(decisions: Mapping[str, object]) -> Architecture:
    return Architecture(
        tuple(
            Stage(
                "mbconv",
                r=decisions[f"block{n}_l"],
                k=decisions[f"block{n}_k"],
                s=stride,
                e=decisions[f"block{n}_e"],
                c=channels,
                se=0.25 if decisions[f"block{n}_se"] else 0,
            )
            for n, (stride, channels) in enumerate(zip(_STRIDES, _CHANNELS, strict=True))
        ),
        SPACE.stem,
        SPACE.head,
    )
