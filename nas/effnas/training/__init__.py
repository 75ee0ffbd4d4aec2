"""Training: one step, batch augmentation, and the short proxy training of a trial."""

from effnas.training.augment import (
    normalize,
    random_crop_and_flip,
    resize,
    resized_crop_and_flip,
)
from effnas.training.mixing import mix
from effnas.training.proxy import ProxyData, ProxyResult, accuracy, train_proxy
from effnas.training.randaugment import rand_augment
from effnas.training.step import StepSettings, TrainingStep, cosine_schedule, synchronize

__all__ = [
    "ProxyData",
    "ProxyResult",
    "StepSettings",
    "TrainingStep",
    "accuracy",
    "cosine_schedule",
    "mix",
    "normalize",
    "rand_augment",
    "random_crop_and_flip",
    "resize",
    "resized_crop_and_flip",
    "synchronize",
    "train_proxy",
]
