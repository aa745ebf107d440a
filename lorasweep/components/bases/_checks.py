"""What keeps a folder or a checkpoint from being loaded as a base of some family. No torch.

Reads configs and headers and, once per machine, looks through the weights for NaN. Everything that is wrong
is told at once, each as (key of the options, rule and value, next step).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lorasweep.components.bases import _families, _files
from lorasweep.components.bases._checkpoint_names import Wanted, expected
from lorasweep.components.bases._families import Family
from lorasweep.core import finite, registry
from lorasweep.core.files import file_digest, find_object, matching, read_object
from lorasweep.core.printable import command, some
from lorasweep.core.protocols import is_text_encoder
from lorasweep.core.records import BaseOptions
from lorasweep.core.safetensors_header import Tensor, read_header

Finding = tuple[str, str, str]

PICKLES = (".ckpt", ".bin", ".pt", ".pth")
_BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
_ARGUMENTS = {"VAE": "vae", "text encoder": "text_encoder", "second text encoder": "text_encoder_2"}  # of diffusers
_WIDTHS = "768 is Stable Diffusion 1.x, 1024 is 2.x, 2048 is XL"

_MAKE_FOLDER = "save it once with diffusers: pipeline.save_pretrained(folder, safe_serialization=True)"
_ANOTHER_COPY = "take another copy"
_UNFINISHED = (".part", ".crdownload", ".download", ".aria2", ".incomplete", ".tmp")
_NO_GGUF = "must not be GGUF, which is quantised, made for drawing only"
_WHOLE_WEIGHTS = "give its weights in bf16, fp16 or plain fp8"
# In the names of folders and files; FLUX.2's undistilled ones are called klein-base-4b and klein-base-9b.
_DISTILLED = re.compile(
    r"(?<!de)(?<!de[-_])(turbo|schnell|distilled|lightning|chroma1?[-_]flash|klein[-_][49]b)", re.IGNORECASE
)


def find_problems(path: Path, family: Family) -> list[Finding]:
    """Find everything that keeps `path` from being loaded."""
    if not path.exists():
        leads = f", a link to {path.readlink()}, which is not there" if path.is_symlink() else ""
        hint = "give a diffusers folder or a .safetensors file of this machine: nothing is downloaded"
        return [_of_path(f"must exist, got {path}{leads}", hint)]
    if path.is_dir():
        return _folder_problems(path, family, weights=True)
    if not family.held:
        return [_of_path(f"must be a diffusers folder of {family.title}, got {path.name}")]
    if path.suffix in PICKLES:
        return [_of_path(f"must not be a pickle, which can run code when opened, got {path.name}", _MAKE_FOLDER)]
    if path.suffix == ".gguf":
        return [_of_path(f"{_NO_GGUF}, got {path.name}", _WHOLE_WEIGHTS)]
    if path.suffix != ".safetensors":
        hint = "finish the download" if path.suffix in _UNFINISHED else ""
        return [_of_path(f"must be a diffusers folder or a .safetensors file, got {path.name}", hint)]
    return _checkpoint_problems(path, family)


def option_problems(configs: Path, family: Family, options: BaseOptions) -> Iterator[Finding]:
    """Find options that a base of these configs cannot do; configs that do not say are passed over."""
    if options.clip_skip < 1:
        yield ("clip_skip", f"must be >= 1 (1 = last hidden state), got {options.clip_skip}", "")
    layers = read_object(configs / "text_encoder" / "config.json").get("num_hidden_layers")
    if isinstance(layers, int) and options.clip_skip > layers:
        yield ("clip_skip", f"must be at most {layers}, the layers of its text encoder, got {options.clip_skip}", "")
    vae_px = _files.vae_px(read_object(configs / "vae" / "config.json"))
    px = vae_px * family.patch if vae_px > 1 else 1
    if options.bucket_step % px:
        hint = f"override: base.bucket_step={max(px, options.bucket_step // px * px)}"
        what = "a latent of its VAE" if family.patch == 1 else "an image token"
        yield ("bucket_step", f"must be a multiple of {px} px, {what}, got {options.bucket_step}", hint)
    chosen = {"prediction_type": options.prediction_type, "zero_terminal_snr": options.zero_terminal_snr}
    if family.predicts == ("flow",):
        for key, given in chosen.items():
            if given is not None:
                rule = f"must be null: {family.title} is trained with flow matching, got {str(given).lower()}"
                yield (key, rule, f"override: base.{key}=null")
        if options.clip_skip > 1:
            yield ("clip_skip", f"must be 1: {family.title} reads last layers, got {options.clip_skip}", "")


def weights_problems(path: Path, weights: str | None, family: Family) -> Iterator[Finding]:
    """Find what keeps a file from taking the place of a folder's denoiser."""
    if weights is None:
        return
    file = Path(weights).expanduser()
    if not family.alone:
        hint = "override: base.weights=null, and give a whole checkpoint as base.path"
        yield ("weights", f"must be null: {family.title} takes no transformer of its own, got {file.name}", hint)
    elif file.suffix == ".gguf":
        yield ("weights", f"{_NO_GGUF}, got {file.name}", _WHOLE_WEIGHTS)
    elif file.suffix != ".safetensors" or not file.is_file():
        yield ("weights", f"must be a .safetensors file that exists, got {file}", "")
    else:
        try:
            held = read_header(file)
            other = _families.name_alone(held, family) or _files.other_size(held, path / family.denoiser)
        except ValueError as error:
            other = f"unreadable: {error}"
        if other:
            message = f"must be a transformer of {family.title}, got {file.name}, which is {other}"
            yield ("weights", message, _WHOLE_WEIGHTS)


