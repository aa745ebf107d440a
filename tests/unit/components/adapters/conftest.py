from __future__ import annotations

from pathlib import Path

import pytest
from fresh_bases import fresh

from lorasweep.core.protocols import Base
from lorasweep.core.records import BaseOptions


@pytest.fixture
def base(tiny_sd: Path) -> Base:
    """The tiny base, freshly loaded."""
    options = BaseOptions(name="stable_diffusion", path=str(tiny_sd), resolution=32, bucket_step=8)
    return fresh(options)
