"""Ours against a loop over diffusers' training script, and against the limit: a bare loop of forward and backward.

    python benchmarks/against_scripts.py --script PATH [--python PYTHON]    all three
    python benchmarks/against_scripts.py --only ours,limit --trials 2 --steps 8 --repeats 1    small, without it

    script   diffusers' train_text_to_image_lora.py, one trial after another, on all cores; judges nothing
    ours     one `lorasweep sweep`, one worker a core, on a warm cache; `KEY=VALUE`s say how much is judged
    limit    UNet + LoRA forward and backward on one batch, nothing else, at the batch and layout that do best

The same trials, steps, batch, pictures, base and cores for each, in turns, as often as `--repeats` says. CPU seconds
are those of all processes, and are what other work on the machine lengthens least. PATH is the script in a checkout
of diffusers; PYTHON an interpreter that has what it needs (`datasets` and `torchvision` beside diffusers).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorasweep.sweep.workers.pool import cpu_cores

PARTS = ("script", "ours", "limit")
RECIPE = ["buckets=single", "optimizer=adamw", "tracking=none", "optimizer.lr=2e-3"]
LIMIT_BATCHES = (4, 8, 16, 32)
LIMIT_SAMPLES = 128  # timed for each batch and layout


@dataclass(frozen=True)
class Spent:
    """What a part took for all trials, seconds."""

    wall: float
    cpu: float


def spent(work: Callable[[], object]) -> Spent:
    """Time work that happens in child processes."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Spent(time.perf_counter() - began, cpu)


def run(command: Sequence[str], **environment: str) -> str:
    """Run to the end; returns what it printed."""
    found = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if found.returncode:
        raise SystemExit(f"{' '.join(command)}\n{found.stdout[-2000:]}{found.stderr[-4000:]}")
    return found.stdout


class Bench:
    """The three parts over one set of pictures."""

    def __init__(self, options: argparse.Namespace, scratch: Path) -> None:
        from lorasweep import config, dollhouse
        from lorasweep.plan import make_plan

        self._options, self._scratch, self._runs = options, scratch, 0
        self._weights = dollhouse.weights_dir()
        self._budget = [f"train.batch_size={options.batch}", f"train.max_steps={options.steps}"]
        images = make_plan(config.compose_recipe([*RECIPE, *self._budget], [])).trained_on()
        self._pictures = scratch / "pictures"
        self._pictures.mkdir()
        rows = []
        for image in images:
            shutil.copy(image.file, self._pictures)
            rows.append(json.dumps({"file_name": Path(image.file).name, "text": image.caption}))
        (self._pictures / "metadata.jsonl").write_text("\n".join(rows))

    def script(self) -> Spent:
        """One process after the other, each on all cores."""
        o = self._options
        command = [o.python, str(o.script), f"--pretrained_model_name_or_path={self._weights}"]
        command += [f"--train_data_dir={self._pictures}", "--caption_column=text", "--resolution=64"]
        command += [f"--train_batch_size={o.batch}", f"--max_train_steps={o.steps}", "--rank=32"]
        command += ["--learning_rate=2e-3", "--checkpointing_steps=1000000", "--report_to=tensorboard"]

        def loop() -> None:
            for seed in range(o.trials):
                out = self._scratch / f"script-{seed}"
                run([*command, f"--seed={seed}", f"--output_dir={out}"], OMP_NUM_THREADS=str(cpu_cores()))

        return spent(loop)

    def ours(self, steps: int | None = None) -> Spent:
        """One sweep in one home: the first, of `steps`, fills the caches."""
        self._runs += 1
        file = self._scratch / f"run{self._runs}.yaml"
        recipe = {"train.rungs": 1, "sample.seeds": "[0]"}
        knobs = "".join(f"    {key}: {value}\n" for key, value in recipe.items())
        seeds = list(range(self._options.trials))
        file.write_text(
            f"sweep:\n  question: How long?\n  seeds: {seeds}\n  recipe:\n{knobs}"
            "  arms:\n    only:\n      note: the one of the benchmark\n"
        )
        budget = self._budget if steps is None else [self._budget[0], f"train.max_steps={steps}"]
        command = [sys.executable, "-m", "lorasweep", "sweep", str(file), "--fresh", *RECIPE, *budget]
        return spent(lambda: run([*command, *self._options.overrides], LORASWEEP_HOME=str(self._scratch / "home")))

    def limit(self) -> Spent:
        """What the best bare loop would take for as many samples; every core runs one."""
        best = float(run([sys.executable, __file__, "--bare"], OMP_NUM_THREADS="1"))
        samples = self._options.trials * self._options.steps * self._options.batch
        return Spent(samples * best / cpu_cores(), samples * best)


