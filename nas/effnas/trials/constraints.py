"""Hard constraints of a search: each is checked as soon as its quantities are known.

Those over the space's own quantities (choices, layers, counts) become constraints of the space.
Those over metrics that are free restrict what is proposed. Measured ones are checked
between timing and training, and when a trial is complete.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from effnas.arch.architecture import Architecture
from effnas.config.expressions import Expression
from effnas.errors import ConfigError, ExpressionError, SpaceError
from effnas.space.feasible import quantity_text
from effnas.space.search_space import RestrictedSpace, SearchSpace
from effnas.trials.problem import FreeMetrics
from effnas.trials.reward import METRICS, SYMBOLS, with_symbols


@dataclass(frozen=True)
class Constraints:
    """What every architecture of a search must meet besides the constraints of its space.

    Attributes:
        space: The space, as it is without them.
        expressions: The conditions, over the space's quantities and the metrics and symbols of
            `effnas.trials.reward`.
    """

    space: SearchSpace
    expressions: tuple[Expression, ...] = ()

    @classmethod
    def parse(cls, texts: Iterable[str], space: SearchSpace) -> Constraints:
        """Read constraints.

        Raises:
            ExpressionError: One is no condition, or names an unknown quantity.
        """
        known = {*METRICS, *SYMBOLS, *space.quantity_names}
        found = (Expression.parse_condition(text, known=known) for text in texts)
        return cls(space, tuple(dict.fromkeys(found)))

    @property
    def texts(self) -> tuple[str, ...]:
        """The conditions as they are written."""
        return tuple(expression.text for expression in self.expressions)

    @property
    def of_space(self) -> tuple[Expression, ...]:
        """Conditions that follow from the architecture alone."""
        own = self.space.quantity_names
        return tuple(e for e in self.expressions if e.names <= own)

    @property
    def of_metrics(self) -> tuple[Expression, ...]:
        """All others."""
        return tuple(e for e in self.expressions if e not in self.of_space)

    def narrowed(self, free_metrics: FreeMetrics) -> SearchSpace:
        """Return the space without the architectures that are known to break one."""
        space = self.space.constrained(e.text for e in self.of_space)
        if not self.of_metrics:
            return space

        def metrics_of(arch: Architecture) -> Mapping[str, float]:
            [metrics] = free_metrics([arch])
            return with_symbols(metrics)

        return RestrictedSpace.of(space, self.of_metrics, metrics_of)

    def check_narrowed(self, space: SearchSpace) -> None:
        """Refuse a controller's space that does not keep to the constraints.

        Raises:
            SpaceError: Names one that it does not have.
        """
        missing = [e.text for e in self.of_space if e not in space.constraints]
        if missing:
            raise SpaceError(
                f"the controller's space {space.name} lacks the constraint {missing[0]!r}; make "
                "the controller for space.constrained([...]), or give its name"
            )

    def check_given(self, names: Collection[str]) -> None:
        """Refuse constraints over metrics that are not among `names` and that no space counts.

        Raises:
            ConfigError: Names the constraint and the metric.
        """
        given = {*names, *self.space.quantity_names}
        for expression in self.expressions:
            missing = sorted({SYMBOLS.get(name, name) for name in expression.names} - given)
            if missing:
                raise ConfigError(
                    f"the constraint {expression.text!r} needs {missing[0]}, and nothing gives it; "
                    f"there are {', '.join(sorted(names)) or 'no metrics'}"
                )

    def broken(self, arch: Architecture, metrics: Mapping[str, float]) -> str | None:
        """Return why an architecture breaks a constraint, as far as known metrics tell, or None."""
        if not self.expressions:
            return None
        quantities = self.space.quantities(arch) | with_symbols(metrics)
        for expression in self.expressions:
            if not expression.names <= quantities.keys():
                continue
            wanted = f"and the search wants {expression.text!r}"
            try:
                if expression.holds(quantities):
                    continue
            except ExpressionError as error:  # what has no value is not met
                return f"{error}, {wanted}"
            values = (
                f"{name} is {quantity_text(quantities[name])}" for name in sorted(expression.names)
            )
            return f"{' and '.join(values)}, {wanted}"
        return None
