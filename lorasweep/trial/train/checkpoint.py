"""Checkpoints that continue bit for bit, and that a power cut cannot tear. No pickle.

    checkpoints/step_000100/adapter.safetensors   for use, as `Adapter.save` has it; kept for every step saved
                            state.safetensors     to resume: adapter's, optimizer's and average's; newest step only
                            state.json            to resume: step, the optimizer's numbers; newest step only

A folder appears whole, by renaming, and the older state is removed only after that. A slot draws from
generators that are seeded by its step (see `train.slot`), so no generator's state needs saving.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from lorasweep.core import files
from lorasweep.core.errors import LorasweepError
from lorasweep.core.run_folder import ADAPTER_FILE, STATE_FILE, TENSORS_FILE, step_name, steps_in
from lorasweep.trial.train.slot import Slot


def save(slot: Slot, folder: Path) -> Path:
    """Write `folder/step_NNNNNN` and drop the state of older steps; returns the new folder.

    Saving a step that is already there changes nothing.
    """
    target = folder / step_name(slot.step)
    if not target.exists():
        _remove_torn(folder)
        files.write_folder(target, lambda temporary: _write(slot, temporary))
    for step in steps_in(folder):
        if step != slot.step:
            for name in (TENSORS_FILE, STATE_FILE):
                (folder / step_name(step) / name).unlink(missing_ok=True)
    return target


def restore(slot: Slot, folder: Path) -> int:
    """Put the newest checkpoint into a freshly made slot; returns its step, 0 when there is none.

    Raises:
        LorasweepError: the checkpoint belongs to another recipe, other images or another base.
        AdapterError: its tensors do not fit.
    """
    found = [step for step in steps_in(folder) if (folder / step_name(step) / STATE_FILE).exists()]
    if not found:
        return 0
    newest = folder / step_name(found[-1])
    state = files.read_json(newest / STATE_FILE)
    if state["fingerprint"] != slot.plan.fingerprint:
        raise LorasweepError(
            f"{newest} was made by another recipe, other images or another base; use an empty run folder"
        )
    tensors = load_file(newest / TENSORS_FILE)
    slot.adapter.load_state_dict(_under("adapter/", tensors))
    _restore_optimizer(slot.optimizer, state["optimizer"], _under("optimizer/", tensors))
    if slot.average is not None:
        slot.average.load_state_dict(_under("average/", tensors))
    if slot.scaler.is_enabled():
        slot.scaler.load_state_dict(_unpack(state["scaler"]))
    slot.step = state["step"]
    return slot.step


def _write(slot: Slot, folder: Path) -> None:
    optimizer, optimizer_tensors = _flatten_optimizer(slot.optimizer)
    tensors = {f"adapter/{key}": tensor for key, tensor in slot.adapter.state_dict().items()}
    tensors |= {f"optimizer/{key}": tensor for key, tensor in optimizer_tensors.items()}
    if slot.average is not None:
        tensors |= {f"average/{key}": tensor for key, tensor in slot.average.state_dict().items()}
    state = {
        "step": slot.step,
        "fingerprint": slot.plan.fingerprint,
        "optimizer": optimizer,
        "scaler": _pack(slot.scaler.state_dict()),
    }
    with slot.for_use():
        files.write_atomic(folder / ADAPTER_FILE, slot.adapter.save)
    files.write_atomic(folder / TENSORS_FILE, lambda path: save_file(tensors, path))
    files.write_json(folder / STATE_FILE, state)


def _flatten_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Split an optimizer's state into JSON-able numbers and tensors named by their path in it.

    Of the param groups only numbers and tensors are kept, since some optimizers (Prodigy, D-Adaptation) keep
    their state there; whatever else a group holds was given by the recipe and is there again after building.
    """
    state = optimizer.state_dict()
    leaves = dict(_leaves(state["state"], "state"))
    for number, group in enumerate(state["param_groups"]):
        leaves |= {
            f"groups/{number}/{key}": value
            for key, value in group.items()
            if type(value) in (int, float) or isinstance(value, torch.Tensor)
        }
    tensors = {key: value for key, value in leaves.items() if isinstance(value, torch.Tensor)}
    numbers = {key: value for key, value in leaves.items() if key not in tensors}
    return _pack(numbers), {key: value.detach().cpu().clone().contiguous() for key, value in tensors.items()}


def _restore_optimizer(
    optimizer: torch.optim.Optimizer, numbers: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]
) -> None:
    state = optimizer.state_dict()
    entries: dict[int, dict[str, Any]] = {}
    for key, value in {**_unpack(numbers), **tensors}.items():
        kind, number, *path, name = key.split("/")
        if kind == "groups":
            # torch moves what belongs to a parameter to its device, and leaves the groups' as it is.
            device = optimizer.param_groups[int(number)]["params"][0].device
            is_tensor = isinstance(value, torch.Tensor)
            state["param_groups"][int(number)][name] = value.to(device) if is_tensor else value
            continue
        place = entries.setdefault(int(number), {})
        for part in path:
            place = place.setdefault(part, {})
        place[name] = value
    state["state"] = entries
    optimizer.load_state_dict(state)


def _leaves(entries: Mapping[Any, Any], at: str) -> Iterator[tuple[str, Any]]:
    """Yield every value that is not a dict itself, with the path of its keys."""
    for key, value in entries.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{at}/{key}")
        else:
            yield f"{at}/{key}", value


def _pack(values: Mapping[str, Any]) -> dict[str, Any]:
    """Write floats as hexadecimal text: exact, and infinity is a value like any other."""
    return {key: value.hex() if isinstance(value, float) else value for key, value in values.items()}


def _unpack(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: float.fromhex(value) if isinstance(value, str) else value for key, value in values.items()}


def _under(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def _remove_torn(folder: Path) -> None:
    """Remove what a killed save left behind; a run folder has one writer."""
    for path in folder.glob(".step_*"):
        shutil.rmtree(path, ignore_errors=True)