def _of_path(message: str, hint: str = "") -> Finding:
    return ("path", message, hint)


def _folder_problems(folder: Path, family: Family, *, weights: bool) -> list[Finding]:
    index = find_object(folder / family.index)
    kind = None if index is None else index.get("_class_name")
    if kind not in (family.pipeline, family.formerly or family.pipeline):
        owner = _files.family_of_folder(folder)
        other = f"override: base={owner.name}" if owner else ""
        if index is None:
            return [_of_path(f"must hold a readable {family.index}, got {folder}", other or _meant(folder, family))]
        return [_of_path(f"must hold a {family.pipeline} ({family.title}), got {kind}", other)]
    found = [finding for part in family.classes for finding in _part_problems(folder / part, family, weights=weights)]
    found += [finding for part in family.tokenizers for finding in _tokenizer_problems(folder / part)]
    found += _schedule_problems(folder / "scheduler" / "scheduler_config.json", family)
    found = found or list(_misfits(folder, family))
    if found or not weights:
        return found
    files = ((part, file) for part in family.classes for file in _weight_files(folder / part))
    return list(_flawed_parts(folder, family)) or [
        finding for part, file in files for finding in _broken(file, f"{part}/{file.name}", ("",))
    ]


def is_distilled(path: Path, family: Family) -> bool:
    """Tell whether a folder, or a file of a denoiser, is of a base that draws in a few steps."""
    file, key, value = family.distilled or ("", "", None)
    by_name = family.predicts == ("flow",) and _DISTILLED.search(path.name)
    return bool(by_name or (file and read_object(path / file).get(key) == value))


def distilled_problems(path: Path, family: Family, options: BaseOptions) -> Iterator[Finding]:
    """Refuse a base that draws in a few steps, which training makes it forget unless an adapter undoes it."""
    given = {"path": path} | ({"weights": Path(options.weights)} if options.weights else {})
    for key, place in given.items():
        if options.adapter is None and is_distilled(place, family):
            draw = command(f"sample.base={place}")
            hint = f"train on {family.title} and draw with {draw}; or give base.adapter, which undoes it"
            yield (key, f"must not be distilled to few steps, which training on it undoes, got {place.name}", hint)


def adapter_problems(path: Path, family: Family, adapter: str) -> Iterator[Finding]:
    """Find what keeps a LoRA from being merged into the denoiser; told by headers alone."""
    shapes = _files.weight_shapes(path, family) or {}
    denoiser = {f"{family.denoiser}.{name}": shape for name, shape in shapes.get(family.denoiser, {}).items()}
    for problem in registry.load("adapter", "file").problems_with(Path(adapter).expanduser(), denoiser):
        yield ("adapter", f"must be a LoRA of the denoiser: {problem.message}", problem.hint)


