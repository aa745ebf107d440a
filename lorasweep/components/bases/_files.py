"""What a base looks like on disk: which files count, their digest, shapes and weights, how it is noised. No torch.

Takes a diffusers folder, or one `.safetensors` checkpoint, whose configs and tokenizers are in the folder
beside it of the same name, else with its family here. What may be wrong with them is in `_checks`. Knows nothing
about models.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lorasweep.components.bases._families import FAMILIES, STABLE_DIFFUSION, UNET, Family
from lorasweep.core import files
from lorasweep.core.records import BaseOptions, NoiseSchedule
from lorasweep.core.safetensors_header import Tensor, read_header

_SIZES = (  # what configs of parts say of the shapes of their weights
    *("block_out_channels", "layers_per_block", "down_block_types", "transformer_layers_per_block"),
    *("hidden_size", "num_hidden_layers", "intermediate_size", "vocab_size", "projection_dim"),
)
_UNREAD = 1e-5  # share of a denoiser's numbers that files have beside it: a norm of Z-Image's, counters of Anima's
_V_PREDICTION, _ZERO_SNR = "v_pred", "ztsnr"  # tensors that mark a checkpoint


def family_of_folder(folder: Path) -> Family | None:
    """Return the family whose pipeline a folder's index names; None when it is none of ours."""
    said = ((family, files.read_object(folder / family.index).get("_class_name")) for family in FAMILIES)
    return next((family for family, pipeline in said if pipeline in (family.pipeline, family.formerly)), None)


def config_folder(path: Path, family: Family) -> Path:
    """Find a base's configs and tokenizers: in itself, or of `some.safetensors` in `some/` beside it, else ours."""
    if path.is_dir():
        return path
    beside = path.with_suffix("")
    holds_configs = any((beside / name).exists() for name in ("model_index.json", *family.all_parts))
    return beside if holds_configs else family.shipped


def words_folder(tokenizer: Path) -> Path:
    """Return where a tokenizer's words are: all of CLIP's have the same, which ship once."""
    shipped = any(family.held and tokenizer.parent == family.shipped for family in FAMILIES)
    return STABLE_DIFFUSION.shipped / "tokenizer" if shipped else tokenizer


def variant_of(part: Path) -> str | None:
    """Return the variant to load from one component's folder: None for plain names, else e.g. "fp16"."""
    names = [file.name for file in files.matching(part, "*.safetensors")]
    if any(name.count(".") == 1 for name in names):
        return None
    return names[0].split(".")[1].split("-")[0] if names else None


def digest_of(path: Path, family: Family, parts: Iterable[str] | None = None) -> str:
    """Return hex SHA-256 over the names and contents of the files that are loaded for `parts`, or for all.

    A single checkpoint is digested whole. A file's digest is remembered in this process by path, size and
    time, so that a second call reads nothing.
    """
    total = hashlib.sha256()
    configs, is_folder = config_folder(path, family), path.is_dir()
    read = [] if is_folder else [path]
    for part in family.all_parts if parts is None else parts:
        read += loaded_files(configs / part, weights=is_folder)
    for file in read:
        name = file.name if file == path else file.relative_to(configs).as_posix()
        total.update(f"{name}\0{files.file_digest(file)}\n".encode())
    return total.hexdigest()


def native_px(folder: Path) -> int | None:
    """Return side of the square that a diffusers folder's UNet was made for; None when its configs do not say."""
    unet, vae = (files.read_object(folder / part / "config.json") for part in ("unet", "vae"))
    side = unet.get("sample_size")
    return side * vae_px(vae) if isinstance(side, int) and "block_out_channels" in vae else None


def vae_px(config: Mapping[str, Any]) -> int:
    """Return pixels along the side of a latent; 1 where the config of the VAE does not say."""
    levels = config.get("block_out_channels") or config.get("dim_mult") or [0]
    return int(2 ** (len(levels) - 1))


def weight_shapes(path: Path, family: Family) -> dict[str, dict[str, tuple[int, ...]]] | None:
    """Return shapes of the weights by part and the name of their module, biases and the VAE left out.

    Of a folder by the headers of its files. A checkpoint has other names: its family's shapes ship with its configs.
    """
    if path.is_dir():
        return {part: _part_shapes(path / part) for part in family.parts}
    shipped = files.find_object(config_folder(path, family) / "weight_shapes.json")
    if shipped is None:
        return None
    return {part: {name: tuple(shape) for name, shape in found.items()} for part, found in shipped.items()}


