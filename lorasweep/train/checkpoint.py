"""Checkpoints that continue bit for bit, and that a power cut cannot tear. No pickle.

    checkpoints/step_000100/adapter.safetensors   for use: what diffusers loads; kept for every step saved
                            state.safetensors     to resume: adapter and optimizer tensors; newest step only
                            state.json            to resume: step, the optimizer's numbers; newest step only

A folder appears whole, by renaming, and the older state is removed only after that. A slot draws from
generators that are seeded by its step (see `train.slot`), so no generator's state needs saving.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from lorasweep import files
from lorasweep.errors import LorasweepError
from lorasweep.train.slot import Slot

_NAME = re.compile(r"step_(\d{6,})")
_STATE = ("state.safetensors", "state.json")


def save(slot: Slot, folder: Path) -> Path:
    """Write `folder/step_NNNNNN` and drop the state of older steps; returns the new folder.

    Saving a step that is already there changes nothing.
    """
    target = folder / f"step_{slot.step:06d}"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _remove_torn(folder)
        temporary = Path(tempfile.mkdtemp(dir=folder, prefix=".step_"))
        try:
            _write(slot, temporary)
            os.chmod(temporary, 0o755)
            os.rename(temporary, target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        files.sync_folder(folder)
    for step in steps(folder):
        if step != slot.step:
            for name in _STATE:
                (folder / f"step_{step:06d}" / name).unlink(missing_ok=True)
    return target


def restore(slot: Slot, folder: Path) -> int:
    """Put the newest checkpoint into a freshly made slot.

    Returns:
        The slot's step: 0, and an untouched slot, when there is no checkpoint.

    Raises:
        LorasweepError: the checkpoint belongs to another recipe, other images or another base.
        AdapterError: its tensors do not fit.
    """
    found = [step for step in steps(folder) if (folder / f"step_{step:06d}" / "state.json").exists()]
    if not found:
        return 0
    newest = folder / f"step_{found[-1]:06d}"
    state = files.read_json(newest / "state.json")
    if state["fingerprint"] != slot.plan.fingerprint:
        raise LorasweepError(
            f"{newest} was made by another recipe, other images or another base; use an empty run folder"
        )
    tensors = load_file(newest / "state.safetensors")
    slot.adapter.load_state_dict(_under("adapter/", tensors))
    _restore_optimizer(slot.optimizer, state["optimizer"], _under("optimizer/", tensors))
    if slot.scaler.is_enabled():
        slot.scaler.load_state_dict(_unpack(state["scaler"]))
    slot.step = state["step"]
    return slot.step


def steps(folder: Path) -> list[int]:
    """Steps that have a checkpoint, ascending."""
    names = [_NAME.fullmatch(path.name) for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name[1]) for name in names if name)


def _write(slot: Slot, folder: Path) -> None:
    optimizer, optimizer_tensors = _flatten_optimizer(slot.optimizer)
    tensors = {f"adapter/{key}": tensor for key, tensor in slot.adapter.state_dict().items()}
    tensors |= {f"optimizer/{key}": tensor for key, tensor in optimizer_tensors.items()}
    state = {
        "step": slot.step,
        "fingerprint": slot.plan.fingerprint,
        "optimizer": optimizer,
        "scaler": _pack(slot.scaler.state_dict()),
    }
    files.write_atomic(folder / "adapter.safetensors", slot.adapter.save)
    files.write_atomic(folder / "state.safetensors", lambda path: save_file(tensors, path))
    files.write_json(folder / "state.json", state)


# ------------------------------------------------------------------------------------------ optimizers


def _flatten_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Split an optimizer's state into JSON-able numbers and tensors named `<parameter index>/<name>`.

    Of the param groups only numbers are kept, since some optimizers (Prodigy) keep their state there;
    whatever else a group holds was given by the recipe and is there again after building.
    """
    state = optimizer.state_dict()
    tensors: dict[str, torch.Tensor] = {}
    numbers: dict[str, Any] = {}
    for index, entries in state["state"].items():
        for name, value in entries.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{index}/{name}"] = value.detach().cpu().clone().contiguous()
            else:
                numbers[f"{index}/{name}"] = value
    groups = [
        {key: value for key, value in group.items() if type(value) in (int, float)}
        for group in state["param_groups"]
    ]
    return {"numbers": _pack(numbers), "groups": [_pack(group) for group in groups]}, tensors


def _restore_optimizer(
    optimizer: torch.optim.Optimizer, saved: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]
) -> None:
    state = optimizer.state_dict()
    entries: dict[int, dict[str, Any]] = {}
    for key, value in {**_unpack(saved["numbers"]), **tensors}.items():
        index, name = key.split("/", 1)
        entries.setdefault(int(index), {})[name] = value
    state["state"] = entries
    for group, numbers in zip(state["param_groups"], saved["groups"], strict=True):
        group.update(_unpack(numbers))
    optimizer.load_state_dict(state)


def _pack(values: Mapping[str, Any]) -> dict[str, Any]:
    """Floats as hexadecimal text: exact, and infinity is a value like any other."""
    return {key: value.hex() if isinstance(value, float) else value for key, value in values.items()}


def _unpack(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: float.fromhex(value) if isinstance(value, str) else value for key, value in values.items()}


def _under(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def _remove_torn(folder: Path) -> None:
    """Remove what a killed save left behind; a run folder has one writer."""
    for path in folder.glob(".step_*"):
        shutil.rmtree(path, ignore_errors=True)
