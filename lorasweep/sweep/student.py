"""Student's t distribution, from the incomplete beta function; pure arithmetic.

Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.5.8 and 26.7.1.
"""

from __future__ import annotations

import functools
import math

TINY = 1e-300  # keeps a continued fraction from dividing by zero
TERMS = 500
TOLERANCE = 1e-14


def cdf(t: float, df: float) -> float:
    """P(T <= t) for T with `df` > 0 degrees of freedom."""
    tail = 0.5 * incomplete_beta(df / (df + t * t), df / 2, 0.5)
    return 1.0 - tail if t > 0 else tail


@functools.lru_cache(maxsize=4096)  # a ranking asks for few degrees of freedom, many times
def quantile(p: float, df: float) -> float:
    """The t with P(T <= t) = p.

    Args:
        p: in (0, 1).
        df: degrees of freedom, > 0; need not be whole.

    Raises:
        ValueError: p or df is out of its range.
    """
    if not (0.0 < p < 1.0 and df > 0.0):
        raise ValueError(f"`0 < p < 1` and `df > 0` must hold, got {p=}, {df=}")
    if p < 0.5:
        return -quantile(1.0 - p, df)
    low, high = 0.0, 1.0
    while cdf(high, df) < p:
        low, high = high, high * 2
    while high - low > TOLERANCE * high:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if cdf(middle, df) < p else (low, middle)
    return (low + high) / 2


def incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularized incomplete beta function I_x(a, b), for 0 <= x <= 1 and a, b > 0."""
    if x <= 0.0 or x >= 1.0:
        return min(1.0, max(0.0, x))
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    # The fraction converges quickly on this side of the mean only; the other follows by symmetry.
    if x < (a + 1) / (a + b + 2):
        return math.exp(log_front) * _fraction(x, a, b) / a
    return 1.0 - math.exp(log_front) * _fraction(1 - x, b, a) / b


def _fraction(x: float, a: float, b: float) -> float:
    """The continued fraction of 26.5.8, evaluated by the modified Lentz algorithm."""
    c, d = 1.0, _inverse(1.0 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for coefficient in (even, odd):
            d = _inverse(1.0 + coefficient * d)
            c = 1.0 + coefficient / c
            c = c if abs(c) > TINY else TINY
            value *= c * d
        if abs(c * d - 1.0) < TOLERANCE:
            break
    return value


def _inverse(value: float) -> float:
    return 1.0 / (value if abs(value) > TINY else TINY)
