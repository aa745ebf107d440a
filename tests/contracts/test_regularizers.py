"""What every regularizer promises, for each file of conf/regularization/."""

from __future__ import annotations

import importlib
import json
from typing import Any

from lorasweep.adapters import lora
from lorasweep.protocols import Base, Brake


def test_a_brake_acts_on_an_adapter_and_logs_finite_numbers(
    regularization_choice: tuple[str, dict[str, Any]], base: Base
) -> None:
    name, knobs = regularization_choice
    regularizer = importlib.import_module(f"lorasweep.regularizers.{name}").build(**knobs)
    if not isinstance(regularizer, Brake):
        return
    adapter = lora.build(base, seed=0, dim=2)
    found = regularizer.after_step(adapter)
    json.dumps(found, allow_nan=False)
    assert all(isinstance(value, float) for value in found.values())
    adapter.remove()
