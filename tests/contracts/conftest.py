"""Contract suites run over every YAML of a config group: a new file is tested without being told about."""

from __future__ import annotations

from pathlib import Path

import pytest
from fresh_bases import fresh
from tiny_training import make_recipe

from lorasweep.core.protocols import Base
from lorasweep.testing import parametrize


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Fill the argument named after a config group with every choice in it."""
    if not hasattr(metafunc.module, "pytest_generate_tests"):
        parametrize(metafunc, "adapter", "optimizer", "scheduler")


@pytest.fixture
def base(tiny_sd: Path) -> Base:
    """The tiny base, freshly loaded."""
    return fresh(make_recipe(tiny_sd).base)
