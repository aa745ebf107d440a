"""Loaded bases with a UNet: Stable Diffusion 1.x, 2.x and XL.

B batch, C latent channels (4), H W latent height and width, L tokens (77, and 75 more per further chunk), D text
width (768 for SD 1.x, 2048 for XL).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from lorasweep.components.bases._loaded import LoadedBase
from lorasweep.components.bases._paths import VP
from lorasweep.core.protocols import Text
from lorasweep.core.records import Frame

_NOISED_BY = (  # of a scheduler's config; what else stands there is how others draw
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
    "rescale_betas_zero_snr",
)


class StableDiffusionBase(LoadedBase):
    """Stable Diffusion 1.x and 2.x; XL goes on from it."""

    path: VP

    @property
    def unet(self) -> Any:
        """The denoiser."""
        return self.parts["unet"]

    def encode_captions(self, captions: Sequence[str]) -> Text:
        """Encode captions to "embeds" (B, L, D), all in as many chunks as the longest needs.

        Gradients flow when a text encoder holds trainable weights and the caller has not switched them off.
        """
        return {"embeds": self._read(0, captions)[0]}

    def chunks(self, caption: str) -> int:
        """Count the pieces of 75 tokens in which a caption is read, at least 1."""
        return max(len(_pieces(tokenizer, caption)) for tokenizer in self.tokenizers)

    def stack(self, rows: Sequence[Text], empty: Text) -> Text:
        """Put captions together; shorter ones go on with chunks of "", as all chunks of one batch would."""
        longest = max(row["embeds"].shape[0] for row in rows)

        def padded(embeds_LD: torch.Tensor) -> torch.Tensor:
            if len(embeds_LD) == longest:
                return embeds_LD
            inner_LD, end_LD = empty["embeds"][1:-1], empty["embeds"][-1:]
            more = (longest - len(embeds_LD)) // len(inner_LD)
            return torch.cat([embeds_LD[:-1], *[inner_LD] * more, end_LD])

        stacked = {name: torch.stack([row[name] for row in rows]) for name in rows[0] if name != "embeds"}
        return {"embeds": torch.stack([padded(row["embeds"]) for row in rows]), **stacked}

    def _answer(self, noisy_BCHW: torch.Tensor, t_B: torch.Tensor, text: Text, frames: Sequence[Frame]) -> torch.Tensor:
        answer_BCHW: torch.Tensor = self.unet(
            noisy_BCHW.to(self.device, self.dtype),
            t_B.to(self.device),
            encoder_hidden_states=text["embeds"].to(self.device, self.dtype),
            added_cond_kwargs=self._added(text, frames),
            return_dict=False,
        )[0]
        return answer_BCHW.float()

    def _path(self) -> VP:
        return VP(self.noise_schedule.alphas_cumprod.to(self.device), self.noise_schedule.config.prediction_type)

    def _middle(self) -> torch.nn.Module:
        """Return the middle up block.

        Source: Tang et al., "Emergent correspondence from image diffusion" (arXiv 2306.03881), which reads up block
        1 of SD 1.x's four.
        """
        blocks = self.unet.up_blocks
        return blocks[(len(blocks) - 1) // 2]

    def _feature_map(self, output: torch.Tensor, noisy_BCHW: torch.Tensor) -> torch.Tensor:
        return output

    def _added(self, text: Text, frames: Sequence[Frame]) -> Mapping[str, torch.Tensor] | None:
        """Return what the UNet is told beside caption and timestep."""
        return None

    def _hidden(self, encoder: Any, ids_BL: torch.Tensor, mask_BL: torch.Tensor | None) -> tuple[torch.Tensor, Any]:
        """Return the hidden states (B, L, D) by which the UNet was trained, and all that the encoder says.

        `clip_skip` 1 takes the last hidden state, 2 the one before, always through the final layer norm.

        Source: kohya-ss/sd-scripts, library/train_util.py, get_hidden_states, which counts `clip_skip` alike.
        """
        if self.clip_skip == 1:
            output = encoder(ids_BL, attention_mask=mask_BL)
            return output.last_hidden_state, output
        output = encoder(ids_BL, attention_mask=mask_BL, output_hidden_states=True)
        return encoder.final_layer_norm(output.hidden_states[-self.clip_skip]), output

    def _read(self, place: int, captions: Sequence[str]) -> tuple[torch.Tensor, Any]:
        """Read captions with one of the text encoders; (B, L, D), and what it said of every chunk.

        A caption is read in chunks of 75 tokens, each between the marks of start and end; of the marks only the
        first and the last are kept.

        Source: kohya-ss/sd-scripts, library/train_util.py, `max_token_length` 150 and 225.
        """
        tokenizer, encoder = self.tokenizers[place], self.text_encoders[place]
        count = max(self.chunks(caption) for caption in captions)
        length = tokenizer.model_max_length
        rows = []
        for caption in captions:
            pieces = _pieces(tokenizer, caption)
            pieces = (*pieces, *[()] * (count - len(pieces)))
            rows += [[tokenizer.bos_token_id, *piece, tokenizer.eos_token_id] for piece in pieces]
        ids_BL = torch.tensor([row + [tokenizer.pad_token_id] * (length - len(row)) for row in rows])
        mask_BL = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])
        # Most were trained attending to their padding; only configs that say so mask it.
        masked = getattr(encoder.config, "use_attention_mask", False)
        encoder.to(self.device)
        hidden_BLD, said = self._hidden(encoder, ids_BL.to(self.device), mask_BL.to(self.device) if masked else None)
        if self.memory.offload_text_encoders:
            encoder.to("cpu")
        if count == 1:
            return hidden_BLD, said
        chunks = hidden_BLD.unflatten(0, (-1, count))
        inner_BLD = chunks[:, :, 1:-1].flatten(1, 2)
        return torch.cat([chunks[:, 0, :1], inner_BLD, chunks[:, -1, -1:]], dim=1), said

    def _scheduler(self, sampler: str) -> Any:
        """Return diffusers' scheduler that steps as `path.sampling` does."""
        import diffusers

        config = {key: self.noise_schedule.config[key] for key in _NOISED_BY}
        config |= {"steps_offset": 1, "timestep_spacing": "leading"}
        if self.path.zero_terminal_snr and self.path.prediction == "v_prediction":
            config["timestep_spacing"] = "trailing"
        if sampler == "ddim":
            # Clipping predicted samples to [-1, 1] is for pixels; latents reach further.
            return diffusers.DDIMScheduler.from_config(config, clip_sample=False, set_alpha_to_one=False)
        if sampler == "euler":
            return diffusers.EulerDiscreteScheduler.from_config(config)
        return diffusers.DPMSolverMultistepScheduler.from_config(config, algorithm_type="dpmsolver++", solver_order=2)


