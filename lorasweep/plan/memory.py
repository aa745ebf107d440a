"""How much of a device's memory a recipe takes, and what is traded for room where that is too much. No torch.

Takes a recipe, gives GiB. From the sizes of the base's weights, of what trains, and of what a backward pass keeps.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lorasweep.core import registry
from lorasweep.core.errors import Problem
from lorasweep.core.protocols import ASKED_PX
from lorasweep.core.records import Footprint, MemoryOptions, Recipe
from lorasweep.plan.trainable import trainable

GIB = 2**30
_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
_STORED = {"fp8": 1.0, "int8": 1.0, "nf4": 0.5 + 4 / 64}  # nf4: and a scale of fp32 for 64
_TRAINED = 16  # per number: itself, its gradient and two of an optimizer's, all fp32
# Bytes per pixel and channel that a VAE takes in fp32, by the channels where it has most: measured on a CPU, on SDXL's.
_DECODED, _ENCODED = 12, 6
_TILE_PX = 512 * 512
_ROWS = 32  # of a forward pass that draws or judges: sixteen pictures, with and without their prompts
_LEFT = 0.05  # of a denoiser whose blocks wait: what is outside them, and the layer that visits
# Of what a pass keeps in half precision, in fp32: counted on both dollhouses. Norms are computed in fp32 either way.
_IN_FP32 = 1.55
_CONTEXT, LIBRARIES = 0.8, 0.7  # GiB that CUDA and its libraries take of a GPU, and all libraries of a machine's memory
_WORTH = 0.1  # GiB, for which a lever is turned on that does not make it fit
_LEVERS = ("offload_denoiser", "gradient_checkpointing", "offload_text_encoders", "tile_vae")  # by what they cost
_TO_THE_MACHINE = ("offload_denoiser", "offload_text_encoders")  # which for a CPU is where they are


def problems(recipe: Recipe) -> Iterator[Problem]:
    """Find what cannot be traded with this adapter."""
    memory, adapter = recipe.memory, registry.load("adapter", recipe.adapter.name)
    for knob, plain in (("storage", "plain"), ("offload_denoiser", False)):
        if getattr(memory, knob) in (plain, None):
            continue
        must, override = f"must be {str(plain).lower()}", f"override: memory.{knob}={str(plain).lower()}"
        if getattr(adapter, "NEEDS_BASE_WEIGHTS", False):
            message = f"{must} for {recipe.adapter.name}, which computes with the base's weights themselves"
            yield Problem(f"memory.{knob}", message, f"{override}, or adapter=lora")
        if recipe.compute.dynamo_backend != "none":
            message = f"{must} where blocks are compiled: each layer of each block would be compiled alone"
            yield Problem(f"memory.{knob}", message, f"{override}, or compute.dynamo_backend=none")
    drops = next((knob for knob in ("dropout", "rank_dropout") if recipe.adapter.options.get(knob)), None)
    if drops and recipe.train.device == "mps" and memory.gradient_checkpointing is not False:
        # torch.utils.checkpoint restores the generators of the CPU and of CUDA alone.
        message = f"must be false on mps with adapter.{drops}: what is computed again would drop other numbers"
        hint = f"override: memory.gradient_checkpointing=false, or adapter.{drops}=0"
        yield Problem("memory.gradient_checkpointing", message, hint)
    if memory.storage == "nf4" and getattr(adapter, "NEEDS_BASE_SHAPES", False):
        message = f"nf4 cannot be trained on by {recipe.adapter.name}, which looks at the shapes of the base's weights"
        yield Problem("memory.storage", message, "override: memory.storage=int8, or adapter=lora")
    if memory.storage == "nf4" and importlib.util.find_spec("bitsandbytes") is None:
        hint = "pip install 'lorasweep[cuda]' (it runs on CPUs too), or override: memory.storage=int8"
        yield Problem("memory.storage", "nf4 needs bitsandbytes, which is not installed", hint)
    trains_text = recipe.adapter.options.get("text_encoder") and getattr(adapter, "TRAINS", True)
    if trains_text and len(registry.load("base", recipe.base.name).PARTS) < 2:
        message = f"must be false: no adapter sits on the language model that {recipe.base.name} reads captions with"
        yield Problem("adapter.text_encoder", message, "override: adapter.text_encoder=false")
    if memory.offload_text_encoders and recipe.adapter.options.get("text_encoder"):
        message = "must be false where text encoders are trained: adapter.text_encoder is true"
        yield Problem("memory.offload_text_encoders", message, "override: memory.offload_text_encoders=false")


def peaks_gib(
    recipe: Recipe, kinds: Mapping[str, MemoryOptions], *, slots: int = 1, on_gpu: bool = True
) -> dict[str, float]:
    """Estimate the highest use of a device's memory; {} where the base's files do not tell their sizes.

    Args:
        recipe: gives base, batch, precision and adapter.
        kinds: by name; null counts as false.
        slots: trials like it that are trained together.
        on_gpu: or of the machine's own memory.
    """
    base, trained = registry.load("base", recipe.base.name).footprint(recipe.base), trainable(recipe)
    if base is None or trained is None:
        return {}
    libraries = _CONTEXT if on_gpu else LIBRARIES
    return {
        name: peak_gib(recipe, memory, base, trained=trained.parameters, slots=slots) + libraries
        for name, memory in kinds.items()
    }


def peak_gib(recipe: Recipe, memory: MemoryOptions, base: Footprint, *, trained: int, slots: int = 1) -> float:
    """Estimate the highest use of a device's memory but for that of libraries, in GiB.

    Args:
        recipe: gives batch, precision and the sizes of pictures.
        memory: what is traded; null counts as false.
        base: what it takes by itself.
        trained: numbers that are, in one trial.
        slots: trials like it that are trained together.
    """
    number, side = _BYTES[recipe.train.precision], recipe.base.resolution
    per_weight = _STORED.get(memory.storage, number) * (_LEFT if memory.offload_denoiser else 1)
    weights = base.denoiser * per_weight
    texts = [numbers * number for numbers in base.texts]
    waiting = memory.offload_text_encoders  # until one after the other visits to read
    brakes = [registry.load("regularization", name) for name in recipe.regularization]
    averages = sum(getattr(brake, "AVERAGES_WEIGHTS", False) for brake in brakes)
    per_number = _TRAINED + averages * _BYTES["fp32"]
    weights += base.vae * _BYTES["fp32"] + (0 if waiting else sum(texts)) + slots * trained * per_number
    precise = _IN_FP32 if recipe.train.precision == "fp32" else 1.0
    kept = base.recomputed if memory.gradient_checkpointing else base.kept
    training = precise * kept * side**2 * recipe.train.batch_size * slots
    drawn_px = math.prod(recipe.picture_px)
    asking = precise * base.asked * min(_ROWS * drawn_px, max(drawn_px, ASKED_PX)) + base.beside * per_weight
    decoding = _DECODED * base.widest * (min(drawn_px, _TILE_PX) if memory.tile_vae else drawn_px)
    encoding = _ENCODED * base.widest * side**2
    reading = max(texts, default=0.0) if waiting else 0.0
    return (weights + max(training, asking, decoding, encoding, reading)) / GIB


@dataclass(frozen=True)
class Room:
    """A worker's share of a device's memory.

    Attributes:
        gib: how much.
        workers: that share the device.
        on_gpu: or of the machine's own memory.
    """

    gib: float
    workers: int
    on_gpu: bool

    def __str__(self) -> str:
        """Say it for people."""
        shared = f" that {self.workers} workers share" if self.workers > 1 else ""
        return f"{self.gib:.1f} GiB of {'a GPU' if self.on_gpu else 'this machine'}{shared}"


def taken(recipe: Recipe, room: Room | None, *, slots: int = 1) -> dict[str, Any]:
    """Tell what a recipe takes of the room of a worker, and what is turned on for that; {} where it is not known."""
    found = resolve(recipe, room, slots=slots)
    if room is None or not (peak := peaks_gib(recipe, {"": found}, slots=slots, on_gpu=room.on_gpu)):
        return {}
    turned_on = [knob for knob in reversed(_LEVERS) if getattr(found, knob) and getattr(recipe.memory, knob) is None]
    return {"gib": round(peak[""], 1), "room_gib": round(room.gib, 1), "room": str(room), "turned_on": turned_on}


def warnings(taken: Mapping[str, Any]) -> Iterator[str]:
    """Warn of a device that is too small, by what `taken` found."""
    if taken and taken["gib"] > taken["room_gib"]:
        hint = "memory=8gb, train.batch_size=1, base.resolution or fewer launcher.workers take less"
        yield f"about {taken['gib']} GiB of memory are needed, and a worker has {taken['room']}: {hint}"


def resolve(recipe: Recipe, room: Room | None, *, slots: int = 1) -> MemoryOptions:
    """Turn on the least of what a recipe leaves open with which it fits, else what takes least.

    Args:
        recipe: its `memory` has nulls for what is open.
        room: that a worker has; None turns nothing on.
        slots: trials like it that are trained together.
    """
    left_open = [knob for knob in _LEVERS if getattr(recipe.memory, knob) is None]
    usable = left_open if room and room.on_gpu else [knob for knob in left_open if knob not in _TO_THE_MACHINE]
    choices = {}
    for switches in itertools.product((False, True), repeat=len(usable)):  # the last one first
        on = dict(zip(usable, switches, strict=True))
        choice = dataclasses.replace(recipe.memory, **dict.fromkeys(left_open, False) | on)  # type: ignore[arg-type]
        wrong = {each.where for each in problems(dataclasses.replace(recipe, memory=choice))}
        if not any(on[knob] and f"memory.{knob}" in wrong for knob in usable):
            choices[str(on)] = choice
    if room is None or not (peaks := peaks_gib(recipe, choices, slots=slots, on_gpu=room.on_gpu)):
        return next(iter(choices.values()))
    enough = max(room.gib, min(peaks.values()) + _WORTH)
    return next(choice for name, choice in choices.items() if peaks[name] <= enough)
