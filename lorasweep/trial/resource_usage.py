"""What this process takes of the machine while it cooks: memory, computing time, the GPU.

    ResourceUsage().look()  ->  {"memory_megabytes": 812.4, "cpu_percentage": 98.7}

From psutil and, where it is already loaded and on a GPU, from torch; of the whole process, which trials may share. A
kind that cannot be measured here is absent. Knows nothing about trials.
"""

from __future__ import annotations

import sys
import time
from types import ModuleType

import psutil

MB = 1_000_000
EVERY_S = 5.0  # a look costs under 0.1 ms


class ResourceUsage:
    """Looks at the process now and then."""

    def __init__(self, *, every_s: float = EVERY_S) -> None:
        """Begin; shares of computing time are counted from here, or from the last look."""
        self._every_s = every_s
        self._looked_s, self._computed_s = time.monotonic(), time.process_time()

    def look(self, *, now: bool = False) -> dict[str, float]:
        """Measure by kind, unless it is too early, and then `now` says to do so all the same; empty when it is.

        `memory_megabytes` (resident), `cpu_percentage` since the last look (100 is one core), `gpu_memory_megabytes`
        (this process's tensors), `gpu_utilization_percentage` (of the whole device).
        """
        looked_s, computed_s = time.monotonic(), time.process_time()
        passed_s = looked_s - self._looked_s
        if passed_s <= 0 or (passed_s < self._every_s and not now):
            return {}
        cpu = 100 * (computed_s - self._computed_s) / passed_s
        self._looked_s, self._computed_s = looked_s, computed_s
        memory = {f"{kind.lower().replace(' ', '_')}_megabytes": mb for kind, mb in taken_mb().items()}
        return {**memory, "cpu_percentage": cpu, **_gpu_utilization()}


def taken_mb() -> dict[str, float]:
    """Return the memory that this process holds, MB, by kind: "memory" (resident) and "GPU memory"."""
    taken = {"memory": psutil.Process().memory_info().rss / MB}
    if (torch := _torch_on_gpu()) is not None:
        taken["GPU memory"] = torch.cuda.memory_allocated() / MB
    return taken


def _gpu_utilization() -> dict[str, float]:
    torch = _torch_on_gpu()
    try:
        return {"gpu_utilization_percentage": float(torch.cuda.utilization())} if torch is not None else {}
    except (ImportError, RuntimeError):  # it asks NVML, by a package that need not be there
        return {}


def _torch_on_gpu() -> ModuleType | None:
    """Return the torch of this process when it works on a GPU; never imported for this."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    return torch
