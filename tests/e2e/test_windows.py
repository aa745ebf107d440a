"""What Linux can show of Windows: every command on the way of a result runs without POSIX; see docs/platforms.md.

The sweep has a real worker, and an MLflow that cannot be written to at first.
"""

from __future__ import annotations

import ast
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from e2e.as_windows.sitecustomize import ABSENT_MODULES
from tiny_training import FEW_PICTURES

import lorasweep
from lorasweep.core import files

SCRIPT = """\
import os, sys
from contextlib import redirect_stderr, redirect_stdout
from lorasweep.cli import main

for line in sys.stdin.read().splitlines():  # workers do not import this anew
    with open(f"{line.split()[0]}.said", "a") as said, redirect_stdout(said), redirect_stderr(said):
        code = main(line.split())
    print(code, line)
    if os.path.isdir("mlruns/mlflow.db"):  # from here on MLflow can be written to
        os.rmdir("mlruns/mlflow.db")
"""
SWEEP = """\
sweep:
  question: Does nothing of POSIX matter?
  metric: {name: overcook/score, goal: minimize}
  arms:
    low: {optimizer.lr: 1e-5}
    high: {optimizer.lr: 1e-2}
"""
TINY = (
    "train.max_steps=4 train.rungs=2 train.batch_size=2 adapter.dim=4 dataset.dollhouse.images=8 "
    "sample.steps=2 sample.seeds=[0] sample.weights=[0.7] metrics=[burn,generalisation] launcher.workers=1"
)
COMMANDS = """\
sweep tiny.yaml {tiny} {base}
sync tiny
sweep tiny.yaml {tiny} {base}
status tiny --json
report tiny
export tiny --best --out best.safetensors
train tracking=none {tiny} {base}
judge best.safetensors tracking=none metrics=[burn] sample.steps=2 sample.seeds=[0] --json {base}
doctor --no-cook
"""


def test_nothing_of_posix_is_needed_and_an_unwritable_mlflow_loses_nothing(home: Path, on_tiny_sd: list[str]) -> None:
    tiny = " ".join([TINY, *(word.replace(" ", "") for word in FEW_PICTURES)])
    commands = COMMANDS.format(tiny=tiny, base=" ".join(on_tiny_sd))
    (home / "tiny.yaml").write_text(SWEEP)
    (home / "drive.py").write_text(SCRIPT)
    (home / "mlruns" / "mlflow.db").mkdir(parents=True)  # no database can be made here, not even by root
    done = subprocess.run(
        [sys.executable, "drive.py"],
        input=commands,
        cwd=home,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent / "as_windows")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    said = {path.stem: path.read_text() for path in home.glob("*.said")}
    assert done.stdout == "".join(f"0 {line}\n" for line in commands.splitlines()), (done.stdout, done.stderr, said)
    assert "lorasweep sync" in said["sweep"]
    assert (home / "best.safetensors").stat().st_size > 0
    assert all((home / "outputs/tiny" / name).exists() for name in ("report.html", "contact_sheet.png"))
    logs = [path.read_text() for path in (home / "outputs").rglob("*.log")]
    assert logs and not any("Traceback" in log for log in logs), "neither in workers nor in the mirror"

    status = json.loads(said["status"])
    assert status["counts"] == {"COMPLETED": 2} and {trial["arm"] for trial in status["trials"]} == {"low", "high"}
    store = sqlite3.connect(home / "mlruns" / "mlflow.db")
    for trial in status["trials"]:
        run, asked = Path(trial["run_folder"]), (trial["mlflow_run_id"],)
        assert trial["value"] == trial["metrics"]["overcook/score"]
        assert files.read_json(run / "metrics.json")["verdict"]["state"] in ("undercooked", "done", "overcooked")
        assert [event["kind"] for event in files.read_jsonl(run / "events.jsonl")].count("start") == 1, "cooked again"
        assert store.execute("SELECT status FROM runs WHERE run_uuid = ?", asked).fetchall() == [("FINISHED",)]
        metrics = dict(store.execute("SELECT key, value FROM latest_metrics WHERE run_uuid = ?", asked))
        assert metrics["overcook/score"] == pytest.approx(trial["value"], abs=1e-4)
    store.close()


def test_no_module_imports_what_only_posix_has() -> None:
    """Lazily neither: the way of a command is not all that is run."""
    package = Path(lorasweep.__file__).parent
    found = []
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [f"{path.relative_to(package)}: {name}" for name in names if name in ABSENT_MODULES]
    assert found == []
