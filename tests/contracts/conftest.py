"""Contract suites run over every YAML of a config group: a new file is tested without being told about."""

from __future__ import annotations

import pytest

from lorasweep import testing


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Fill the argument named after a config group with every choice in it."""
    if not hasattr(metafunc.module, "pytest_generate_tests"):
        testing.pytest_generate_tests(metafunc)
