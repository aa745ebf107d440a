"""Schedules against diffusers', torch's and a step-by-step re-telling of the restart scheduler."""

from __future__ import annotations

import math
import subprocess
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest
import shipped

from lorasweep.components.schedulers import annealed_cosine_warmup_restarts as annealed
from lorasweep.components.schedulers import (
    constant,
    cosine,
    cosine_with_restarts,
    cosine_with_soft_restarts,
    linear,
    rex,
)

TOTAL = 97
PEAK = 3e-4


def diffusers_lrs(name: str, **knobs: Any) -> list[float]:
    import diffusers.optimization
    import torch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    scheduler = getattr(diffusers.optimization, name)(optimizer, **knobs)
    return [PEAK * scheduler.lr_lambdas[0](step) for step in range(TOTAL + 1)]


def lrs(schedule: Callable[[int, float], float], peak: float = PEAK, steps: int = TOTAL + 1) -> list[float]:
    return [schedule(step, peak) for step in range(steps)]


@pytest.mark.parametrize("warmup", [0, 1, 10])
@pytest.mark.parametrize("cycles", [1, 2, 3, 5])
def test_restarts_are_those_of_diffusers(cycles: int, warmup: int) -> None:
    ours = lrs(cosine_with_restarts.build(TOTAL, num_cycles=cycles, warmup=warmup))
    theirs = diffusers_lrs(
        "get_cosine_with_hard_restarts_schedule_with_warmup",
        num_warmup_steps=warmup,
        num_training_steps=TOTAL,
        num_cycles=cycles,
    )
    assert max(ours) == pytest.approx(PEAK, rel=1e-3) and min(ours) < 0.01 * PEAK
    assert ours == pytest.approx(theirs, abs=1e-12, rel=1e-12)
    jumps = [step for step in range(1, TOTAL) if ours[step] > 10 * ours[step - 1] and step > warmup]
    assert len(jumps) == cycles - 1


@pytest.mark.parametrize("warmup", [0, 7])
def test_cosine_and_constant_are_those_of_diffusers(warmup: int) -> None:
    known = {"num_warmup_steps": warmup}
    theirs = diffusers_lrs("get_cosine_schedule_with_warmup", num_training_steps=TOTAL, **known)
    assert lrs(cosine.build(TOTAL, warmup=warmup)) == pytest.approx(theirs, abs=1e-12)
    theirs = diffusers_lrs("get_constant_schedule_with_warmup", **known)
    assert lrs(constant.build(TOTAL, warmup=warmup)) == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("warmup", [0, 7])
def test_linear_is_that_of_diffusers(warmup: int) -> None:
    theirs = diffusers_lrs("get_linear_schedule_with_warmup", num_warmup_steps=warmup, num_training_steps=TOTAL)
    ours = lrs(linear.build(TOTAL, warmup=warmup))
    assert ours == pytest.approx(theirs, abs=1e-12)
    assert ours[warmup] == PEAK and ours[-1] == 0 < ours[-2] < 0.02 * PEAK


@pytest.mark.parametrize("warmup", [0, 7])
@pytest.mark.parametrize("cycles", [0.5, 1.5, 3.0])
def test_soft_restarts_are_those_cycles_of_diffusers_cosine(cycles: float, warmup: int) -> None:
    """Its `num_cycles` means waves, half of one by default: the same smooth curve."""
    theirs = diffusers_lrs(
        "get_cosine_schedule_with_warmup",
        num_warmup_steps=warmup,
        num_training_steps=TOTAL,
        num_cycles=cycles,
    )
    ours = lrs(cosine_with_soft_restarts.build(TOTAL, num_cycles=cycles, warmup=warmup))
    assert ours == pytest.approx(theirs, abs=1e-12)
    steepest = max(abs(a - b) for a, b in zip(ours[warmup:], ours[warmup + 1 :], strict=False))
    assert steepest < 0.2 * PEAK  # no jump
    if cycles == 3.0:  # a whole number of waves swings back up
        assert ours[-1] > 0.9 * PEAK and min(ours[warmup:]) < 0.02 * PEAK


def test_rex_is_the_closed_form_of_the_paper() -> None:
    """Equation of section 4: (1 - z) / (1/2 + 1/2 (1 - z)); in the middle, and compared with a line."""
    ours = lrs(shipped.build(rex, 100, bend=0.5), steps=101)
    assert ours == pytest.approx([PEAK * (1 - t / 100) / (0.5 + 0.5 * (1 - t / 100)) for t in range(101)])
    assert ours[50] == pytest.approx(PEAK * 2 / 3) and ours[0] == PEAK and ours[100] == 0
    assert lrs(rex.build(TOTAL, bend=0.0, warmup=7)) == pytest.approx(lrs(linear.build(TOTAL, warmup=7)))


@pytest.mark.parametrize("bend", [0.5, 0.9])
def test_rex_is_an_exact_fraction(bend: float) -> None:
    """The same curve in exact arithmetic, on a timeline that begins after the warm-up."""
    from fractions import Fraction

    d = Fraction(str(bend))
    found = lrs(rex.build(60, bend=bend, warmup=10), peak=1.0, steps=60)
    assert found[:10] == pytest.approx([s / 10 for s in range(10)])
    for step in range(10, 60):
        left = Fraction(60 - step, 50)
        assert found[step] == pytest.approx(float(left / (1 - d + d * left)), rel=1e-12)


