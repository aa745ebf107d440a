"""What trainers call the modules of a base, and to whose modules a file belongs. No torch.

    unet.mid_block.attentions.0.proj_in            diffusers; PEFT: base_model.model.mid_block...
    lora_unet_mid_block_attentions_0_proj_in       kohya, LyCORIS, OneTrainer, ai-toolkit
    diffusion_model.middle_block.1.proj_in         ComfyUI; the original code's names (sgm)
    lora_unet_middle_block_1_proj_in               those, as kohya writes them for SDXL
    diffusion_model.double_blocks.0.img_attn.qkv   likewise of transformers, where one module may be several here

Every name is made from the base's own modules, so none can be split at a wrong underscore.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from itertools import accumulate
from pathlib import Path

from lorasweep.components.adapters._file_keys import FileModule, Shape, read_modules
from lorasweep.components.adapters._native_names import Place, native_places
from lorasweep.core.errors import InputError, Problem
from lorasweep.core.original_names import original_names
from lorasweep.core.printable import some
from lorasweep.core.protocols import is_text_encoder

_DOTTED = {
    "unet": ("", "unet.", "base_model.model.", "base_model.model.unet.", "diffusion_model.", "model.diffusion_model."),
    "transformer": ("transformer.", "", "base_model.model.", "base_model.model.transformer.", "diffusion_model."),
    "text_encoder": ("", "text_encoder.", "base_model.model.", "text_encoders.clip_l.transformer.", "clip_l."),
    "text_encoder_2": ("text_encoder_2.", "text_encoders.clip_g.transformer.", "clip_g."),
}
_UNDERSCORED = {
    "unet": ("lora_unet_", "lycoris_", "lycoris_unet_"),
    "transformer": ("lora_transformer_", "lora_unet_", "lycoris_"),
    "text_encoder": ("lora_te_", "lora_te1_", "lycoris_", "lycoris_text_encoder_"),
    "text_encoder_2": ("lora_te2_", "lycoris_text_encoder_2_"),
}
_WIDTHS = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "SDXL", 1280: "SDXL's refiner"}
_SOME = "a transformer"
_OTHERS = (
    (r"(base_model\.model\.)?(transformer\.h|model\.layers)\.\d+\.", "a text model"),
    (r".*joint_blocks[._]", "Stable Diffusion 3"),
    (r".*single_transformer_blocks[._]|.*(double|single)_blocks[._]", "FLUX"),
    (r"(lora_te2_|text_encoder_2\.|text_encoders\.clip_g\.|clip_g\.)", "SDXL"),
    (r".*llm_adapter[._]", "Anima"),
    (r".*(img_mlp|txt_mlp|img_mod|txt_mod)[._]", "Qwen-Image"),
    (r".*(temporal[._]|motion_modules[._]|ffn[._]\d)", "a video model"),
    (r"transformer[._]|(diffusion_model|lora_unet)[._](layers|blocks|transformer_blocks)[._]", _SOME),
)


def place(file: Path, shapes: Mapping[str, Shape]) -> dict[str, FileModule]:
    """Find the base's module, of the weights whose shapes these are, for each of a .safetensors file's.

    Raises:
        InputError: some have none, or one of another shape; says how many, and of what base the file is.
    """
    modules = read_modules(file)
    names = find_names(shapes)
    placed: dict[str, FileModule] = {}
    nowhere, twice, misfits = [], [], []
    for name, module in modules.items():
        where = names.get(name)
        if where is None:
            nowhere.append(name)
            continue
        parts = _parts(module, where, shapes)
        if not parts or not all(_fits(part, shapes[path]) for path, part in parts.items()):
            here = ", ".join(str(shapes[path]) for path in where.paths)
            misfits.append(f"{name} of {module.output or module.shapes}, here {here}")
        elif parts.keys() & placed.keys():
            twice.append(name)
        placed |= parts
    problems = []
    if nowhere:
        problems.append(f"{len(nowhere)} of {len(modules)} modules are not in this base ({some(nowhere)})")
    if misfits:
        problems.append(f"{len(misfits)} of {len(modules)} modules have other shapes than here ({some(misfits)})")
    if twice:
        problems.append(f"{len(twice)} of {len(modules)} modules are named twice ({some(twice)})")
    if problems:
        made_for, here = family(modules), base_family(shapes)
        told, hint = "", "was it trained on a base of another kind?"
        if nowhere and not misfits and all(map(is_text, nowhere)):
            hint = "no LoRA sits on that text encoder here: judge a file of the denoiser alone"
        if made_for not in (None, here):
            told = f"this is a LoRA of {made_for}" + ("" if here == _SOME else f"; the base is {here}") + ": "
            hint = hint if here == _SOME else "give the base that it was trained on"
        raise InputError(
            [Problem(str(file), told + message, hint) for message in problems], subject="the LoRA file for this base"
        )
    return placed


def is_text(name: str) -> bool:
    """Tell whether a module's name, as files have it, is of a text encoder."""
    return (
        re.match(r"(lora_te|lycoris_text|text_encoder|text_model\.|clip_[lg]\.|.*model\.text_model\.)", name)
        is not None
    )


