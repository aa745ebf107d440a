"""How fast a GPU trains, by batch, by packing and by switch, and whether `plan` knows how much of it that takes.

    python benchmarks/gpu.py [--seconds 460] [--shapes sd15,sdxl,z_image] [--out FOLDER]
    python benchmarks/gpu.py --small --seconds 60        # tiny models, on the CPU too: to see that it runs

Denoisers of real sizes with random weights, made on the device: nothing is downloaded. Each case takes the product's
own steps (`train.loop.advance`: draw, forward, backward, clip, AdamW), over latents and captions on the device.
The share of the peak is the arithmetic of the steps (counted once per shape by torch) over that of a large matrix
product, measured first. Cases that the time is too short for are named. Writes gpu.json and gpu.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import importlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from lorasweep.components.bases import _families, _footprint, compute_as
from lorasweep.components.bases._loaded import DTYPES
from lorasweep.config import compose_recipe
from lorasweep.core.records import BaseOptions, Bucket, ComputeOptions, MemoryOptions, Plan, PlannedImage, Recipe
from lorasweep.plan import memory
from lorasweep.trial.train.loop import advance
from lorasweep.trial.train.slot import Slot, make_slot

TINY_UNET: dict[str, Any] = {
    "block_out_channels": [32, 64],
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "transformer_layers_per_block": 1,
}
TINY_UNET |= {"down_block_types": ["CrossAttnDownBlock2D"] * 2, "up_block_types": ["CrossAttnUpBlock2D"] * 2}
TINY_UNET |= {"attention_head_dim": 4}
TINY_Z_IMAGE: dict[str, Any] = {"dim": 64, "n_layers": 2, "n_refiner_layers": 1, "n_heads": 4, "n_kv_heads": 4}
TINY_Z_IMAGE |= {"axes_dims": [4, 6, 6], "axes_lens": [1024, 64, 64]}


@dataclass(frozen=True)
class Shape:
    """A model's sizes: of its latents, and of what a caption is to it."""

    family: Any
    side: int  # of a latent
    channels: int
    text: dict[str, tuple[int, ...]]
    tiny: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)  # where the class's own is not that of the full size


