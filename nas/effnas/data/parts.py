"""What the parts of a data set are called, by folders and in tables."""

from __future__ import annotations

from collections.abc import Iterable

from effnas.errors import DataError

#: Names of parts, in lower case.
TRAINING_PARTS = frozenset({"train", "training"})
TEST_PARTS = frozenset({"test", "testing"})
VALIDATION_PARTS = frozenset({"val", "valid", "validation", "eval"})
OTHER_PARTS = TEST_PARTS | VALIDATION_PARTS
#: Where a test part is looked for, in this order: labels of some test parts are not published.
TEST_KINDS = ((TEST_PARTS, "test"), (VALIDATION_PARTS, "validation"))


def only_part(found: Iterable[str], names: frozenset[str], kind: str, where: object) -> str | None:
    """Return the one of the names that were found which stands for a part; None if none does.

    Raises:
        DataError: If several do.
    """
    parts = [name for name in found if name.lower() in names]
    if len(parts) > 1:
        raise DataError(f"{where}: {' and '.join(parts)} are both {kind} parts; keep one of them")
    return parts[0] if parts else None
