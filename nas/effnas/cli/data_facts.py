"""What a plan says of the images: which part is used, how they are resized, what guessing gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from effnas.config.text import counted
from effnas.data.source import FoundData, uneven_class

if TYPE_CHECKING:
    from effnas.trials.worker_info import WorkerInfo


def worker_data_rows(ready: WorkerInfo) -> list[tuple[str, str]]:
    """Return the rows of a plan about the images that a worker has loaded."""
    return data_rows(
        ready.found,
        train_images=ready.train_images,
        holdout_images=ready.holdout_images,
        class_names=ready.class_names,
        holdout_class_counts=ready.holdout_class_counts,
        image_sizes=ready.image_sizes,
        image_size=ready.recipe.image_size and ready.recipe.last_image_size,
        treated="mirrored at random" if ready.mirrored else "not mirrored",
    )


def data_rows(
    found: FoundData | None,
    *,
    train_images: int,
    holdout_images: int,
    class_names: Sequence[str],
    holdout_class_counts: Sequence[int],
    image_sizes: Sequence[tuple[int, int]],
    image_size: int | None,
    treated: str,
) -> list[tuple[str, str]]:
    """Return the rows of a plan about images.

    Args:
        found: What they were chosen from; None without images, which gives no rows.
        train_images: Images trained on.
        holdout_images: Images held out of the same part.
        class_names: Names of the classes.
        holdout_class_counts: Held-out images of each class; empty where not known.
        image_sizes: Height and width of the smallest, the median and the largest as they are
            stored, in pixels; empty where not known.
        image_size: Side that they are resized to, in pixels.
        treated: What else is done to them.
    """
    if found is None:
        return []
    part = f"{found.part} of {found.name}" if found.part else found.name
    held = f"{holdout_images:,} held out" if holdout_images else "none held out"
    left = found.images - holdout_images
    of_others = f" of the other {left:,}" * (train_images < left)
    used = f"{train_images:,}{of_others} images to train on"
    text = f"{part}: {found.images:,} images of {len(class_names)} classes: {held}, {used}"
    if found.untouched:
        verb = "is" if len(found.untouched) == 1 and "other" not in found.untouched[0] else "are"
        text += f"; {' and '.join(found.untouched)} {verb} untouched"
    if found.passed_over:
        files = counted(found.passed_over, "file")
        text += f"; {files} passed over as no images of a class: {found.passed_example}"
        text += ", ..." * (found.passed_over > 1)
    rows = [("data", f"{text}; {treated}")]
    if image_sizes and image_size and (side := min(image_sizes[len(image_sizes) // 2])):
        height, width = image_sizes[len(image_sizes) // 2]
        how = "shrunk" if side > image_size else "enlarged"
        if side != image_size:
            text = f"of about {width}x{height} px are {how} to {image_size} px"
            rows.append(("images", text))
    if uneven := uneven_class(holdout_class_counts):
        number, share = uneven
        rows.append(("guessing", f"always guessing {class_names[number]} gives {share:.3f}"))
    return rows
