"""Stopping and going on ends with the very weights of going straight through."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import make_recipe, train

from lorasweep.core.errors import AdapterError, LorasweepError
from lorasweep.core.records import CaptionOptions, Component, NoiseOptions, TrainOptions
from lorasweep.core.run_folder import steps_in
from lorasweep.trial.train import checkpoint
from lorasweep.trial.train.loop import advance
from lorasweep.trial.train.slot import Slot

VARIED = CaptionOptions(shuffle=True, keep_tokens=1, dropout=0.3)
RECIPES: dict[str, dict[str, Any]] = {
    "adamw": {},
    "prodigy, varied captions": {
        "optimizer": Component(name="prodigy", options={"d0": 1e-3}),
        "scheduler": Component(name="annealed_cosine_warmup_restarts", options={"num_cycles": 2, "warmup": 0}),
        "captions": VARIED,
    },
    "LoRA+": {"optimizer": Component(name="adamw", options={"lr": 1e-2, "loraplus_lr_ratio": 8.0})},
    "text encoder, dropout, accumulation": {
        "adapter": Component(name="lora", options={"dim": 2, "alpha": 1.0, "text_encoder": True, "dropout": 0.2}),
        "optimizer": Component(name="adamw", options={"lr": 1e-2, "text_encoder_lr": 1e-3}),
        "captions": VARIED,
        "train": TrainOptions(
            max_steps=8,
            batch_size=2,
            gradient_accumulation=2,
            device="cpu",
        ),
        "noise": NoiseOptions(
            **{"offset": 0.05, "adaptive_noise_scale": 0.1, "multires_iterations": 6, "input_perturbation": 0.1},
            **{"min_snr_gamma": 5.0, "levels": "logit_normal"},
        ),
    },
}


def everything(slot: Slot) -> dict[str, Any]:
    """A copy of all state of a slot that a later step could depend on."""
    found: dict[str, Any] = dict(slot.adapter.state_dict())
    state = slot.optimizer.state_dict()
    for index, entries in state["state"].items():
        found.update({f"{index}/{name}": value for name, value in entries.items()})
    for number, group in enumerate(state["param_groups"]):
        found.update({f"group {number}/{key}": value for key, value in group.items()})
    return copy.deepcopy(found)


def differing(left: dict[str, Any], right: dict[str, Any]) -> list[str]:
    assert left.keys() == right.keys()
    return [
        key
        for key, value in left.items()
        if not (torch.equal(value, right[key]) if isinstance(value, torch.Tensor) else value == right[key])
    ]


@pytest.mark.parametrize("changes", RECIPES.values(), ids=RECIPES.keys())
def test_resumed_equals_uninterrupted(new_slot: Any, base: Any, tmp_path: Path, changes: dict[str, Any]) -> None:
    straight = new_slot(**changes)
    before = straight.adapter.state_dict()
    rows = train(straight, base, 6)
    wanted = everything(straight)
    # Every tensor must have been moved, or equality below would mean nothing.
    assert all(not torch.equal(tensor, wanted[key]) for key, tensor in before.items())
    straight.close()

    first = new_slot(**changes)
    train(first, base, 3)
    checkpoint.save(first, tmp_path / "checkpoints")
    first.close()
    torch.manual_seed(12345)  # another process has another global generator
    second = new_slot(**changes)
    assert checkpoint.restore(second, tmp_path / "checkpoints") == 3
    later = train(second, base, 3)
    assert differing(everything(second), wanted) == []
    assert later == rows[3:]


def test_same_seed_twice_is_the_same_and_another_seed_is_not(new_slot: Any, base: Any) -> None:
    ends = []
    for seed in (0, 0, 1):
        slot = new_slot(seed=seed)
        train(slot, base, 3)
        ends.append(slot.adapter.state_dict())
        slot.close()
    assert differing(ends[0], ends[1]) == []
    assert len(differing(ends[0], ends[2])) == len(ends[0])


def test_slots_that_take_turns_end_as_if_alone(new_slot: Any, base: Any) -> None:
    """Bit for bit; `test_packed` has those that share a forward."""
    text = RECIPES["text encoder, dropout, accumulation"]
    recipes = [
        {"seed": 0},
        {"seed": 3, **text},
        {
            "adapter": Component(name="loha", options={"dim": 2}),
            "optimizer": RECIPES["prodigy, varied captions"]["optimizer"],
        },
    ]
    alone = []
    for changes in recipes:
        slot = new_slot(**changes)
        train(slot, base, 3)
        alone.append(everything(slot))
        slot.close()
    together = [new_slot(**changes) for changes in recipes]
    advance(together, base, steps=3, on_step=lambda slot, metrics: None)
    for slot, wanted in zip(together, alone, strict=True):
        assert differing(everything(slot), wanted) == []


def test_only_the_newest_step_keeps_what_resuming_needs(new_slot: Any, base: Any, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    assert steps_in(folder) == []
    slot = new_slot()
    assert checkpoint.restore(slot, folder) == 0
    for _ in range(2):
        train(slot, base, 1)
        checkpoint.save(slot, folder)
    checkpoint.save(slot, folder)  # again: nothing happens
    assert steps_in(folder) == [1, 2]
    assert {path.name for path in (folder / "step_000001").iterdir()} == {"adapter.safetensors"}
    assert {path.name for path in (folder / "step_000002").iterdir()} == {
        "adapter.safetensors",
        "state.json",
        "state.safetensors",
    }
    assert checkpoint.restore(slot, folder) == 2


def test_a_save_that_was_killed_is_not_a_checkpoint(
    new_slot: Any, base: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "checkpoints"
    slot = new_slot()
    train(slot, base, 1)
    checkpoint.save(slot, folder)
    wanted = everything(slot)
    train(slot, base, 1)

    def killed(*paths: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("os.rename", killed)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(slot, folder)
    (folder / ".step_left_by_kill").mkdir()
    assert checkpoint.restore(slot, folder) == 1
    assert differing(everything(slot), wanted) == []
    train(slot, base, 1)
    checkpoint.save(slot, folder)
    assert {path.name for path in folder.iterdir()} == {"step_000001", "step_000002"}


def test_a_checkpoint_of_another_recipe_is_refused(new_slot: Any, base: Any, tmp_path: Path, tiny_sd: Path) -> None:
    slot = new_slot()
    checkpoint.save(slot, tmp_path / "checkpoints")
    other = new_slot(seed=1)
    with pytest.raises(LorasweepError, match="another recipe"):
        checkpoint.restore(other, tmp_path / "checkpoints")
    wider = new_slot(adapter=Component(name="lora", options={"dim": 4, "alpha": 1.0}))
    wider.plan = dataclasses.replace(wider.plan, fingerprint=make_recipe(tiny_sd).fingerprint())
    with pytest.raises(AdapterError, match="other shapes"):
        checkpoint.restore(wider, tmp_path / "checkpoints")
