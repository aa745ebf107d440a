"""How much of a device's memory a base takes, from the headers of its files. No torch.

What a pass holds of a layer goes by its width: what goes into it and what comes out of it. Each family was counted at
full size (`Family.kept`); smaller and larger ones hold as much per width.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from pathlib import Path

from lorasweep.components.bases import _files
from lorasweep.components.bases._families import UNCONDITIONAL, Family
from lorasweep.core.files import read_object
from lorasweep.core.protocols import is_text_encoder
from lorasweep.core.records import Footprint

Shapes = Mapping[str, tuple[int, ...]]

_LEVEL = re.compile(r"(down|up)_blocks\.(\d+)\.|mid_block\.")  # of a UNet
_VAE_NUMBERS, _VAE_CHANNELS = 83_653_863, 512  # of Stable Diffusion's


def footprint(path: Path, family: Family) -> Footprint | None:
    """Return what a base takes; None where its files do not tell the sizes of its weights."""
    shapes = _files.weight_shapes(path, family)
    if shapes is None:
        return None
    texts = [_numbers(found) for part, found in shapes.items() if is_text_encoder(part)]
    texts += _files.numbers(path, family.frozen).values()
    vae = _files.numbers(path, ["vae"])["vae"] if path.is_dir() else _VAE_NUMBERS
    config = read_object(_files.config_folder(path, family) / "vae" / "config.json")
    found = of_shapes(shapes[family.denoiser], family, texts=tuple(texts), vae=vae, vae_config=config)
    if UNCONDITIONAL in family.classes:
        found = dataclasses.replace(found, beside=_files.numbers(path, [UNCONDITIONAL])[UNCONDITIONAL])
    return found


def of_shapes(
    denoiser: Shapes, family: Family, *, texts: tuple[int, ...], vae: int, vae_config: Mapping[str, object]
) -> Footprint:
    """Return what a base with such a denoiser takes; see `Footprint`."""
    width = width_of(denoiser)
    counted, kept, recomputed, asked = min(family.kept, key=lambda each: abs(math.log(each[0] / width)))
    per_px = width / counted / _files.vae_px(vae_config) ** 2
    return Footprint(
        denoiser=_numbers(denoiser),
        texts=texts,
        vae=vae,
        kept=kept * per_px,
        recomputed=recomputed * per_px,
        asked=asked * per_px,
        widest=_widest(vae_config),
    )


def width_of(denoiser: Shapes) -> float:
    """Return the width of all layers together; those deeper in a UNet see a quarter of the positions for each level."""
    named = {name: _LEVEL.match(name) for name in denoiser}
    deepest = max((int(found[2]) for found in named.values() if found and found[2]), default=0)
    total = 0.0
    for name, shape in denoiser.items():
        if len(shape) > 1:
            found = named[name]
            level = deepest if found else 0
            if found and found[1]:
                level = int(found[2]) if found[1] == "down" else deepest - int(found[2])
            total += (shape[0] + shape[1]) / 4**level
    return total


def _widest(vae_config: Mapping[str, object]) -> int:
    """Return the channels of a VAE where it has most."""
    levels = vae_config.get("block_out_channels")
    if isinstance(levels, list) and levels:
        return int(levels[-1])
    base, factors = vae_config.get("base_dim"), vae_config.get("dim_mult")
    return base * factors[-1] if isinstance(base, int) and isinstance(factors, list) else _VAE_CHANNELS


def _numbers(shapes: Shapes) -> int:
    return sum(map(math.prod, shapes.values()))
