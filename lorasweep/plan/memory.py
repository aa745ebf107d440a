"""What a recipe asks of a device: room, what is traded for it, switches, and how many trials fit at a time. No torch.

Room is in GiB, from the sizes of the base's weights, of what trains, and of what a backward pass keeps: None where the
headers of the base's files, or the adapter's module, do not tell. Trials whose
adapters are products share one forward of the base (`trial.train.packed`); results do not depend on it.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from lorasweep.core import registry
from lorasweep.core.errors import Problem
from lorasweep.core.protocols import is_text_encoder
from lorasweep.core.records import ComputeOptions, MemoryOptions, Recipe, digest, to_dict

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
    """Find what cannot be traded with this adapter, and switches that this base or this machine does not have."""
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
    if recipe.compute.channels_last and registry.load("base", recipe.base.name).PARTS[0] != "unet":
        message = f"must be false: {recipe.base.name} is a transformer, without convolutions to lay out"
        yield Problem("compute.channels_last", message, "override: compute.channels_last=false")
    on_cpu = recipe.train.device == "cpu" or importlib.util.find_spec("triton") is None
    if recipe.compute.dynamo_backend == "inductor" and on_cpu and not any(map(shutil.which, _COMPILERS)):
        message = f"inductor needs a C++ compiler, and none of {', '.join(_COMPILERS)} is here"
        yield Problem("compute.dynamo_backend", message, "install one, or override: compute.dynamo_backend=none")


def peaks_gib(recipe: Recipe, kinds: Mapping[str, MemoryOptions]) -> dict[str, float]:
    """Estimate the highest use of a card's memory by name of what is traded; {} where the base's files do not tell."""
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
    """Turn on, one after the other, what a recipe leaves open (null), until it fits; nothing where no room is told."""
    found = recipe.memory
    for knob in ("tile_vae", "offload_text_encoders", "gradient_checkpointing", "offload_denoiser"):
        if getattr(found, knob) is None:
            too_much = room_gib is not None and peaks_gib(recipe, {"": found}).get("", 0.0) > room_gib
            turned_on = dataclasses.replace(found, **{knob: True})  # type: ignore[arg-type]
            wrong = [each.where for each in problems(dataclasses.replace(recipe, memory=turned_on))]
            is_on = too_much and f"memory.{knob}" not in wrong
            found = turned_on if is_on else dataclasses.replace(found, **{knob: False})  # type: ignore[arg-type]
    return found


_COMPILERS = ("c++", "g++", "clang++", "cl")


def switches(recipe: Recipe) -> list[str]:
    """The switches that are not as torch has them by itself."""
    plain = to_dict(ComputeOptions())
    return [
        name if value is True else f"{name}={value}"
        for name, value in to_dict(recipe.compute).items()
        if value != plain[name]
    ]


Pack = Annotated[int, Field(ge=1, examples=[4])] | Literal["auto"]
MOST = 4  # with more, less is gained by each: docs/performance.md
ROOM = 0.8  # of a card's memory, for an estimate that may be too low


def share_key(recipe: Recipe) -> str | None:
    """What trials must have in common to be trained by one worker at a time; None: with nobody."""
    adapter, options, train = registry.load("adapter", recipe.adapter.name), recipe.adapter.options, recipe.train
    shares = getattr(adapter, "SHARES_FORWARD", False) and not options.get("dropout")
    if recipe.compute.dynamo_backend != "none":  # compiled blocks are for one adapter
        return None
    if not shares or options.get("text_encoder"):
        return None
    return digest([recipe.base, recipe.sample.base, recipe.memory, recipe.compute, train.device, train.precision])


def choose(pack: Pack, recipes: Sequence[Recipe], *, gpu_gib: float | None) -> tuple[int, str]:
    """Decide how many trials a worker trains at a time, and say why; `gpu_gib` is None on the CPU."""
    if pack != "auto":
        return pack, "launcher.pack says so"
    keys = {share_key(recipe) for recipe in recipes}
    if None in keys:
        return 1, "only LoRA, LoCon and DyLoRA share a forward, uncompiled, without dropout and text encoders"
    if len(keys) != 1:
        return 1, "only trials on the same base, device and memory choices share a forward"
    batch = max(recipe.train.batch_size for recipe in recipes)
    if gpu_gib is not None:
        fitting = [count for count in range(1, MOST + 1) if _peak_together(recipes, count) <= ROOM * gpu_gib]
        return max(fitting, default=1), f"as many as fit into {gpu_gib:.0f} GiB of a GPU, as estimated"
    if batch == 1:
        return MOST, "on a CPU batches of 1 cost less in one forward"
    return 1, f"on a CPU nothing is gained by sharing a forward of batch {batch}"


def _peak_together(recipes: Sequence[Recipe], count: int) -> float:
    """The highest use of a card by `count` of the largest of the recipes at a time; infinite where it is not known."""
    peaks = []
    for recipe in recipes:
        train = dataclasses.replace(recipe.train, batch_size=recipe.train.batch_size * count)
        peak = peaks_gib(dataclasses.replace(recipe, train=train), {"": resolve(recipe, None)})
        trained = trainable(recipe)
        more = (count - 1) * TRAINED_BYTES * trained.parameters / GIB if trained else 0.0
        peaks.append(peak.get("", float("inf")) + more)
    return max(peaks)


Shape = tuple[int, ...]


@dataclass(frozen=True)
class Trainable:
    """What will train."""

    tensors: int  # the adapter's own
    parameters: int  # numbers in them; they train in fp32


def trainable(recipe: Recipe) -> Trainable | None:
    """Count the adapter's tensors and their numbers."""
    shapes = layer_shapes(recipe)
    if shapes is None:
        return None
    tensors = [tensor for found in shapes.values() for tensor in found]
    return Trainable(tensors=len(tensors), parameters=sum(map(math.prod, tensors)))


def layer_shapes(recipe: Recipe) -> dict[str, list[Shape]] | None:
    """Shapes of the adapter's tensors, by the module that they are beside: `unet.<module>`."""
    base, adapter = registry.load("base", recipe.base.name), registry.load("adapter", recipe.adapter.name)
    options = recipe.adapter.options
    weights = base.weight_shapes(recipe.base)
    if weights is None or not hasattr(adapter, "layer_shapes"):
        return None
    everywhere = getattr(adapter, "IN_ALL_MODULES", False)
    scope = "" if everywhere else base.SCOPES[options.get("targets", "full")]
    found = {
        f"{part}.{name}": adapter.layer_shapes(shape, name=name, **options)
        for part, modules in weights.items()
        if options.get("text_encoder") or not is_text_encoder(part)
        for name, shape in modules.items()
        if len(shape) > 1 and re.search(scope, f".{name}")
    }
    return {path: shapes for path, shapes in found.items() if shapes}
