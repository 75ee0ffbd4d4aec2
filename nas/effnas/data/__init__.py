"""A part of an image data set: decoded once and kept in memory, or again and again if it is large.

A search never sees the test part: what is named `val`, `test` and the like is neither opened nor
listed, and the images that accuracy is measured on are held out of the training part. The test
part is read by `load_test_part`, and by nothing else.
"""

from __future__ import annotations

from effnas.data.holdout import holdout_split
from effnas.data.images import ImageSet, TrainSet, memory_limit_bytes
from effnas.data.label_lists import LabelLists
from effnas.data.loading import (
    SearchImages,
    check_test_part,
    load_search_images,
    load_test_part,
    load_training_part,
    native_image_size,
)
from effnas.data.streaming import StreamedSet
from effnas.data.train_images import TrainImages, load_train_images

__all__ = [
    "ImageSet",
    "LabelLists",
    "SearchImages",
    "StreamedSet",
    "TrainImages",
    "TrainSet",
    "check_test_part",
    "holdout_split",
    "load_search_images",
    "load_test_part",
    "load_train_images",
    "load_training_part",
    "memory_limit_bytes",
    "native_image_size",
]