def sibling_problems(path: Path, sibling: str, family: Family) -> list[Finding]:
    """Find what keeps a base from drawing in the place of the one at `path`."""
    place = Path(sibling).expanduser()
    if family.predicts != ("flow",):
        message = f"must be null: {family.title} draws by itself, got {place.name}"
        return [_of_path(message, "override: sample.base=null")]
    if place.exists() and not place.is_dir():
        return list(weights_problems(path, sibling, family))
    if found := find_problems(place, family.sibling):
        return found
    own, its = (_files.weight_shapes(each, family.sibling) or {} for each in (path, place))
    part = family.denoiser
    if others := sorted(name for name, _ in its[part].items() ^ own[part].items()):
        message = f"must have the modules of {path.name}, got others in {place.name}: {some(others)}"
        return [_of_path(message, "is it of the same size and kind?")]
    return []


def _meant(folder: Path, family: Family) -> str:
    """Return what a folder that is no base may have been meant for."""
    if (folder.parent / "model_index.json").is_file():
        return f"give the folder above: {folder.parent}"
    if (folder / "adapter_config.json").is_file():
        return "it is a LoRA's; give the base that it was made for"
    if pulled := sorted(folder.glob("snapshots/*/model_index.json")):
        return f"give what a hub's cache holds there: {pulled[-1].parent}"
    if files := matching(folder, "*.safetensors"):
        return f"give one of its files: {command(f'base.path={files[0]}')}"
    return f"give the folder that holds {family.denoiser}/, vae/, ..."


def _part_problems(part: Path, family: Family, *, weights: bool) -> list[Finding]:
    config = find_object(part / "config.json")
    if config is None:
        hint = f"copy {part.name}/ of its family there; half a folder cannot be loaded"
        return [_of_path(f"must hold a readable {part.name}/config.json, got {part.parent}", hint)]
    found = [_of_path(message) for message in _config_problems(part.name, config, family)]
    if not weights:
        return found
    files = _weight_files(part)
    if not files:
        got = "pickles" if any(file.suffix in PICKLES for file in part.glob("*")) else "none"
        return [*found, _of_path(f"must hold {part.name}/*.safetensors, got {got}", _MAKE_FOLDER)]
    stem = "model" if is_text_encoder(part.name) else "diffusion_pytorch_model"
    if not any(file.name.startswith(f"{stem}.") for file in files) and len(files) == 1:
        message = f"must hold {part.name}/{stem}.safetensors, as diffusers names it, got {files[0].name}"
        found.append(_of_path(message, "rename it, if it is that"))
    listed: dict[str, str] = {}
    for index in matching(part, "*.safetensors.index.json"):
        listed |= read_object(index).get("weight_map", {})
        if absent := sorted(set(listed.values()) - {file.name for file in part.glob("*.safetensors")}):
            message = f"must hold every file that {part.name}/{index.name} lists, got none of {some(absent)}"
            found.append(_of_path(message, "complete the download"))
    for file in files:
        try:
            held = read_header(file)
        except ValueError as error:
            message = f"must hold readable weights, got {part.name}/{file.name}, {error}"
            found.append(_of_path(message, _ANOTHER_COPY))
            continue
        if lost := [name for name, shard in listed.items() if shard == file.name and name not in held]:
            message = f"must hold what the index of {part.name}/ lists, got {file.name} without {some(lost)}"
            found.append(_of_path(message, _ANOTHER_COPY))
    return found


def _config_problems(part: str, config: Mapping[str, Any], family: Family) -> Iterator[str]:
    """Return what a part's own config says that is not of its family."""
    named = config.get("_class_name") or (config.get("architectures") or [None])[0]
    if named and family.classes[part] not in (named, re.sub("For(CausalLM|ConditionalGeneration)$", "Model", named)):
        yield f"must have a {family.classes[part]} as {part}, got {named}"
    channels = {"unet": "in_channels", "vae": "latent_channels"}.get(part, "") if "unet" in family.classes else ""
    if (got := config.get(channels, 4)) != 4:
        what = "be a text-to-image UNet with 4 input" if part == "unet" else "have a VAE with 4 latent"
        yield f"must {what} channels, got {got}"
    added, classes = config.get("addition_embed_type"), config.get("class_embed_type")
    if part == "unet" and (added not in family.added or classes is not None):
        if "text_time" in family.added:
            yield f"must have a UNet that is told sizes and pooled text as well, got addition_embed_type={added}"
        else:
            yield "must have a UNet that is told caption and timestep only, got one that wants sizes too"


