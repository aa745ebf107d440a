"""Measure how `plan` grows with the number of images: time and memory, the first time and the second.

    python benchmarks/plan_growth.py [1000 3000 10000]

Prints a line per number: wall and CPU seconds of both plans and their peak memory, of small pictures with 20
tags each. The first plan decodes all of them: large photos take some 20 ms a megapixel on top.
"""

from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

SIDE_PX = 64
TAGS = [f"tag{number}" for number in range(300)]


def make_folder(root: Path, count: int) -> Path:
    """Write `count` pictures of 4 x 4 random colours with captions."""
    rng, folder = random.Random(0), root / "1_style"
    folder.mkdir(parents=True)
    for number in range(count):
        image = Image.frombytes("RGB", (4, 4), rng.randbytes(48)).resize((SIDE_PX, SIDE_PX))
        image.save(folder / f"{number:05}.png")
        words = ", ".join(["style", f"own{number}", *rng.sample(TAGS, 20)])
        (folder / f"{number:05}.txt").write_text(words)
    return root


def plan(root: Path, home: Path) -> tuple[float, float, float]:
    """Plan the folder in a process of its own; returns wall and CPU seconds, and the peak in MB."""
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    words = [sys.executable, "-m", "lorasweep", "plan", f"dataset.path={root}"]
    environment = os.environ | {"LORASWEEP_HOME": str(home)}
    subprocess.run(words, env=environment, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return time.perf_counter() - begun, cpu, after.ru_maxrss / unit


def main() -> None:
    """Measure every number of images given, ascending."""
    print(f"{'images':>8}{'first, s':>10}{'CPU, s':>8}{'second, s':>11}{'CPU, s':>8}{'peak, MB':>10}")
    for count in sorted(map(int, sys.argv[1:])) or (1_000, 3_000, 10_000):
        with tempfile.TemporaryDirectory() as scratch:
            root = make_folder(Path(scratch) / "images", count)
            first, second = (plan(root, Path(scratch) / "home") for _ in range(2))
        times = f"{first[0]:>10.1f}{first[1]:>8.1f}{second[0]:>11.1f}{second[1]:>8.1f}"
        print(f"{count:>8}{times}{second[2]:>10.0f}", flush=True)


if __name__ == "__main__":
    main()