def known_shapes(configs: Path, family: Family) -> dict[str, dict[str, tuple[int, ...]]]:
    """Return the shapes of a base's weights, by part: of those whose configs are of the sizes that ship."""
    if not family.held:
        return {}
    shipped = files.read_object(family.shipped / "weight_shapes.json")
    found = {}
    for part, shapes in shipped.items():
        own, its = (files.read_object(folder / part / "config.json") for folder in (configs, family.shipped))
        if own and all((own.get(key) or 1) == (its.get(key) or 1) for key in _SIZES):
            found[part] = {name.removeprefix("text_model."): tuple(shape) for name, shape in shapes.items()}
        for name, shape in found.get(part, {}).items():
            if name.endswith(("attn2.to_k", "attn2.to_v")):  # Stable Diffusion 2.x is a 1.x that reads wider text
                found[part][name] = (shape[0], own.get("cross_attention_dim", shape[1]))
    return found


def _part_shapes(part: Path) -> dict[str, tuple[int, ...]]:
    return {
        name.removesuffix(".weight"): tensor.shape
        for file in loaded_files(part, weights=True)
        if file.suffix == ".safetensors"
        for name, tensor in read_header(file).items()
        if name.endswith(".weight")
    }


def numbers(folder: Path, parts: Iterable[str]) -> dict[str, int]:
    """Return how many numbers the weights of each part of a folder are, by the headers of its files."""
    return {part: sum(math.prod(shape) for shape in _part_shapes(folder / part).values()) for part in parts}


def other_size(held: Mapping[str, Tensor], part: Path) -> str | None:
    """Say how many numbers a file of a denoiser has, where these are not the folder's; None where they are.

    Whatever names they have, and however queries, keys and values lie, denoisers of one kind have as many.
    """
    its = {name: tensor for name, tensor in held.items() if name.startswith(UNET)} or held
    weights = [file for file in loaded_files(part, weights=True) if file.suffix == ".safetensors"]
    own = {name: tensor for file in weights for name, tensor in read_header(file).items()}
    found, wanted = (
        sum(math.prod(tensor.shape) for name, tensor in each.items() if "llm_adapter." not in name)
        for each in (its, own)
    )
    if not wanted or 0 <= found - wanted <= wanted * _UNREAD:
        return None
    return f"of another size or kind: {found:,} numbers instead of {wanted:,}"


def largest_rank(path: Path, family: Family) -> int:
    """Return the highest rank that any layer of a base's denoiser can have: its smaller side; from headers."""
    if path.is_file():
        shapes = [t.shape for name, t in read_header(path).items() if name.startswith(UNET)]
    else:
        shapes = list(_part_shapes(path / family.denoiser).values())
    return max((min(shape[0], math.prod(shape[1:])) for shape in shapes if len(shape) > 1), default=0)


def loaded_files(part: Path, *, weights: bool) -> list[Path]:
    """Return the files of one component's folder that `load` reads: configs, words and, if asked for, weights."""
    listed = [file for ending in ("json", "txt", "jinja") for file in files.matching(part, f"*.{ending}")]
    if weights:
        variant = variant_of(part)
        found = files.matching(part, "*.safetensors")
        listed += [file for file in found if variant is None or f".{variant}" in file.name]
    return listed


def noise_schedule(path: Path, family: Family, options: BaseOptions) -> NoiseSchedule:
    """Read how a base, known to be sound, is noised; what the recipe says wins over the files."""
    configs = config_folder(path, family)
    written = json.loads((configs / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    marks = read_header(path).keys() & {_V_PREDICTION, _ZERO_SNR} if path.is_file() else set()
    stated = written.get("prediction_type", family.predicts[0])
    by_configs = None if configs == family.shipped else stated  # ours say nothing about this very base
    said = "v_prediction" if _V_PREDICTION in marks else by_configs
    zero_snr = bool(written.get("rescale_betas_zero_snr")) or _ZERO_SNR in marks
    config = {
        **written,
        "prediction_type": options.prediction_type or said or stated,
        "rescale_betas_zero_snr": zero_snr if options.zero_terminal_snr is None else options.zero_terminal_snr,
    }
    as_written = config["prediction_type"] == stated and not config["rescale_betas_zero_snr"]
    return NoiseSchedule(config=config, said=said, marked=_V_PREDICTION in marks, as_written=as_written)