def _weight_files(part: Path) -> list[Path]:
    """Return the files of weights that `load` takes: with a variant in their names only where no others are."""
    variant = _files.variant_of(part)
    files = (file for file in _files.loaded_files(part, weights=True) if file.suffix == ".safetensors")
    return [file for file in files if variant is not None or file.name.count(".") == 1]


def _tokenizer_problems(tokenizer: Path) -> Iterator[Finding]:
    folder, name = tokenizer.parent, tokenizer.name
    words = _files.words_folder(tokenizer)
    pair = (words / "vocab.json", words / "merges.txt")
    whole = words / "tokenizer.json"
    if not whole.exists() and not all(file.exists() for file in pair):
        message = f"must hold {name}/tokenizer.json, or vocab.json and merges.txt there"
        yield _of_path(f"{message}, got {folder}", f"copy {name}/ of its family there")
    for file in (pair[0], whole):
        if file.exists() and find_object(file) is None:
            yield _of_path(f"must hold a readable {name}/{file.name}, got {folder}", _ANOTHER_COPY)


def _schedule_problems(file: Path, family: Family) -> list[Finding]:
    config = find_object(file)
    if config is None:
        hint = "copy scheduler/ of its family there"
        return [_of_path(f"must hold a readable scheduler/{file.name}, got {file.parent.parent}", hint)]
    if family.predicts == ("flow",):
        kind = config.get("_class_name")
        return [] if kind == family.scheduler else [_of_path(f"must have a {family.scheduler}, got {kind}")]
    rules = (
        ("prediction_type", "epsilon", family.predicts, "scheduler must predict"),
        ("beta_schedule", "linear", _BETA_SCHEDULES, "scheduler must have a beta_schedule of"),
    )
    found = [
        _of_path(f"{rule} {' or '.join(allowed)}, got {config[key]}")
        for key, default, allowed, rule in rules
        if config.get(key, default) not in allowed
    ]
    steps = config.get("num_train_timesteps", 1000)
    if not isinstance(steps, int) or steps < 1:
        found.append(_of_path(f"scheduler must have whole num_train_timesteps >= 1, got {steps!r}"))
    return found


def _misfits(configs: Path, family: Family) -> Iterator[Finding]:
    """Name parts of different families that were put together."""
    if "unet" not in family.classes:
        return
    unet, *texts = (read_object(configs / part / "config.json") for part in family.parts)
    takes, said = unet.get("cross_attention_dim"), [text.get("hidden_size") for text in texts]
    gives = [width for width in said if isinstance(width, int)]
    if isinstance(takes, int) and len(gives) == len(said) and takes != sum(gives):
        what = "text encoder gives" if len(gives) == 1 else "text encoders give"
        message = f"its UNet takes text of width {takes}, its {what} {' and '.join(map(str, gives))}"
        yield _of_path(message, _WIDTHS)
    for file in _weight_files(configs / "unet"):
        yield from _width_problems(read_header(file), configs, file.name)


def _width_problems(tensors: Mapping[str, Tensor], configs: Path, name: str) -> Iterator[Finding]:
    """Name weights of another family than their configs."""
    says = read_object(configs / "unet" / "config.json").get("cross_attention_dim")
    width = next((t.shape[-1] for key, t in tensors.items() if key.endswith("attn2.to_k.weight")), says)
    if isinstance(says, int) and width != says:
        hint = f"{_WIDTHS}: give configs of its own family"
        yield _of_path(f"{name} takes text of width {width}, the config {configs / 'unet'} says {says}", hint)


def _flawed_parts(folder: Path, family: Family) -> Iterator[Finding]:
    """Name weights that are missing or of another shape, where it is known which there must be."""
    for part, modules in _files.known_shapes(folder, family).items():
        headers = [read_header(file) for file in _weight_files(folder / part)]
        held = {name.removeprefix("text_model."): tensor for header in headers for name, tensor in header.items()}
        yield from _flaws(held, (([f"{name}.weight"], shape) for name, shape in modules.items()), f"{part}/")