SHAPES = {
    "sd15": Shape(_families.STABLE_DIFFUSION, 64, 4, {"embeds": (77, 768)}, TINY_UNET),
    "sdxl": Shape(_families.SDXL, 128, 4, {"embeds": (77, 2048), "pooled": (1280,)}, TINY_UNET),
    "z_image": Shape(_families.Z_IMAGE, 128, 16, {"embeds": (128, 2560), "mask": (128,)}, TINY_Z_IMAGE),
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One thing to measure."""

    name: str
    batch: int = 1
    slots: int = 1
    precision: str = "bf16"
    memory: MemoryOptions = field(default_factory=MemoryOptions)
    compute: ComputeOptions = field(default_factory=ComputeOptions)


def cases(shape: str, *, compiler: str) -> Iterator[Case]:
    """What is measured of a shape; those that share a loaded base are neighbours."""
    compiled = ComputeOptions(dynamo_backend=compiler)  # type: ignore[arg-type]
    yield from (Case(name="batch", batch=batch) for batch in (1, 2, 4, 8))
    yield from (Case(name="packed", slots=slots) for slots in (2, 4, 8))
    yield Case(name="packed", slots=2, batch=4)
    for backend in ("flash", "efficient", "cudnn", "math"):
        yield Case(name=f"attention {backend}", batch=4, compute=ComputeOptions(attention_backend=backend))
    if shape != "z_image":
        yield Case(name="channels_last", batch=4, compute=ComputeOptions(channels_last=True))
    yield Case(name="compiled", batch=4, compute=compiled)
    yield Case(name="compiled", compute=compiled)
    yield Case(name="checkpointing", batch=4, memory=MemoryOptions(gradient_checkpointing=True))
    for storage in ("fp8", "int8", "nf4"):
        yield Case(name=storage, batch=4, memory=MemoryOptions(storage=storage, gradient_checkpointing=True))
    yield Case(name="waiting in memory", memory=MemoryOptions(offload_denoiser=True, gradient_checkpointing=True))
    yield Case(name="fp32", batch=4, precision="fp32")
    yield Case(name="fp32, TF32", batch=4, precision="fp32", compute=ComputeOptions(allow_tf32=True))


class Held:
    """Latents and captions that lie on the device; as `LatentCache` and `TextCache` hand them out."""

    def __init__(self, shape: Shape, side: int, device: torch.device) -> None:
        self._latent = torch.randn(shape.channels, side, side, device=device)
        self._text = {
            name: torch.ones(size, device=device, dtype=torch.bool)
            if name == "mask"
            else torch.randn(size, device=device)
            for name, size in shape.text.items()
        }

    def mean_std(self, image: PlannedImage) -> tuple[torch.Tensor, torch.Tensor]:
        """See `LatentCache`."""
        return self._latent, self._latent

    def embed(self, captions: Sequence[str]) -> dict[str, torch.Tensor]:
        """See `TextCache`."""
        return {name: torch.stack([tensor] * len(captions)) for name, tensor in self._text.items()}

    def warm(self, wanted: Any) -> None:
        """Nothing to do."""


def make_base(shape: Shape, case: Case, device: str, *, small: bool) -> Any:
    """A base of that shape with random weights."""
    import diffusers

    family = shape.family
    kind = getattr(diffusers, family.classes[family.denoiser])
    config = dict(shape.config)
    if family.denoiser == "unet":
        config = kind.load_config(str((family.shipped or _families.STABLE_DIFFUSION.shipped) / "unet"))
        config.pop("_class_name", None)
    config |= shape.tiny if small else {}
    torch.set_default_dtype(DTYPES[case.precision])
    try:
        with torch.device(device):
            denoiser = kind.from_config(config) if config else kind()
    finally:
        torch.set_default_dtype(torch.float32)
    weights = {name: tuple(each.shape) for name, each in denoiser.named_parameters() if name.endswith("weight")}
    module, name = family.loaded
    schedule = diffusers.DDPMScheduler() if family.denoiser == "unet" else diffusers.FlowMatchEulerDiscreteScheduler()
    base = getattr(importlib.import_module(f"lorasweep.components.bases.{module}"), name)(
        parts={family.denoiser: denoiser},
        text_encoders=[],
        tokenizers=[],
        vae=diffusers.AutoencoderKL(latent_channels=shape.channels),
        noise_schedule=schedule,
        clip_skip=1,
        fingerprint="",
        vae_fingerprint="",
        text_fingerprint="",
        device=torch.device(device),
        dtype=DTYPES[case.precision],
        memory=case.memory,
        pipeline="",
        scopes=family.scopes,
    )
    px8 = {"block_out_channels": [1] * 4}  # of a VAE that takes nothing: none is asked here
    base.footprint = _footprint.of_shapes(weights, family, texts=(), vae=0, vae_config=px8)
    base.keep()
    base.place(torch.device(device))
    compute_as(base, case.compute)
    return base


def make_slots(base: Any, shape: Shape, case: Case, side: int) -> list[Slot]:
    """Slots of one recipe with a seed each: a LoRA of dim 16, AdamW."""
    recipe = recipe_of(shape, case)
    px = side * 8
    image = PlannedImage(
        file="",
        sha256="",
        concept="",
        caption="",
        split="train",
        repeats=1,
        width_px=px,
        height_px=px,
        bucket=Bucket(width_px=px, height_px=px),
        resize_px=(px, px),
        crop_px=(0, 0),
    )
    plan = Plan(
        fingerprint="",
        images=(image,) * case.batch,
        trigger=None,
        batches_per_epoch=1,
        steps_per_epoch=1,
        steps=1_000_000,
        exposures={},
        tag_exposures={},
        exposures_per_image=1.0,
        rungs=(1_000_000,),
        prompts={},
    )
    held: Any = Held(shape, side, base.device)
    seeded = (dataclasses.replace(recipe, seed=seed) for seed in range(case.slots))
    return [make_slot(base, each, plan, latents=held, texts=held) for each in seeded]


def recipe_of(shape: Shape, case: Case) -> Recipe:
    """The recipe of a case, as `plan` would have it."""
    words = [
        f"train.precision={case.precision}",
        f"train.batch_size={case.batch}",
        "adapter.dim=16",
        "captions=as_written",
    ]
    recipe = compose_recipe(words)
    options = BaseOptions(name=shape.family.name, path="", resolution=shape.side * 8, bucket_step=64)
    return dataclasses.replace(recipe, base=options, memory=case.memory, compute=case.compute)


def measure(base: Any, shape: Shape, case: Case, side: int, *, seconds: float) -> dict[str, Any]:
    """Samples a second, and the highest use of memory."""
    slots = make_slots(base, shape, case, side)
    try:
        start = time.perf_counter()
        step(base, slots, 2)
        found: dict[str, Any] = {"first_two_steps_s": round(time.perf_counter() - start, 2)}
        if base.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        done, start = 0, time.perf_counter()
        while (taken := time.perf_counter() - start) < seconds or done < 2:
            step(base, slots, 2)
            done += 2
        found["samples_per_s"] = done * case.batch * case.slots / taken
        if base.device.type == "cuda":
            found["peak_gib"] = torch.cuda.max_memory_allocated() / memory.GIB
        trained = sum(parameter.numel() for parameter in slots[0].parameters())
        recipe, tiled = recipe_of(shape, case), dataclasses.replace(case.memory, tile_vae=True)
        planned = memory.peak_gib(recipe, tiled, base.footprint, trained=trained)  # libraries are not torch's to count
        if case.slots == 1 and side == shape.side:
            found["planned_gib"] = planned
        return found
    finally:
        for slot in slots:
            slot.close()


def step(base: Any, slots: Sequence[Slot], steps: int) -> None:
    """Take steps, and wait for the device."""
    advance(slots, base, steps=steps, on_step=lambda slot, metrics: None)
    if base.device.type == "cuda":
        torch.cuda.synchronize()


def flop_per_sample(base: Any, shape: Shape, side: int) -> float:
    """Operations of a forward and a backward pass with one picture."""
    (slot,) = make_slots(
        base, shape, Case(name="count", precision="bf16" if base.dtype != torch.float32 else "fp32"), side
    )
    with FlopCounterMode(display=False) as counter:
        step(base, [slot], 1)
    slot.close()
    return float(counter.get_total_flops())


def matmul_peak(device: str, dtype: torch.dtype, *, side: int) -> float:
    """Operations a second of a product of two large square matrices: the best of three rounds."""
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best, rounds = 0.0, 10 if device == "cuda" else 1
    for _ in range(4):
        start = time.perf_counter()
        for _ in range(rounds):
            left @ right
        if device == "cuda":
            torch.cuda.synchronize()
        best = max(best, rounds * 2 * side**3 / (time.perf_counter() - start))
    return best


def run(shapes: Sequence[str], device: str, *, small: bool, seconds: float) -> Iterator[dict[str, Any]]:
    """Measure until the time is over; what there is after each case."""
    import diffusers  # noqa: F401 - takes its time, which is not the device's

    began = time.monotonic()
    side = 512 if device == "cpu" else 8192
    peaks = {name: matmul_peak(device, DTYPES[name], side=side) for name in ("bf16", "fp32")}
    rows: list[dict[str, Any]] = []
    found = {
        "device": torch.cuda.get_device_name() if device == "cuda" else "CPU",
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "small": small,
        "matmul_tflops": {name: round(peak / 1e12, 2) for name, peak in peaks.items()},
        "rows": rows,
    }
    for number, name in enumerate(shapes):  # each with its share of the time
        until = began + seconds * (number + 1) / len(shapes)
        loaded, base, flop = None, None, 0.0
        shape = SHAPES[name]
        latent = 16 if small else shape.side
        for case in cases(name, compiler="eager" if small else "inductor"):
            row: dict[str, Any] = {"shape": name, "case": case.name, "batch": case.batch, "slots": case.slots}
            rows.append(row)
            if time.monotonic() > until - (0.0 if small else 5.0):
                row["not_measured"] = "no time left"
                yield found
                continue
            try:
                key = (case.precision, case.memory, case.compute)
                if key != loaded:
                    base, loaded = None, None
                    gc.collect()
                    torch.compiler.reset()
                    if device == "cuda":
                        torch.cuda.empty_cache()
                    base, loaded = make_base(shape, case, device, small=small), key
                flop = flop or flop_per_sample(base, shape, latent)
                row |= measure(base, shape, case, latent, seconds=0.0 if small else 2.0)
                row["share"] = row["samples_per_s"] * flop / peaks[case.precision]
            except torch.cuda.OutOfMemoryError:
                row["not_measured"] = "out of memory"
            except (RuntimeError, ImportError) as error:  # a kernel that this card lacks must not cost the other cases
                row["not_measured"] = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
            yield found


def as_markdown(found: dict[str, Any]) -> str:
    """The table of docs/performance.md."""
    peaks = ", ".join(f"{name} {value}" for name, value in found["matmul_tflops"].items())
    tiny = ", tiny models: speeds mean nothing" if found["small"] else ""
    lines = [
        f"{found['device']}, torch {found['torch']}, {found['date']}{tiny}; large matrix product, TFLOP/s: {peaks}",
        "",
        "| shape | case | batch | slots | samples/s | share of the matrix peak | peak GiB | `plan` says |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        numbers = [row.get("not_measured") or f"{row['samples_per_s']:.2f}"]
        numbers += [f"{row['share']:.0%}" if "share" in row else ""]
        numbers += [f"{row[key]:.1f}" if key in row else "" for key in ("peak_gib", "planned_gib")]
        lines.append(f"| {row['shape']} | {row['case']} | {row['batch']} | {row['slots']} | {' | '.join(numbers)} |")
    return "\n".join(lines) + "\n"


def main(words: Sequence[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=460.0, help="after which no case is begun")
    parser.add_argument("--shapes", default=",".join(SHAPES), help="some of them, in this order")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--small", action="store_true", help="tiny models")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder of gpu.json and gpu.md")
    options = parser.parse_args(words)
    os.makedirs(options.out, exist_ok=True)
    for found in run(options.shapes.split(","), options.device, small=options.small, seconds=options.seconds):
        (options.out / "gpu.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
        (options.out / "gpu.md").write_text(as_markdown(found), encoding="utf-8")
    print(as_markdown(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
