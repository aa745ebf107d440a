"""What every metric promises, for each file of conf/metrics/."""

from __future__ import annotations

from lorasweep.testing.metrics import *  # noqa: F403

CHOICES = ["trigger_selectivity"]  # that all ten measure what they name is tested in one run elsewhere
