"""Plant faults one by one in a copy of the tree and see which of them the tests notice.

    python benchmarks/mutants.py            # all, an hour on one core
    python benchmarks/mutants.py loss sweep # those whose file or name has one of these words

A mutant is a line of `benchmarks/mutants.tsv`: file, what stands there (once), what to put there, the tests
to run. Prints `killed` or `LIVED` for each; exits 1 when one was not killed, or fits the code no longer.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
TABLE = Path(__file__).with_suffix(".tsv")
TIMEOUT_S = 900


def main(words: list[str]) -> int:
    """Plant the mutants that one of the words names, or all; returns how many lived, at most 1."""
    lived = 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as place:
        copy = Path(place)
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
        for name in filter(None, listed.stdout.split("\0")):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
        for file, old, new, tests in table():
            if words and not any(word in f"{file} {tests}" for word in words):
                continue
            started = time.monotonic()
            found = verdict(copy, file, old, new, tests.split())
            lived += found != "killed"
            print(f"{found:8} {time.monotonic() - started:5.0f} s  {file}: {old!r} -> {new!r}", flush=True)
    return 1 if lived else 0


def table() -> list[list[str]]:
    """Read the mutants: file, what stands there, what to put there, tests."""
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    return [line.replace("\\n", "\n").split("\t") for line in lines if line and line[0] != "#"]


def verdict(copy: Path, file: str, old: str, new: str, tests: list[str]) -> str:
    """Plant one fault in the copy, run its tests, and take it out again."""
    path = copy / "lorasweep" / file
    text = path.read_text(encoding="utf-8")
    if text.count(old) != 1:
        return "STALE"
    path.write_text(text.replace(old, new), encoding="utf-8")
    try:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-x",
                "-q",
                "-p",
                "no:cacheprovider",
                *(f"tests/{t}" for t in tests),
            ],
            cwd=copy,
            env=os.environ | {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        return {0: "LIVED", 1: "killed"}.get(done.returncode, "BROKEN")
    except subprocess.TimeoutExpired:
        return "HUNG"  # or the machine is too busy to tell
    finally:
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("words", nargs="*")
    sys.exit(main(parser.parse_args().words))