class StableDiffusionXLBase(StableDiffusionBase):
    """XL: two text encoders, and a UNet that is told where each picture comes from.

    Source: Podell et al., "SDXL" (2023), sections 2.2 and 2.3.
    """

    def encode_captions(self, captions: Sequence[str]) -> Text:
        """Encode captions to "embeds" (B, L, 2048), of both encoders side by side, and "pooled" (B, 1280).

        Pooled is the second's projection of a caption's first chunk. "" is encoded like any other text, as UIs do.
        """
        left_BLD, _ = self._read(0, captions)
        right_BLD, said = self._read(1, captions)
        chunks = len(said.text_embeds) // len(captions)
        return {"embeds": torch.cat([left_BLD, right_BLD], dim=-1), "pooled": said.text_embeds[::chunks]}

    def _hidden(self, encoder: Any, ids_BL: torch.Tensor, mask_BL: torch.Tensor | None) -> tuple[torch.Tensor, Any]:
        """Return the last layer but one, without the final layer norm."""
        output = encoder(ids_BL, attention_mask=mask_BL, output_hidden_states=True)
        return output.hidden_states[-2], output

    def _added(self, text: Text, frames: Sequence[Frame]) -> Mapping[str, torch.Tensor]:
        """Return pooled text and each picture's six numbers: original size, crop, target size, height or top first."""
        six = [[px for pair in (f.original_px, f.crop_px, f.size_px) for px in reversed(pair)] for f in frames]
        time_ids = torch.tensor(six, dtype=torch.float32)  # bf16 has no 1001
        return {
            "text_embeds": text["pooled"].to(self.device, self.dtype),
            "time_ids": time_ids.to(self.device, non_blocking=True),
        }


@functools.lru_cache(maxsize=20_000)
def _pieces(tokenizer: Any, caption: str) -> tuple[tuple[int, ...], ...]:
    """Cut the token ids of a caption into chunks; one empty chunk for ""."""
    ids = tuple(tokenizer(caption, add_special_tokens=False, verbose=False).input_ids)
    size = tokenizer.model_max_length - 2
    return tuple(ids[start : start + size] for start in range(0, len(ids), size)) or ((),)
