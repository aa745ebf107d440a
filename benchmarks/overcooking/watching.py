"""Resources that remember whose adapter it judged last, so that the witness can look at the same one."""

from __future__ import annotations

from typing import Any

from lorasweep.core.protocols import Adapter
from lorasweep.trial.judge.context import JudgeContext
from lorasweep.trial.resources import TrialResources


class WatchfulResources(TrialResources):
    """See the module.

    Attributes:
        judged: the adapter of the latest rung, live in the base while the rung's event is reported.
    """

    judged: Adapter | None = None

    def judge_context(self, *args: Any, adapter: Adapter, **rest: Any) -> JudgeContext:
        """As the product's own."""
        self.judged = adapter
        return super().judge_context(*args, adapter=adapter, **rest)
