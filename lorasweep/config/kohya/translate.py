"""Translate kohya's files into a recipe that composes, whatever is in them."""

from __future__ import annotations

import math
from pathlib import Path

from lorasweep.components import bases
from lorasweep.components.buckets.kohya import resolutions
from lorasweep.config.importing.draft import Draft, Note
from lorasweep.config.importing.finish import Link
from lorasweep.config.importing.images import Given, read_sides
from lorasweep.config.importing.parts import put_loss, put_path, put_seed
from lorasweep.config.kohya import flow, sample_prompts
from lorasweep.config.kohya.images import regularization_folder, translate_images
from lorasweep.config.kohya.network import finish_network, translate_network
from lorasweep.config.kohya.schedule import translate_optimizer, translate_schedule

_SIDES_WRITTEN_FOR_PX = 512  # bucket sides in a recipe are written for this resolution and scale with the base
_COARSER = "multires_noise_iterations"
_MUSUBI_PX = (960, 544)  # where it is not told
_TRAINED = "Stable Diffusion 1.x, 2.x or XL, FLUX.1 or Anima, or musubi-tuner's"
_PRECISIONS = {"no": "fp32", "fp16": "fp16", "bf16": "bf16"}


def translate(draft: Draft, given: Given, *, link_into: Path | None) -> list[Link]:
    """Decide all keys that are not one option each."""
    _base(draft)
    _take_rates(draft)
    links = translate_images(draft, given, link_into=link_into)
    _buckets(draft)
    translate_network(draft)
    is_scheduled = translate_optimizer(draft)
    finish_network(draft)
    _budget(draft)
    translate_schedule(draft, steps=draft.lines["train.max_steps"].value, is_scheduled=is_scheduled)
    _noise(draft)
    _brakes(draft, regularization_folder(draft, given))
    _precision(draft)
    sample_prompts.translate(draft, given.pictures)
    return links


def _take_rates(draft: Draft) -> None:
    """Take a list of rates, which sd-scripts has for bases with several text encoders."""
    rates = draft.options.get("text_encoder_lr")
    if isinstance(rates, list):
        if any(rate != rates[0] for rate in rates) and draft.lines["base"].value == "sdxl":
            hint = f"for one each, optimizer.text_encoder_lr=[{rates[0]},{rates[1]}]"
            draft.differ("text_encoder_lr", f"both text encoders get the first, as sd-scripts has it for SDXL; {hint}")
        elif len(rates) > 1:
            draft.left_out.append(Note("text_encoder_lr", rates, "the first rate is of the one text encoder"))
        draft.options["text_encoder_lr"] = rates[0] if rates else None


def _base(draft: Draft) -> None:
    if base := flow.base_of(draft):
        flow.put_base(draft, base)
    else:
        _stable_diffusion(draft)
    for option in ("fp8_base", "fp8_base_unet", "fp8_scaled"):
        if draft.take(option):
            draft.put("memory.storage", "fp8", option)
    draft.put("noise.low", draft.take("min_timestep") / 1000, "min_timestep")
    draft.put("noise.high", draft.take("max_timestep") / 1000, "max_timestep")
    if base:
        flow.put_levels(draft, base)


def _stable_diffusion(draft: Draft) -> None:
    option = "pretrained_model_name_or_path"
    said = "sdxl" if draft.take("sdxl") else "model_train_type"
    is_sdxl = said == "sdxl" or draft.take(said) == "sdxl-lora"
    path = draft.take(option)
    found = bases.detect(Path(path).expanduser()) if path else None
    is_told = is_sdxl or found or draft.given(draft.first("sdxl", "model_train_type", "ss_base_model_version"))
    caches = str(draft.options.get("cache_text_encoder_outputs")).lower() in ("true", "1")  # of SDXL's trainer alone
    kind = "sdxl" if is_sdxl or (caches and not is_told) else found or "stable_diffusion"
    draft.put("base", kind, said if is_sdxl else option, given=True)
    put_path(draft, option)
    if not is_told and caches:
        draft.differ(option, "is not here: taken for an SDXL, whose trainer alone has cache_text_encoder_outputs")
    elif not is_told:
        draft.differ(option, "is not here, and nothing says which base it is: for an SDXL, give base=sdxl")
    if draft.take("v_parameterization"):
        draft.put("base.prediction_type", "v_prediction", "v_parameterization")
    draft.ignore("v_parameterization", "what the base predicts is read from its own files")
    if draft.take("zero_terminal_snr"):
        draft.put("base.zero_terminal_snr", True, "zero_terminal_snr")
    draft.ignore("zero_terminal_snr", "the noise schedule is as the base's own files say")
    if kind == "sdxl":
        draft.ignore("clip_skip", "SDXL is always read at the last layer but one, by sd-scripts too")
    else:
        draft.put("base.clip_skip", draft.take("clip_skip"), "clip_skip")
    tokens = draft.options.get("max_token_length") or 75
    draft.differ("max_token_length", f"sd-scripts cuts captions after {tokens} tokens; here they are read whole")
    for option in flow.OPTIONS:
        draft.ignore(option, "is of flow matching")
    is_lycoris = draft.take("network_module") in flow.LYCORIS
    for other, base in draft.table.more["other_bases"].items():
        if draft.given(other):
            what = f"is of a training of {base}, must be of a base that is here: {_TRAINED}"
            hint = flow.NO_LYCORIS if is_lycoris else "of FLUX.1 and Anima, network_module says so"
            draft.problem(other, what, hint)


