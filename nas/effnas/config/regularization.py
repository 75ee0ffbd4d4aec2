"""How strongly trainings are regularised: the strengths that grow with the images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

#: Strengths of a regularisation, and the most that each can be.
STRENGTHS = {"dropout": 1.0, "randaugment": 100.0, "mixup": 10.0, "drop_path": 1.0}


class Ramp(NamedTuple):
    """The strength of a regularisation, from the first to the last stage of a training."""

    first: float
    last: float

    @classmethod
    def between(cls, low: Ramp, high: Ramp, share: float) -> Ramp:
        """Return the ramp at a share of the way from one to another, 0 to 1."""
        return cls(
            low.first + (high.first - low.first) * share, low.last + (high.last - low.last) * share
        )


#: None at all, and the stochastic depth of EfficientNetV2.
_NONE, _DROP_PATH = Ramp(0.0, 0.0), Ramp(0.2, 0.2)


@dataclass(frozen=True, kw_only=True)
class Regularization:
    """How strongly a training is regularised.

    Attributes:
        dropout: Fraction dropped before the classifier, 0 to 1.
        randaugment: Magnitude, 0 or more.
        mixup: Alpha of the Beta distribution, 0 or more.
        drop_path: Stochastic depth of the last layer, 0 to 1.
    """

    dropout: Ramp = _NONE
    randaugment: Ramp = _NONE
    mixup: Ramp = _NONE
    drop_path: Ramp = _DROP_PATH

    @classmethod
    def between(cls, low: Regularization, high: Regularization, share: float) -> Regularization:
        """Return the strengths at a share of the way from one to another, 0 to 1."""
        return cls(
            **{
                name: Ramp.between(getattr(low, name), getattr(high, name), share)
                for name in STRENGTHS
            }
        )
