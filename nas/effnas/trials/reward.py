"""Rewards: what a search maximizes, computed from the metrics of one trial.

A reward is an expression (given as it is, or in a YAML file that may have a name) or a Python
function. Python runs only when it is named as `FILE.py:FUNCTION` or `package.module:NAME`.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from math import isfinite, nan
from numbers import Real
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from effnas.config.catalog import Source, find, load_keys, names
from effnas.config.expressions import FUNCTIONS, LISTER, Expression
from effnas.config.plugins import describe, is_plugin, load_plugin, place_of
from effnas.errors import ExpressionError, Location, RewardError, closest

METRICS: Mapping[str, str] = {
    "accuracy": "fraction of held-out images classified correctly, 0 to 1",
    "step_time": "median training step time over the reference network's, no unit",
    "step_time_low": "lower end of its 95 % interval",
    "step_time_high": "upper end of its 95 % interval",
    "step_time_s": "median training step time in seconds",
    "step_time_low_s": "lower end of its 95 % interval, in seconds",
    "step_time_high_s": "upper end of its 95 % interval, in seconds",
    "forward_time_s": "median seconds of the forward pass with the loss",
    "backward_time_s": "median seconds of the backward pass",
    "optimizer_time_s": "median seconds of the optimizer's step",
    "timed_steps": "training steps that were timed",
    "step_time_settled": "1 if S is known to 2 %, 0 if the time limit ended the timing",
    "params": "trainable parameters",
    "params_ratio": "trainable parameters over the reference network's, no unit",
    "macs": "multiply-accumulates of a forward pass for one image",
    "activations": "elements put out by convolutions and linear layers for one image",
    "peak_memory_bytes": "largest device memory held during training, in bytes",
    "largest_batch_size": "largest batch that fits the device, of a network out of memory",
    "train_time_s": "wall-clock time of the trial's training in seconds",
    "train_loss": "mean training loss of the last epoch",
}
SYMBOLS: Mapping[str, str] = {"A": "accuracy", "S": "step_time", "P": "params_ratio"}

_Value = TypeVar("_Value")
_NAME_SPEC = re.compile(r"[A-Za-z_][\w-]*")
_TEXT_OR_NAME = re.compile(r"'[^']*'|\"[^\"]*\"|(?<![\w.])[A-Za-z_][\w.]*")


@dataclass(frozen=True)
class Reward:
    """A score for trials; the larger, the better.

    Attributes:
        name: How the user knows it: a catalog name, a function's name, or the expression.
        text: What a run records: the expression with its constants put in, which `load` reads back,
            or the function's place with a digest of its source.
        kind: What it is made of.
        metrics: The metrics that it needs; empty for a function, which does not say.
        source: The YAML file that it came from, if any.
    """

    name: str
    text: str
    kind: Literal["expression", "function"]
    metrics: frozenset[str] = field(compare=False)
    source: Source | None = field(compare=False, repr=False)
    _formula: Expression | _Function = field(compare=False, repr=False)

    @staticmethod
    def load(spec: str, *, extra_metrics: Collection[str] = ()) -> Reward:
        """Read a reward that this command line, or this program, names; Python of it is run.

        Args:
            spec: A name such as `v2`, a YAML file, an expression over `METRICS` and `SYMBOLS`,
                `FILE.py:FUNCTION`, or `package.module:NAME`.
            extra_metrics: More metrics that an expression may use; constants of a file with these
                names are left open.

        Raises:
            RewardError: It is none of these, uses an unknown metric, or its Python cannot be run.
            CatalogError: The YAML file cannot be found or read.
        """
        if is_plugin(spec.strip()):
            return _from_function(spec.strip())
        return Reward.read(spec, extra_metrics=extra_metrics)

    @staticmethod
    def read(spec: str, *, extra_metrics: Collection[str] = ()) -> Reward:
        """Read a reward that a file names: as `load`, but no Python is run because a file says so.

        Raises:
            RewardError: As of `load`, or it is Python.
            CatalogError: As of `load`.
        """
        spec = spec.strip()
        known = {*METRICS, *SYMBOLS, *extra_metrics}
        if is_plugin(spec):
            raise RewardError(
                f"the reward {spec[:80]!r} is Python, which is not run because a file says so; "
                "name it again as `reward`"
            )
        if spec.endswith(".py"):
            raise RewardError(f"{spec}: which of its functions? give {spec}:FUNCTION")
        if _is_path(spec) or spec in names("rewards"):
            return _from_file(find("rewards", spec), known, extra_metrics)
        is_name = _NAME_SPEC.fullmatch(spec) and known.isdisjoint(spec.split("-"))
        if is_name and spec not in FUNCTIONS:
            hint = closest(spec, {*names("rewards"), *known}, LISTER)
            raise RewardError(f"no reward, and no metric, is called '{spec}'; {hint}")
        return _from_expression(" ".join(spec.split()), spec, known)

    def score(self, metrics: Mapping[str, float]) -> float:
        """Return the reward of a trial, a finite number, from metrics without their symbols.

        Raises:
            RewardError: A metric is missing, or the reward has no value for these.
        """
        if not self.metrics <= metrics.keys():
            missing = sorted(self.metrics - metrics.keys())
            raise RewardError(
                f"reward '{self.name}' needs {', '.join(missing)} for '{self.text}', and the trial "
                f"has only {', '.join(sorted(metrics)) or 'no metrics'}; choose another reward, "
                "or give the metric"
            )
        try:
            return self._formula.evaluate(with_symbols(metrics))
        except ExpressionError as error:
            raise RewardError(f"{error}; a reward needs a value for every network") from None

    def score_vectorized(self, metrics: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return the rewards of N trials, [N], from metrics of [N] each; NaN for none."""
        if isinstance(self._formula, Expression) and self.metrics <= metrics.keys():
            return self._formula.vectorized(with_symbols(metrics))
        rows = zip(*(values.tolist() for values in metrics.values()), strict=True)
        return np.array([self._score_or_nan(dict(zip(metrics, r, strict=True))) for r in rows])

    def _score_or_nan(self, metrics: Mapping[str, float]) -> float:
        try:
            return self.score(metrics)
        except RewardError:
            return nan

    def check(self, reference: Mapping[str, float]) -> None:
        """Try the reward on a reference network's metrics, before the first trial.

        Raises:
            RewardError: It has no value for them.
        """
        try:
            self.score(reference)
        except RewardError as error:
            raise RewardError(f"{error} (tried on the reference network)") from error


