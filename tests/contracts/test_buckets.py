"""What every bucket set promises, for each file of conf/buckets/."""

from lorasweep.testing.buckets import *  # noqa: F403