def _flaws(held: Mapping[str, Tensor], wanted: Iterable[Wanted], where: str, hint: str = "") -> Iterator[Finding]:
    """Return tensors that are missing, and those of another shape; a linear layer may be a convolution of 1 x 1."""
    absent, unlike = [], []
    for names, shape in wanted:
        name = next((name for name in names if name in held), None)
        if name is None:
            absent.append(names[0])
        elif shape is not None and [px for px in held[name].shape if px > 1] != [px for px in shape if px > 1]:
            unlike.append(name)
    if absent:
        yield _of_path(f"must be whole, got {where} without {some(absent)}", f"{_ANOTHER_COPY}{hint}")
    if unlike:
        yield _of_path(f"must have the shapes of its family, got {where} with others: {some(unlike)}", _ANOTHER_COPY)


def _checkpoint_problems(checkpoint: Path, family: Family) -> list[Finding]:
    """Check a file of weights, for which, without configs on this disk diffusers would fetch them from a hub."""
    name = checkpoint.name
    try:
        tensors = read_header(checkpoint)
    except ValueError as error:
        return [_of_path(f"must be a readable safetensors file, got {name}, {error}", _ANOTHER_COPY)]
    if other := _families.name_other(tensors, family):
        what, hint = other
        return [_of_path(f"must be a whole {family.title}, got {name}, which is {what}", hint)]
    missing = [part for part, starts in family.held.items() if not any(key.startswith(starts) for key in tensors)]
    found = [_missing(part, name, family) for part in missing]
    configs = _files.config_folder(checkpoint, family)
    is_second = any(key.startswith("cond_stage_model.model.") for key in tensors)
    if configs == family.shipped and is_second:  # Stable Diffusion 2.x: two kinds that files do not tell apart
        if not found:
            message = f"{name} is not a Stable Diffusion 1.x, so its configs and tokenizer must be in a folder"
            hint = "copy a diffusers folder of its family there; the weights in it are not needed"
            found.append(_of_path(f"{message} {checkpoint.with_suffix('')}", hint))
        return found
    found += _folder_problems(configs, family, weights=False)
    found = found or list(_width_problems(tensors, configs, name)) or list(_incomplete(tensors, checkpoint, family))
    return found or _broken(checkpoint, name, sum(family.held.values(), ()))


def _missing(part: str, name: str, family: Family) -> Finding:
    hint = (
        f"take one that holds it, or join them once with diffusers: {family.pipeline}.from_single_file("
        f"file, {_ARGUMENTS[part]}=...).save_pretrained(folder)"
    )
    return _of_path(f"must be a whole checkpoint of {family.title}, got {name} without a {part}", hint)


def _incomplete(tensors: Mapping[str, Tensor], checkpoint: Path, family: Family) -> Iterator[Finding]:
    """Return tensors that are missing or of another shape, where it is known which there must be."""
    known = _files.known_shapes(_files.config_folder(checkpoint, family), family)
    if "unet" in known:
        hint = "; of a kin with fewer blocks (SSD-1B) give a diffusers folder"
        yield from _flaws(tensors, expected(known, family), checkpoint.name, hint)


def _broken(file: Path, name: str, beginnings: tuple[str, ...]) -> list[Finding]:
    held = {key: tensor for key, tensor in read_header(file).items() if key.startswith(beginnings)}
    # What, read as it is, is no weight: bytes that want a scale, or that scale.
    codes = {key for key, tensor in held.items() if tensor.dtype in ("I8", "U8") and len(tensor.shape) > 1}
    if quantised := [key for key in held if key in codes or re.match(_families.QUANTISED_NAMES, key)]:
        hint = "these are made for drawing only: take the file in fp16 or bf16"
        return [_of_path(f"must have weights that are not quantised, got {name} with {some(quantised)}", hint)]
    broken = finite.broken_tensors(file, file_digest(file), beginnings)
    if not broken:
        return []
    hint = f"a merge or a download went wrong, which no learning rate mends: {_ANOTHER_COPY}"
    return [_of_path(f"must have weights that are numbers, got NaN or infinity in {name}: {some(broken)}", hint)]
