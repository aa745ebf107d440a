"""One seed per recipe: every draw of training is derived from it, by name and place.

What recipes are compared on has seeds of its own, so that a second seed is a second try at the same question:
the split (`dataset.holdout_seed`), the dollhouse's pictures, the noise of samples (`sample.seeds`), the
points of a search. Knows nothing about torch.
"""

from __future__ import annotations

import hashlib


def derive(seed: int, *names: str | int) -> int:
    """Derive an independent seed, in [0, 2**63), for one named use of randomness, the same on every machine and Python.

    E.g. ``derive(seed, "noise")`` or ``derive(seed, "order", epoch)``.
    """
    text = "/".join([str(int(seed)), *(str(name) for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
