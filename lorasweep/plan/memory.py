"""How much of a card training and drawing take, and what is traded for room where that is too much. No torch.

Takes a recipe, gives GiB. From the sizes of the base's weights, of what trains, and of what a backward pass keeps.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping

from lorasweep.core import registry
from lorasweep.core.errors import Problem
from lorasweep.core.protocols import is_text_encoder
from lorasweep.core.records import MemoryOptions, Recipe
from lorasweep.plan.trainable import trainable

GIB = 2**30
_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
# What autograd keeps of a UNet's forward pass with a LoRA in bf16, per latent position and image: counted on the meta
# device, SDXL at 1024 px 9.4 GiB (SD 1.5 at 512 px: 1.3), and with gradient checkpointing 0.6 (0.2).
_KEPT = {"large": 616_000, "small": 336_000}
_KEPT_CHECKPOINTED = {"large": 41_200, "small": 61_100}
_RECOMPUTED = 65_000  # of the largest block, when it is computed again
_LARGE = 1_500_000_000  # weights of the denoiser, from which on it is like SDXL's
_TRAINED = 16  # per number: itself, its gradient and two of an optimizer's, all fp32
_VAE = 0.33  # GiB in fp32
_DECODED = (
    6_144  # bytes per pixel that decoding in fp32 takes, at its widest: 512 channels of the picture's size, thrice
)
_TILE_PX = 512 * 512
_LATENT_PX = 8 * 8
_CONTEXT = 0.8  # GiB that CUDA and its libraries take


def problems(recipe: Recipe) -> Iterator[Problem]:
    """Find what cannot be traded with this adapter."""
    memory, adapter = recipe.memory, registry.load("adapter", recipe.adapter.name)
    if memory.storage == "fp8" and getattr(adapter, "NEEDS_BASE_WEIGHTS", False):
        message = (
            f"fp8 cannot be trained on by {recipe.adapter.name}, which computes with the base's weights themselves"
        )
        yield Problem("memory.storage", message, "override: memory.storage=plain, or adapter=lora")
    if recipe.adapter.options.get("text_encoder") and len(registry.load("base", recipe.base.name).PARTS) < 2:
        message = f"must be false: no adapter sits on the language model that {recipe.base.name} reads captions with"
        yield Problem("adapter.text_encoder", message, "override: adapter.text_encoder=false")
    if memory.offload_text_encoders and recipe.adapter.options.get("text_encoder"):
        message = "must be false where text encoders are trained: adapter.text_encoder is true"
        yield Problem("memory.offload_text_encoders", message, "override: memory.offload_text_encoders=false")


def peaks_gib(recipe: Recipe, kinds: Mapping[str, MemoryOptions]) -> dict[str, float]:
    """Estimate the highest use of a card's memory; {} where the base's files do not tell their sizes.

    Args:
        recipe: gives base, batch, precision and adapter.
        kinds: by name; null counts as false.
    """
    shapes = registry.load("base", recipe.base.name).weight_shapes(recipe.base)
    trained = trainable(recipe)
    if shapes is None or trained is None:
        return {}
    counts = {part: sum(math.prod(shape) for shape in modules.values()) for part, modules in shapes.items()}
    denoiser = sum(count for part, count in counts.items() if not is_text_encoder(part))
    texts = sum(counts.values()) - denoiser
    return {name: _peak(recipe, memory, denoiser, texts, trained.parameters) for name, memory in kinds.items()}


def _peak(recipe: Recipe, memory: MemoryOptions, denoiser: int, texts: int, trained: int) -> float:
    number, side = _BYTES[recipe.train.precision], recipe.base.resolution
    weights = denoiser * (1 if memory.storage == "fp8" else number)
    weights += 0 if memory.offload_text_encoders else texts * number
    kind = "large" if denoiser >= _LARGE else "small"
    kept = _KEPT_CHECKPOINTED[kind] + _RECOMPUTED if memory.gradient_checkpointing else _KEPT[kind]
    training = kept * number / 2 * side**2 / _LATENT_PX * recipe.train.batch_size
    drawn_px = (recipe.sample.width or side) * (recipe.sample.height or side)
    decoding = _DECODED * (min(drawn_px, _TILE_PX) if memory.tile_vae else drawn_px)
    return (weights + trained * _TRAINED + max(training, decoding)) / GIB + _VAE + _CONTEXT


def resolve(recipe: Recipe, room_gib: float | None) -> MemoryOptions:
    """Turn on, one after the other, what a recipe leaves open, until it fits.

    Args:
        recipe: its `memory` has nulls for what is open.
        room_gib: of the card; None for the machine's own memory, where nothing is turned on.
    """
    found = recipe.memory
    for knob in ("tile_vae", "offload_text_encoders", "gradient_checkpointing"):
        if getattr(found, knob) is None:
            too_much = room_gib is not None and peaks_gib(recipe, {"": found}).get("", 0.0) > room_gib
            found = dataclasses.replace(found, **{knob: too_much})  # type: ignore[arg-type]
    return found
