from __future__ import annotations

from typing import Any

import pytest
import shipped
import torch

from lorasweep.components.optimizers import (
    adafactor,
    adamw,
    came,
    dadapt_adam,
    lion,
    prodigy,
    schedule_free_adamw,
)


def parts() -> dict[str, list[torch.nn.Parameter]]:
    return {
        "unet": [torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))],
        "text_encoder": [torch.nn.Parameter(torch.tensor([0.5, 0.25]))],
    }


def pull(optimizer: torch.optim.Optimizer, groups: dict[str, list[torch.nn.Parameter]], steps: int = 3) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        sum(p.square().sum() for part in groups.values() for p in part).backward()  # type: ignore[union-attr]
        optimizer.step()


def test_groups_carry_their_name_and_peak() -> None:
    optimizer = shipped.build(adamw, parts(), lr=1e-3, text_encoder_lr=1e-4)
    assert [(g["name"], g["initial_lr"]) for g in optimizer.param_groups] == [
        ("unet", 1e-3),
        ("text_encoder", 1e-4),
    ]
    assert [g["initial_lr"] for g in shipped.build(adamw, parts(), lr=1e-3).param_groups] == [1e-3, 1e-3]
    assert len(shipped.build(adamw, {"unet": parts()["unet"]}, lr=1e-3).param_groups) == 1


def test_adamw_moves_as_the_paper_says() -> None:
    """Algorithm 2 of Loshchilov & Hutter, by hand and in float64, for a part with its own lr."""
    groups = parts()
    optimizer = shipped.build(adamw, groups, lr=1e-1, text_encoder_lr=1e-2, betas=[0.8, 0.9], weight_decay=0.1)
    x, m, v = groups["text_encoder"][0].detach().double().clone(), 0.0, 0.0
    pull(optimizer, groups, steps=4)
    for t in range(1, 5):
        g = 2 * x
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g * g
        x = x - 1e-2 * 0.1 * x - 1e-2 * (m / (1 - 0.8**t)) / ((v / (1 - 0.9**t)).sqrt() + 1e-8)
    assert torch.allclose(groups["text_encoder"][0].double(), x, rtol=1e-5)
    assert not torch.allclose(x, torch.tensor([0.5, 0.25], dtype=torch.float64), rtol=1e-2)


def test_prodigy_runs_with_the_settings_of_its_readme(capsys: pytest.CaptureFixture[str]) -> None:
    groups = parts()
    optimizer = shipped.build(prodigy, groups)
    assert capsys.readouterr().out == ""
    group = optimizer.param_groups[0]
    assert group["safeguard_warmup"] and group["use_bias_correction"] and group["decouple"]
    assert group["weight_decay"] == 0.01 and group["lr"] == 1.0
    assert prodigy.logged(optimizer) == {"d": 1e-6, "d_lr": 1e-6}
    pull(optimizer, groups, steps=20)
    found = prodigy.logged(optimizer)
    assert found["d"] > 1e-6 and found["d_lr"] == found["d"]
    for g in optimizer.param_groups:
        g["lr"] = 0.25
    assert prodigy.logged(optimizer)["d_lr"] == 0.25 * found["d"]


def test_prodigy_refuses_what_its_step_would() -> None:
    groups = parts()
    with pytest.raises(RuntimeError):
        pull(shipped.build(prodigy, groups, text_encoder_lr=0.5), groups)
    ((key, message, hint),) = shipped.problems(prodigy, text_encoder_lr=0.5)
    assert key == "text_encoder_lr" and "0.5" in message and "adamw" in hint
    for allowed in (None, 0.0, 1.0):
        assert shipped.problems(prodigy, text_encoder_lr=allowed) == []
    groups = parts()
    before = groups["text_encoder"][0].detach().clone()
    pull(shipped.build(prodigy, groups, text_encoder_lr=0.0, weight_decay=0.0), groups)
    assert torch.equal(groups["text_encoder"][0], before)


@pytest.mark.parametrize(
    ("module", "knobs", "keys"),
    [
        (
            adamw,
            {"lr": 0.0, "betas": (0.9, 1.0), "weight_decay": -1.0, "eps": 0.0},
            "lr betas weight_decay eps",
        ),
        (adamw, {"text_encoder_lr": -1.0}, "text_encoder_lr"),
        (prodigy, {"lr": -1.0, "d_coef": 0.0, "d0": 0.0}, "lr d_coef d0"),
        (lion, {"lr": 0.0, "betas": (1.0, 0.9), "weight_decay": -1.0}, "lr betas weight_decay"),
        (adafactor, {"clip_threshold": 0.0, "text_encoder_lr": -1.0}, "text_encoder_lr clip_threshold"),
        (came, {"betas": (0.9, 0.9, 1.0), "clip_threshold": 0.0}, "betas clip_threshold"),
        (dadapt_adam, {"lr": 0.0, "d0": 0.0}, "lr d0"),
        (schedule_free_adamw, {"betas": (0.0, 0.9), "lr": -1.0}, "lr betas"),
    ],
)
def test_problems_are_listed_all_at_once(module: Any, knobs: dict[str, Any], keys: str) -> None:
    assert [key for key, _, _ in shipped.problems(module, **knobs)] == keys.split()
    assert shipped.problems(module) == []
