"""Memory, disk, folders, the MLflow store, the UI's port; and a real recipe in a process of its own, for seconds."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from lorasweep.api.checks import Check, fail, ok, warn
from lorasweep.core import machine, paths
from lorasweep.results.tracking.address import address_problem, is_server, masked, sqlite_file, tracking_uri
from lorasweep.results.tracking.store import StoreUnavailable, require_server
from lorasweep.results.tracking.ui import DEFAULT_PORT, is_free

GIB = 2**30
MEMORY_GIB = 2.0  # a worker on the embedded base takes 1 GiB, MLflow half of one
DISK_GIB, DISK_LEAST_GIB = 5.0, 0.5  # a quickstart leaves 60 MB; a Stable Diffusion sweep gigabytes
PATIENCE_S = 5.0
LONG_S, COOK_PATIENCE_S = 60.0, 600.0
RECIPE = (
    "train.max_steps=10",
    "train.rungs=1",
    "train.batch_size=2",
    "adapter.dim=4",
    "dataset.dollhouse.images=8",
    "sample.steps=4",
    "sample.seeds=[0]",
    "sample.weights=[0.7]",
    "metrics=[burn]",
    "tracking=none",
)


def memory() -> Check:
    """Return the memory that is free now."""
    free = machine.free_bytes()
    told = f"{free / GIB:.1f} GiB free"
    if free < MEMORY_GIB * GIB:
        return warn("memory", told, "a worker takes about 1 GiB: launcher.workers=1, or close something")
    return ok("memory", told)


def disk() -> Check:
    """Return the room where results go."""
    folder = _nearest(paths.home())
    free = shutil.disk_usage(folder).free
    told = f"{free / GIB:.1f} GiB free in {folder}"
    if free < DISK_LEAST_GIB * GIB:
        hint = "make room (lorasweep cache shows what may go), or set LORASWEEP_HOME to another disk"
        return fail("disk", told, hint)
    if free < DISK_GIB * GIB:
        return warn("disk", told, "enough for the embedded base; `lorasweep plan` tells what a sweep takes")
    return ok("disk", told)


def folders() -> Check:
    """Tell whether outputs, cache and mlruns can be written."""
    broken = []
    for folder in (paths.outputs(), paths.cache(), paths.mlruns()):
        try:
            with tempfile.TemporaryFile(dir=_nearest(folder)):
                pass
        except OSError as error:
            broken.append(f"{folder}: {error.strerror or error}")
    if broken:
        return fail("folders", "; ".join(broken), "set LORASWEEP_HOME to a folder that you can write")
    return ok("folders", f"outputs, cache and mlruns in {paths.home()}")


def mlflow_store() -> Check:
    """Tell whether results can be mirrored; a sweep runs without, and `sync` catches up."""
    uri, later = tracking_uri(), "sweeps run without it; lorasweep sync catches up later"
    if wrong := address_problem(uri):
        return warn("mlflow store", f"{wrong.where} {wrong.message}", f"{wrong.hint}; {later}")
    if is_server(uri):
        try:
            require_server(uri)
        except StoreUnavailable as error:
            return warn("mlflow store", str(error), later)
        return ok("mlflow store", f"{masked(uri)} answers")
    file = sqlite_file(uri)
    if file is None:
        return ok("mlflow store", f"{uri.partition('://')[0]}, not looked into")
    if not file.exists():
        return ok("mlflow store", f"{file} will be made")
    try:
        with closing(sqlite3.connect(file, timeout=PATIENCE_S, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            runs = connection.execute("SELECT COUNT(*) FROM runs").fetchone()[0]
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        hint = f"move it away and rebuild it: lorasweep sync; {later}"
        return warn("mlflow store", f"{file}: {error}", hint)
    return ok("mlflow store", f"{file}, {runs} runs")


def ui_port() -> Check:
    """Tell whether `lorasweep ui` gets its usual address."""
    if is_free("127.0.0.1", DEFAULT_PORT):
        return ok("ui port", f"{DEFAULT_PORT} is free")
    return warn("ui port", f"{DEFAULT_PORT} is taken", "lorasweep ui takes a free one and says which")


def _nearest(folder: Path) -> Path:
    """Return the folder itself, or the first above it that exists: a check makes nothing."""
    while not os.path.lexists(folder):
        folder = folder.parent
    return folder


def cook() -> Check:
    """Train, sample and judge for some seconds; most of them are imports."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="lorasweep-doctor-") as home:
        command = [sys.executable, "-m", "lorasweep", "train", "--json", *RECIPE]
        try:
            env = {**os.environ, "LORASWEEP_HOME": home}
            done = subprocess.run(command, capture_output=True, text=True, timeout=COOK_PATIENCE_S, env=env)
        except subprocess.TimeoutExpired:
            return fail("cook", f"not done after {COOK_PATIENCE_S:.0f} s", "is the machine busy? try again")
    seconds = time.perf_counter() - started
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return fail("cook", f"exit code {done.returncode}: {last[:200]}", "the checks above may tell why")
    step = json.loads(done.stdout)["step"]
    told = f"{step} steps, sampled and judged, in {seconds:.0f} s"
    if seconds > LONG_S:
        return warn("cook", told, "slow: is the machine busy? OMP_NUM_THREADS set?")
    return ok("cook", told)
