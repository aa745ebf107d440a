"""The pipeline of diffusers over a base's own modules: what lorasweep's loop over `predict` is held against."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from transformers import ProcessorMixin

# What Cosmos takes of torchvision.
_TORCHVISION = SimpleNamespace(
    InterpolationMode=SimpleNamespace(NEAREST="nearest"),
    functional=SimpleNamespace(resize=lambda mask, size, interpolation: mask[..., : size[0], : size[1]]),
)


class Words(ProcessorMixin):  # type: ignore[misc]
    """A tokenizer as the processor of Qwen-Image 2.1, which is shown no pictures."""

    def __init__(self, tokenizer: Any) -> None:
        self._words = tokenizer
        self.tokenizer = SimpleNamespace(encode=lambda text: [-1])  # asked for a picture's place only

    def __call__(self, text: list[str], **how: Any) -> Any:
        """Tokenize."""
        return self._words(text, **how)

    def apply_chat_template(self, messages: Any, **how: Any) -> Any:
        """Tokenize what the system says, as the template of Qwen3-VL tells it."""
        (message,) = messages
        return [self._words(f"<|im_start|>system\n{message['content'][0]['text']}<|im_end|>\n").input_ids]


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
    if "timesteps" in how:
        plan = scheduler.set_timesteps

        def set_timesteps(*args: Any, **rest: Any) -> None:
            plan(*args, **rest)
            scheduler.timesteps = scheduler.sigmas[:-1] * scheduler.config.num_train_timesteps

        scheduler.set_timesteps = set_timesteps
    places = ("", "_2", "_3")
    tokenizers = {f"tokenizer{place}": words for place, words in zip(places, base.tokenizers, strict=False)}
    texts = {f"text_encoder{place}": encoder for place, encoder in zip(places, base.text_encoders, strict=False)}
    if how["pipeline"] == "QwenImage21Pipeline":
        tokenizers = {"processor": Words(base.tokenizers[0])}
    unsafe: dict[str, Any] = {"safety_checker": None, "requires_safety_checker": False, "feature_extractor": None}
    unused = unsafe if how["pipeline"] == "StableDiffusionPipeline" else {}
    if base.unconditional is not None:
        texts["unconditional_transformer"] = base.unconditional
    pipeline = kind(**{**base.parts, **texts}, **tokenizers, **unused, vae=base.vae, scheduler=scheduler)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.vae_scale_factor = base.latent.px  # which not all take from the VAE
    if how["pipeline"] == "ChromaPipeline":  # whose own mask is not one, see `_chroma`
        own = pipeline._prepare_attention_mask
        pipeline._prepare_attention_mask = lambda **mask: own(**mask).bool()
    return pipeline


def both_losses(base: Any, prompts: list[str], frames: Any, weight: Any, example: Callable[..., Any]) -> list[Any]:
    """A training step's loss and its gradient by a weight, ours and by what an example script of diffusers computes.

    Args:
        base: loaded.
        prompts: two captions.
        frames: of two pictures.
        weight: of the denoiser.
        example: the script's answer, of the base to noisy latents at levels (2, 1, 1, 1).

    Returns:
        (loss, gradient), (loss, gradient).
    """
    import torch

    from lorasweep.core.records import NoiseOptions
    from lorasweep.trial.train import loss

    weight.requires_grad_(True)
    width, height = frames[0].size_px
    mean = torch.randn(2, *base.latent.of(width, height), generator=torch.Generator().manual_seed(3))
    std, options = torch.full_like(mean, 0.1), NoiseOptions(levels="logit_normal")
    question = loss.make_noisy_batch(mean, std, base.path, generator=torch.Generator().manual_seed(5), options=options)
    answer = base.predict(question.noisy_BCHW, question.t_B, base.encode_captions(prompts), frames)
    ours = loss.weighted_loss(answer, question, base.path, options=NoiseOptions())

    again = torch.Generator().manual_seed(5)
    model_input = mean + std * torch.randn(mean.shape, generator=again)
    drawn = torch.randn(mean.shape, generator=again)
    sigmas = torch.sigmoid(torch.randn(2, generator=again))[:, None, None, None]
    answer = example(base, (1.0 - sigmas) * model_input + sigmas * drawn, sigmas)
    theirs = ((answer - (drawn - model_input)) ** 2).reshape(2, -1).mean(1).mean()
    return [(each.item(), *torch.autograd.grad(each, weight)) for each in (ours, theirs)]


def flux_example(
    base: Any, noisy: Any, sigmas: Any, prompts: list[str], *, tokens: int, size: tuple[int, int], guidance: Any = None
) -> Any:
    """What FLUX.1's example script makes of noise: prompts of at most so many tokens, (width, height) in pixels."""
    width, height = size
    pipeline = pipeline_of(base, "euler")
    embeds, pooled, text_ids = pipeline.encode_prompt(prompts, prompts, max_sequence_length=tokens)
    packed = base.denoiser(
        hidden_states=pipeline._pack_latents(noisy, *noisy.shape),
        timestep=(sigmas.flatten() * 1000) / 1000,
        guidance=guidance,
        pooled_projections=pooled,
        encoder_hidden_states=embeds,
        txt_ids=text_ids,
        img_ids=pipeline._prepare_latent_image_ids(2, height // 8, width // 8, "cpu", noisy.dtype),
        return_dict=False,
    )[0]
    return pipeline._unpack_latents(packed, height, width, pipeline.vae_scale_factor)
