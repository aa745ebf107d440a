"""The pipeline of diffusers over a base's own modules: what lorasweep's loop over `predict` is held against."""

from __future__ import annotations

from typing import Any


def pipeline_of(base: Any, sampler: str, *, steps: int = 1) -> Any:
    """The pipeline that `base.reproduction` names, silent, in the base's memory."""
    import diffusers

    how = base.reproduction(sampler, steps)
    kind = getattr(diffusers, how["pipeline"])
    scheduler = getattr(diffusers, how["scheduler"]).from_config(how["scheduler_config"])
    tokenizers = dict(zip(("tokenizer", "tokenizer_2"), base.tokenizers, strict=False))
    texts = dict(zip(("text_encoder", "text_encoder_2"), base.text_encoders, strict=False))
    unsafe: dict[str, Any] = {"safety_checker": None, "requires_safety_checker": False, "feature_extractor": None}
    unused = unsafe if len(tokenizers) == 1 else {}
    pipeline = kind(**{**base.parts, **texts}, **tokenizers, **unused, vae=base.vae, scheduler=scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
