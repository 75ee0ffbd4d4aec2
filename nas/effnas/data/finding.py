"""From the name of a data set to what it holds."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from effnas.data.folders import archive_source, folder_source
from effnas.data.named import digits_source, is_timm_name, timm_source
from effnas.data.tables import is_table_name, table_source
from effnas.errors import DataError

if TYPE_CHECKING:
    from effnas.data.source import Layer, Source


def find_source(
    name: str, root: Path | None, *, first: int | None = None, part: Layer = "training"
) -> Source:
    """Return a part of the data set of a name, which `load_search_images` describes.

    Args:
        name: The name.
        root: Where timm looks for a data set that goes by name.
        first: List about that many images only, where listing them takes long.
        part: Which part.

    Raises:
        DataError: There is no such data set, it cannot be read, or it lacks the part.
    """
    if name == "digits":
        return digits_source(part)
    path = Path(name).expanduser()
    try:
        # An empty name would be the working directory.
        if name and path.is_dir():
            return folder_source(path, part=part)
        if name and path.is_file():
            if is_table_name(path):
                return table_source(path, part=part)
            return archive_source(path, first=first, part=part)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if is_timm_name(name):
        return timm_source(name, root, first=first, part=part)
    raise DataError(
        f"no data set {name!r}: there is no such file or folder, and it is neither 'digits' nor a"
        " name that timm knows by its prefix, such as torch/cifar10, hfds/..., tfds/... or wds/..."
    )


def check_same_classes(source: Source, classes: tuple[str, ...]) -> None:
    """Raise a `DataError` if the classes of a test part are not those of the training part."""
    for expected, found in zip_longest(classes, source.classes):
        if expected == found:
            continue
        if expected is not None and expected not in source.classes:
            difference = f"lacks the {source.class_noun} {expected!r} of the training part"
        else:
            there = "none" if expected is None else repr(expected)
            difference = f"has {source.class_noun} {found!r} where the training part has {there}"
        raise DataError(
            f"{source.origin}: its part {source.part!r} {difference}; both need the same classes"
        )