def bare() -> float:
    """CPU seconds of one sample, forward and backward, at the best batch and layout; in this process."""
    import torch

    from lorasweep import config
    from lorasweep.trial.resources import TrialResources, build_adapter

    torch.set_num_threads(1)
    recipe = config.compose_recipe(RECIPE, [])
    base = TrialResources().base(recipe)
    build_adapter(base, recipe)
    unet: Any = base.parts["unet"]  # torch's annotations know nothing of diffusers' config
    best = float("inf")
    for layout in (torch.contiguous_format, torch.channels_last):
        unet.to(memory_format=layout)
        for batch in LIMIT_BATCHES:
            noisy = torch.randn(batch, 4, 16, 16).to(memory_format=layout)
            t, text = torch.full((batch,), 500), torch.randn(batch, 77, unet.config.cross_attention_dim)

            def step(noisy: torch.Tensor = noisy, t: torch.Tensor = t, text: torch.Tensor = text) -> None:
                unet(noisy, t, text, return_dict=False)[0].square().mean().backward()

            step()
            began, steps = time.process_time(), max(1, LIMIT_SAMPLES // batch)
            for _ in range(steps):
                step()
            best = min(best, (time.process_time() - began) / (steps * batch))
    return best


def table(found: dict[str, list[Spent]]) -> str:
    """Medians, spread, and ratios of CPU seconds."""
    cpu = {part: statistics.median(each.cpu for each in runs) for part, runs in found.items()}
    lines = [f"{'':8}{'wall':>9}{'CPU':>9}{'lowest':>9}{'highest':>9}{'vs script':>11}{'of limit':>10}"]
    for part, runs in found.items():
        wall = statistics.median(each.wall for each in runs)
        low, high = min(each.cpu for each in runs), max(each.cpu for each in runs)
        script = f"{cpu['script'] / cpu[part]:9.2f} x" if "script" in cpu else f"{'-':>11}"
        limit = f"{cpu['limit'] / cpu[part]:10.2f}" if "limit" in cpu else f"{'-':>10}"
        lines.append(f"{part:8}{wall:8.1f}s{cpu[part]:8.1f}s{low:8.1f}s{high:8.1f}s{script}{limit}")
    return "\n".join(lines)


def main() -> int:
    """Run and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--script", type=Path, help="train_text_to_image_lora.py in a checkout of diffusers")
    parser.add_argument("--python", default=sys.executable, help="what runs it")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas")
    for name, value in (("trials", 4), ("steps", 320), ("batch", 4), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)  # the limit's own process
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of our recipe")
    options = parser.parse_args()
    if options.bare:
        print(bare())
        return 0
    parts = options.only.split(",")
    if wrong := sorted(set(parts) - set(PARTS)):
        parser.error(f"--only takes {', '.join(PARTS)}; got {', '.join(wrong)}")
    if "script" in parts and options.script is None:
        parser.error("--script says where diffusers' script is; --only ours,limit does without")
    found: dict[str, list[Spent]] = {part: [] for part in parts}
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(options, Path(scratch))
        if "ours" in parts:
            bench.ours(steps=1)
        for _ in range(options.repeats):
            for part in parts:
                found[part].append(getattr(bench, part)())
    print(f"{options.trials} trials of {options.steps} steps, batch {options.batch}, {cpu_cores()} cores, CPU seconds")
    print(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
