"""What Linux can show of Windows: every command on the way of a result runs without POSIX; see docs/platforms.md."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

from e2e.as_windows.sitecustomize import ABSENT_MODULES

import lorasweep

SCRIPT = """\
import sys
from lorasweep.cli import main

codes = [main(line.split()) for line in sys.stdin.read().splitlines()]  # workers do not import this anew
print("exit codes", codes)
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
    "train.max_steps=4 train.rungs=1 train.batch_size=2 adapter.dim=4 dataset.dollhouse.images=8 "
    "sample.steps=2 sample.seeds=[0] sample.weights=[0.7] metrics=[burn] launcher.workers=1"
)
COMMANDS = """\
sweep tiny.yaml --json {tiny} {base}
status tiny --json
report tiny
export tiny --best --out best.safetensors
train tracking=none {tiny} {base}
sync tiny
judge best.safetensors tracking=none metrics=[burn] sample.steps=2 sample.seeds=[0] --json {base}
doctor --no-cook
"""


def test_nothing_of_posix_is_needed(home: Path, on_tiny_sd: list[str]) -> None:
    commands = COMMANDS.format(tiny=TINY, base=" ".join(on_tiny_sd))
    (home / "tiny.yaml").write_text(SWEEP)
    (home / "drive.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "drive.py"],
        input=commands,
        cwd=home,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent / "as_windows")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert f"exit codes {[0] * len(commands.splitlines())}" in done.stdout, done.stdout[-3000:] + done.stderr[-3000:]
    assert (home / "best.safetensors").stat().st_size > 0 and (home / "outputs/tiny/report.html").exists()
    logs = [path.read_text() for path in (home / "outputs").rglob("*.log")]
    assert logs and not any("Traceback" in log for log in logs), "neither in workers nor in the mirror"


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
