"""What every launcher promises, for each file of conf/launcher/ or those that `CHOICES` names.

A test module whose launcher needs machines replaces the fixture `launcher`.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from lorasweep.core import registry
from lorasweep.core.records import LauncherOptions
from lorasweep.sweep.launchers import LaunchOptions
from lorasweep.testing import Choice, load, loads_torch
from lorasweep.testing import pytest_generate_tests as pytest_generate_tests

PATIENCE_S = 120.0  # until workers have loaded torch


@pytest.fixture
def launcher(launcher_choice: Choice) -> LauncherOptions:
    """Two workers, and the file's own knobs."""
    name, knobs = launcher_choice
    common = vars(LauncherOptions()).keys()
    return LauncherOptions(name=name, workers=2, options={k: v for k, v in knobs.items() if k not in common})


@pytest.fixture
def trial_module() -> str:
    """What the workers load."""
    return "lorasweep.trial.run"


def test_its_workers_are_somewhere_and_end_with_it(
    launcher: LauncherOptions, trial_module: str, tmp_path: Path
) -> None:
    options = LaunchOptions(
        trial_module=trial_module, jobs=2, gpus_wanted=False, log_folder=tmp_path / "workers", launcher=launcher
    )
    made = load("launcher", (launcher.name, {})).build(options, **launcher.options)
    made.reach()
    until = time.monotonic() + PATIENCE_S
    with made:
        workers = len(made.members)
        assert 1 <= workers <= 2
        while not all(member.ready for member in made.members):
            assert time.monotonic() < until, "no worker is ready"
            for member, message in made.listen(1.0):
                assert message == {"kind": "ready"}
                member.ready = True
        assert all(member.place is not None for member in made.members)
        first = made.members[0]
        first.kill()
        made.remove(first)
        assert len(made.members) == workers - 1
    assert not made.members


def test_planning_it_needs_no_torch(launcher: LauncherOptions) -> None:
    assert launcher.name in registry.names("launcher") and not loads_torch("registry.modules('launcher')")
