from __future__ import annotations

from pathlib import Path

import pytest

from lorasweep.components.bases import stable_diffusion
from lorasweep.core.protocols import Base
from lorasweep.core.records import BaseOptions


@pytest.fixture
def base(tiny_sd: Path) -> Base:
    """The tiny base, freshly loaded."""
    options = BaseOptions(name="stable_diffusion", path=str(tiny_sd), resolution=32, bucket_step=8)
    return stable_diffusion.load(options, device="cpu", precision="fp32")
