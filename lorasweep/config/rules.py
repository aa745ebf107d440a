"""Ranges of the option groups' keys, and rules between keys: what a type cannot say.

Takes the composed tree as plain data, so that one wrong key does not hide another. Ranges of components'
knobs live beside their builders (`problems` in `lorasweep/components/adapters/lora.py`).
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorasweep.config.suggest import did_you_mean
from lorasweep.config.text_value import is_path
from lorasweep.core.errors import InputError, Problem
from lorasweep.core.records import PROMPT_TIERS


@dataclass(frozen=True)
class Range:
    """Bounds of a number, or of every number of a list; `example` is a value that works."""

    low: float
    high: float | None = None
    open_low: bool = False
    example: str = ""

    def holds(self, value: float) -> bool:
        """Whether `value` is inside."""
        above = value > self.low if self.open_low else value >= self.low
        return above and (self.high is None or value <= self.high)

    def __str__(self) -> str:
        if self.high is None:
            return f"must be {'>' if self.open_low else '>='} {self.low:g}"
        return f"must be in {'(' if self.open_low else '['}{self.low:g}, {self.high:g}]"


_WEIGHT = Range(0, 2, open_low=True, example="0.7")

RANGES: dict[str, Range] = {
    "seed": Range(0, example="0"),
    "base.resolution": Range(8, 4096, example="512"),
    "base.bucket_step": Range(1, 512, example="64"),
    "base.clip_skip": Range(1, 12, example="1"),
    "dataset.repeats": Range(1, example="10"),
    "dataset.holdout_seed": Range(0, example="0"),
    "dataset.holdout": Range(0, 0.5, example="0.2"),
    "dataset.dollhouse.images": Range(1, 10_000, example="20"),
    "dataset.dollhouse.outfits": Range(1, 4, example="1"),
    "dataset.dollhouse.confound": Range(0, 1, example="0.5"),
    "dataset.dollhouse.seed": Range(0, example="0"),
    "captions.keep_tokens": Range(0, example="1"),
    "captions.decouple": Range(0, 1, example="0.5"),
    "captions.dropout": Range(0, 1, example="0.05"),
    "captions.tag_dropout": Range(0, 1, example="0.1"),
    "train.max_steps": Range(1, example="300"),
    "train.epochs": Range(1, example="8"),
    "train.steps_per_epoch": Range(1, example="50"),
    "train.batch_size": Range(1, example="4"),
    "train.gradient_accumulation": Range(1, example="1"),
    "train.max_grad_norm": Range(0, example="1.0"),
    "train.min_snr_gamma": Range(0, open_low=True, example="5"),
    "train.noise_offset": Range(0, 1, example="0.05"),
    "train.rungs": Range(1, example="4"),
    "train.log_every": Range(1, example="10"),
    "sample.weight": _WEIGHT,
    "sample.weights": Range(0, 2, example="[0.4,0.7,1.0]"),
    "sample.steps": Range(1, 1000, example="20"),
    "sample.guidance": Range(0, example="4.0"),
    "sample.guidance_rescale": Range(0, 1, example="0.7"),
    "sample.width": Range(8, 4096, example="512"),
    "sample.height": Range(8, 4096, example="512"),
    "sample.batch_size": Range(1, example="8"),
    "sample.seeds": Range(0, 2**63 - 1, example="[0,1]"),
    "sample.rung_seeds": Range(0, 2**63 - 1, example="[0]"),
    "sample.class_seeds": Range(1, example="1"),
    "tracking.timeout_s": Range(0, example="20"),
    "launcher.workers": Range(1, example="4"),
    "launcher.threads": Range(1, example="1"),
    "launcher.recycle_after": Range(1, example="50"),
    "launcher.memory_growth_mb": Range(0, open_low=True, example="2000"),
    "launcher.hang_s": Range(1, example="600"),
}


def check(values: Mapping[str, Any]) -> Iterator[Problem]:
    """Find every broken rule in a composed tree; values of the wrong type are left to `bind`."""
    for key, rule in RANGES.items():
        value = _look_up(values, key)
        items = value if isinstance(value, list | tuple) else [value]
        bad = [item for item in items if _is_number(item) and not rule.holds(item)]
        if bad:
            yield Problem(key, f"{rule}, got {value!r}", f"override: {key}={rule.example}")
    for between in _BETWEEN_KEYS:
        yield from between(values)


def _budget(values: Mapping[str, Any]) -> Iterator[Problem]:
    if _look_up(values, "train.max_steps") is None and _look_up(values, "train.epochs") is None:
        yield Problem("train", "max_steps or epochs must be given, both are null", "override: train.epochs=8")


def _seeds(values: Mapping[str, Any]) -> Iterator[Problem]:
    for key in ("sample.seeds", "sample.rung_seeds"):
        seeds = _look_up(values, key)
        if seeds == []:
            yield Problem(key, "must have at least one seed", f"override: {key}=[0]")
        elif isinstance(seeds, list) and len({str(seed) for seed in seeds}) < len(seeds):
            yield Problem(key, f"must not repeat a seed, got {seeds}", f"override: {key}=[0,1]")


def _class_seeds(values: Mapping[str, Any]) -> Iterator[Problem]:
    seeds, wanted = _look_up(values, "sample.seeds"), _look_up(values, "sample.class_seeds")
    if isinstance(seeds, list) and seeds and _is_number(wanted) and wanted > len(seeds):
        yield Problem(
            "sample.class_seeds",
            f"must be at most {len(seeds)}, the number of sample.seeds, got {wanted}",
            f"override: sample.seeds={list(range(int(wanted)))}".replace(" ", "").replace(":s", ": s"),
        )


def _tiers(values: Mapping[str, Any]) -> Iterator[Problem]:
    prompts = _look_up(values, "dataset.prompts")
    for tier in prompts if isinstance(prompts, Mapping) else ():
        if tier not in PROMPT_TIERS:
            yield Problem(f"dataset.prompts.{tier}", f"must be one of {', '.join(PROMPT_TIERS)}")


def _sides(values: Mapping[str, Any]) -> Iterator[Problem]:
    step, resolution = _look_up(values, "base.bucket_step"), _look_up(values, "base.resolution")
    if not _is_number(step) or step < 1:
        return
    if _is_number(resolution) and resolution < step:
        yield Problem("base.resolution", f"must be at least base.bucket_step ({step}), got {resolution}")
    for key in ("sample.width", "sample.height"):
        side = _look_up(values, key)
        if _is_number(side) and side % step:
            nearest = max(step, round(side / step) * step)
            yield Problem(
                key,
                f"must be a multiple of base.bucket_step ({step}), got {side}",
                f"override: {key}={nearest}",
            )


def _texts(values: Mapping[str, Any]) -> Iterator[Problem]:
    device = _look_up(values, "train.device")
    if isinstance(device, str) and not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", device):
        yield Problem(
            "train.device",
            f"must be auto, cpu, cuda or cuda:N, got {device!r}",
            "override: train.device=auto",
        )
    extension = _look_up(values, "captions.extension")
    if isinstance(extension, str) and not re.fullmatch(r"\.[\w.-]+", extension):
        yield Problem("captions.extension", f"must be a suffix, got {extension!r}", "override: captions.extension=.txt")
    for key, value in _leaves(values):
        if value == "" and (is_path(key) or key in ("captions.separator", "tracking.experiment")):
            yield Problem(key, "must not be empty", f"leave {key} out")
    trigger = _look_up(values, "captions.trigger")
    if isinstance(trigger, str) and not trigger.strip():
        yield Problem("captions.trigger", "must not be empty", "override: captions.trigger=null, for none of your own")


def _folders(values: Mapping[str, Any]) -> Iterator[Problem]:
    path = _look_up(values, "dataset.path")
    if isinstance(path, str) and path != "???" and not Path(path).expanduser().exists():
        near = did_you_mean(Path(path).name, _names_beside(Path(path).expanduser()))
        yield Problem(
            "dataset.path",
            f"no such folder: {path!r}",
            near or f"looked at {Path(path).expanduser().absolute()}",
        )


def _calibration(values: Mapping[str, Any]) -> Iterator[Problem]:
    path = _look_up(values, "calibration")
    if not isinstance(path, str):
        return
    try:
        importlib.import_module("lorasweep.trial.judge.calibration").read(Path(path).expanduser())
    except InputError as error:
        for problem in error.problems:
            yield Problem("calibration", f"{path} {problem.message}", problem.hint)


_ENCODER_FILES = {
    "clip": ("config.json", "model.safetensors", "preprocessor_config.json"),
    "dino": ("config.json", "model.safetensors", "preprocessor_config.json"),
    "sscd": (),
}


def _asked_encoders(values: Mapping[str, Any]) -> Iterator[Problem]:
    """An encoder that a metric names must be there; `auto` takes what is."""
    for metric in ("identity", "prompt_control"):
        chosen, also = (_look_up(values, f"metrics.{metric}.{knob}") for knob in ("encoder", "also"))
        asked = {"encoder": [chosen], "also": also if isinstance(also, list) else []}
        for knob, names in asked.items():
            for name in names:
                if name in ("clip", "dino") and _look_up(values, f"encoders.{name}") is None:
                    message = f"asks for {name}, and encoders.{name} is null"
                    yield Problem(f"metrics.{metric}.{knob}", message, f"override: encoders.{name}=some/folder")


def _useful_weights(values: Mapping[str, Any]) -> Iterator[Problem]:
    """A parabola takes a third weight, beside 0 and the one that counts."""
    weights, counts = (_look_up(values, key) for key in ("metrics.useful_weight.weights", "sample.weight"))
    asked = set(weights) if isinstance(weights, list) and all(map(_is_number, weights)) else set()
    if any(asked) and not asked - {0, counts}:
        message = f"needs a weight besides 0 and sample.weight, {counts}, got {weights}"
        yield Problem("metrics.useful_weight.weights", message, "e.g. [0.4,1.0]")


def _encoders(values: Mapping[str, Any]) -> Iterator[Problem]:
    for name, needed in _ENCODER_FILES.items():
        path = _look_up(values, f"encoders.{name}")
        if not isinstance(path, str):
            continue
        folder = Path(path).expanduser()
        if not folder.exists():
            yield Problem(f"encoders.{name}", f"no such file: {path!r}", f"looked at {folder.absolute()}")
        for file in needed if folder.exists() else ():
            if not (folder / file).is_file():
                yield Problem(f"encoders.{name}", f"must hold {file}, {path!r} does not", "nothing is downloaded")


def _names_beside(path: Path) -> list[str]:
    return sorted(item.name for item in path.parent.iterdir()) if path.parent.is_dir() else []


def _brakes(values: Mapping[str, Any]) -> Iterator[Problem]:
    brakes = _look_up(values, "regularization")
    if isinstance(brakes, Mapping) and "scale_norm" in brakes and _look_up(values, "adapter.name") == "dora":
        yield Problem(
            "regularization.scale_norm",
            "scale_norm cannot brake dora, whose change is not a product that could be scaled",
            "override: regularization=none, or adapter=lora",
        )


def _blanks(values: Mapping[str, Any]) -> Iterator[Problem]:
    trigger = _look_up(values, "captions.trigger")
    if isinstance(trigger, str) and trigger.strip() not in ("", trigger):
        hint = f"override: captions.trigger={trigger.strip()}"
        yield Problem("captions.trigger", f"must have no blanks around it, got {trigger!r}", hint)


_BETWEEN_KEYS: tuple[Callable[[Mapping[str, Any]], Iterator[Problem]], ...] = (
    _budget,
    _seeds,
    _class_seeds,
    _tiers,
    _sides,
    _texts,
    _folders,
    _calibration,
    _encoders,
    _asked_encoders,
    _useful_weights,
    _brakes,
    _blanks,
)


def _look_up(values: Mapping[str, Any], key: str) -> Any:
    node: Any = values
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every dotted key with a value of its own."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _is_number(value: Any) -> bool:
    """Whether it is a finite number: what is none is told once, by `bind`."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
