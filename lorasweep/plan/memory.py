"""How much of a card training and drawing take, and what is traded for room where that is too much. No torch.

Takes a recipe, gives GiB. From the sizes of the base's weights, of what trains, and of what a backward pass keeps.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from collections.abc import Iterator, Mapping, Sequence

from lorasweep.core import registry
from lorasweep.core.errors import Problem
from lorasweep.core.protocols import is_text_encoder
from lorasweep.core.records import MemoryOptions, Recipe
from lorasweep.plan.trainable import trainable

GIB = 2**30
_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
_STORED = {"fp8": 1.0, "int8": 1.0, "nf4": 0.5 + 4 / 64}  # nf4: and a scale of fp32 for 64
TRAINED_BYTES = 16  # per number: itself, its gradient and two of an optimizer's, all fp32
_VAE = 0.33  # GiB in fp32
_DECODED = (
    6_144  # bytes per pixel that decoding in fp32 takes, at its widest: 512 channels of the picture's size, thrice
)
_TILE_PX = 512 * 512
_LATENT_PX = 8 * 8
_LEFT = 0.05  # of a denoiser whose blocks wait: what is outside them, and the layer that visits
_CONTEXT = 0.8  # GiB that CUDA and its libraries take


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


def peaks_gib(recipe: Recipe, kinds: Mapping[str, MemoryOptions]) -> dict[str, float]:
    """Estimate the highest use of a card's memory; {} where the base's files do not tell their sizes.

    Args:
        recipe: gives base, batch, precision and adapter.
        kinds: by name; null counts as false.
    """
    base = registry.load("base", recipe.base.name)
    shapes, trained = base.weight_shapes(recipe.base), trainable(recipe)
    if shapes is None or trained is None:
        return {}
    counts = {part: sum(math.prod(shape) for shape in modules.values()) for part, modules in shapes.items()}
    texts = [count for part, count in counts.items() if is_text_encoder(part)]
    denoiser = sum(counts.values()) - sum(texts)
    texts += base.text_numbers(recipe.base).values()
    sizes = {"denoiser": denoiser, "texts": texts, "kept": base.KEPT, "trained": trained.parameters}
    return {name: peak_gib(recipe, memory, **sizes) for name, memory in kinds.items()}


def peak_gib(
    recipe: Recipe,
    memory: MemoryOptions,
    *,
    denoiser: int,
    texts: Sequence[int],
    kept: Sequence[tuple[float, int, int]],
    trained: int,
) -> float:
    """Estimate the highest use of a card's memory, in GiB.

    Args:
        recipe: gives batch, precision and the sizes of pictures.
        memory: what is traded; null counts as false.
        denoiser: numbers that it has.
        texts: numbers of each text encoder.
        kept: see `protocols.Base`'s `KEPT`.
        trained: numbers that are.
    """
    number, side = _BYTES[recipe.train.precision], recipe.base.resolution
    weights = denoiser * _STORED.get(memory.storage, number)
    if memory.offload_denoiser:
        weights *= _LEFT
    kept_of = min(kept, key=lambda each: abs(math.log(each[0] * 1e9 / denoiser)))[1:]
    waiting = memory.offload_text_encoders  # until one after the other visits to read
    weights += 0 if waiting else sum(texts) * number
    reading = max(texts) * number if waiting else 0
    training = (
        kept_of[bool(memory.gradient_checkpointing)] * number / 2 * side**2 / _LATENT_PX * recipe.train.batch_size
    )
    drawn_px = (recipe.sample.width or side) * (recipe.sample.height or side)
    decoding = _DECODED * (min(drawn_px, _TILE_PX) if memory.tile_vae else drawn_px)
    return (weights + trained * TRAINED_BYTES + max(training, decoding, reading)) / GIB + _VAE + _CONTEXT


def resolve(recipe: Recipe, room_gib: float | None) -> MemoryOptions:
    """Turn on, one after the other, what a recipe leaves open, until it fits.

    Args:
        recipe: its `memory` has nulls for what is open.
        room_gib: of the card; None for the machine's own memory, where nothing is turned on.
    """
    found = recipe.memory
    for knob in ("tile_vae", "offload_text_encoders", "gradient_checkpointing", "offload_denoiser"):
        if getattr(found, knob) is None:
            too_much = room_gib is not None and peaks_gib(recipe, {"": found}).get("", 0.0) > room_gib
            turned_on = dataclasses.replace(found, **{knob: True})  # type: ignore[arg-type]
            wrong = [each.where for each in problems(dataclasses.replace(recipe, memory=turned_on))]
            is_on = too_much and f"memory.{knob}" not in wrong
            found = turned_on if is_on else dataclasses.replace(found, **{knob: False})  # type: ignore[arg-type]
    return found
