"""Where a trial's wall time goes in a warm worker: UNet forward, UNet backward, everything else.

    python benchmarks/overhead.py [KEY=VALUE ...]

Cooks one recipe twice in one process (the first fills caches and probes), and times the second. The UNet's
forward is timed by hooks around it, its backward as the whole of `Tensor.backward`: on a frozen base nothing
else has one.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

DEFAULTS = ["train.max_steps=100", "tracking=none"]


class Clock:
    """Seconds by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = 0.0

    def start(self) -> None:
        """Begin an interval."""
        self._since = time.perf_counter()

    def stop(self, name: str) -> None:
        """End it under a name."""
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - self._since


@contextmanager
def timed(unet: Any, clock: Clock) -> Iterator[None]:
    """Time the UNet's forward and every backward within the block."""
    import torch

    before = unet.register_forward_pre_hook(lambda *_: clock.start())
    after = unet.register_forward_hook(lambda *_: clock.stop("UNet forward"))
    backward = torch.Tensor.backward

    def timed_backward(self: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        clock.start()
        backward(self, *args, **kwargs)
        clock.stop("backward")

    torch.Tensor.backward = timed_backward  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.Tensor.backward = backward  # type: ignore[method-assign]
        before.remove()
        after.remove()


def main(overrides: list[str]) -> int:
    """Cook, time, print the shares; returns the exit code."""
    import torch

    from lorasweep import config, plan
    from lorasweep.kitchen import Kitchen
    from lorasweep.run import cook

    torch.set_num_threads(1)
    recipe = config.compose_recipe([*DEFAULTS, *overrides])
    planned, kitchen, clock = plan.make_plan(recipe), Kitchen(), Clock()
    with tempfile.TemporaryDirectory() as scratch:

        def once(name: str) -> None:
            cook(
                recipe,
                planned,
                Path(scratch) / name,
                kitchen,
                report=lambda event: True,
                should_stop=lambda: False,
            )

        once("warm-up")
        with timed(kitchen.base(recipe).unet, clock):
            began = time.perf_counter()
            once("timed")
            wall_s = time.perf_counter() - began
    unet_s = sum(clock.seconds.values())
    rows = {**clock.seconds, "everything else": wall_s - unet_s}
    for name, seconds in rows.items():
        print(f"{name:<18}{seconds:8.2f} s {100 * seconds / wall_s:6.1f} %")
    print(json.dumps({"wall_s": round(wall_s, 2), "overhead_share": round(1 - unet_s / wall_s, 4)}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
