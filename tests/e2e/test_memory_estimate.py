"""What `plan` says that a recipe takes, against the most that a process which trains it had of the machine's memory.

python -m pytest -m slow tests/e2e/test_memory_estimate.py
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lorasweep.cli import main

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc"),
]

# Large pictures for so small bases: what a step keeps is then as much as everything else.
WORDS = ["base.resolution=192", "buckets=single", "dataset.dollhouse.images=8", "train.batch_size=4", "tracking=none"]
WORDS += ["train.max_steps=1", "train.rungs=1", "sample.steps=1", "sample.seeds=[0]", "sample.weights=[0.7]"]
WORDS += ["metrics=[burn]", "captions=as_written"]
TRAINED = """
import sys
from lorasweep.cli import main
code = main(["train", *sys.argv[1:]])
print(*(line for line in open("/proc/self/status") if line.startswith("VmHWM")))
sys.exit(code)
"""
WITHIN = 0.25  # of what was measured


@pytest.mark.parametrize("base", ["dollhouse", "dollhouse_flow"])
@pytest.mark.parametrize("memory", ["auto", "fast", "12gb", "8gb"])
def test_the_estimate_is_what_training_takes(
    base: str, memory: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"base={base}", f"memory={memory}", *WORDS]
    assert main(["plan", "--json", *words]) == 0
    said = json.loads(capsys.readouterr().out)["arms"][0]["memory"]["gib"]
    done = subprocess.run([sys.executable, "-c", TRAINED, *words], capture_output=True, text=True, check=True)
    measured = int(done.stdout.rpartition("VmHWM:")[2].split()[0]) / 2**20
    print(f"{base} memory={memory}: {said:.2f} GiB estimated, {measured:.2f} measured")
    assert said == pytest.approx(measured, rel=WITHIN)
