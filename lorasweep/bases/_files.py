"""What a base looks like on disk: which files count, what is wrong with them, and their digest. No torch.

Takes a diffusers folder, or one `.safetensors` checkpoint, whose configs and tokenizer are in the folder
beside it of the same name, else in `sd1/` here. Knows nothing about models.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lorasweep.files import sha256

Finding = tuple[str, str, str]  # key of the options, rule and value, next step

WEIGHT_PARTS = ("unet", "vae", "text_encoder")
ALL_PARTS = (*WEIGHT_PARTS, "tokenizer", "scheduler")
PREDICTION_TYPES = ("epsilon", "v_prediction")
PICKLES = (".ckpt", ".bin", ".pt", ".pth")

_SD1 = Path(__file__).parent / "sd1"
_MAKE_FOLDER = "save it once with diffusers: pipeline.save_pretrained(folder, safe_serialization=True)"
_digests: dict[tuple[str, int, int], str] = {}  # (path, bytes, mtime in ns) -> SHA-256 of the content


def find_problems(path: Path) -> list[Finding]:
    """Everything that keeps `path` from being loaded as Stable Diffusion 1.x or 2.x."""
    if not path.exists():
        return [("path", f"must exist, got {path}", "give a diffusers folder or a .safetensors file")]
    if path.is_dir():
        return _folder_problems(path, weights=True)
    if path.suffix in PICKLES:
        return [
            ("path", f"must not be a pickle, which can run code when opened, got {path.name}", _MAKE_FOLDER)
        ]
    if path.suffix != ".safetensors":
        return [("path", f"must be a diffusers folder or a .safetensors file, got {path.name}", "")]
    return _checkpoint_problems(path)


def config_folder(checkpoint: Path) -> Path:
    """Where a checkpoint's configs and tokenizer are: `some/` beside `some.safetensors`, else ours."""
    beside = checkpoint.with_suffix("")
    return beside if beside.is_dir() else _SD1


def variant_of(part: Path) -> str | None:
    """The variant to load from one component's folder: None for plain names, else e.g. "fp16"."""
    names = sorted(file.name for file in part.glob("*.safetensors"))
    if any(name.count(".") == 1 for name in names):
        return None
    return names[0].split(".")[1].split("-")[0] if names else None


def digest_of(path: Path, parts: Iterable[str] = ALL_PARTS) -> str:
    """Hex SHA-256 over the names and contents of the files that are loaded for `parts`.

    A single checkpoint is digested whole. A file's digest is remembered in this process by path, size and
    time, so that a second call reads nothing.
    """
    total = hashlib.sha256()
    if path.is_file():
        configs = config_folder(path)
        files = [path, *(file for part in parts for file in _loaded_files(configs / part, weights=False))]
    else:
        configs = path
        files = [file for part in parts for file in _loaded_files(path / part, weights=True)]
    for file in files:
        name = file.name if file == path else file.relative_to(configs).as_posix()
        total.update(f"{name}\0{_file_digest(file)}\n".encode())
    return total.hexdigest()


def native_px(folder: Path) -> int | None:
    """Side of the square that a diffusers folder's UNet was made for; None when its configs do not say."""
    unet, vae = (_read_json(folder / part / "config.json") or {} for part in ("unet", "vae"))
    side, levels = unet.get("sample_size"), vae.get("block_out_channels")
    if not isinstance(side, int) or not isinstance(levels, list):
        return None
    return side << (len(levels) - 1)


def weight_shapes(path: Path, part: str) -> dict[str, tuple[int, ...]] | None:
    """Shapes of a part's weights by the name of their module, biases left out; only headers are read.

    Args:
        path: a base; one checkpoint file has other names, and gives None.
        part: `unet` or `text_encoder`.
    """
    found: dict[str, tuple[int, ...]] = {}
    for file in _loaded_files(path / part, weights=True) if path.is_dir() else ():
        header = _read_safetensors_header(file) if file.suffix == ".safetensors" else {}
        for name, entry in (header or {}).items():
            if name.endswith(".weight"):
                found[name.removesuffix(".weight")] = tuple(entry["shape"])
    return found or None


def _loaded_files(part: Path, *, weights: bool) -> list[Path]:
    files = sorted(part.glob("*.json")) + sorted(part.glob("*.txt"))
    if weights:
        variant = variant_of(part)
        found = sorted(part.glob("*.safetensors"))
        files += [file for file in found if variant is None or f".{variant}" in file.name]
    return files


def _file_digest(file: Path) -> str:
    stat = file.stat()
    key = (str(file.resolve()), stat.st_size, stat.st_mtime_ns)
    if key not in _digests:
        _digests[key] = sha256(file)
    return _digests[key]


