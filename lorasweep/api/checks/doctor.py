"""All checks in order, as they are known; or those of a launcher's machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from lorasweep import config
from lorasweep.api.checks import Check, fail, machine, ok, software
from lorasweep.core import registry
from lorasweep.core.errors import ConfigError, Problem

# In an order in which the first broken one explains the later ones; the last takes the longest.
CHECKS: tuple[Callable[[], Check], ...] = (
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
    machine.cook,
)


def doctor(*overrides: str, cook: bool = True) -> Iterator[Check]:
    """Check whether this machine is fit to train on, by training for seconds as well; results come as they are known.

    With `launcher=ssh launcher.KEY=VALUE` its machines are asked instead.

    Raises:
        ConfigError: what is given is no launcher.
    """
    return iter(_ask_machines(overrides) or _examine(cook=cook))


def _examine(*, cook: bool) -> Iterator[Check]:
    for check in CHECKS:
        if check is machine.cook and not cook:
            continue
        try:
            yield check()
        except Exception as error:  # a check that breaks is a finding, and the others still matter
            told = " ".join(str(error).split())[:200]
            yield fail(check.__name__.replace("_", " "), f"{type(error).__name__}: {told}", "tell us about it")


def _ask_machines(overrides: Sequence[str]) -> list[Check]:
    """Ask each of them; none where workers live on this machine. Raises ConfigError where no launcher is given."""
    if not overrides:
        return []
    other = [word for word in overrides if word.partition("=")[0].partition(".")[0] != "launcher"]
    if other:
        problems = [Problem(word, "says nothing about a launcher", "launcher=ssh launcher.KEY=VALUE") for word in other]
        raise ConfigError(problems, subject="doctor")
    launcher = config.compose_recipe(overrides).launcher
    ask = getattr(registry.load("launcher", launcher.name), "look", None)
    if ask is None:
        return []
    return [
        fail(each.node, each.problem, each.hint) if each.problem else ok(each.node, each.told) for each in ask(launcher)
    ]
