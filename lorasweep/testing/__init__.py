"""Contract suites: what every component of a group promises, as pytest tests that a plugin gets by one import.

    from lorasweep.testing.optimizers import *

    CHOICES = ["sign_sgd"]  # files of conf/optimizer/; without it, every installed one

Adapters and regularizers are tried on the embedded dollhouse; a fixture `base` in the test module replaces it.
"""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

from lorasweep.config import compose_recipe, places
from lorasweep.core import registry

if TYPE_CHECKING:
    from lorasweep.core.protocols import Base

Choice = tuple[str, dict[str, Any]]  # module and knobs
_SUITES = (
    "adapters",
    "bases",
    "buckets",
    "launchers",
    "metrics",
    "optimizers",
    "regularizers",
    "schedulers",
    "taggers",
)
pytest.register_assert_rewrite(*(f"{__name__}.{suite}" for suite in _SUITES))
_OPTIONAL = {"adamw8bit": "bitsandbytes"}  # choices that need what is not installed by default


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Fill the argument `<group>_choice` with every file of `conf/<group>/`, or those that `CHOICES` names."""
    for group in registry.FOLDERS:
        if f"{group}_choice" in metafunc.fixturenames:
            wanted = getattr(metafunc.module, "CHOICES", None) or places.choices(group)
            if strange := sorted(set(wanted) - set(places.choices(group))):
                raise pytest.UsageError(f"CHOICES of {metafunc.module.__name__}: no conf/{group}/{strange[0]}.yaml")
            metafunc.parametrize(f"{group}_choice", list(_choices(group, wanted)), scope="module")


def load(group: str, choice: Choice) -> Any:
    """The module of a choice."""
    return registry.load(group, choice[0])


@functools.cache
def loads_torch(statement: str) -> bool:
    """Whether a statement about `registry` loads torch, in a process of its own."""
    code = f"import sys\nfrom lorasweep.core import registry\n{statement}\nsys.exit('torch' in sys.modules)"
    return subprocess.run([sys.executable, "-c", code], timeout=120).returncode != 0


@pytest.fixture
def base() -> Base:
    """The embedded base, freshly loaded."""
    loaded: Base = registry.load("base", "dollhouse").load(compose_recipe().base, device="cpu", precision="fp32")
    return loaded


def _choices(group: str, wanted: list[str]) -> Iterator[Any]:
    for choice in wanted:
        knobs = dict(places.read_choice(group, choice))
        name = knobs.pop("name", choice)
        # regularization=none is no module; adapter=files has files to judge
        if name in registry.names(group) and getattr(registry.load(group, name), "TRAINS", True):
            needs = _OPTIONAL.get(name, "yaml")
            marks = pytest.mark.skipif(find_spec(needs) is None, reason=f"{needs} is not installed")
            yield pytest.param((name, knobs), id=choice, marks=marks)
