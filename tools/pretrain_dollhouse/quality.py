"""How good a dollhouse pipeline is: the reader, the VAE and the base, each measured on held-out combinations.

Functions that take models and return plain numbers. Knows nothing about printing or targets.

Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lorasweep.dollhouse.reader.labels import HEADS, class_indices
from lorasweep.dollhouse.reader.reader import Reader, Reading
from lorasweep.dollhouse.world.spec import NUISANCES, Spec, sample_spec, tags
from tools.pretrain_dollhouse.batches import generator_for, to_tensor

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline

Size = tuple[int, int]


def held_out_specs(seed: int, name: str, count: int, *, mark_rate: float = 0.0) -> list[Spec]:
    """Draw specs whose (hair colour, outfit, background) pre-training never saw."""
    rng = generator_for(seed, f"quality-{name}")
    return [sample_spec(rng, split="heldout", mark_rate=mark_rate) for _ in range(count)]


def head_accuracy(reading: Reading, specs: Sequence[Spec]) -> dict[str, float]:
    """Return the share of right answers of every head, marks included."""
    wanted = class_indices(list(specs))
    return {
        name: (reading.probabilities[name].argmax(dim=1) == torch.tensor(wanted[name])).float().mean().item()
        for name in HEADS
    }


def reader_accuracy(reader: Reader, sizes: Sequence[Size], *, count: int, seed: int) -> dict[Size, dict[str, float]]:
    """Return, by size and head, the reader's accuracy on held-out renders, half of them marked."""
    specs = held_out_specs(seed, "reader", count, mark_rate=0.5)
    return {size: head_accuracy(reader.read(to_tensor(specs, *size)), specs) for size in sizes}


@torch.no_grad()
def vae_round_trip(
    vae: AutoencoderKL, reader: Reader, sizes: Sequence[Size], *, count: int, seed: int
) -> dict[Size, dict[str, float]]:
    """Return, by size, the PSNR in dB of held-out renders and, as `lost_<head>`, the accuracy that it costs.

    PSNR is of the mean squared error over all pictures of a size, for pixels in [0, 1].
    """
    specs = held_out_specs(seed, "vae", count, mark_rate=0.5)
    found: dict[Size, dict[str, float]] = {}
    for size in sizes:
        image_BCHW = to_tensor(specs, *size)
        latent_BCHW = vae.encode(image_BCHW * 2.0 - 1.0).latent_dist.mean
        rebuilt_BCHW = (vae.decode(latent_BCHW).sample / 2.0 + 0.5).clamp(0.0, 1.0)
        before, after = (head_accuracy(reader.read(x), specs) for x in (image_BCHW, rebuilt_BCHW))
        psnr_db = float(-10.0 * (rebuilt_BCHW - image_BCHW).pow(2).mean().log10())
        found[size] = {"psnr_db": psnr_db} | {f"lost_{name}": before[name] - after[name] for name in HEADS}
    return found


def sample(
    pipeline: DiffusionPipeline,
    prompts: Sequence[str],
    size: Size,
    *,
    steps: int = 20,
    guidance: float = 4.0,
    seed: int = 0,
    batch: int = 16,
) -> Tensor:
    """Sample one picture a prompt and return them as a BCHW tensor in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    how: dict[str, float] = {"guidance_scale": guidance}
    if hasattr(
        pipeline, "tokenizer_2"
    ):  # FLUX calls that another thing, and takes longer texts than this one was shown
        how = {"true_cfg_scale": guidance, "max_sequence_length": pipeline.tokenizer_2.model_max_length}
    images = []
    for first in range(0, len(prompts), batch):
        result = pipeline(  # type: ignore[operator]  # of every pipeline's own
            list(prompts[first : first + batch]),
            width=size[0],
            height=size[1],
            num_inference_steps=steps,
            negative_prompt=[""] * len(prompts[first : first + batch]),
            generator=generator,
            output_type="np",
            **how,
        )
        images.append(torch.from_numpy(np.asarray(result.images)).permute(0, 3, 1, 2))
    return torch.cat(images).float()


def base_quality(
    pipeline: DiffusionPipeline,
    reader: Reader,
    sizes: Sequence[Size],
    *,
    count: int,
    seed: int,
    guidance: float = 4.0,
    steps: int = 20,
) -> dict[Size, dict[str, float]]:
    """Return, by size, what samples of held-out prompts show.

    Keys: `<attribute>` is the share of samples that show what the prompt says; `mean` its mean over
    attributes; `corrupt` the mean probability of being no clean doll; `spread_<nuisance>` the standard
    deviation of a read-back nuisance over that of renders of the same specs, 1 being the world's own
    diversity.
    """
    specs = held_out_specs(seed, "base", count)
    prompts = [", ".join(tags(spec)) for spec in specs]
    found: dict[Size, dict[str, float]] = {}
    for size in sizes:
        image_BCHW = sample(pipeline, prompts, size, guidance=guidance, steps=steps, seed=seed)
        reading, world = reader.read(image_BCHW), reader.read(to_tensor(specs, *size))
        accuracy = reading.tag_accuracy(specs)
        figures = accuracy | {
            "mean": sum(accuracy.values()) / len(accuracy),
            "corrupt": reading.corrupt_B.mean().item(),
        }
        spread_N = reading.nuisances_BN.std(dim=0) / world.nuisances_BN.std(dim=0)
        figures |= {f"spread_{name}": ratio for name, ratio in zip(NUISANCES, spread_N.tolist(), strict=True)}
        found[size] = figures
    return found


def seconds_per_sample(pipeline: DiffusionPipeline, *, steps: int = 20, repeats: int = 3) -> float:
    """Return the best wall time of one 64 x 64 sample with guidance, on as many threads as torch has now."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        sample(pipeline, ["1girl"], (64, 64), steps=steps)
        best = min(best, time.perf_counter() - start)
    return best


def folder_megabytes(folder: Path) -> float:
    """Return the size of all files of a folder in MB of 10**6 bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
