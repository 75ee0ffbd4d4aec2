"""EfficientNet's compound scaling: depth α^φ, width β^φ, image size γ^φ, with α·β²·γ² near 2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import isfinite

from effnas.config.regularization import Ramp, Regularization
from effnas.errors import ConfigError
from effnas.scaling.growth import Growth
from effnas.scaling.rules import MemberRule, ScalingRules, round_size

#: What one more φ multiplies the MACs by (Tan & Le 2019, equation 3).
GROWTH = 2.0


@dataclass(frozen=True, order=True)
class CompoundScaling:
    """The base of each exponential, 1 or more (Tan & Le 2019, equation 3).

    Attributes:
        alpha: Of the depth, 1.2 as published.
        beta: Of the width, 1.1 as published.
        gamma: Of the image size, 1.15 as published.
    """

    alpha: float = 1.2
    beta: float = 1.1
    gamma: float = 1.15

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "gamma"):
            value = getattr(self, name)
            if not (isfinite(value) and 1 <= value <= 10):
                raise ConfigError(
                    f"{name} is {value:g}, which shrinks the network or is implausible: "
                    "alpha, beta and gamma are 1 or more (1.2, 1.1, 1.15 as published)"
                )

    @property
    def growth(self) -> float:
        """α·β²·γ², what one more φ multiplies the MACs by."""
        return self.alpha * self.beta**2 * self.gamma**2

    def __str__(self) -> str:
        return f"alpha {self.alpha:g}, beta {self.beta:g}, gamma {self.gamma:g}"

    def rules(self, phis: Sequence[float], *, image_size: int = 224) -> ScalingRules:
        """Return the rules of a family: the base, and one member for each φ.

        Dropout is 0.2 + 0.05·φ, 0.5 at most: a line through those of EfficientNet-B0 to B7.

        Args:
            phis: Exponents, 0 to 100.
            image_size: Pixels of the base.

        Raises:
            ConfigError: If an exponent shrinks the network.
        """
        members = []
        for phi in sorted({0.0, *phis}):  # members grow
            if not 0 <= phi <= 100:
                raise ConfigError(f"phi is {phi:g}, which shrinks the network: it is 0 or more")
            width, depth = self.beta**phi, self.alpha**phi
            size = round_size(image_size * self.gamma**phi) if phi else image_size
            dropout = min(0.5, 0.2 + 0.05 * phi)
            members.append(
                MemberRule(
                    name=f"phi{phi:g}",
                    growth=Growth(width=(width,), depth=(depth,), stem=width, head=width),
                    image_size=size,
                    train_image_size=size,
                    first_image_size=size,
                    regularization=Regularization(dropout=Ramp(dropout, dropout)),
                )
            )
        return ScalingRules(f"compound scaling by {self}", tuple(members))


def coefficients_grid(
    *, step: float = 0.05, tolerance: float = 0.1, growth: float = GROWTH
) -> list[CompoundScaling]:
    """Return α, β, γ of 1 or more on a grid, with α·β²·γ² within a tolerance of `growth`.

    The published (1.2, 1.1, 1.15) has 1.92; neither grid nor tolerance were published.

    Args:
        step: Distance of neighbours on the grid, 0.01 to 0.5.
        tolerance: Largest distance of α·β²·γ² from `growth`, 0 or more.
        growth: Wanted factor of the MACs, above 1.

    Raises:
        ConfigError: If nothing on the grid is within the tolerance.
    """
    if not 0.01 <= step <= 0.5 or not tolerance >= 0 or not growth > 1:
        raise ConfigError(
            f"a grid of step {step:g} and tolerance {tolerance:g} around {growth:g}: steps are "
            "0.01 to 0.5, tolerances 0 or more, growths above 1"
        )
    values = [round(1 + n * step, 6) for n in range(int((growth + tolerance - 1) / step) + 2)]
    found = [
        one
        for alpha, beta, gamma in product(values, repeat=3)
        if abs((one := CompoundScaling(alpha, beta, gamma)).growth - growth) <= tolerance + 1e-9
    ]
    if not found:
        raise ConfigError(
            f"no alpha, beta, gamma on a grid of step {step:g} have a product within {tolerance:g} "
            f"of {growth:g}; take a larger tolerance or a smaller step"
        )
    return found
