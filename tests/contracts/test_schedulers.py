"""What every schedule promises, for each file of conf/scheduler/."""

from lorasweep.testing.schedulers import *  # noqa: F403
