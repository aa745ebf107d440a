"""What every schedule promises, for each file of conf/scheduler/ or those that `CHOICES` names."""

from __future__ import annotations

from typing import Any

import pytest

from lorasweep.testing import Choice, load
from lorasweep.testing import pytest_generate_tests as pytest_generate_tests


@pytest.fixture
def module(scheduler_choice: Choice) -> Any:
    """The module."""
    return load("scheduler", scheduler_choice)


@pytest.mark.parametrize("total", [1, 2, 7, 100, 1000])
@pytest.mark.parametrize("peak", [1e-7, 1e-4, 1.0])
def test_lr_stays_between_zero_and_the_peak(module: Any, scheduler_choice: Choice, total: int, peak: float) -> None:
    schedule = module.build(total, **scheduler_choice[1])
    found = [schedule(step, peak) for step in range(total + 2)]
    assert all(0 <= lr <= peak * (1 + 1e-12) for lr in found)
    if total >= 100:
        assert max(found) == pytest.approx(peak, rel=0.05)


def test_it_has_no_memory(module: Any, scheduler_choice: Choice) -> None:
    """Resuming asks for step 60 first."""
    walked = module.build(100, **scheduler_choice[1])
    lrs = [walked(step, 1e-3) for step in range(100)]
    asked = module.build(100, **scheduler_choice[1])
    assert [asked(step, 1e-3) for step in (60, 3, 99)] == [lrs[60], lrs[3], lrs[99]]


def test_groups_keep_their_ratio_at_the_peak(module: Any, scheduler_choice: Choice) -> None:
    schedule = module.build(100, **scheduler_choice[1])
    high, low = ([schedule(step, peak) for step in range(100)] for peak in (1e-2, 1e-3))
    assert high.index(max(high)) == low.index(max(low))
    assert max(high) / max(low) == pytest.approx(10, rel=0.01)
