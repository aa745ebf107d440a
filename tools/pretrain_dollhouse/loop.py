"""What every training stage shares: two learning-rate shapes, an EMA, checkpoints that resume, a log line.

Knows nothing about models, data or losses.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from tools.pretrain_dollhouse.replicas import Replica

Module = TypeVar("Module", bound=nn.Module)

log = logging.getLogger(__name__)


def learning_rate(step: int, *, peak: float, steps: int, warmup: int, floor: float = 0.02) -> float:
    """Return the rate at a step: linear warmup, then a cosine down to `floor * peak`."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, steps - warmup))
    return peak * (floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * progress)))


def trapezoid(step: int, *, peak: float, steps: int, warmup: int, cooldown: int) -> float:
    """Return the rate at a step: linear warmup, flat, then linear to zero over the last `cooldown` steps."""
    rise = min(1.0, (step + 1) / warmup)
    fall = min(1.0, (steps - step) / cooldown)
    return peak * min(rise, fall)


class Ema(Generic[Module]):
    """An exponential moving average of a module's weights, warmed up so that early averages are not stale.

    The decay at step n is min(decay, (1 + n) / (10 + n)).
    """

    def __init__(self, module: Module, *, decay: float) -> None:
        self.module: Module = copy.deepcopy(module).requires_grad_(False).eval()
        self._decay = decay

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move the average toward the module's current weights."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for average, weight in zip(self.module.parameters(), module.parameters(), strict=True):
            average.lerp_(weight, 1.0 - decay)
        for kept, current in zip(self.module.buffers(), module.buffers(), strict=True):
            kept.copy_(current)


def descend(
    loss: torch.Tensor,
    parameters: Sequence[nn.Parameter],
    optimizer: torch.optim.Optimizer,
    replica: Replica,
    *,
    max_norm: float | None = 1.0,
) -> None:
    """Take one optimizer step down the mean gradient of all processes, clipped to `max_norm`; None clips nothing."""
    optimizer.zero_grad()
    loss.backward()
    replica.average_gradients(parameters)
    if max_norm is not None:
        torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    optimizer.step()


def channels_last(module: Module) -> Module:
    """Lay out a module's convolution weights channels-last, which is faster on CPUs; returns the module."""
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return module


def save(path: Path, model: nn.Module, ema: Ema[Any], optimizer: torch.optim.Optimizer, *, step: int) -> None:
    """Write a stage's checkpoint so that a reader sees the old one or the new one, never half of one."""
    partial = path.with_suffix(".partial")
    state = {"model": model.state_dict(), "ema": ema.module.state_dict()}
    torch.save(state | {"optimizer": optimizer.state_dict(), "step": step}, partial)
    os.replace(partial, path)


def resume(path: Path, model: nn.Module, ema: Ema[Any], optimizer: torch.optim.Optimizer) -> int:
    """Load what `save` left, in place; returns the steps done, 0 when there is no checkpoint."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    ema.module.load_state_dict(state["ema"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


@dataclass
class Progress:
    """Logs one line of smoothed figures every `every` steps and appends it to a JSON-lines file.

    Attributes:
        name: the stage.
        path: the JSON-lines file.
        every: steps between lines.
    """

    name: str
    path: Path
    every: int = 50
    _sums: dict[str, float] = field(default_factory=dict)
    _count: int = 0
    _since: float = field(default_factory=time.perf_counter)

    def add(self, step: int, **figures: float) -> None:
        """Count one step's figures in, and log when it is time."""
        for key, value in figures.items():
            self._sums[key] = self._sums.get(key, 0.0) + value
        self._count += 1
        if (step + 1) % self.every:
            return
        now = time.perf_counter()
        means = {key: total / self._count for key, total in self._sums.items()}
        record = {"step": step + 1, **means, "steps_per_s": self._count / (now - self._since)}
        rounded = {key: float(f"{value:.5g}") for key, value in record.items()}
        log.info("%s %s", self.name, json.dumps(rounded))
        with self.path.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(rounded) + "\n")
        self._sums, self._count, self._since = {}, 0, now
