"""Contract suites run over every YAML of a config group: a new file is tested without being told about."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_training import make_recipe

from lorasweep.core.protocols import Base

CONF = Path(__file__).parents[2] / "conf"
OPTIONAL = {"adamw8bit": "bitsandbytes"}  # choices that need what is not installed by default


def components(group: str) -> list[Any]:
    """One pytest parameter per file of `conf/<group>/`: (name of the module, knobs)."""
    files = sorted((CONF / group).glob("*.yaml"))
    assert files, f"no YAML in {CONF / group}"
    found = []
    for file in files:
        knobs = yaml.safe_load(file.read_text(encoding="utf-8"))
        if group == "regularization":
            if file.stem != "none":  # which names no module: nothing is done
                found.append(pytest.param((file.stem, knobs), id=file.stem))
            continue
        name = knobs.pop("name")
        needs = OPTIONAL.get(name, "yaml")
        marks = pytest.mark.skipif(find_spec(needs) is None, reason=f"{needs} is not installed")
        found.append(pytest.param((name, knobs), id=file.stem, marks=marks))
    return found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Fill the argument named after a config group with every choice in it."""
    for group in ("adapter", "optimizer", "scheduler", "regularization"):
        if f"{group}_choice" in metafunc.fixturenames:
            metafunc.parametrize(f"{group}_choice", components(group))


@pytest.fixture
def base(tiny_sd: Path) -> Base:
    """The tiny base, freshly loaded."""
    from lorasweep.components.bases import stable_diffusion

    return stable_diffusion.load(make_recipe(tiny_sd).base, device="cpu", precision="fp32")
