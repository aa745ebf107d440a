"""Where a trial's time goes in a warm worker: by what computes, and by stage.

    python benchmarks/overhead.py [KEY=VALUE ...]

Cooks one recipe twice in one process (the first fills caches and probes), and times the second, in CPU
seconds of one thread, which other work on the machine does not lengthen. The UNet's forward is timed by hooks
around it, its backward as the whole of `Tensor.backward`: on a frozen base nothing else has one. Stages are
timed around the functions that they are: training, drawing at rungs and at the end, and every metric.

Two bounds are printed with what was found: the metrics of the rungs that need forward passes only, over
training; and what is judged at the end, over all drawing.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")

DEFAULTS = ["train.max_steps=320", "train.batch_size=4", "buckets=four", "tracking=none"]
BOUNDS = {"rung metrics, forward passes only / training": 0.15, "final suite / drawing": 1.0}
FORWARD_ONLY = ("generalisation", "prior_drift", "useful_weight", "trigger_selectivity", "norms")


class Clock:
    """CPU seconds by name; a name that runs inside another is taken off it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._open: list[tuple[str, float]] = []

    def start(self, name: str) -> None:
        """Begin an interval."""
        self._turn(time.process_time())
        self._open.append((name, time.process_time()))

    def stop(self) -> None:
        """End the latest."""
        now = time.process_time()
        self._turn(now)
        self._open.pop()
        if self._open:
            self._open[-1] = (self._open[-1][0], now)

    def _turn(self, now: float) -> None:
        """Book what the innermost has used so far."""
        if self._open:
            name, since = self._open[-1]
            self.seconds[name] = self.seconds.get(name, 0.0) + now - since
            self._open[-1] = (name, now)

    def around(self, function: Callable[..., Any], name: Callable[[], str]) -> Callable[..., Any]:
        """The function, timed."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            self.start(name())
            try:
                return function(*args, **kwargs)
            finally:
                self.stop()

        return timed


@contextmanager
def computing(unet: Any, clock: Clock) -> Iterator[None]:
    """Time the UNet's forward and every backward within the block."""
    import torch

    before = unet.register_forward_pre_hook(lambda *_: clock.start("UNet forward"))
    after = unet.register_forward_hook(lambda *_: clock.stop())
    try:
        with mock.patch.object(torch.Tensor, "backward", clock.around(torch.Tensor.backward, lambda: "backward")):
            yield
    finally:
        before.remove()
        after.remove()


@contextmanager
def staging(clock: Clock) -> Iterator[None]:
    """Time training, drawing and every metric, at rungs and at the end."""
    from lorasweep.trial import finish, judge, sample
    from lorasweep.trial.train import loop

    at = {"": "rungs: "}

    def when(what: str) -> Callable[[], str]:
        return lambda: at[""] + what

    def build(name: str, knobs: Any, *, made: Callable[..., Any] = judge.build) -> Any:
        metric = made(name, knobs)
        kind = "forward passes only" if name in FORWARD_ONLY else "pictures"
        return _Timed(metric, clock.around(metric.measure, when(f"metrics, {kind}")))

    def at_the_end(*args: Any, function: Any = finish.draw_in_full, **kwargs: Any) -> Any:
        at[""] = "end: "
        return function(*args, **kwargs)

    with ExitStack() as patched:
        for owner, name, function in (
            (loop, "advance", clock.around(loop.advance, lambda: "training")),
            (sample, "draw", clock.around(sample.draw, when("drawing"))),
            (finish, "judge_in_full", clock.around(finish.judge_in_full, when("scores and errors"))),
            (finish, "judge_at_weights", clock.around(finish.judge_at_weights, when("scores and errors"))),
            (finish, "draw_in_full", at_the_end),
            (judge, "build", build),
        ):
            patched.enter_context(mock.patch.object(owner, name, function))
        yield


class _Timed:
    """A metric with another `measure`."""

    def __init__(self, metric: Any, measure: Callable[..., Any]) -> None:
        self.needs_samples, self.measure = metric.needs_samples, measure


def main(overrides: list[str]) -> int:
    """Cook, time, print the shares; returns the exit code."""
    import torch

    from lorasweep import config, plan
    from lorasweep.trial.resources import TrialResources
    from lorasweep.trial.run import cook

    torch.set_num_threads(1)
    recipe = config.compose_recipe(DEFAULTS, overrides)
    planned, resources = plan.make_plan(recipe), TrialResources()
    computed, staged = Clock(), Clock()
    with tempfile.TemporaryDirectory() as scratch:

        def once(name: str) -> None:
            cook(
                recipe,
                planned,
                Path(scratch) / name,
                resources,
                report=lambda event: True,
                should_stop=lambda: False,
            )

        once("warm-up")
        with computing(resources.base(recipe).unet, computed), staging(staged):
            began = time.process_time()
            once("timed")
            whole_s = time.process_time() - began
    for clock in (computed, staged):
        clock.seconds["everything else"] = whole_s - sum(clock.seconds.values())
        for name, seconds in clock.seconds.items():
            print(f"{name:<36}{seconds:8.2f} s {100 * seconds / whole_s:6.1f} %")
        print()
    shares = bounds(staged.seconds)
    for name, share in shares.items():
        met = "met" if share < BOUNDS[name] else "NOT met"
        print(f"{name:<48}{share:6.3f}  (below {BOUNDS[name]:g}: {met})")
    other = computed.seconds["everything else"] / whole_s
    found = {"cpu_s": round(whole_s, 2), "overhead_share": round(other, 4)}
    print(json.dumps(found | {name: round(share, 4) for name, share in shares.items()}))
    return 0


def bounds(seconds: dict[str, float]) -> dict[str, float]:
    """The two shares that have a bound."""
    ending = sum(value for name, value in seconds.items() if name.startswith("end: ")) - seconds["end: drawing"]
    drawing = seconds["end: drawing"] + seconds["rungs: drawing"]
    return dict(
        zip(
            BOUNDS,
            (seconds["rungs: metrics, forward passes only"] / seconds["training"], ending / drawing),
            strict=True,
        )
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
