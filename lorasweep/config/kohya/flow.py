"""Networks of bases that are trained with flow matching: sd-scripts' of FLUX.1, Anima and Lumina 2, and musubi-tuner's.

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
    "networks.lora_ideogram4": "ideogram4",
}
BASES = {"networks.lora_flux": "flux1_dev", "networks.lora_anima": "anima", "networks.lora_lumina": "lumina2", **MUSUBI}
LYCORIS = ("lycoris.kohya", "lycoris.locon_kohya", "locon.locon_kohya")  # of any base
NO_LYCORIS = "LyCORIS is translated for Stable Diffusion, FLUX.1 and Chroma alone: write a recipe by docs/flags.md"
RENAMED = {"dit": "pretrained_model_name_or_path", "image_directory": "image_dir"}  # musubi-tuner's, sd-scripts'
_MUSUBI_DEFAULTS = {
    **{"bucket_reso_steps": 16, "caption_extension": ".txt", "network_train_unet_only": True},
    "mixed_precision": "bf16",  # of the transformer; of the rest, what accelerate was told
}
_VERSIONS = {"flux2_klein": ("klein-base-4b", "klein-base-9b"), "qwen_image": ("original",)}  # that are bases here
OPTIONS = (
    *("timestep_sampling", "sigmoid_scale", "discrete_flow_shift", "model_prediction_type", "guidance_scale"),
    *("weighting_scheme", "logit_mean", "logit_std", "preserve_distribution_shape"),
)
# The modules that they take.
_WHOLE_BLOCKS = ("flux1_dev", "chroma", "krea2", "lumina2")
TARGETS = {**dict.fromkeys(BASES.values(), "attn-mlp"), **dict.fromkeys(_WHOLE_BLOCKS, "full")}
_FILES = ("ae", "clip_l", "t5xxl", "qwen3", "gemma2", "vae")
_OF_NOISE = (  # of bases that predict noise
    *("min_snr_gamma", "debiased_estimation_loss", "noise_offset", "clip_skip", "max_token_length"),
    *("adaptive_noise_scale", "multires_noise_iterations", "multires_noise_discount"),
)
_NOT_MUSUBIS = ("ip_noise_gamma", "loss_type", "huber_c", "huber_schedule")
_RANGE = ("min_timestep", "max_timestep")  # which musubi-tuner alone reads with flow matching
_SHIFTS = {"flux1_dev": 3.0, "chroma": 3.0, "lumina2": 6.0}  # of discrete_flow_shift where it is not given; else 1
# Of timestep_sampling where it is not given; else the table's.
_SAMPLING = {"anima": "sigmoid", "ideogram4": "ideogram4_shift", "lumina2": "shift"}
_BY_SIZE = ("flux_shift", "flux2_shift", "qwen_shift", "krea2_shift", "ideogram4_shift")  # and nextdit_shift
_LEVELS = {  # which levels
    "sigma": "uniform",
    **dict.fromkeys(("uniform", "nextdit_shift"), "uniform"),
    **dict.fromkeys(("sigmoid", "shift", *_BY_SIZE, "logsnr", "qinglong_flux", "qinglong_qwen"), "logit_normal"),
}
# musubi-tuner's mixtures: the part that stands in for all of it, and the share that it is of
_MIXED = {"qinglong_flux": ("flux_shift", 79), "qinglong_qwen": ("qwen_shift", 95)}
_AS_DRAWN = {
    "flux_shift": "flux1_dev",
    "qwen_shift": "qwen_image",
    "krea2_shift": "krea2",
    "ideogram4_shift": "ideogram4",
}  # exactly as that base is


def base_of(draft: Draft) -> str | None:
    """Name the base of flow matching that a network is for; sd-scripts has one for FLUX.1 and Chroma.

    LyCORIS is for any, of which FLUX.1 and Chroma are told by the text encoder.
    """
    module = draft.take("network_module")
    is_flux = module in LYCORIS and draft.given("t5xxl") and not draft.given("clip_g")  # as Stable Diffusion 3 has
    base = "flux1_dev" if is_flux else BASES.get(module)
    return "chroma" if base == "flux1_dev" and draft.take("model_type") == "chroma" else base


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
    if base == "lumina2":
        there = "there behind system_prompt, which is empty unless it is given"
        draft.differ("network_module", f"captions stand behind the pipeline's own system prompt here; {there}")
    if versions := _VERSIONS.get(base):
        draft.ignore("model_version", f"is base={base}")
        if (asked := draft.take("model_version") or ("dev" if base == "flux2_klein" else versions[0])) not in versions:
            what = f"must be {' or '.join(versions)}, got {asked}, which is not trained here"
            draft.problem("model_version", what, "what is distilled can draw: sample.base")
    for file in _FILES:
        draft.ignore(file, "comes with the base's folder")
    for option in (*_OF_NOISE, *(_NOT_MUSUBIS if base in MUSUBI.values() else _RANGE)):
        draft.ignore(option, "sd-scripts does not read it with this network")
        draft.options.pop(option, None)


def put_levels(draft: Draft, base: str) -> None:
    """Decide the noise levels, and tell what sd-scripts takes where nothing is said."""
    option, shift, scheme = "timestep_sampling", "discrete_flow_shift", draft.take("weighting_scheme")
    asked = draft.take(option) if draft.given(option) else _SAMPLING.get(base) or draft.take(option)
    is_sigma, is_musubi = asked == "sigma", base in MUSUBI.values()
    if asked not in _LEVELS:
        draft.problem(option, f"must be one of {', '.join(_LEVELS)}, got {asked!r}")
        return
    draft.put("noise.levels", _LEVELS[asked], option)
    if asked == "logsnr" or (is_sigma and scheme == "logit_normal"):
        # of log-SNR = -2 logit(level); of the place in a list that begins with pure noise: -logit(level)
        halves = 2 if asked == "logsnr" else 1
        draft.put("noise.levels", "logit_normal", option if asked == "logsnr" else "weighting_scheme")
        draft.put("noise.mean", 0.0 - draft.take("logit_mean") / halves, "logit_mean")
        draft.put("noise.std", draft.take("logit_std") / halves, "logit_std")
    elif _LEVELS[asked] == "logit_normal":
        is_ideogram = asked == "ideogram4_shift"
        scale = option if is_ideogram else "sigmoid_scale"
        draft.put("noise.std", 1.5 if is_ideogram else draft.take(scale), scale)
    if scheme in ("sigma_sqrt", "cosmap") or (is_sigma and scheme == "mode"):
        draft.leave("weighting_scheme", "levels are as noise.levels says, and every one counts the same")
    if asked in _MIXED:
        alike, share = _MIXED[asked]
        draft.leave(option, f"{share} % of the levels are those of {alike}, which stand in for the rest too")
        asked = alike
    if asked == "shift" or (is_sigma and not is_musubi):
        draft.put("noise.shift", draft.take(shift) if draft.given(shift) else _SHIFTS.get(base, 1.0), shift)
    elif asked in (*_BY_SIZE, "nextdit_shift"):
        draft.put("noise.shift", "dynamic", option)
        if _AS_DRAWN.get(asked) != base:
            draft.differ(option, f"levels shift as {base} is drawn; there by another line through the number of tokens")
    else:
        draft.put("noise.shift", 1.0, option)
    draft.ignore(shift, f"is not read with {option}={asked}")
    _put_range(draft, asked, is_sigma=is_sigma)
    for option, there, ours, bases in (
        (
            "model_prediction_type",
            "sigma_scaled",
            "the transformer's own answer is compared, as with raw",
            ("flux1_dev", "chroma"),
        ),
        ("guidance_scale", "3.5", "the transformer is told 1", ("flux1_dev",)),
    ):
        if base in bases:
            if not draft.given(option):
                draft.differ(option, f"sd-scripts takes {there} where it is not given; here {ours}")


def _put_range(draft: Draft, asked: str, *, is_sigma: bool) -> None:
    """Turn round what musubi-tuner counts from pure noise; it squeezes levels into the range, as here, if not told."""
    given = [option for option in _RANGE if draft.given(option)]
    if is_sigma and given:
        draft.put("noise.low", 1 - draft.take("max_timestep") / 1000, "max_timestep")
        draft.put("noise.high", 1 - draft.take("min_timestep") / 1000, "min_timestep")
        draft.differ(given[0], "musubi-tuner counts it from pure noise with timestep_sampling=sigma, and so it is read")
    elif given and draft.take("preserve_distribution_shape"):
        draft.leave("preserve_distribution_shape", "levels are squeezed into the range, not drawn again")
