"""Three controls that need no training: the bare base, a random adapter, a copier. Judged as any adapter.

    base     a LoRA as it is built: its second factor is zero, so it changes nothing
    random   the same with the second factor drawn at random, as large as that of a trained LoRA
    copier   a denoiser that knows nothing but the training images: the exact minimiser of the training loss

The copier's answer is E[noise | x_t] under the empirical distribution of the training latents,

    x0(x_t) = sum over i of softmax_i(-||x_t - alpha_t x_i||^2 / (2 sigma_t^2)) x_i

and what the base's noise path asks for by its algebra. Source: Karras et al. (arXiv 2206.00364, appendix B.3), "ideal
denoiser"; what diffusion models converge to when they memorise.

Letters: B rows, C channels, H W latent size, N training images.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file

from lorasweep.components.adapters import lora
from lorasweep.core import seeds
from lorasweep.core.protocols import Base, NoisePath
from lorasweep.core.records import Plan, Recipe
from lorasweep.core.run_folder import EVENTS_FILE
from lorasweep.trial.cache import LatentCache
from lorasweep.trial.resources import TrialResources
from lorasweep.trial.run import Report, TrialRun


class Copier:
    """Stands in for an adapter: at any weight but 0 the base answers as a copier of images of one size does."""

    def __init__(self, base: Base, latent_NCHW: torch.Tensor) -> None:
        self._base, self._latent_NCHW = base, latent_NCHW
        self._predict, self._awake = base.predict, False
        base.predict = self._answer  # type: ignore[method-assign,assignment]

    def set_weight(self, weight: float) -> None:
        """0 is the base exactly; everything else copies."""
        self._awake = weight != 0

    def parameters(self) -> dict[str, list[torch.nn.Parameter]]:
        """Nothing is trained."""
        return {next(iter(self._base.parts)): []}

    def remove(self) -> None:
        """Give the base its own answers back."""
        del self._base.predict

    def _answer(self, noisy_BCHW: torch.Tensor, t_B: torch.Tensor, *rest: Any) -> torch.Tensor:
        if not self._awake:
            return self._predict(noisy_BCHW, t_B, *rest)
        return ideal(noisy_BCHW, t_B, self._latent_NCHW, self._base.path)


def ideal(noisy_BCHW: torch.Tensor, t_B: torch.Tensor, latent_NCHW: torch.Tensor, path: NoisePath) -> torch.Tensor:
    """The ideal denoiser of a finite training set; (B, C, H, W), what `path.target` asks for."""
    alpha_B, sigma_B = path.scales(t_B)
    alpha, sigma = alpha_B[:, None, None, None], sigma_B[:, None, None, None]
    gaps_BN = (noisy_BCHW[:, None] - alpha[:, None] * latent_NCHW[None]).square().flatten(2).sum(2)
    shares_BN = (-gaps_BN / (2 * sigma_B[:, None] ** 2)).softmax(dim=1)
    clean_BCHW = torch.einsum("bn,nchw->bchw", shares_BN, latent_NCHW)
    return path.target(clean_BCHW, (noisy_BCHW - alpha * clean_BCHW) / sigma, t_B)


def judge(
    kind: str, recipe: Recipe, planned: Plan, folder: Path, resources: TrialResources, *, report: Report, like: Path
) -> None:
    """Plant a control into the base, judge it in `folder` as a run's only rung, at step 0, and take it out.

    The random adapter takes the norms of the file `like`, layer by layer.
    """
    (folder / EVENTS_FILE).unlink(missing_ok=True)  # of a call that was cut short
    run = TrialRun(recipe, planned, folder, resources, report)
    adapter = _plant(kind, run.base, recipe, planned, resources.caches(recipe)[0], like)
    resources.adapters.append(adapter)
    try:
        run.judge(SimpleNamespace(adapter=adapter, step=0))  # type: ignore[arg-type]  # of a slot it asks for no more
    finally:
        resources.adapters.remove(adapter)
        adapter.remove()


def _plant(kind: str, base: Base, recipe: Recipe, planned: Plan, latents: LatentCache, like: Path) -> Any:
    if kind == "copier":
        return Copier(base, torch.stack([latents.mean_std(image)[0] for image in planned.train_images()]))
    adapter = lora.build(base, seed=recipe.seed, **recipe.adapter.options)
    if kind == "random":
        _fill(adapter, like)
    return adapter


def _fill(adapter: Any, like: Path) -> None:
    """Draw every second factor at random, each as large as the trained one of the same layer."""
    stem = re.compile(r"\.lora_B\b.*")
    norms = {stem.sub("", key): t.float().norm() for key, t in load_file(like).items() if "lora_B" in key}
    state = adapter.state_dict()
    for key, tensor in state.items():
        if "lora_B" not in key:
            continue
        noise = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(seeds.derive(0, key)))
        state[key] = noise * norms[stem.sub("", key)] / noise.norm()
    adapter.load_state_dict(state)
