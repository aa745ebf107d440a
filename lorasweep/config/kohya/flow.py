"""Networks of bases that are trained with flow matching: sd-scripts' of FLUX.1 and Anima, and musubi-tuner's.

musubi-tuner is of sd-scripts' author, and its options mean the same; what it takes where nothing is said differs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from lorasweep.config.bind import TO_BE_GIVEN
from lorasweep.config.importing.draft import Draft, Table
from lorasweep.config.kohya.options import TABLE

MUSUBI = {
    "networks.lora_qwen_image": "qwen_image",
    "networks.lora_zimage": "z_image",
    "networks.lora_flux_2": "flux2_klein",
    "networks.lora_krea2": "krea2",
}
BASES = {"networks.lora_flux": "flux1_dev", "networks.lora_anima": "anima", **MUSUBI}
RENAMED = {"dit": "pretrained_model_name_or_path", "image_directory": "image_dir"}  # musubi-tuner's, sd-scripts'
_MUSUBI_DEFAULTS = {"bucket_reso_steps": 16, "caption_extension": ".txt", "network_train_unet_only": True}
_VERSIONS = {"flux2_klein": ("klein-base-4b", "klein-base-9b"), "qwen_image": ("original",)}  # that are bases here
OPTIONS = ("timestep_sampling", "sigmoid_scale", "discrete_flow_shift", "model_prediction_type", "guidance_scale")
# The modules that they take.
TARGETS = {**dict.fromkeys(BASES.values(), "attn-mlp"), "flux1_dev": "full", "krea2": "full"}
_FILES = ("ae", "clip_l", "t5xxl", "qwen3", "vae")
_OF_NOISE = ("min_snr_gamma", "debiased_estimation_loss", "noise_offset", "clip_skip")  # of bases that predict noise
_SHIFTS = {"flux1_dev": 3.0}  # of discrete_flow_shift where it is not given; else 1
_LEVELS = {  # which levels, and whether discrete_flow_shift moves them
    "sigma": ("uniform", True),
    "uniform": ("uniform", False),
    "sigmoid": ("logit_normal", False),
    "shift": ("logit_normal", True),
    **dict.fromkeys(("flux_shift", "flux2_shift", "qwen_shift", "krea2_shift"), ("logit_normal", False)),
}
_AS_DRAWN = {"flux_shift": "flux1_dev", "qwen_shift": "qwen_image", "krea2_shift": "krea2"}  # exactly as that base is


def is_musubi(options: Mapping[str, Any], names: Mapping[str, str]) -> bool:
    """Tell whether options, by what the file calls some of them, are of musubi-tuner."""
    return str(options.get("network_module")) in MUSUBI or names.get(RENAMED["dit"]) == "dit"


def table_of(options: Mapping[str, Any], names: Mapping[str, str]) -> Table:
    """Tell what becomes of options: sd-scripts' table, with musubi-tuner's own defaults where they are its."""
    if not is_musubi(options, names):
        return TABLE
    rows = {name: dataclasses.replace(TABLE.translated[name], default=to) for name, to in _MUSUBI_DEFAULTS.items()}
    translated = {**TABLE.translated, **rows}
    return dataclasses.replace(TABLE, trainer="musubi-tuner", label="musubi-tuner", translated=translated)


def put_base(draft: Draft, base: str) -> None:
    """Decide the base: the denoiser's file goes beside a folder that has the rest."""
    option = "pretrained_model_name_or_path"
    draft.put("base", base, "network_module")
    draft.put("base.path", TO_BE_GIVEN, option)
    draft.leave(option, "give base.path=the base's folder in diffusers' format; base.weights is this file")
    if (weights := draft.take(option)) and weights.endswith(".safetensors"):
        draft.put("base.weights", weights, option)
    if versions := _VERSIONS.get(base):
        draft.ignore("model_version", f"is base={base}")
        if (asked := draft.take("model_version") or ("dev" if base == "flux2_klein" else versions[0])) not in versions:
            what = f"must be {' or '.join(versions)}, got {asked}, which is not trained here"
            draft.problem("model_version", what, "what is distilled can draw: sample.base")
    for file in _FILES:
        draft.ignore(file, "comes with the base's folder")
    for option in _OF_NOISE:
        draft.ignore(option, "sd-scripts does not read it with this network")
        draft.options.pop(option, None)


def put_levels(draft: Draft, base: str) -> None:
    """Decide the noise levels, and tell what sd-scripts takes where nothing is said."""
    option, shift = "timestep_sampling", "discrete_flow_shift"
    asked = draft.take(option)
    if asked not in _LEVELS:
        draft.problem(option, f"must be one of {', '.join(_LEVELS)}, got {asked!r}")
        return
    levels, is_shifted = _LEVELS[asked]
    draft.put("noise.levels", levels, option)
    if levels == "logit_normal":
        draft.put("noise.std", draft.take("sigmoid_scale"), "sigmoid_scale")
    if is_shifted:
        draft.put("noise.shift", draft.take(shift) if draft.given(shift) else _SHIFTS.get(base, 1.0), shift)
    elif asked.endswith("_shift"):
        draft.put("noise.shift", "dynamic", option)
        if _AS_DRAWN.get(asked) != base:
            draft.differ(option, f"levels shift as {base} is drawn; there by another line through the number of tokens")
    draft.ignore(shift, f"is not read with {option}={asked}")
    if asked == "sigma" and draft.options.get("weighting_scheme") not in (None, "", "none", "uniform"):
        draft.leave("weighting_scheme", "levels are as noise.levels says, and every one counts the same")
    if base == "flux1_dev":
        for option, there, ours in (
            ("model_prediction_type", "sigma_scaled", "the transformer's own answer is compared, as with raw"),
            ("guidance_scale", "3.5", "the transformer is told 1"),
        ):
            if not draft.given(option):
                draft.differ(option, f"sd-scripts takes {there} where it is not given; here {ours}")
