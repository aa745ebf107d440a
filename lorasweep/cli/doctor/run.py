"""All checks, in an order in which the first broken one explains the later ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lorasweep.cli.doctor import cook, machine, software
from lorasweep.cli.doctor.record import Check, fail

_CHECKS: tuple[Callable[[], Check], ...] = (
    software.python,
    software.libraries,
    software.torch,
    software.extras,
    software.plugins,
    machine.memory,
    machine.disk,
    machine.folders,
    machine.mlflow_store,
    machine.ui_port,
    software.dollhouse,
)


def examine(*, with_cook: bool = True) -> Iterator[Check]:
    """Look at everything; results come as they are known.

    Args:
        with_cook: also cook a recipe, which takes the longest.
    """
    for check in (*_CHECKS, *((cook.cook,) if with_cook else ())):
        try:
            yield check()
        except Exception as error:  # a check that breaks is a finding, and the others still matter
            told = " ".join(str(error).split())[:200]
            yield fail(check.__name__.replace("_", " "), f"{type(error).__name__}: {told}", "tell us about it")
