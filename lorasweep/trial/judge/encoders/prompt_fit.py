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

from lorasweep.core.protocols import Base
from lorasweep.core.records import digest
from lorasweep.trial.judge.encoders.frozen_base import FrozenBase, noised, pixels, repeated, whole_frames

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from lorasweep.trial.judge.encoders.local import Clip

# Where prompts make a difference: above, noise hides everything; below, the picture itself says it all.
TIMESTEPS = (300, 500, 700, 850)  # by Stable Diffusion's noise


@dataclass(frozen=True)
class FitByBase:
    """See `protocols.Encoder`; gives "fit" (B, K): minus the squared error of the base's prediction."""

    base: Base
    prompts: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """Of the base and the prompts."""
        return digest(["fit by base", FrozenBase(self.base).fingerprint, TIMESTEPS, self.prompts])

    def encode(self, pictures: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        """Ask every picture at every timestep for every prompt, on noise that all of them share."""
        import torch

        base, count = self.base, len(pictures)
        with torch.no_grad():
            latent_BCHW = base.encode_images(pixels(pictures))[0]
            frames = whole_frames(base, latent_BCHW)
            together = base.encode_captions(self.prompts)
            rows = ({name: tensor[[place]] for name, tensor in together.items()} for place in range(len(self.prompts)))
            texts = [repeated(row, count) for row in rows]
            error_BK = torch.zeros(count, len(self.prompts))
            for timestep in TIMESTEPS:
                noisy_BCHW, t_B, noise_BCHW = noised(base, latent_BCHW, timestep, "fit", timestep)
                target_BCHW = base.path.target(latent_BCHW, noise_BCHW, t_B)
                for place, text in enumerate(texts):
                    said_BCHW = base.predict(noisy_BCHW, t_B, text, frames)
                    error_BK[:, place] += (said_BCHW - target_BCHW).square().flatten(1).mean(1).cpu()
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
