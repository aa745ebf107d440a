"""Rules between keys of a recipe, and files that keys name: what no single key's type can say.

Takes the composed tree as plain data, so that one wrong key does not hide another. What a component's knobs say
together is told by its module (`problems` in `lorasweep/components/adapters/locon.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lorasweep.config.bind import find_module
from lorasweep.config.suggest import did_you_mean
from lorasweep.config.tree import look_up
from lorasweep.core.errors import InputError, Problem
from lorasweep.core.hydra_text import write_text
from lorasweep.core.records import ANY_TIER, PROMPT_TIERS
from lorasweep.data.tree import IMAGE_SUFFIXES
from lorasweep.plan import calibration


def check(values: Mapping[str, Any]) -> Iterator[Problem]:
    """Find every broken rule in a composed tree; values of the wrong type are left to `bind`."""
    for between in _BETWEEN_KEYS:
        yield from between(values)


def _budget(values: Mapping[str, Any]) -> Iterator[Problem]:
    if look_up(values, "train.max_steps") is None and look_up(values, "train.epochs") is None:
        yield Problem("train", "max_steps or epochs must be given, both are null", "override: train.epochs=8")


def _class_seeds(values: Mapping[str, Any]) -> Iterator[Problem]:
    seeds, wanted = look_up(values, "sample.seeds"), look_up(values, "sample.class_seeds")
    if isinstance(seeds, list) and seeds and _is_number(wanted) and wanted > len(seeds):
        message = f"must be at most {len(seeds)}, the number of sample.seeds, got {wanted}"
        yield Problem("sample.class_seeds", message, f"override: sample.class_seeds={len(seeds)}")


def _tiers(values: Mapping[str, Any]) -> Iterator[Problem]:
    prompts = look_up(values, "dataset.prompts")
    for tier in prompts if isinstance(prompts, Mapping) else ():
        if tier not in (known := (*PROMPT_TIERS, ANY_TIER)):
            yield Problem(f"dataset.prompts.{tier}", f"must be one of {', '.join(known)}")


def _sides(values: Mapping[str, Any]) -> Iterator[Problem]:
    step, resolution = look_up(values, "base.bucket_step"), look_up(values, "base.resolution")
    if not _is_number(step) or step < 1:
        return
    if _is_number(resolution) and resolution < step:
        yield Problem("base.resolution", f"must be at least base.bucket_step ({step}), got {resolution}")
    for key in ("sample.width", "sample.height"):
        side = look_up(values, key)
        if _is_number(side) and side % step:
            message = f"must be a multiple of base.bucket_step ({step}), got {side}"
            yield Problem(key, message, f"override: {key}={max(step, round(side / step) * step)}")


def _trigger(values: Mapping[str, Any]) -> Iterator[Problem]:
    trigger = look_up(values, "captions.trigger")
    if not isinstance(trigger, str) or (bare := trigger.strip()) == trigger != "":
        return
    if bare:
        hint = f"override: {write_text('captions.trigger', bare)}"
        yield Problem("captions.trigger", f"must have no blanks around it, got {trigger!r}", hint)
    else:
        yield Problem("captions.trigger", "must not be empty", "override: captions.trigger=null, for none of your own")


def _extension(values: Mapping[str, Any]) -> Iterator[Problem]:
    extension = look_up(values, "captions.extension")
    if isinstance(extension, str) and extension.lower() in IMAGE_SUFFIXES:
        message = f"must be the suffix of texts, not of images, got {extension}"
        yield Problem("captions.extension", message, "override: captions.extension=.txt")


def _folders(values: Mapping[str, Any]) -> Iterator[Problem]:
    path = look_up(values, "dataset.path")
    if isinstance(path, str) and path != "???" and not Path(path).expanduser().exists():
        whole = Path(path).expanduser().absolute()
        beside = sorted(item.name for item in whole.parent.iterdir()) if whole.parent.is_dir() else []
        hint = did_you_mean(Path(path).name, beside) or f"looked at {whole}"
        yield Problem("dataset.path", f"no such folder: {path!r}", hint)


def _held_out(values: Mapping[str, Any]) -> Iterator[Problem]:
    if look_up(values, "dataset.holdout_files") and look_up(values, "dataset.holdout_path"):
        yield Problem("dataset.holdout_files", "excludes dataset.holdout_path, got both", "give one of them")


def _unmasked(values: Mapping[str, Any]) -> Iterator[Problem]:
    if look_up(values, "dataset.unmasked_weight") and look_up(values, "dataset.masks") is None:
        message = "is the weight of what masks leave out, and there are none"
        yield Problem("dataset.unmasked_weight", message, "override: dataset.masks=alpha, beside, or a folder")


def _calibration(values: Mapping[str, Any]) -> Iterator[Problem]:
    path = look_up(values, "calibration")
    if not isinstance(path, str):
        return
    try:
        calibration.read(Path(path).expanduser())
    except InputError as error:
        for problem in error.problems:
            yield Problem("calibration", f"{path} {problem.message}", problem.hint)


_ENCODER_FILES = {
    "clip": ("config.json", "model.safetensors", "preprocessor_config.json"),
    "dino": ("config.json", "model.safetensors", "preprocessor_config.json"),
    "sscd": (),
}


def _asked_encoders(values: Mapping[str, Any]) -> Iterator[Problem]:
    """Demand the encoder that a metric names; `auto` takes what is."""
    for metric in ("identity", "prompt_control"):
        chosen, also = (look_up(values, f"metrics.{metric}.{knob}") for knob in ("encoder", "also"))
        asked = {"encoder": [chosen], "also": also if isinstance(also, list) else []}
        for knob, names in asked.items():
            for name in names:
                if name in ("clip", "dino") and look_up(values, f"encoders.{name}") is None:
                    message = f"asks for {name}, and encoders.{name} is null"
                    yield Problem(f"metrics.{metric}.{knob}", message, f"override: encoders.{name}=some/folder")


def _useful_weights(values: Mapping[str, Any]) -> Iterator[Problem]:
    """Demand a third weight for a parabola, beside 0 and the one that counts."""
    weights, counts = (look_up(values, key) for key in ("metrics.useful_weight.weights", "sample.weight"))
    asked = set(weights) if isinstance(weights, list) and all(map(_is_number, weights)) else set()
    if any(asked) and not asked - {0, counts}:
        message = f"needs a weight besides 0 and sample.weight, {counts}, got {weights}"
        yield Problem("metrics.useful_weight.weights", message, "e.g. [0.4,1.0]")


def _encoders(values: Mapping[str, Any]) -> Iterator[Problem]:
    for name, needed in _ENCODER_FILES.items():
        path = look_up(values, f"encoders.{name}")
        if not isinstance(path, str):
            continue
        folder = Path(path).expanduser()
        if not folder.exists():
            yield Problem(f"encoders.{name}", f"no such file: {path!r}", f"looked at {folder.absolute()}")
        for file in needed if folder.exists() else ():
            if not (folder / file).is_file():
                yield Problem(f"encoders.{name}", f"must hold {file}, {path!r} does not", "nothing is downloaded")


def _brakes(values: Mapping[str, Any]) -> Iterator[Problem]:
    adapter, picked = look_up(values, "adapter.name"), look_up(values, "regularization")
    if getattr(_module("adapter", adapter), "IS_PRODUCT", False) or not isinstance(picked, Mapping):
        return
    for name in picked:
        if getattr(_module("regularization", name), "SCALES_WEIGHTS", False):
            message = f"{name} cannot brake {adapter}, whose change is not said to be products that could be scaled"
            hint = "override: regularization=none, or adapter=lora; a plugin's adapter says IS_PRODUCT = True"
            yield Problem(f"regularization.{name}", message, hint)


def _averages(values: Mapping[str, Any]) -> Iterator[Problem]:
    """Find a second one that says which average of the weights is judged and saved."""
    optimizer, picked = look_up(values, "optimizer.name"), look_up(values, "regularization")
    brakes = picked if isinstance(picked, Mapping) else {}
    found = [name for name in brakes if getattr(_module("regularization", name), "AVERAGES_WEIGHTS", False)]
    if found and hasattr(_module("optimizer", optimizer), "weights_for_use"):
        found.append(optimizer)
    for name in found[1:]:
        message = f"{found[0]} cannot be beside {name}: each says which average of the weights is judged and saved"
        yield Problem(f"regularization.{found[0]}", message, "override: regularization=none, or optimizer=adamw")


def _second_factors(values: Mapping[str, Any]) -> Iterator[Problem]:
    """Find a rate of second factors where the adapter has none."""
    ratio, adapter = (look_up(values, key) for key in ("optimizer.loraplus_lr_ratio", "adapter.name"))
    if ratio is not None and adapter and not hasattr(_module("adapter", adapter), "SECOND_FACTOR"):
        message = f"is of the factors down and up of a LoRA, which {adapter} does not have, got {ratio}"
        yield Problem("optimizer.loraplus_lr_ratio", message, "override: optimizer.loraplus_lr_ratio=null")


def _module(group: str, name: Any) -> Any:
    """Return the module of a name; None of one that is wrong, which is told once, where it is bound."""
    return find_module(group, name, at=group, problems=[])


_BETWEEN_KEYS: tuple[Callable[[Mapping[str, Any]], Iterator[Problem]], ...] = (
    _budget,
    _class_seeds,
    _tiers,
    _sides,
    _trigger,
    _extension,
    _folders,
    _held_out,
    _unmasked,
    _calibration,
    _encoders,
    _asked_encoders,
    _useful_weights,
    _brakes,
    _averages,
    _second_factors,
)


def _is_number(value: Any) -> bool:
    """Tell whether it is a finite number: what is none is told once, by `bind`."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