def _parts(module: FileModule, where: Place, shapes: Mapping[str, Shape]) -> dict[str, FileModule]:
    """List what a file's module is for each of the base's: itself, or rows of it; nothing where it has no such rows."""
    counts = [shapes[path][0] for path in where.paths]
    if len(counts) == 1 and not where.swapped:
        return {where.paths[0]: module}
    if not module.can_be_cut(sum(counts)):
        return {}
    starts = [counts[0] // 2] if where.swapped else accumulate(counts[:-1], initial=0)
    return {path: module.cut(start, count) for path, start, count in zip(where.paths, starts, counts, strict=True)}


def _fits(module: FileModule, shape: Shape) -> bool:
    if module.kind == "ia3":
        return math.prod(module.shapes["ia3"]) in shape[:2]
    if module.kind == "oft":
        count, side, other = module.shapes["oft_blocks"]
        rescaled = math.prod(module.shapes.get("rescale", shape[:1]))
        return side == other and count * side == rescaled == shape[0]
    biases = [math.prod(module.shapes[factor]) for factor in ("diff_b", "up_bias") if factor in module.shapes]
    lengths = [math.prod(module.shapes[factor]) for factor in ("dora_scale", "magnitude") if factor in module.shapes]
    is_bias = module.kind == "full" and "diff" not in module.keys
    fits = is_bias or module.output == (shape[0], math.prod(shape))
    return fits and all(bias == shape[0] for bias in biases) and all(length in shape[:2] for length in lengths)


def find_names(paths: Iterable[str]) -> dict[str, Place]:
    """Map every name that a file may use to the base's module, `unet.<module>` or `text_encoder.<module>`."""
    found: dict[str, Place] = {}
    paths = list(paths)
    original = original_names([path.removeprefix("unet.") for path in paths if path.startswith("unet.")])
    for path in paths:
        part, inner = path.split(".", 1)
        short = inner.removeprefix("text_model.")
        forms = (inner, original.get(inner, inner)) if not is_text_encoder(part) else (f"text_model.{short}", short)
        for form in forms:
            _add(found, part, form, Place((path,)))
    for form, place in native_places(paths):
        _add(found, "transformer", form, place)
    for name, place in [(name, place) for name, place in found.items() if name.endswith("to_out.0")]:
        found.setdefault(name.removesuffix(".0"), place)  # as diffusers' attention processors had it
    return found


def _add(found: dict[str, Place], part: str, form: str, place: Place) -> None:
    for root in _DOTTED[part]:
        found.setdefault(root + form, place)
    for root in _UNDERSCORED[part]:
        found.setdefault(root + form.replace(".", "_"), place)


def family(modules: Mapping[str, FileModule]) -> str | None:
    """Return what a file's modules were trained in, told by their names and by the width of the text that they read."""
    if told := _by_names(modules):
        return told
    for name, module in modules.items():
        if re.search(r"attn2[._]to_[kv]$", name) and module.output is not None:
            return of_width(module.output[1] // module.output[0])
    return None


def base_family(shapes: Mapping[str, Shape]) -> str:
    """Return what a base is, told likewise."""
    if told := _by_names(shapes):
        return told
    widths = (shape[1] for path, shape in shapes.items() if path.endswith("attn2.to_k"))
    return of_width(next(widths, 0))


def _by_names(names: Iterable[str]) -> str | None:
    found = list(names)
    return next((what for pattern, what in _OTHERS if any(re.match(pattern, name) for name in found)), None)


def of_width(width: int) -> str:
    """Return the family whose text embeddings are that wide."""
    return _WIDTHS.get(width, f"a model with text embeddings of width {width}")
