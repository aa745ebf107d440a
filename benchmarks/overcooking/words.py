"""Estimates with their intervals, in the words of the page, the figures and the terminal.

Takes the JSON of an analysis, in which a number that is not defined is NaN or null.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

UNDEFINED = "not defined"


def span(row: Mapping[str, Any], digits: int = 2) -> str:
    """`0.97 (0.95 to 0.99)`: the value, and its interval where there is one."""
    if not math.isfinite(number(row["value"])):
        return UNDEFINED
    if math.isnan(number(row["low"])):
        return f"{row['value']:.{digits}f}"
    return f"{row['value']:.{digits}f} ({row['low']:.{digits}f} to {row['high']:.{digits}f})"


def signed(row: Mapping[str, Any]) -> str:
    """`+0.012, -0.003 to +0.027`: a change and its interval."""
    if not math.isfinite(number(row["value"])):
        return UNDEFINED
    return f"{row['value']:+.3f}, {row['low']:+.3f} to {row['high']:+.3f}"


def number(value: Any) -> float:
    """A number of the analysis, NaN for null."""
    return math.nan if value is None else float(value)
