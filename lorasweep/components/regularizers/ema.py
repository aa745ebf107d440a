"""EMA: what is judged, drawn and saved is an average of the weights over the last steps, not the last of them.

It evens out what single batches do to the weights, at a rate at which the last step alone would overcook. Training
goes on from its own weights, which know nothing of the average.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field

AVERAGES_WEIGHTS = True


@dataclass(kw_only=True)
class Ema:
    """See `protocols.WeightAverage`.

    After each step n of the training that `every` divides, average += (1 - d) (weights - average), with d = `decay`;
    with a warm-up d = min(decay, n / (n + 9)), and 0 after the first. It starts from the weights that training starts
    from, in fp32.

    Source: huggingface/diffusers, training_utils.py, EMAModel; `every` as Nerogar/OneTrainer has it,
    modules/module/EMAModule.py; no warm-up as ostris/ai-toolkit, toolkit/ema.py, ExponentialMovingAverage.
    """

    decay: Annotated[float, Field(gt=0, lt=1, description="0.99 is usual")]
    warmup: bool
    every: Annotated[int, Field(ge=1, description="1 or 5 is usual")]
    _averages: list[Any] = field(default_factory=list, init=False, repr=False)
    _steps: int = field(default=0, init=False, repr=False)

    def start(self, adapter: Any) -> None:
        """Begin with the adapter's weights as they are."""
        self._averages = [parameter.detach().clone() for parameter in _parameters(adapter)]

    def after_step(self, adapter: Any) -> dict[str, float]:
        """Take in the weights, when it is time; returns `ema/decay`, how much of the average so far stays."""
        from torch.optim.swa_utils import get_ema_multi_avg_fn

        self._steps += 1
        decay = _stays(self._steps, decay=self.decay, warmup=self.warmup, every=self.every)
        if decay < 1:
            get_ema_multi_avg_fn(decay)(self._averages, [each.detach() for each in _parameters(adapter)], self._steps)
        return {"ema/decay": decay}

    @contextlib.contextmanager
    def for_use(self, adapter: Any) -> Iterator[None]:
        """Put the average in the weights' place; afterwards training's own again, bit for bit."""
        training = [parameter.data for parameter in _parameters(adapter)]
        try:
            for parameter, average in zip(_parameters(adapter), self._averages, strict=True):
                parameter.data = average
            yield
        finally:
            for parameter, own in zip(_parameters(adapter), training, strict=True):
                parameter.data = own

    def state_dict(self) -> dict[str, Any]:
        """Return the averages by number, and how many steps are in them."""
        import torch

        averages = {str(number): average.cpu().clone() for number, average in enumerate(self._averages)}
        return averages | {"steps": torch.tensor(self._steps)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore them."""
        self._steps = int(state["steps"])
        for number, average in enumerate(self._averages):
            average.copy_(state[str(number)])


def untrained(steps: int, **knobs: Any) -> float:
    """Return how much of the average, 0 to 1, is the weights from before training after so many steps."""
    return math.prod(_stays(step, **knobs) for step in range(1, steps + 1))


def _stays(step: int, *, decay: float, warmup: bool, every: int) -> float:
    if step % every:
        return 1.0
    if warmup:
        return min(decay, step / (step + 9)) if step > 1 else 0.0
    return decay


def _parameters(adapter: Any) -> list[Any]:
    return [parameter for part in adapter.parameters().values() for parameter in part]


build = Ema
