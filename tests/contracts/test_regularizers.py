"""What every regularizer promises, for each file of conf/regularization/."""

from __future__ import annotations

from lorasweep.testing.regularizers import *  # noqa: F403
