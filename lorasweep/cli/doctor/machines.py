"""The machines that a launcher trains on: whether each is reached, and what it has."""

from __future__ import annotations

from collections.abc import Sequence

from lorasweep import config
from lorasweep.cli.doctor import Check, fail, ok
from lorasweep.core import registry
from lorasweep.core.errors import ConfigError, Problem


def look(overrides: Sequence[str]) -> list[Check]:
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
