"""What every optimizer promises, for each file of conf/optimizer/ or those that `CHOICES` names."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch

from lorasweep.testing import Choice, load
from lorasweep.testing import pytest_generate_tests as pytest_generate_tests


@pytest.fixture
def module(optimizer_choice: Choice) -> Any:
    """The module."""
    return load("optimizer", optimizer_choice)


def parts() -> dict[str, list[torch.nn.Parameter]]:
    """Tensors of both parts of a model."""
    return {
        "unet": [torch.nn.Parameter(torch.tensor([[1.0, -2.0], [3.0, 0.5]]))],
        "text_encoder": [torch.nn.Parameter(torch.tensor([0.5, 0.25]))],
    }


def test_groups_are_named_and_have_a_peak(module: Any, optimizer_choice: Choice) -> None:
    optimizer = module.build(parts(), **optimizer_choice[1])
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert [group["name"] for group in optimizer.param_groups] == ["unet", "text_encoder"]
    assert all(group["initial_lr"] > 0 for group in optimizer.param_groups)
    assert len(module.build({"unet": parts()["unet"]}, **optimizer_choice[1]).param_groups) == 1


def test_it_goes_down_and_lr_zero_stands_still(module: Any, optimizer_choice: Choice) -> None:
    groups = parts()
    optimizer = module.build(groups, **optimizer_choice[1])
    parameters = [p for part in groups.values() for p in part]
    losses = []
    for step in range(200):
        before = [p.detach().clone() for p in parameters]
        for group in optimizer.param_groups:
            group["lr"] = 0.0 if step == 0 else group["initial_lr"]
        optimizer.zero_grad()
        loss = torch.stack([p.square().sum() for p in parameters]).sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step == 0:  # as after a warm-up's first step
            assert all(torch.equal(p, old) for p, old in zip(parameters, before, strict=True))
    assert losses[-1] < losses[0]


def test_what_it_logs_are_finite_numbers(module: Any, optimizer_choice: Choice) -> None:
    optimizer = module.build(parts(), **optimizer_choice[1])
    found: dict[str, float] = getattr(module, "logged", lambda optimizer: {})(optimizer)
    json.dumps(found, allow_nan=False)
    assert all(isinstance(value, float) for value in found.values())


def test_restored_equals_uninterrupted(module: Any, optimizer_choice: Choice) -> None:
    """3 + 3 steps, with the state written down in between, are 6 steps."""
    ends = []
    for stops in ((6,), (3, 3)):
        groups, state = parts(), None
        for steps in stops:
            optimizer = module.build(groups, **optimizer_choice[1])
            if state is not None:
                optimizer.load_state_dict(state)
            for _ in range(steps):
                optimizer.zero_grad()
                torch.stack([p.square().sum() for part in groups.values() for p in part]).sum().backward()
                optimizer.step()
            state = copy.deepcopy(optimizer.state_dict())
        ends.append([p for part in groups.values() for p in part])
    assert all(torch.equal(one, other) for one, other in zip(*ends, strict=True))
