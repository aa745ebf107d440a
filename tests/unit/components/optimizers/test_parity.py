"""Each optimizer's steps against its paper's algorithm in float64, or another library's code."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import shipped
import torch

from lorasweep.components.optimizers import adafactor, came, dadapt_adam, lion, prodigy, schedule_free_adamw

STEPS = 6
START = torch.tensor([[1.0, -2.0, 0.3], [0.02, 3.0, -0.7]], dtype=torch.float64)
Update = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]  # (weights, gradient, step from 1)


def gradient(weights: torch.Tensor, step: int) -> torch.Tensor:
    """Of a bowl that is steeper along some weights, with a pull that turns from step to step."""
    slopes = torch.arange(1.0, 7.0, dtype=weights.dtype).reshape(2, 3)
    return slopes * weights + math.sin(2.0 * step) * slopes.flip(0)


def trained(
    module: Any, *, lrs: Sequence[float] = (0.1,) * STEPS, **knobs: Any
) -> tuple[torch.Tensor, torch.optim.Optimizer]:
    """The text encoder's tensor after the steps; the UNet beside it has another lr where that is allowed."""
    own, other = (torch.nn.Parameter(START.float().clone()) for _ in range(2))
    optimizer = shipped.build(module, {"unet": [other], "text_encoder": [own]}, **knobs)
    for step, lr in enumerate(lrs, start=1):
        optimizer.param_groups[1]["lr"] = lr
        for parameter in (own, other):
            parameter.grad = gradient(parameter.detach(), step)
        optimizer.step()
    return own, optimizer


def retold(update: Update) -> torch.Tensor:
    weights = START.clone()
    for step in range(1, STEPS + 1):
        weights = update(weights, gradient(weights, step), step)
    assert (weights - START).abs().min() > 1e-3  # every weight moved
    return weights


def close(found: torch.Tensor, wanted: torch.Tensor, rtol: float = 1e-4) -> bool:
    return torch.allclose(found.detach().double(), wanted, rtol=rtol, atol=1e-6)


def test_lion_is_program_1_of_its_paper() -> None:
    momentum = torch.zeros_like(START)

    def update(x: torch.Tensor, g: torch.Tensor, step: int) -> torch.Tensor:
        nonlocal momentum
        direction = (0.8 * momentum + 0.2 * g).sign()
        momentum = 0.95 * momentum + 0.05 * g
        return x - 0.1 * (direction + 0.2 * x)

    found, _ = trained(lion, lr=1e-3, text_encoder_lr=0.1, betas=(0.8, 0.95), weight_decay=0.2)
    assert close(found, retold(update))


@pytest.mark.parametrize("scale", [False, True])
def test_adafactor_is_that_of_transformers(scale: bool) -> None:
    """With relative_step and warmup_init off, as kohya's users set it."""
    from transformers.optimization import Adafactor

    theirs = torch.nn.Parameter(START.float().clone())
    reference = Adafactor(
        [theirs], lr=0.1, weight_decay=0.05, scale_parameter=scale, relative_step=False, warmup_init=False
    )
    for step in range(1, STEPS + 1):
        theirs.grad = gradient(theirs.detach(), step)
        reference.step()
    ours, _ = trained(adafactor, lr=1e-3, text_encoder_lr=0.1, weight_decay=0.05, scale_parameter=scale)
    assert (ours - START).abs().min() > 1e-3
    assert close(ours, theirs.double(), rtol=1e-5)