def test_a_share_of_warm_up_is_its_steps() -> None:
    for module in (cosine, linear, rex, cosine_with_soft_restarts):
        assert lrs(shipped.build(module, 100, warmup=0.1)) == lrs(shipped.build(module, 100, warmup=10))
        assert lrs(shipped.build(module, 100, warmup=0.1)) != lrs(shipped.build(module, 100, warmup=0.2))
    # Spread over the cycles: 12 of 100 steps over 3 cycles are 4 in each.
    spread = shipped.build(annealed, 100, num_cycles=3, warmup=0.12)
    assert lrs(spread) == lrs(shipped.build(annealed, 100, num_cycles=3, warmup=4))


@pytest.mark.parametrize("mult", [1, 2, 3])
def test_annealed_without_warm_up_or_decay_is_torch(mult: int) -> None:
    import torch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    theirs = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 30, T_mult=mult, eta_min=1e-6)
    wanted = []
    for _ in range(90):
        wanted.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    schedule = shipped.build(annealed, 90, num_cycles=3, warmup=0, cycle_mult=float(mult), gamma=1.0)
    ours = lrs(schedule, steps=90)
    assert ours == pytest.approx(wanted, rel=1e-9)
    assert ours[30] == pytest.approx(PEAK)


def retold(total: int, *, cycles: int, warm: int, mult: float, gamma: float, low: float, peak: float) -> list[float]:
    """The scheduler as a machine that walks: counters, no formula for where a cycle begins."""
    length, place, cycle, found = total // cycles, 0, 0, []
    for _ in range(total):
        top = peak * gamma**cycle
        if place < warm:
            found.append((top - low) * place / warm + low)
        else:
            angle = math.pi * (place - warm) / (length - warm)
            found.append(low + (top - low) * (1 + math.cos(angle)) / 2)
        place += 1
        if place == length:
            cycle, place, length = cycle + 1, 0, int((length - warm) * mult) + warm
    return found


@pytest.mark.parametrize("mult", [0.9, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("warm", [0, 3])
@pytest.mark.parametrize("peak", [3e-4, 1.0])
def test_annealed_walks_as_retold(mult: float, warm: int, peak: float) -> None:
    ours = annealed.build(96, num_cycles=3, warmup=warm, cycle_mult=mult, gamma=0.8, min_lr=1e-6)
    wanted = retold(96, cycles=3, warm=warm, mult=mult, gamma=0.8, low=1e-6, peak=peak)
    assert lrs(ours, peak, 96) == pytest.approx(wanted, rel=1e-9)


def test_each_group_anneals_from_its_own_peak() -> None:
    schedule = shipped.build(annealed, 90, num_cycles=3, warmup=5, gamma=0.5, min_lr=1e-6)
    assert [schedule(step, 1e-3) for step in (5, 35, 65)] == pytest.approx([1e-3, 5e-4, 2.5e-4])
    assert [schedule(step, 1e-5) for step in (5, 35, 65)] == pytest.approx([1e-5, 5e-6, 2.5e-6])
    assert schedule(0, 1e-3) == 1e-6
    # A group below the floor is not lifted to it.
    assert schedule(5, 5e-7) == 5e-7 and schedule(0, 5e-7) == 0.0 and max(lrs(schedule, 5e-7, 90)) == 5e-7


def test_left_over_steps_do_not_restart() -> None:
    schedule = shipped.build(annealed, 100, num_cycles=3, warmup=0, gamma=1.0, min_lr=1e-6)
    assert schedule(66, PEAK) == pytest.approx(PEAK)  # the third cycle begins
    assert schedule(99, PEAK) == 1e-6  # 3 x 33 steps are over


@pytest.mark.parametrize("total", [1, 2, 5])
@pytest.mark.parametrize("module", [annealed, cosine_with_restarts])
def test_short_trainings_and_long_warm_ups_stay_in_range(module: types.ModuleType, total: int) -> None:
    for knobs in (
        {"num_cycles": 9, "warmup": 0},
        {"num_cycles": 1, "warmup": 50},
        {"num_cycles": 2, "warmup": 0.9},
    ):
        assert all(0 <= lr <= PEAK for lr in lrs(shipped.build(module, total, **knobs), steps=total + 3))


def test_problems_are_listed_all_at_once() -> None:
    assert shipped.problems(annealed) == [] and shipped.problems(cosine_with_restarts, num_cycles=3, warmup=0.5) == []
    found = shipped.problems(annealed, num_cycles=0, warmup=1.5, cycle_mult=0.0, gamma=1.5, min_lr=-1.0)
    assert [key for key, _, _ in found] == ["num_cycles", "warmup", "cycle_mult", "gamma", "min_lr"]
    assert [key for key, _, _ in shipped.problems(rex, bend=1.0, warmup=-1)] == ["bend", "warmup"]
    assert [key for key, _, _ in shipped.problems(cosine_with_soft_restarts, num_cycles=0)] == ["num_cycles"]
    for module, warmup in ((linear, 1.5), (constant, -1), (cosine, 1.0)):
        ((key, message, _),) = shipped.problems(module, warmup=warmup)
        assert key == "warmup" and message == f"must be whole steps or a share below 1, got {warmup}"


def test_schedules_need_no_torch() -> None:
    code = (
        "import sys; from lorasweep.components.schedulers import cosine, annealed_cosine_warmup_restarts as a;"
        "knobs = dict(num_cycles=1, warmup=0, cycle_mult=1.0, gamma=0.9, min_lr=0.0);"
        "cosine.build(10, warmup=0)(3, 1.0); a.build(10, **knobs)(3, 1.0); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
