"""The warnings of several arms, each said once with the arms that it is about."""

from __future__ import annotations

from collections.abc import Sequence


def owned(arms: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """Put the arms' names before what is not about all of them.

    Args:
        arms: names with their plans' warnings.
    """
    owners: dict[str, list[str]] = {}
    for name, warnings in arms:
        for warning in warnings:
            owners.setdefault(warning, []).append(name)
    return [
        warning if len(names) == len(arms) else f"{', '.join(names)}: {warning}" for warning, names in owners.items()
    ]
