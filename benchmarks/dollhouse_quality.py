"""Measure the shipped dollhouse against its targets, on held-out combinations, and print a table.

    python benchmarks/dollhouse_quality.py [--base NAME | --weights DIR] [--quick] [--json] [--sheet FILE.png]

Exits with 0 whether or not the targets are met: it reports. Every number is measured when it runs.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from PIL import Image

from lorasweep.dollhouse import flow_weights_dir, weights_dir
from lorasweep.dollhouse.reader.labels import HEADS
from lorasweep.dollhouse.reader.reader import Reader
from lorasweep.dollhouse.world import ATTRIBUTES, NUISANCES, SIZES_PX, tags
from tools.pretrain_dollhouse.batches import to_tensor
from tools.pretrain_dollhouse.quality import (
    base_quality,
    folder_megabytes,
    held_out_specs,
    reader_accuracy,
    sample,
    seconds_per_sample,
    vae_round_trip,
)

BASES = {"dollhouse": weights_dir(), "dollhouse_flow": flow_weights_dir()}


@dataclass(frozen=True)
class Row:
    """One line of the table: what, measured, target ("" when there is none), and whether it is met."""

    what: str
    value: float
    target: str = ""
    met: bool | None = None


def _at_least(what: str, value: float, bound: float) -> Row:
    return Row(what, value, f">= {bound:g}", value >= bound)


def _at_most(what: str, value: float, bound: float) -> Row:
    return Row(what, value, f"<= {bound:g}", value <= bound)


def reader_rows(reader: Reader, *, count: int, seed: int) -> list[Row]:
    """Return the worst head at every size."""
    rows = []
    for (width, height), accuracy in reader_accuracy(reader, SIZES_PX, count=count, seed=seed).items():
        name, value = min(accuracy.items(), key=lambda item: item[1])
        rows.append(_at_least(f"reader, {width}x{height}, worst head ({name})", value, 0.98))
    return rows


def vae_rows(vae: AutoencoderKL, reader: Reader, *, count: int, seed: int) -> list[Row]:
    """Return the PSNR and the worst loss of accuracy at every size."""
    rows = []
    for (width, height), figures in vae_round_trip(vae, reader, SIZES_PX, count=count, seed=seed).items():
        rows.append(_at_least(f"vae, {width}x{height}, PSNR in dB", figures["psnr_db"], 28.0))
        for kind, heads in (
            ("attribute", list(ATTRIBUTES)),
            ("mark", sorted(HEADS.keys() - ATTRIBUTES.keys())),
        ):
            value, name = max((figures[f"lost_{head}"], head) for head in heads)
            what = f"vae, {width}x{height}, accuracy lost, worst {kind} ({name})"
            rows.append(_at_most(what, value, 0.03))
    return rows


def base_rows(pipeline: DiffusionPipeline, reader: Reader, *, count: int, seed: int) -> list[Row]:
    """Return the accuracy of every attribute at every size, its mean, and the spread of nuisances."""
    rows = []
    for (width, height), figures in base_quality(pipeline, reader, SIZES_PX, count=count, seed=seed).items():
        at = f"base, {width}x{height}"
        rows.append(_at_least(f"{at}, mean tag accuracy", figures["mean"], 0.90))
        rows.extend(_at_least(f"{at}, {name}", figures[name], 0.75) for name in ATTRIBUTES)
        rows.append(Row(f"{at}, probability of corrupt", figures["corrupt"]))
        rows.extend(Row(f"{at}, spread of {name} / world's", figures[f"spread_{name}"]) for name in NUISANCES)
    return rows


def load_pipeline(folder: Path) -> DiffusionPipeline:
    """Load a published pipeline as anybody would."""
    pipeline = DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def measure(folder: Path, *, quick: bool, seed: int) -> list[Row]:
    """Measure everything.

    Args:
        folder: a published pipeline; read by its own `reader/`, or by the shipped one.
        quick: fewer pictures: 200 renders and 32 samples a size instead of 1000 and 128.
        seed: of the held-out specs and the initial noise.
    """
    renders, samples = (200, 32) if quick else (1000, 128)
    pipeline = load_pipeline(folder)
    own = folder / "reader"
    reader = Reader.load(folder=own if own.is_dir() else None)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    wall_s = seconds_per_sample(pipeline)
    torch.set_num_threads(threads)
    return [
        *reader_rows(reader, count=renders, seed=seed),
        *vae_rows(pipeline.vae, reader, count=renders // 2, seed=seed),
        *base_rows(pipeline, reader, count=samples, seed=seed),
        _at_most("size of the folder in MB", folder_megabytes(folder), 16.0),
        _at_most("20-step 64x64 sample on one core, in s", wall_s, 1.0),
    ]


def write_sheet(pipeline: DiffusionPipeline, path: Path, *, columns: int = 12, seed: int) -> None:
    """Write samples of held-out prompts (upper row) over renders of what they ask for, at twice the size.

    Args:
        pipeline: what to sample.
        path: a PNG.
        columns: how many prompts.
        seed: of the specs and the initial noise.
    """
    specs = held_out_specs(seed, "sheet", columns)
    drawn_BCHW = sample(pipeline, [", ".join(tags(spec)) for spec in specs], (64, 64), seed=seed)
    both_BCHW = torch.cat([drawn_BCHW, to_tensor(specs, 64, 64)])
    large_BCHW = F.interpolate(both_BCHW, scale_factor=2)
    rows_HWC = large_BCHW.unflatten(0, (2, columns)).permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
    Image.fromarray((rows_HWC * 255).round().byte().numpy()).save(path)


def main() -> int:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base", choices=sorted(BASES), default="dollhouse", help="one that ships with the package")
    parser.add_argument("--weights", type=Path, help="a published pipeline instead")
    parser.add_argument("--quick", action="store_true", help="fewer pictures")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--sheet", type=Path, help="write samples beside renders to this PNG, and measure nothing")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    folder = arguments.weights or BASES[arguments.base]
    if arguments.sheet:
        write_sheet(load_pipeline(folder), arguments.sheet, seed=arguments.seed)
        return 0
    rows = measure(folder, quick=arguments.quick, seed=arguments.seed)
    if arguments.json:
        print(json.dumps([vars(row) for row in rows], indent=1))
        return 0
    verdict = {True: "met", False: "MISSED", None: ""}
    for row in rows:
        print(f"{row.what:<58} {row.value:8.3f}  {row.target:>8}  {verdict[row.met]}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
