"""A disk that fills up while a sweep runs: a real one of two megabytes, where we may mount it."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pretend_sweep import cook, numbered_arms, spec
from sweep_checks import assert_study_agrees, starts

from lorasweep.core.errors import LorasweepError
from lorasweep.core.records import Status
from lorasweep.core.run_folder import SweepFolder
from lorasweep.sweep.ranking.state import read_state

SIZE = 2_000_000
ARMS = 12


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(tmp_path)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"no tmpfs here: {mounted.stderr.decode().strip()}")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def no_sheet() -> None:
    """What follows from the run folders finds no room either."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "contact_sheet.png")


@pytest.mark.parametrize(
    "room",
    [
        20_000,
        250_000,
        *(pytest.param(n, marks=pytest.mark.slow) for n in (100_000, 180_000, 330_000, 420_000)),
    ],
)
def test_a_disk_that_fills_up_loses_nothing(disk: Path, room: int, caplog: pytest.LogCaptureFixture) -> None:
    """With little room it fills while the sweep is declared, with more in the middle of a trial."""
    folder, ballast = disk / "sweep", disk / "ballast"
    ballast.write_bytes(b"x" * (SIZE - room))
    declared = spec(numbered_arms(ARMS))
    try:
        result = cook(declared, folder, on_end=no_sheet)
    except LorasweepError as error:
        assert "no room left" in str(error) and "run the same command" in str(error)
        done: set[int] = set()
    else:
        assert "no room left" in result.halted and "run the same command" in result.halted
        assert result.exit_code == 1
        assert not any(trial.status is Status.RUNNING for trial in result.state.trials), "nobody cooks"
        done = {trial.number for trial in read_state(folder).trials if trial.status.is_final}
        assert len(done) < ARMS, "it was never full"

    assert not any(record.exc_info for record in caplog.records), "one explanation, and no traceback"
    ballast.unlink()
    before = len(starts(folder)) if (folder / "log.txt").exists() else 0
    result = cook(declared, folder)
    assert result.exit_code == 0
    assert result.state.counts == {"COMPLETED": ARMS}
    again = {int(line.split()[1][:4]) for line in starts(folder)[before:]}
    assert not again & done, "cooked again what had ended"
    assert_study_agrees(folder)


@pytest.mark.parametrize("begun", [False, True])
def test_a_study_that_meets_a_limit_on_the_size_of_files_is_told_and_kept(tmp_path: Path, begun: bool) -> None:
    """SQLite says of it that the disk fails, and Optuna that the data are invalid."""
    resource = pytest.importorskip("resource")
    declared = spec(numbered_arms(ARMS))
    if begun:
        assert cook(declared, tmp_path).exit_code == 0
        shutil.rmtree(SweepFolder(tmp_path).runs[-1].path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (70_000, before[1]))
    try:
        said = cook(declared, tmp_path).halted
    except LorasweepError as error:
        said = str(error)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "no room left" in said and "disk I/O error" in said and "`ulimit -f`" in said
    result = cook(declared, tmp_path)
    assert result.exit_code == 0 and result.state.counts == {"COMPLETED": ARMS}
    assert not (tmp_path / "study.broken.db").exists()
    assert_study_agrees(tmp_path)
