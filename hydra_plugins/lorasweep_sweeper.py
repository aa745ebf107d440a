"""`hydra/sweeper=lorasweep`: Hydra's multirun, done by lorasweep's own driver and workers.

Hydra finds this module in the namespace package `hydra_plugins` (which therefore has no `__init__.py`). It
runs what `run_app` was given, word for word; no Hydra launcher is used: workers keep the base model loaded
between trials, which jobs that a launcher starts cannot. Knows nothing about trials.
"""

from __future__ import annotations

from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from lorasweep.config.hydra_app import read_words, refuse_launcher


class LorasweepSweeper(Sweeper):
    """Runs the overrides of a multirun as one sweep."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives; a launcher other than its default is refused."""
        self.hydra_context, self.config, self.launcher = hydra_context, config, None
        refuse_launcher(str(config.hydra.launcher.get("_target_", "")))

    def sweep(self, arguments: list[str]) -> Any:
        """Run or continue the sweep; ends the program with its exit code."""
        from lorasweep.cli import exit_code
        from lorasweep.cli.cook_commands import run_multirun

        code = exit_code(lambda: run_multirun(*read_words()))
        if code:
            raise SystemExit(code)
        return code


ConfigStore.instance().store(
    group="hydra/sweeper",
    name="lorasweep",
    node={"_target_": f"{__name__}.{LorasweepSweeper.__name__}"},
    provider="lorasweep",
)
