"""Base models, one module each: `load(options, *, device, precision, memory, sibling)`, and what needs no torch.

That is `problems`, `sibling_problems`, `fingerprint`, `noise` (what is predicted, from what noise), `weight_shapes`,
`largest_rank` and `text_window`, all of `BaseOptions`. A sibling (`sample.base`) draws with another denoiser.

`name: x` in `conf/base/` is the module `lorasweep/components/bases/x.py`. This folder is the one door to diffusers and
transformers; importing a module here imports neither, only `load` does.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lorasweep.components.bases import _families, _files
from lorasweep.core import registry
from lorasweep.core.freed_memory import keep_freed_memory
from lorasweep.core.records import ComputeOptions, Recipe
from lorasweep.core.safetensors_header import read_header

if TYPE_CHECKING:
    from lorasweep.core.protocols import Base


def detect(path: Path) -> str | None:
    """Name the family of the base at a path, from its index or its header; None when it is none of ours."""
    try:
        family = _files.family_of_folder(path) if path.is_dir() else _families.family_of(read_header(path))
    except ValueError:
        return None
    return family.name if family else None


def fingerprint(recipe: Recipe) -> str:
    """Return hex digest of what a recipe trains on and draws with.

    Raises:
        ConfigError: something is wrong with it.
    """
    module, sibling = registry.load("base", recipe.base.name), recipe.sample.base
    found: str = module.fingerprint(recipe.base, recipe.memory, **({"sibling": sibling} if sibling else {}))
    return recipe.compute.mark(found)


def compute_as(base: Base, options: ComputeOptions) -> None:
    """Have a loaded base, and this process, compute as `options` say.

    Kernels are chosen for the whole process, whose base this is; so a base that computes otherwise sets them anew.
    """
    import torch

    kernels, denoiser = torch.backends.cuda, next(iter(base.parts.values()))
    kernels.matmul.allow_tf32 = options.allow_tf32
    for name, enable in (
        ("flash", kernels.enable_flash_sdp),
        ("efficient", kernels.enable_mem_efficient_sdp),
        ("cudnn", kernels.enable_cudnn_sdp),
    ):
        enable(options.attention_backend in ("auto", name))
    if base.device.type == "cpu":
        keep_freed_memory()
        if base.dtype == torch.float32 and base.memory.storage == "plain":
            from lorasweep.components.bases._onednn import use_onednn

            use_onednn(denoiser)
    if options.channels_last:
        denoiser.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if options.dynamo_backend != "none":
        torch._dynamo.config.recompile_limit = 64  # of one block's code: by width, mode and kind of adapter
        torch._dynamo.config.skip_nnmodule_hook_guards = False  # or the first trial's hooks, if any, act in all others
        # As diffusers' `compile_repeated_blocks`, which not every transformer has.
        for module in denoiser.modules():
            if type(module).__name__.endswith("TransformerBlock"):
                module.compile(backend=options.dynamo_backend)
    base.fingerprint = options.mark(base.fingerprint)
    if options.allow_tf32 or options.attention_backend != "auto":  # of the other parts too
        kind = f"{options.attention_backend}-tf32-" if options.allow_tf32 else f"{options.attention_backend}-"
        base.text_fingerprint, base.vae_fingerprint = kind + base.text_fingerprint, kind + base.vae_fingerprint
