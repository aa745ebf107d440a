"""The pipeline of diffusers over a base's own modules: what lorasweep's loop over `predict` is held against."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

# What Cosmos takes of torchvision.
_TORCHVISION = SimpleNamespace(
    InterpolationMode=SimpleNamespace(NEAREST="nearest"),
    functional=SimpleNamespace(resize=lambda mask, size, interpolation: mask[..., : size[0], : size[1]]),
)


def pipeline_of(base: Any, sampler: str, *, steps: int = 1) -> Any:
    """The pipeline that `base.reproduction` names, silent, in the base's memory."""
    import diffusers
    from diffusers.models.transformers import transformer_cosmos

    how = base.reproduction(sampler, steps)
    kind = getattr(diffusers, how["pipeline"])
    if how["pipeline"] == "AnimaModularPipeline":
        pipeline = diffusers.AnimaAutoBlocks().init_pipeline()
        words = dict(zip(("tokenizer", "t5_tokenizer"), base.tokenizers, strict=True))
        texts = dict(zip(("text_encoder", "text_conditioner"), base.text_encoders, strict=True))
        transformer = copy.copy(base.denoiser)  # with the padding mask as diffusers would have it
        transformer.register_to_config(concat_padding_mask=True)
        transformer_cosmos.transforms = _TORCHVISION
        parts = {"transformer": transformer, "vae": base.vae, "scheduler": base.noise_schedule}
        pipeline.update_components(**parts, **words, **texts)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline
    scheduler = getattr(diffusers, how["scheduler"]).from_config(how["scheduler_config"])
    tokenizers = dict(zip(("tokenizer", "tokenizer_2"), base.tokenizers, strict=False))
    texts = dict(zip(("text_encoder", "text_encoder_2"), base.text_encoders, strict=False))
    unsafe: dict[str, Any] = {"safety_checker": None, "requires_safety_checker": False, "feature_extractor": None}
    unused = unsafe if how["pipeline"] == "StableDiffusionPipeline" else {}
    pipeline = kind(**{**base.parts, **texts}, **tokenizers, **unused, vae=base.vae, scheduler=scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
