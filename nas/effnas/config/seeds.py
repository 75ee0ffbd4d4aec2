"""Seeds of any size, for generators that take few bits."""

from __future__ import annotations

import hashlib


def bounded_seed(seed: int, bits: int = 32) -> int:
    """Return a seed that has a number of bits at most; one that has is itself.

    Args:
        seed: 0 or more.
        bits: A multiple of 8, up to 256.
    """
    if seed < 1 << bits:
        return seed
    return int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[: bits // 8], "big")