def _buckets(draft: Draft) -> None:
    width, height = _resolution(draft)
    has_buckets, step = draft.take("enable_bucket"), draft.take("bucket_reso_steps")
    low, high = draft.take("min_bucket_reso"), draft.take("max_bucket_reso")
    upscale = not draft.take("bucket_no_upscale")
    is_square = width == height
    if draft.table.label == "musubi-tuner":  # half of a square's side, and what is left of the area then
        low, high = math.isqrt(width * height) // 2, 2 * math.isqrt(width * height)
    # Bucket sides scale with the base's resolution: for sides that are no square's, write them for 512.
    draft.put("base.resolution", width if is_square else _SIDES_WRITTEN_FOR_PX, "resolution")
    draft.put("base.bucket_step", step if has_buckets else math.gcd(64, width, height), "bucket_reso_steps")
    draft.put("buckets", "kohya" if has_buckets and is_square else "single", "enable_bucket")
    if has_buckets and is_square:
        draft.put("buckets.min_side", math.ceil(low * _SIDES_WRITTEN_FOR_PX / width), "min_bucket_reso")
        draft.put("buckets.max_side", math.floor(high * _SIDES_WRITTEN_FOR_PX / width), "max_bucket_reso")
    elif not is_square:
        sizes = [[width, height]]
        if has_buckets:
            found = resolutions(width * height, low // step * step, -(-high // step) * step, step)
            sizes = [[bucket.width_px, bucket.height_px] for bucket in found]
        draft.put("buckets.sizes", sizes, "resolution")
        reason = "pictures are drawn at 512 x 512, unless sample.width and sample.height say otherwise"
        draft.differ("resolution", reason, f"{width},{height}")
    if has_buckets and not upscale and not is_square:
        draft.leave("bucket_no_upscale", "without enlarging, the area must be a square's, e.g. 512 x 512")
    else:
        draft.put("buckets.upscale", upscale or not has_buckets, "bucket_no_upscale")


def _resolution(draft: Draft) -> tuple[int, int]:
    """Return width and height in px: one side, `width,height`, or a list of the two."""
    if not draft.given("resolution"):
        if draft.table.label == "musubi-tuner":
            return _MUSUBI_PX
        draft.leave("resolution", "is not given, and sd-scripts needs it: 512 is taken")
        return 512, 512
    value = draft.options["resolution"]
    sides = read_sides(draft, "resolution", value, least=1) or [512]
    if len(sides) > 2:
        draft.problem("resolution", f"must be one side, or width,height, got {value!r}")
    return sides[0], sides[-1]


def _budget(draft: Draft) -> None:
    """Decide steps, batches and seed: epochs win over steps, and a dataset's own batch over the training's."""
    if draft.given("max_train_epochs"):
        draft.put("train.epochs", draft.take("max_train_epochs"), "max_train_epochs")
        draft.put("train.max_steps", None, "max_train_epochs")
        draft.ignore("max_train_steps", "max_train_epochs takes its place, as in sd-scripts")
    else:
        draft.put("train.max_steps", draft.take("max_train_steps"), "max_train_steps")
    batch = draft.first("batch_size", "train_batch_size")
    draft.put("train.batch_size", draft.take(batch), batch)
    put_seed(draft)


def _precision(draft: Draft) -> None:
    asked = draft.take("mixed_precision")
    if asked not in _PRECISIONS:
        draft.problem("mixed_precision", f"must be one of {', '.join(_PRECISIONS)}, got {asked!r}")
    draft.put("train.precision", _PRECISIONS.get(asked, "fp32"), "mixed_precision")
    if not draft.given("mixed_precision") and draft.table.label == "musubi-tuner":
        draft.differ("mixed_precision", "there accelerate's own counts where it is not given; bf16 is taken")
    elif asked in ("fp16", "bf16"):
        reason = "the frozen base is held in it, and adapters train in fp32; there, fp32 weights are autocast"
        draft.differ("mixed_precision", reason)


def _noise(draft: Draft) -> None:
    """Decide what is read only beside another option, and the loss."""
    for option, beside in (("adaptive_noise_scale", "noise_offset"), ("multires_noise_discount", _COARSER)):
        if draft.take(beside):
            draft.put(draft.table.translated[option].keys[0], draft.take(option) or 0.0, option)
        draft.ignore(option, f"is only read with {beside}")
    put_loss(draft)


def _brakes(draft: Draft, folder: str | None) -> None:
    if draft.take("min_snr_gamma") and draft.take("debiased_estimation_loss"):
        draft.leave("debiased_estimation_loss", "levels are weighed in one way: min_snr_gamma's")
        del draft.options["debiased_estimation_loss"]
    limit, weight = draft.take("scale_weight_norms"), draft.take("prior_loss_weight")
    names = [name for name, on in (("scale_norm", limit), ("reg_images", folder)) if on]
    if names:
        draft.put("regularization", names, "scale_weight_norms" if limit else "reg_data_dir", given=True)
    if limit:
        draft.put("regularization.scale_norm.max_norm", limit, "scale_weight_norms")
    if folder:
        draft.put("regularization.reg_images.path", folder, "reg_data_dir", given=True)
        draft.put("regularization.reg_images.prior_loss_weight", weight, "prior_loss_weight")
        draft.put("regularization.reg_images.share", 1.0, "reg_data_dir", given=True)
    else:
        draft.ignore("prior_loss_weight", "there are no regularization images")
