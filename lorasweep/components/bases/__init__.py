"""Base models, one module each: `load(options, *, device, precision, memory, sibling)`, and what needs no torch.

That is `problems`, `sibling_problems`, `fingerprint`, `noise` (what is predicted, from what noise), `weight_shapes`,
`largest_rank` and `text_window`, all of `BaseOptions`. A sibling (`sample.base`) draws with another denoiser.

`name: x` in `conf/base/` is the module `lorasweep/components/bases/x.py`. This folder is the one door to diffusers and
transformers; importing a module here imports neither, only `load` does.
"""

from __future__ import annotations

from pathlib import Path

from lorasweep.components.bases import _families
from lorasweep.core import registry
from lorasweep.core.files import read_object
from lorasweep.core.records import Recipe
from lorasweep.core.safetensors_header import read_header


def detect(path: Path) -> str | None:
    """Name the family of the base at a path, from its index or its header; None when it is none of ours."""
    if path.is_dir():
        said = ((f, read_object(path / f.index).get("_class_name")) for f in _families.FAMILIES)
        return next((family.name for family, pipeline in said if family.pipeline == pipeline), None)
    try:
        family = _families.family_of(read_header(path))
    except ValueError:
        return None
    return family.name if family else None


def fingerprint(recipe: Recipe) -> str:
    """Hex digest of what a recipe trains on and draws with.

    Raises:
        ConfigError: something is wrong with it.
    """
    module, sibling = registry.load("base", recipe.base.name), recipe.sample.base
    found: str = module.fingerprint(recipe.base, recipe.memory, **({"sibling": sibling} if sibling else {}))
    return found
