"""One seed per recipe; every other seed is derived from it by name. Knows nothing about torch."""

from __future__ import annotations

import hashlib


def derive(seed: int, *names: str | int) -> int:
    """Derive an independent seed for one named use of randomness.

    Args:
        seed: the recipe's seed; any integer, zero included.
        names: what the randomness is for, e.g. ``derive(seed, "noise")`` or ``derive(seed, "order", epoch)``.

    Returns:
        An integer in [0, 2**63), the same on every machine and Python version.
    """
    text = "/".join([str(int(seed)), *(str(name) for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
