"""What the types cannot say about knobs that several adapters have. No torch: `plan` asks.

Each function returns (knob, message, hint) for what is out of range.
"""

from __future__ import annotations


def rank(dim: int, alpha: float, *, prefix: str = "") -> list[tuple[str, str, str]]:
    """A rank and its scale; `prefix` is `conv_` for the convolutions' own."""
    found = []
    if dim < 1:
        found.append((f"{prefix}dim", f"must be >= 1, got {dim}", "4 to 32 is usual"))
    if alpha <= 0:
        found.append((f"{prefix}alpha", f"must be > 0, got {alpha}", "half of dim is usual"))
    return found


def dropout(share: float) -> list[tuple[str, str, str]]:
    """A share of inputs to hide."""
    return [] if 0 <= share < 1 else [("dropout", f"must be in [0, 1), got {share}", "")]
