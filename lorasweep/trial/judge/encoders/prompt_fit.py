"""How well does a picture fit each of some prompts? By the frozen base, or by CLIP.

Takes prompts once and pictures, gives one number per picture and prompt, higher for a better fit; only the
order of one picture's numbers means anything.

Source: for the base, the diffusion classifier of Li et al. (arXiv 2303.16203): the prompt under which the
noise is predicted best; for CLIP, the cosine that DreamBooth calls CLIP-T.

Letters: B pictures, K prompts, C H W latent, D numbers of an embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorasweep.core import seeds
from lorasweep.core.records import digest
from lorasweep.trial.judge.encoders.frozen_base import pixels

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from lorasweep.core.protocols import Base
    from lorasweep.trial.judge.encoders.local import Clip

# Where prompts make a difference: above, noise hides everything; below, the picture itself says it all.
TIMESTEP_SHARES = (0.3, 0.5, 0.7, 0.85)


@dataclass(frozen=True)
class FitByBase:
    """See `protocols.Encoder`; gives "fit" (B, K): minus the squared error of the base's prediction."""

    base: Base
    prompts: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """Of the base and the prompts."""
        base = self.base
        where = [base.fingerprint, base.text_fingerprint, str(base.dtype), TIMESTEP_SHARES]
        return digest(["fit by base", where, self.prompts])

    def encode(self, pictures: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        """Ask every picture at every timestep for every prompt, on noise that all of them share."""
        import torch

        base, schedule = self.base, self.base.noise_schedule
        with torch.no_grad():
            latent_BCHW = base.encode_images(pixels(pictures))[0]
            texts = base.encode_captions(list(self.prompts)).to(base.dtype)
            error_BK = torch.zeros(len(pictures), len(self.prompts))
            for share in TIMESTEP_SHARES:
                t = int(share * schedule.config.num_train_timesteps)
                timestep_B = torch.full((len(pictures),), t, device=base.device)
                generator = torch.Generator("cpu").manual_seed(seeds.derive(0, "fit", t))
                noise_CHW = torch.randn(latent_BCHW.shape[1:], generator=generator).to(latent_BCHW)
                noise_BCHW = noise_CHW.expand_as(latent_BCHW)
                noisy_BCHW = schedule.add_noise(latent_BCHW, noise_BCHW, timestep_B)
                target_BCHW = noise_BCHW
                if schedule.config.prediction_type == "v_prediction":
                    target_BCHW = schedule.get_velocity(latent_BCHW, noise_BCHW, timestep_B)
                for place, text_LD in enumerate(texts):
                    said = base.unet(
                        noisy_BCHW.to(base.dtype),
                        timestep_B,
                        encoder_hidden_states=text_LD.expand(len(pictures), -1, -1),
                    ).sample
                    error_BK[:, place] += (said.float() - target_BCHW).square().flatten(1).mean(1).cpu()
        return {"fit": -error_BK}


@dataclass(frozen=True)
class FitByClip:
    """See `protocols.Encoder`; gives "fit" (B, K): cosine of picture and prompt."""

    clip: Clip
    prompts: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """Of the model and the prompts."""
        return digest(["fit by clip", self.clip.fingerprint, self.prompts])

    def encode(self, pictures: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        """Hold every picture against every prompt."""
        import torch

        picture_BD = torch.nn.functional.normalize(self.clip.encode(pictures)["whole"], dim=-1)
        prompt_KD = torch.nn.functional.normalize(self.clip.encode_texts(self.prompts), dim=-1)
        return {"fit": picture_BD @ prompt_KD.T}