def test_came_is_algorithm_2_of_its_paper() -> None:
    b1, b2, b3 = 0.8, 0.9, 0.95
    rows, columns, doubts_r, doubts_c = (torch.zeros(n, dtype=torch.float64) for n in (2, 3, 2, 3))
    momentum = torch.zeros_like(START)

    def outer(row: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
        return torch.outer(row, column) / row.sum()

    def update(x: torch.Tensor, g: torch.Tensor, step: int) -> torch.Tensor:
        nonlocal rows, columns, doubts_r, doubts_c, momentum
        squared = g * g + 1e-30
        rows, columns = b2 * rows + (1 - b2) * squared.sum(1), b2 * columns + (1 - b2) * squared.sum(0)
        u = g / outer(rows, columns).sqrt()
        u = u / max(1.0, u.square().mean().sqrt().item())
        momentum = b1 * momentum + (1 - b1) * u
        doubt = (u - momentum) ** 2 + 1e-16
        doubts_r, doubts_c = b3 * doubts_r + (1 - b3) * doubt.sum(1), b3 * doubts_c + (1 - b3) * doubt.sum(0)
        return x - 0.1 * 0.05 * x - 0.1 * momentum / outer(doubts_r, doubts_c).sqrt()

    found, _ = trained(came, lr=1e-3, text_encoder_lr=0.1, betas=(b1, b2, b3), weight_decay=0.05)
    assert close(found, retold(update))


def test_dadapt_adam_is_algorithm_5_of_its_paper() -> None:
    """Two equal parts, so that the sums over all weights are twice those of one."""
    b1, b2, d, r = 0.9, 0.99, 1e-2, 0.0
    m, v, s = (torch.zeros_like(START) for _ in range(3))

    def update(x: torch.Tensor, g: torch.Tensor, step: int) -> torch.Tensor:
        nonlocal d, r, m, v, s
        root = math.sqrt(b2)
        inner = 2 * d * (g * s / (v.sqrt() + 1e-8)).sum().item()
        m, v = b1 * m + (1 - b1) * d * g, b2 * v + (1 - b2) * g * g
        s = root * s + (1 - root) * d * g
        r = root * r + (1 - root) * inner
        x = x - d * 0.05 * x - m / (v.sqrt() + 1e-8)
        d = max(d, r / ((1 - root) * 2 * s.abs().sum().item()))
        return x

    wanted = retold(update)
    found, optimizer = trained(dadapt_adam, lrs=(1.0,) * STEPS, betas=(b1, b2), weight_decay=0.05, d0=1e-2)
    assert close(found, wanted, rtol=1e-3)
    assert dadapt_adam.logged(optimizer)["d"] == pytest.approx(d, rel=1e-4) and d > 1e-2
    for group in optimizer.param_groups:
        group["lr"] = 0.25
    assert dadapt_adam.logged(optimizer)["d_lr"] == pytest.approx(0.25 * d, rel=1e-4)


@pytest.mark.parametrize(("safeguard", "d_coef"), [(True, 4.0), (False, 2.0)])
def test_prodigy_is_algorithm_4_of_its_paper(safeguard: bool, d_coef: float) -> None:
    """With Adam's bias correction; `safeguard_warmup` leaves the lr out of the sum s. Two equal parts, as above."""
    b1, b2, d0, decay = 0.9, 0.99, 1e-3, 0.05
    lrs = (0.0, 0.5, 1.0, 0.5, 1.0, 1.0)  # of which the first moves nothing and counts for no step
    x, m, v, s = START.clone(), *(torch.zeros_like(START) for _ in range(3))
    d, r, taken = d0, 0.0, 0
    for step, lr in enumerate(lrs, start=1):
        if lr == 0:
            continue
        g, root, taken = gradient(x, step), math.sqrt(b2), taken + 1
        rate = d * lr * math.sqrt(1 - b2**taken) / (1 - b1**taken)
        r = root * r + (1 - root) * d * rate * 2 * (g * (START - x)).sum().item()
        s = root * s + (1 - root) * d * (d if safeguard else rate) * g
        m, v = b1 * m + (1 - b1) * d * g, b2 * v + (1 - b2) * d * d * g * g
        last, d = d, max(d, d_coef * r / (2 * s.abs().sum().item()))
        x = x - rate * decay * x - rate * m / (v.sqrt() + d * 1e-8)
    assert d > 2 * d0 and d > last  # it found a larger step size, and was still at it

    own, other = (torch.nn.Parameter(START.float().clone()) for _ in range(2))
    knobs = {"betas": (b1, b2), "weight_decay": decay, "d0": d0, "d_coef": d_coef, "safeguard_warmup": safeguard}
    optimizer = shipped.build(prodigy, {"unet": [other], "text_encoder": [own]}, **knobs)
    for step, lr in enumerate(lrs, start=1):
        for group in optimizer.param_groups:
            group["lr"] = lr
        for parameter in (own, other):
            parameter.grad = gradient(parameter.detach(), step)
        optimizer.step()
    assert (x - START).abs().min() > 1e-4 and close(own, x, rtol=1e-3)
    assert (own.detach().double() - START - (x - START)).abs().max() < 1e-2 * (x - START).abs().max()
    assert prodigy.logged(optimizer)["d"] == pytest.approx(d, rel=1e-3)


def test_prodigy_leaves_what_has_no_lr_as_it_is() -> None:
    """`text_encoder_lr=0` beside weight decay, for weights that a file began with."""
    own, other = (torch.nn.Parameter(START.float().clone()) for _ in range(2))
    optimizer = shipped.build(
        prodigy, {"unet": [other], "text_encoder": [own]}, text_encoder_lr=0.0, weight_decay=0.1, d0=0.1
    )
    for step in range(1, STEPS + 1):
        for parameter in (own, other):
            parameter.grad = gradient(parameter.detach(), step)
        optimizer.step()
    assert (other - START).abs().min() > 1e-3 and torch.equal(own, START.float())


def test_schedule_free_is_algorithm_1_of_its_paper_and_gives_the_average_for_use() -> None:
    """Three sequences in the open: z steps, x is their weighted average, gradients are taken at y."""
    b1, b2, decay = 0.9, 0.99, 0.05
    lrs = (0.0, 0.05, 0.1, 0.1, 0.1, 0.1)  # a warm-up: early iterates count less, by lr squared
    x, z, v, total = START.clone(), START.clone(), torch.zeros_like(START), 0.0
    for step, lr in enumerate(lrs, start=1):
        y = (1 - b1) * z + b1 * x
        g = gradient(y, step)
        v = b2 * v + (1 - b2) * g * g
        z = z - lr * (g / ((v / (1 - b2**step)).sqrt() + 1e-8) + decay * y)
        weight = max(lrs[:step]) ** 2
        total += weight
        share = weight / total if total else 0.0
        x = (1 - share) * x + share * z
    y = (1 - b1) * z + b1 * x
    assert (x - y).abs().max() > 1e-2 and (x - START).abs().min() > 1e-3

    found, optimizer = trained(schedule_free_adamw, lrs=lrs, lr=0.1, betas=(b1, b2), weight_decay=decay)
    training = found.detach().clone()
    assert close(found, y)
    with schedule_free_adamw.weights_for_use(optimizer):
        assert close(found, x)
    assert torch.equal(found, training)
    with pytest.raises(KeyError), schedule_free_adamw.weights_for_use(optimizer):
        raise KeyError
    assert torch.equal(found, training)