def _folder_problems(folder: Path, *, weights: bool) -> list[Finding]:
    index = _read_json(folder / "model_index.json")
    if index is None:
        above = (folder.parent / "model_index.json").is_file()
        hint = (
            f"give the folder above: {folder.parent}"
            if above
            else "give the folder that holds unet/, vae/, ..."
        )
        return [("path", f"must hold a readable model_index.json, got {folder}", hint)]
    if index.get("_class_name") != "StableDiffusionPipeline":
        kind = index.get("_class_name")
        return [("path", f"must hold a StableDiffusionPipeline (SD 1.x or 2.x), got {kind}", "")]
    found = [finding for part in WEIGHT_PARTS for finding in _part_problems(folder / part, weights=weights)]
    tokenizer = folder / "tokenizer"
    if not (tokenizer / "vocab.json").exists() and not (tokenizer / "tokenizer.json").exists():
        found.append(("path", f"must hold tokenizer/vocab.json or tokenizer.json, got {folder}", ""))
    return found + _schedule_problems(folder / "scheduler" / "scheduler_config.json")


def _part_problems(part: Path, *, weights: bool) -> list[Finding]:
    config = _read_json(part / "config.json")
    if config is None:
        return [("path", f"must hold a readable {part.name}/config.json, got {part.parent}", "")]
    found: list[Finding] = []
    if part.name == "unet" and config.get("in_channels", 4) != 4:
        got = config["in_channels"]
        found.append(("path", f"must be a text-to-image UNet with 4 input channels, got {got}", ""))
    if weights and not any(part.glob("*.safetensors")):
        got = "pickles" if any(file.suffix in PICKLES for file in part.glob("*")) else "none"
        found.append(("path", f"must hold {part.name}/*.safetensors, got {got}", _MAKE_FOLDER))
    return found


def _schedule_problems(file: Path) -> list[Finding]:
    config = _read_json(file)
    if config is None:
        return [("path", f"must hold a readable scheduler/{file.name}, got {file.parent.parent}", "")]
    got = config.get("prediction_type", "epsilon")
    if got not in PREDICTION_TYPES:
        return [("path", f"scheduler must predict {' or '.join(PREDICTION_TYPES)}, got {got}", "")]
    return []


def _checkpoint_problems(checkpoint: Path) -> list[Finding]:
    """A checkpoint holds weights only; without configs on this disk diffusers would fetch them from a hub."""
    header = _read_safetensors_header(checkpoint)
    if header is None:
        return [("path", f"must be a readable safetensors file, got {checkpoint.name}", "is it complete?")]
    if finding := _wrong_checkpoint(checkpoint, header):
        return [finding]
    configs = config_folder(checkpoint)
    if configs == _SD1 and not any(name.startswith(_SD1_TEXT) for name in header):
        message = (
            f"{checkpoint.name} is not a Stable Diffusion 1.x, so its configs and tokenizer must be in a "
        )
        hint = "copy a diffusers folder of its family there; the weights in it are not needed"
        return [("path", f"{message}folder {checkpoint.with_suffix('')}", hint)]
    return _folder_problems(configs, weights=False)


_UNET = "model.diffusion_model."
_SD1_TEXT = "cond_stage_model.transformer."


def _wrong_checkpoint(checkpoint: Path, header: dict[str, Any]) -> Finding | None:
    """What a file of weights is, when it is nothing that a LoRA for Stable Diffusion 1.x or 2.x trains on."""
    name = checkpoint.name
    if any(key.startswith("conditioner.embedders.") for key in header):
        return ("path", f"must be a Stable Diffusion 1.x or 2.x, got an SDXL checkpoint, {name}", "")
    if not any(key.startswith(_UNET) for key in header):
        lora = any("lora_" in key for key in header)
        kind = f"{name}, which is a LoRA" if lora else name
        return ("path", f"must be a whole Stable Diffusion checkpoint, got {kind}", "")
    shape = header.get(f"{_UNET}input_blocks.0.0.weight", {}).get("shape", [])
    if len(shape) == 4 and shape[1] != 4:
        return ("path", f"must be a text-to-image UNet with 4 input channels, got {shape[1]} in {name}", "")
    return None


def _read_safetensors_header(file: Path) -> dict[str, Any] | None:
    try:
        with open(file, "rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            if not 0 < size < 100_000_000:  # the format's own limit
                return None
            header = json.loads(stream.read(size))
    except (OSError, ValueError):
        return None
    return header if isinstance(header, dict) else None


def _read_json(file: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None