def with_symbols(metrics: Mapping[str, _Value]) -> dict[str, _Value]:
    """Return metrics by name, and those that have a symbol by that as well."""
    return {**metrics, **{s: metrics[name] for s, name in SYMBOLS.items() if name in metrics}}


def _is_path(spec: str) -> bool:
    if spec.endswith((".yaml", ".yml")) or spec.startswith(("/", "./", "../")):
        return True
    # "A/S" is an expression, unless there is a file of that name.
    try:
        return "/" in spec and Path(spec).is_file()
    except (OSError, ValueError):
        return False


def _from_expression(
    name: str,
    text: str,
    known: Collection[str],
    *,
    constants: Mapping[str, str] | None = None,
    locate: Callable[[int], Location] | None = None,
    source: Source | None = None,
) -> Reward:
    where = f"reward '{name}'" if source else "reward"
    values = constants or {}
    try:
        expression = Expression.parse(text, known={*known, *values}, source=where, locate=locate)
        if values:
            text = _TEXT_OR_NAME.sub(lambda match: values.get(match[0], match[0]), text)
        # One line, so that a run's manifest and its errors show it whole.
        expression = Expression.parse(" ".join(text.split()), known=known, source=where)
    except ExpressionError as error:
        raise RewardError(str(error)) from None
    if expression.is_condition or not expression.names:
        what = "is true or false" if expression.is_condition else "is the same for every network"
        raise RewardError(f"{where}: '{expression.text}' {what}; a reward is a number over metrics")
    metrics = frozenset(SYMBOLS.get(metric, metric) for metric in expression.names)
    return Reward(name, expression.text, "expression", metrics, source, expression)


def _from_file(source: Source, known: Collection[str], left_open: Collection[str]) -> Reward:
    known_keys = ("expression", "constants")
    keys = load_keys(
        source.text, str(source.path), known=known_keys, required=known_keys[:1], error=RewardError
    )
    constants: dict[str, str] = {}
    for name, node in keys["constants"].mapping().items() if "constants" in keys else ():
        node.number()
        if name in left_open:
            continue
        if not name.isidentifier() or not name.isascii() or keyword.iskeyword(name):
            raise node.error(f"'{name}' cannot be used as a name in an expression")
        if name in known or name in FUNCTIONS:
            raise node.error(f"the constant '{name}' would hide what has that name already")
        constants[name] = f"({node.text()})" if node.text()[0] in "+-" else node.text()
    text = keys["expression"]
    return _from_expression(
        source.name, text.text(), known, constants=constants, locate=text.location, source=source
    )


@dataclass(frozen=True)
class _Function:
    """A user's function; its errors name its file and line."""

    name: str
    path: str
    call: Callable[[Mapping[str, float]], object]

    def evaluate(self, metrics: Mapping[str, float]) -> float:
        number = None
        try:
            value = self.call(metrics)
            if isinstance(value, Real) and not isinstance(value, bool):
                number = float(value)
        except Exception as error:
            reason = describe(error)
            if isinstance(error, KeyError):
                reason += f"; the metrics are {', '.join(sorted(metrics))}"
            place = place_of(error, self.path)
            raise RewardError(f"{place}: reward '{self.name}' failed: {reason}") from error
        if number is None or not isfinite(number):
            line = getattr(getattr(self.call, "__code__", None), "co_firstlineno", 1)
            shown = repr(value)[:80]
            raise RewardError(
                f"{self.path}:{line}: reward '{self.name}' returned {shown}, not a finite number"
            )
        return number


def _from_function(spec: str) -> Reward:
    plugin = load_plugin(spec, "reward", kind="function", error=RewardError)
    function = _Function(plugin.name, plugin.path, plugin.value)
    return Reward(plugin.name, plugin.text, "function", frozenset(), None, function)
