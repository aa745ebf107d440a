"""sd-scripts' networks of bases that are trained with flow matching: FLUX.1 and Anima."""

from __future__ import annotations

from lorasweep.config.bind import TO_BE_GIVEN
from lorasweep.config.importing.draft import Draft

BASES = {"networks.lora_flux": "flux1_dev", "networks.lora_anima": "anima"}
OPTIONS = ("timestep_sampling", "sigmoid_scale", "discrete_flow_shift", "model_prediction_type", "guidance_scale")
TARGETS = {"flux1_dev": "full", "anima": "attn-mlp"}  # the modules that sd-scripts takes
_FILES = ("ae", "clip_l", "t5xxl", "qwen3", "vae")
_OF_NOISE = ("min_snr_gamma", "debiased_estimation_loss", "noise_offset", "clip_skip")  # of bases that predict noise
_SHIFTS = {"flux1_dev": 3.0, "anima": 1.0}  # of discrete_flow_shift where it is not given
_LEVELS = {  # which levels, and whether discrete_flow_shift moves them
    "sigma": ("uniform", True),
    "uniform": ("uniform", False),
    "sigmoid": ("logit_normal", False),
    "shift": ("logit_normal", True),
    "flux_shift": ("logit_normal", False),
}


def put_base(draft: Draft, base: str) -> None:
    """Decide the base: the denoiser's file goes beside a folder that has the rest."""
    option = "pretrained_model_name_or_path"
    draft.put("base", base, "network_module")
    draft.put("base.path", TO_BE_GIVEN, option)
    draft.leave(option, "give base.path=the base's folder in diffusers' format; base.weights is this file")
    if (weights := draft.take(option)) and weights.endswith(".safetensors"):
        draft.put("base.weights", weights, option)
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
        draft.put("noise.shift", draft.take(shift) if draft.given(shift) else _SHIFTS[base], shift)
    elif asked == "flux_shift":
        draft.put("noise.shift", "dynamic", option)
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
