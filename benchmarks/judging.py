"""Where a trial's time goes: UNet rows and CPU seconds by purpose, and judging over training.

    python -m benchmarks.judging [KEY=VALUE ...]

A row is one picture going once through the UNet; a trained row goes forward and backward, which is counted as three.
The trial is cooked in a temporary home, with one thread. A trial of one step comes before it and is not on the bill:
imports, latents, probes and the base's pictures are there for all trials of a sweep but the first.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

PURPOSES = (  # of the innermost function on the stack, as (module, function)
    ("lorasweep.trial.train.loop", "advance", "training"),
    ("lorasweep.trial.finish", "draw_in_full", "drawing, kept checkpoint"),
    ("lorasweep.trial.sample", "draw", "drawing, rungs"),
    ("lorasweep.trial.judge.context.JudgeContext", "_predictions", "probes"),
    ("lorasweep.trial.judge.context.JudgeContext", "magnitudes", "probes, pure noise"),
    ("lorasweep.trial.judge.features.FeatureCache", "features", "features of pictures"),
    ("lorasweep.components.metrics._reader_scores", "read", "reader"),
    ("lorasweep.components.metrics.norms.Norms", "measure", "norms"),
    ("lorasweep.components.bases._loaded.LoadedBase", "decode_latents", "decoding"),
    ("lorasweep.components.bases._unet.StableDiffusionBase", "encode_captions", "captions"),
    ("lorasweep.trial.judge.replicates", "replicate", "replicates"),
    ("lorasweep.trial.judge", "judge", "judging, the rest"),
)


class Meter:
    """Rows and CPU seconds by purpose, each second counted once, for the innermost purpose."""

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._stack = ["the rest"]
        self.start()

    def start(self) -> None:
        """Begin to count seconds."""
        self._since = time.process_time()

    def _settle(self) -> None:
        now = time.process_time()
        self.seconds[self._stack[-1]] += now - self._since
        self._since = now

    def wrapped(self, function: Callable[..., Any], purpose: str) -> Callable[..., Any]:
        """The function, its time on the bill of `purpose`; drawing within another purpose stays there."""

        def call(*args: Any, **kwargs: Any) -> Any:
            nested = purpose.startswith("drawing") and self._stack[-1] != "the rest"
            self._settle()
            self._stack.append(self._stack[-1] if nested else purpose)
            try:
                return function(*args, **kwargs)
            finally:
                self._settle()
                self._stack.pop()

        return call

    def counted(self, predict: Callable[..., Any]) -> Callable[..., Any]:
        """The base's `predict`, its rows counted."""

        def call(base: Any, noisy_BCHW: Any, *args: Any, **kwargs: Any) -> Any:
            self.rows[self._stack[-1]] += len(noisy_BCHW)
            return predict(base, noisy_BCHW, *args, **kwargs)

        return call


def main(overrides: Sequence[str]) -> int:
    """Cook one trial and print the bill."""
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as home, mock.patch.dict(os.environ, LORASWEEP_HOME=home):
        import torch

        torch.set_num_threads(1)
        meter = measure(list(overrides) or ["train.max_steps=320"], Path(home))
    print(table(meter))
    return 0


def measure(overrides: list[str], home: Path) -> Meter:
    """Cook the recipe with every purpose on the meter."""
    from lorasweep import config
    from lorasweep.components.bases._unet import StableDiffusionBase
    from lorasweep.plan import make_plan
    from lorasweep.trial.resources import TrialResources
    from lorasweep.trial.run import cook

    resources, meter = TrialResources(), Meter()

    def trial(*more: str) -> None:
        recipe = config.compose_recipe(overrides, ["tracking=none", "train.device=cpu", *more])
        folder = home / f"run-{len(more)}"
        cook(recipe, make_plan(recipe), folder, resources, report=_go_on, should_stop=_never)

    trial("train.max_steps=1")
    with mock.patch.object(StableDiffusionBase, "predict", meter.counted(StableDiffusionBase.predict)):
        patches = [_patch(meter, *each) for each in PURPOSES]
        try:
            meter.start()
            trial()
        finally:
            for patch in patches:
                patch.stop()
    return meter


def table(meter: Meter) -> str:
    """The bill, dearest first, with judging over training in its last line."""
    trained = meter.seconds["training"]
    judging = sum(meter.seconds.values()) - trained
    lines = [f"{'purpose':28s} {'rows':>7s} {'CPU s':>7s} {'rows/s':>7s}"]
    for name, seconds in sorted(meter.seconds.items(), key=lambda item: -item[1]):
        rows = meter.rows[name] * (3 if name == "training" else 1)
        lines.append(f"{name:28s} {rows:7d} {seconds:7.1f} {rows / max(seconds, 1e-9):7.1f}")
    return "\n".join([*lines, f"judging / training: {judging / trained:.2f} in CPU seconds"])


def _patch(meter: Meter, place: str, name: str, purpose: str) -> Any:
    import importlib

    try:
        owner = importlib.import_module(place)
    except ModuleNotFoundError:
        module, _, kind = place.rpartition(".")
        owner = getattr(importlib.import_module(module), kind)
    patch = mock.patch.object(owner, name, meter.wrapped(getattr(owner, name), purpose))
    patch.start()
    return patch


def _go_on(event: dict[str, Any]) -> bool:
    return True


def _never() -> bool:
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
