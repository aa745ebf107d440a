"""What every optimizer promises, for each file of conf/optimizer/."""

from __future__ import annotations

from lorasweep.testing.optimizers import *  # noqa: F403
